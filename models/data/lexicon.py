"""Words and their characters as numbers, and vectors of words that were trained elsewhere."""

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from models.data.questions import BLANK, Question

LETTERS = 16
"""Characters of a word that are read; those behind them are not."""

UNKNOWN = 1
"""The number of all words, and of all characters, that have none of their own."""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Questions as numbers of the lexicon's forms; 0 behind the last word.

    Attributes:
        contexts: int32 (count, words of the longest context).
        questions: int32 (count, words of the longest question).
        spans: int32 (count, 2), the first and the last word of each answer.
        source: the questions themselves.
    """

    contexts: np.ndarray
    questions: np.ndarray
    spans: np.ndarray
    source: list[Question]


@dataclasses.dataclass(frozen=True)
class Lexicon:
    """The numbers of all forms of words, and of each form the number of its word and of its characters.

    A word is unknown, 1, where it is rare; its characters still tell it from others. 0 is no word, and no character.

    Attributes:
        forms: number of each form, as it is written.
        words: int32 (forms + 1,), the number of each form's word, in small letters.
        letters: int32 (forms + 1, LETTERS), the numbers of its characters.
        vocabulary, characters: how many numbers of words and of characters there are.
        vectors: float32 (vocabulary, width), vectors of the words that were trained elsewhere; or None.
    """

    forms: dict[str, int]
    words: np.ndarray
    letters: np.ndarray
    vocabulary: int
    characters: int
    vectors: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        parts: dict[str, list[Question]],
        rare: int = 10,
        rare_letters: int = 50,
        vocabulary: int | None = None,
        vectors: str | Path | None = None,
    ) -> "Lexicon":
        """The lexicon of questions: what is rare in those to train on is unknown.

        Args:
            parts: questions by part.
            rare: fewer times than that makes a word unknown.
            rare_letters: likewise of a character.
            vocabulary: how many different words, the most frequent; None: all that are not rare.
            vectors: a text file of vectors, as those of GloVe: on each line a word and its numbers. Then the words of
                that file are known, however rare, and no others. None: vectors are trained with the network.

        Raises:
            ValueError: a file of vectors with lines that are none, or with none of the words.
        """
        forms = sorted({form for questions in parts.values() for form in texts_of(questions)})
        words, letters = _counts(texts_of(parts["train"]))
        known, table = [word for word, count in words.most_common() if count >= rare], None
        if vectors is not None:
            known, table = read_vectors(vectors, {form.lower() for form in forms})
        known = known[: None if vocabulary is None else max(0, vocabulary - 2)]
        of_word = _numbers(known)
        of_letter = _numbers(sorted(letter for letter in letters if letters[letter] >= rare_letters))
        spelled = np.zeros((len(forms) + 1, LETTERS), np.int32)
        for row, form in zip(spelled[1:], forms, strict=True):
            row[: len(form)] = [of_letter.get(letter, UNKNOWN) for letter in form[:LETTERS]]
        return cls(
            {form: number for number, form in enumerate(forms, 1)},
            np.array([0, *(of_word.get(form.lower(), UNKNOWN) for form in forms)], np.int32),
            spelled,
            len(known) + 2,
            len(of_letter) + 2,
            table if table is None else table[: len(known) + 2],
        )

    @property
    def sizes(self) -> dict:
        """What a network must know of it, the arguments of `models.bidaf` with these names."""
        sizes = {"vocabulary": self.vocabulary, "characters": self.characters, "letters": LETTERS}
        return sizes if self.vectors is None else {**sizes, "vectors": self.vectors, "embedding": self.vectors.shape[1]}

    def encode(self, questions: Sequence[Question], context: int, question: int, fits: bool = False) -> Encoded:
        """Questions as numbers of their words' forms.

        Args:
            questions: the questions.
            context: words of a context that are read; those behind are not.
            question: words of a question; of a longer one, those around its blank, or the first.
            fits: leave out questions whose answers lie behind what is read; otherwise their spans end with it.
        """
        chosen = [each for each in questions if not fits or each.span[1] < context]
        spans = np.array([each.span for each in chosen], np.int32).reshape(-1, 2)
        return Encoded(
            self._rows([each.context.words for each in chosen], context),
            self._rows([around_blank(each.words, question) for each in chosen], question),
            np.minimum(spans, context - 1),
            chosen,
        )

    def inputs(self, contexts, questions) -> tuple:
        """What a network takes, of numbers of forms: words and characters of the contexts, and of the questions."""
        return tuple(tf.gather(table, forms) for forms in (contexts, questions) for table in (self.words, self.letters))

    def _rows(self, texts, longest):
        rows = np.zeros((len(texts), longest), np.int32)
        for row, words in zip(rows, texts, strict=True):
            numbers = [self.forms[word] for word in words[:longest]]
            row[: len(numbers)] = numbers
        return rows


def texts_of(questions: Iterable[Question]) -> Iterable[str]:
    """The words of all contexts, each once, and of all questions."""
    contexts = {id(question.context): question.context for question in questions}
    for context in contexts.values():
        yield from context.words
    for question in questions:
        yield from question.words


def _counts(texts):
    """How often each word is there, in small letters, and each character."""
    words, letters = collections.Counter(), collections.Counter()
    for form, count in collections.Counter(texts).items():
        words[form.lower()] += count
        for letter in form:
            letters[letter] += count
    return words, letters


def _numbers(known):
    """The numbers of what is known, behind nothing and unknown."""
    return {each: number for number, each in enumerate(known, UNKNOWN + 1)}


def around_blank(words: Sequence[str], longest: int) -> Sequence[str]:
    """So many words of a question: those around its blank, or the first.

    >>> around_blank(["in", "the", BLANK, "god", "created"], 3)
    ['the', '<blank>', 'god']
    """
    middle = words.index(BLANK) if BLANK in words else 0
    start = max(0, min(middle - longest // 2, len(words) - longest))
    return words[start : start + longest]


def read_vectors(path: str | Path, wanted: set[str]) -> tuple[list[str], np.ndarray]:
    """The vectors that a text file has of some words.

    Args:
        path: of the file: on each line a word and its numbers, with spaces between them.
        wanted: the words.

    Returns:
        (words, table): the words in the order of the file, and their vectors, float32 (2 + words, width), with zeros in
        the first two rows.

    Raises:
        ValueError: a line that is none, or no line of a word that is wanted.
    """
    found = {}
    with Path(path).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            word, *numbers = line.rstrip().split(" ")
            if word in wanted:
                found[word] = _vector(numbers, f"{path}, line {number}", found)
    if not found:
        raise ValueError(f"{path}: expected a vector for one of {len(wanted)} words. Received: none of them")
    return list(found), np.stack([*[np.zeros_like(next(iter(found.values())))] * 2, *found.values()])


def _vector(numbers, where, before):
    width = len(next(iter(before.values()), numbers))
    try:
        vector = np.array(numbers, np.float32)
    except ValueError as error:
        raise ValueError(f"{where}: expected a word and numbers, with spaces between them: {error}") from error
    if len(vector) != width or not width:
        raise ValueError(f"{where}: expected {width or 'some'} numbers. Received: {len(vector)}")
    return vector
