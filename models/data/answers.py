"""How good answers are, by exact match and F1 as SQuAD counts them (Rajpurkar et al., 2016); which one logits give."""

import collections
import re
import string
from collections.abc import Iterable, Sequence

import numpy as np


def normalized(text: str) -> list[str]:
    """The words of an answer without what is no difference: case, punctuation, articles.

    >>> normalized("The  Ark-of the Covenant!")
    ['arkof', 'covenant']
    """
    plain = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def exact_match(answer: str, right: Iterable[str]) -> float:
    """1 if an answer is one of the right ones, normalized; 0 otherwise.

    >>> exact_match("the sea", ["Sea.", "river"])
    1.0
    """
    return float(any(normalized(answer) == normalized(text) for text in right))


def f1(answer: str, right: Iterable[str]) -> float:
    """The best 2 p r / (p + r) over the right answers: p of the answer's words are right, r of the right ones found.

    >>> round(f1("great red sea", ["the Red Sea", "river"]), 3)
    0.8
    """
    return max(_f1(normalized(answer), normalized(text)) for text in right)


def _f1(answer, right):
    if not answer or not right:
        return float(answer == right)
    common = sum((collections.Counter(answer) & collections.Counter(right)).values())
    return 2 * common / (len(answer) + len(right))


def scores(answers: Sequence[str], right: Sequence[Sequence[str]]) -> tuple[float, float]:
    """Exact match and F1, the mean over all questions, in percent.

    Args:
        answers: one text for each question.
        right: for each question the texts that count as right.
    """
    pairs = list(zip(answers, right, strict=True))
    return tuple(100 * float(np.mean([measure(*pair) for pair in pairs])) for measure in (exact_match, f1))


def best_spans(logits: np.ndarray) -> np.ndarray:
    """The likeliest first and last words: those i <= j whose logits have the largest sum.

    Args:
        logits: (count, 2, words), of the first word and of the last.

    Returns:
        int (count, 2).

    >>> best_spans(np.array([[[0.0, 3.0, 1.0], [4.0, 0.0, 2.0]]]))
    array([[1, 2]])
    """
    start, end = logits[:, 0, :, None], logits[:, 1, None, :]
    words = logits.shape[-1]
    sums = np.where(np.tri(words, k=-1, dtype=bool), -np.inf, start + end)
    return np.stack(np.divmod(sums.reshape(len(sums), -1).argmax(-1), words), axis=-1)
