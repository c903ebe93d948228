"""What each member of a structure is worth: scores, the larger the more important. They remove nothing."""

import collections
import zlib

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from tf_terngrad import checks
from tf_terngrad.sparsity.learn import hooks
from tf_terngrad.sparsity.structures import structures


def norm(structure):
    """The Euclidean norm of each member over all its weights: ‖w_g‖, shape (size,).

    Use it when nothing is known of the data; it is what `scores="norm"` means. That of a branch is divided by the root
    of how many channels its weights make (`Structure.breadth`), so that branches of any width can be compared.

    Example:

    ```python
    small = tt.compact(model, round_to=8, scores="norm")
    ```
    """
    return structure.norms() / structure.breadth


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


class Taylor:
    """How much the loss changes without a member, to first order: the mean over batches of |sum_i w_i dL/dw_i|.

    Use it when there is data: of two members of one norm, the loss may need one and not the other. It needs a trained
    model and a few hundred examples; the sum runs over all weights of the member, shape (size,).

    Args:
        model: a compiled model; its loss counts, with its regularizers.
        x, y: arrays, or nested ones, as `fit` takes them.
        batch_size: examples in a batch.

    Raises:
        ValueError: the model is not compiled, or not the one that a structure is of.

    Example:

    ```python
    gone = tt.prune(model, tt.Budget(multiply_adds=0.9), tt.importance.Taylor(model, x, y))
    ```

    Source: Molchanov et al., Importance estimation for neural network pruning, 2019.
    """

    def __init__(self, model, x, y, batch_size=32):
        self._batch_size = checks.integer(batch_size, "batch_size", "Taylor", least=1)
        if not getattr(model, "compiled", False):
            raise ValueError(
                f"Taylor: expected a compiled model, whose loss counts. Received: {model.name!r}, not compiled"
            )
        self._scores = self._measured(model, x, y)

    def __call__(self, structure):
        """A score for each member, shape (size,)."""
        if structure.name not in self._scores:
            known = ", ".join(self._scores)
            raise ValueError(f"Taylor: expected a structure of its own model: {known}. Received: {structure.name!r}")
        return self._scores[structure.name]

    def _measured(self, model, x, y):
        found, sums = structures(model), collections.defaultdict(list)
        variables = {id(piece.variable): piece.variable for each in found for piece in each.penalized}
        for first in range(0, len(tree.flatten(y)[0]), self._batch_size):
            cut = slice(first, first + self._batch_size)
            products = _products(model, variables, *tree.map_structure(lambda array, cut=cut: array[cut], (x, y)))
            for each in found:
                pieces = [piece for piece in each.penalized if id(piece.variable) in products]
                parts = [piece.sums(products[id(piece.variable)]) for piece in pieces]
                sums[each.name].append(np.abs(sum(parts, start=np.zeros(each.size))))
        return {name: np.mean(batches, 0) for name, batches in sums.items()}


def _products(model, variables, x, y):
    """w dL/dw for the variables that the loss depends on, by their ids."""
    values = [variable.value for variable in variables.values()]
    quietly = {"training": False} if hooks.takes_training(model.compute_loss) else {}  # it sets no strength
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        loss = keras.ops.sum(model.compute_loss(x, y, model(x, training=False), **quietly))
    slopes = zip(variables, values, tape.gradient(loss, values), strict=True)
    return {
        key: np.asarray(value, np.float64) * np.asarray(tf.convert_to_tensor(slope), np.float64)
        for key, value, slope in slopes
        if slope is not None
    }


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
