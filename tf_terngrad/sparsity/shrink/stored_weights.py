"""Weights that a callback of Keras stored when the model was larger."""

import keras
import numpy as np

from tf_terngrad.sparsity import in_vain
from tf_terngrad.sparsity.remove.fates import fates
from tf_terngrad.sparsity.shrink.moves import Moves


def move(callback, model, before) -> None:
    """Have a callback keep what stays of the weights that it has stored.

    Args:
        callback: any; only Keras's `EarlyStopping` stores weights.
        model: that has become smaller.
        before: its weights until then, in the order of `get_weights`.
    """
    if not isinstance(callback, keras.callbacks.EarlyStopping) or callback.best_weights is None:
        return
    stored = {id(variable): array for variable, array in zip(before, callback.best_weights, strict=True)}
    moves = Moves(fates(model))
    if _only_zeros_leave(stored, before, moves):
        olds = [moves.old(variable) for variable in model.weights]
        callback.best_weights = [moves.scaled(old, stored[id(old)]) for old in olds]
        return
    in_vain.say(
        f"EarlyStopping: the best weights so far, of epoch {callback.best_epoch + 1}, are those of a larger model, and "
        "what has left since then was not zero in them. The best epoch is sought anew from here on."
    )
    callback.best = callback.best_weights = None


def _only_zeros_leave(stored, before, moves):
    """Whether all that leaves is zero in stored weights, but for those that do not train."""
    trained = [variable for variable in before if variable.trainable]
    return all(_count(stored[id(each)]) == _count(moves.kept(each, stored[id(each)])) for each in trained)


def _count(array):
    return np.count_nonzero(array)
