"""Texts as numbers of words, in the layout of the Penn Treebank: three files, a sentence a line."""

import collections
import dataclasses
import pydoc_data.topics
import re
from pathlib import Path

import numpy as np

UNKNOWN, END = "<unk>", "<eos>"
PARTS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class Text:
    """A text in three parts.

    Attributes:
        words: the vocabulary, the most frequent word first.
        train, valid, test: int32 (count,), the words' numbers.
    """

    words: tuple[str, ...]
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    def thinned(self, every: int, block: int = 2000) -> "Text":
        """The same text with less to train on: the first of every so many blocks of the training words.

        The blocks come from all over the text, so that what is left is of the kind that validation and test are of.

        Args:
            every: 1 leaves all words.
            block: how many words are one.

        Raises:
            ValueError: no whole block would be left, or a number is below 1.
        """
        if every == 1:
            return self
        if every < 1 or block < 1 or len(self.train) < every * block:
            raise ValueError(
                f"Expected a training text of at least {every} blocks of {block} words, 1 or more of each. "
                f"Received: {len(self.train)} words"
            )
        whole = len(self.train) // (every * block) * every * block
        return dataclasses.replace(self, train=self.train[:whole].reshape(-1, every, block)[:, 0].ravel())


def load_text(data_dir: str | Path | None = None, vocabulary: int | None = None) -> Text:
    """Read a text.

    Args:
        data_dir: folder with one file each that ends in `train.txt`, `valid.txt` and `test.txt`, as `ptb.train.txt`:
            words between spaces, a sentence a line, whose end is a word of its own, <eos>. None: the help texts that
            ship with Python, 90,000 words.
        vocabulary: how many different words, the most frequent of the training text; others become <unk>. None: all.

    Returns:
        A `Text`.

    Raises:
        FileNotFoundError: the folder lacks one of the files.
        ValueError: it has several, or one of them holds no words; or the vocabulary is too small.

    >>> text = load_text(vocabulary=1000)
    >>> len(text.words), int(text.train.max())
    (1000, 999)
    """
    if vocabulary is not None and vocabulary < 2:
        raise ValueError(f"Expected a vocabulary of at least 2 words, <unk> and another. Received: {vocabulary}")
    parts = {part: [word for line in lines for word in (*line, END)] for part, lines in sentences(data_dir).items()}
    counts = collections.Counter(parts["train"])
    counts[UNKNOWN] += 0
    kept = sorted(counts, key=lambda word: (-counts[word], word))
    if vocabulary is not None and len(kept) > vocabulary:
        kept = [UNKNOWN, *(word for word in kept if word != UNKNOWN)][:vocabulary]
    numbers = {word: number for number, word in enumerate(kept)}
    unknown = numbers[UNKNOWN]
    arrays = {part: np.array([numbers.get(word, unknown) for word in words], np.int32) for part, words in parts.items()}
    return Text(tuple(kept), **arrays)


def sentences(data_dir: str | Path | None = None) -> dict[str, list[list[str]]]:
    """The words of each sentence of a text, by part.

    Args:
        data_dir: as that of `load_text`, with the same errors.

    >>> sentences()["test"][0][:3]
    ['assignment', 'statements', '*']
    """
    return _help_texts() if data_dir is None else {part: _read(Path(data_dir), part) for part in PARTS}


def _read(folder: Path, part: str) -> list[list[str]]:
    files = sorted(folder.glob(f"*{part}.txt"))
    if not files:
        raise FileNotFoundError(f"No file of {folder} ends in {part}.txt, as ptb.{part}.txt does.")
    if len(files) > 1:
        raise ValueError(f"Expected one file in {folder} that ends in {part}.txt. Received: {[f.name for f in files]}")
    lines = [line.split() for line in files[0].read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{files[0]} holds no words.")
    return lines


def _help_texts() -> dict[str, list[list[str]]]:
    """The parts of Python's help: of its topics, every tenth sentence for validation and every tenth for the test."""
    text = "\n\n".join(topic for _, topic in sorted(pydoc_data.topics.topics.items()))
    paragraphs = [re.findall(r"\w+|[^\w\s]", part.lower()) for part in re.split(r"\n\s*\n", text)]
    return {
        "train": [words for i, words in enumerate(paragraphs) if i % 10 < 8 and words],
        "valid": [words for words in paragraphs[8::10] if words],
        "test": [words for words in paragraphs[9::10] if words],
    }
