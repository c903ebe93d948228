"""Questions about a context whose answers are words of it: SQuAD's, or made from any text by taking words out.

`models.data.lexicon` turns them into numbers, `models.data.answers` says how good an answer is.
"""

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.data.text import PARTS, UNKNOWN, sentences

BLANK = "<blank>"
"""Stands in a question for the words that were taken out."""

LONGEST = 4
"""Of words that are taken out together."""

ARTICLES = ("a", "an", "the")


@dataclasses.dataclass(frozen=True)
class Context:
    """A text, and where in it its words are.

    Attributes:
        text: the text.
        places: (begin, end) of each word, in characters.
    """

    text: str
    places: tuple[tuple[int, int], ...]

    @property
    def words(self) -> list[str]:
        """The words."""
        return [self.text[begin:end] for begin, end in self.places]

    def between(self, first: int, last: int) -> str:
        """The text from one word to another, both included."""
        return self.text[self.places[first][0] : self.places[last][1]]


@dataclasses.dataclass(frozen=True)
class Question:
    """A question and its answer.

    Attributes:
        context: what is read, the same object for all its questions.
        words: of the question.
        span: the numbers of the answer's first and last word in the context.
        answers: texts that count as right.
    """

    context: Context
    words: tuple[str, ...]
    span: tuple[int, int]
    answers: tuple[str, ...]


def load_questions(data_dir: str | Path | None, longest: int, seed: int = 0) -> dict[str, list[Question]]:
    """Read or make questions.

    Args:
        data_dir: folder with SQuAD's JSON, one file each that ends in `.json` and has `train` and `dev` in its name, as
            `train-v1.1.json`: every twentieth article to train on is for validation, and the other file is the test. Or
            a folder with the three files of a text, as `models.data.text.load_text` has it, of which cloze questions
            are made. None: cloze questions of the help texts that ship with Python.
        longest: words of a context of a cloze question.
        seed: which words are taken out.

    Returns:
        Lists of questions by part: "train", "valid", "test".

    Raises:
        FileNotFoundError, ValueError: the folder holds neither, or files that are not what they should be.

    >>> questions = load_questions(None, longest=60)["test"]
    >>> questions[0].context.between(*questions[0].span) == questions[0].answers[0]
    True
    """
    folder = None if data_dir is None else Path(data_dir)
    if folder is not None and any(folder.glob("*.json")):
        return _squad(folder)
    parts = sentences(folder)
    return {part: cloze(parts[part], longest, seed + number) for number, part in enumerate(PARTS)}


def cloze(lines: Sequence[Sequence[str]], longest: int, seed: int) -> list[Question]:
    """Questions made of a text: a sentence, words of which are blank, and the sentences around it as the context.

    Each sentence of at least eight words gives one question, unless it is longer than a context: one to four words in a
    row, none of them a mark or unknown and neither the first nor the last an article, become one `BLANK`.

    Args:
        lines: the words of each sentence, in order.
        longest: words of a context: as many whole sentences as fit, each sentence in one context.
        seed: which words are taken out.

    >>> lines = [["the", "sun", "is", "a", "star", "."], "the moon is no star but shines at night .".split()]
    >>> (question,) = cloze(lines, longest=40, seed=0)
    >>> " ".join(question.words)
    'the moon is no star but <blank> .'
    >>> question.span, question.answers
    ((12, 14), ('shines at night',))
    """
    rng, questions = np.random.default_rng(seed), []
    for group in _groups(lines, longest):
        words = [word for line in group for word in line]
        context, start = _joined(words), 0
        for line in group:
            runs = _runs(line)
            if len(line) >= 8 and runs:
                first, last = runs[rng.integers(len(runs))]
                span = start + first, start + last
                question = (*line[:first], BLANK, *line[last + 1 :])
                questions.append(Question(context, question, span, (context.between(*span),)))
            start += len(line)
    return questions


def _groups(lines, longest):
    """Sentences in a row that have so many words together; a longer one is left out."""
    group, size = [], 0
    for line in lines:
        if size + len(line) > longest:
            yield group
            group, size = [], 0
        if len(line) <= longest:
            group.append(line)
            size += len(line)
    yield group


def _runs(line):
    """(first, last) of each run of words that may be taken out."""
    plain = [word != UNKNOWN and word[:1].isalnum() for word in line]
    ends = [is_plain and word not in ARTICLES for word, is_plain in zip(line, plain, strict=True)]
    return [
        (first, last)
        for first in range(len(line))
        for last in range(first, min(first + LONGEST, len(line)))
        if ends[first] and ends[last] and all(plain[first : last + 1])
    ]


def _joined(words):
    """The context of words with spaces between them."""
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    return Context(
        " ".join(words), tuple((int(end) - len(word), int(end)) for word, end in zip(words, ends, strict=True))
    )


def _squad(folder):
    """The questions of SQuAD's files; those of its second version that have no answer are left out."""
    articles = _articles(folder, "train")
    return {
        "train": _questions(article for number, article in enumerate(articles) if number % 20 != 19),
        "valid": _questions(articles[19::20]),
        "test": _questions(_articles(folder, "dev")),
    }


def _articles(folder, part):
    files = sorted(folder.glob(f"*{part}*.json"))
    if len(files) != 1:
        raise ValueError(
            f"Expected one JSON file in {folder} with {part!r} in its name, as {part}-v1.1.json. "
            f"Received: {[file.name for file in files]}"
        )
    try:
        return json.loads(files[0].read_text(encoding="utf-8"))["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{files[0]} is not in the layout of SQuAD. Expected a list under 'data': {error!r}"
        ) from error


def _questions(articles):
    found = []
    for article in articles:
        for paragraph in article["paragraphs"]:
            context = split(paragraph["context"])
            for asked in paragraph["qas"]:
                if asked["answers"]:
                    words = tuple(split(asked["question"]).words)
                    texts = tuple(answer["text"] for answer in asked["answers"])
                    found.append(Question(context, words, _span(context, asked["answers"][0]), texts))
    return found


def split(text: str) -> Context:
    """A text in words: letters and digits in a row, or one other mark.

    >>> split("It's 5,000.").words
    ['It', "'", 's', '5', ',', '000', '.']
    """
    return Context(text, tuple(match.span() for match in re.finditer(r"\w+|[^\w\s]", text)))


def _span(context, answer):
    """The first and the last word that an answer, which is given in characters, has a part of."""
    start, stop = answer["answer_start"], answer["answer_start"] + len(answer["text"])
    inside = [number for number, (begin, end) in enumerate(context.places) if end > start and begin < stop]
    if not inside:
        raise ValueError(f"Expected an answer inside of its context. Received: {answer}")
    return inside[0], inside[-1]
