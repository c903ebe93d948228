"""What each member of a structure is worth: scores, the larger the more important. They remove nothing."""

import zlib

import numpy as np

from tf_terngrad import checks


def norm(structure):
    """The Euclidean norm of each member over all its weights: ‖w_g‖, shape (size,).

    Use it when nothing is known of the data; it is what `scores="norm"` means.

    Example:

    ```python
    small = tt.compact(model, round_to=8, scores="norm")
    ```
    """
    return structure.norms()


class Random:
    """Scores that know nothing: uniform in [0, 1), the same for the same seed and name of a structure.

    Use it when you want to know what another score is worth; `scores="random"` has the seed 0.

    Args:
        seed: an integer of at least 0.

    Raises:
        TypeError: the seed is no integer.
        ValueError: it is negative.

    Example:

    ```python
    small = tt.compact(model, round_to=8, scores=tt.importance.Random(seed=1))
    ```
    """

    def __init__(self, seed=0):
        self.seed = checks.integer(seed, "seed", "Random", least=0)

    def __call__(self, structure):
        """A score for each member, shape (size,)."""
        return np.random.default_rng([self.seed, zlib.crc32(structure.name.encode())]).random(structure.size)


SCORES = {"norm": norm, "random": Random()}
"""The scores that have a name. Any function that takes a `Structure` and gives an array (size,) is one too."""


def scored(structure, scores, owner):
    """What each member of a structure is worth, shape (size,), in float64.

    Args:
        structure: a `Structure`.
        scores: a name in `SCORES`, or a function of a structure.
        owner: the function whose argument `scores` is, for errors.

    Raises:
        TypeError: `scores` is neither.
        ValueError: it is an unknown name, or gives other than one number that is not NaN for each member.
    """
    score = find_score(scores, owner)
    values = np.asarray(score(structure), np.float64)
    if values.shape != (structure.size,) or np.isnan(values).any():
        raise ValueError(
            f"{owner}: expected `scores` to give one number for each member of {structure.name!r}, an array of shape "
            f"({structure.size},) without NaN. Received: {values!r}, of shape {values.shape}"
        )
    return values


def find_score(scores, owner):
    """The function that an argument `scores` means."""
    if callable(scores):
        return scores
    if not isinstance(scores, str):
        raise TypeError(checks.refusal(owner, "scores", "a name or a function of a structure", scores))
    return SCORES[checks.one_of(scores, SCORES, "scores", owner)]
