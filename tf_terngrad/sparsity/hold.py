"""Hold at zero what is zero, on a model that was loaded, or zeroed by other means than training."""

from tf_terngrad.sparsity.learn.sparsity import Sparsity
from tf_terngrad.sparsity.structures import structures


def hold(model):
    """Keep every member of every structure that is zero now at zero, while the model trains on.

    Use it when you train a loaded model, or one that you zeroed structures of, before `compact`. After `sparsify` it
    needs no call: what died there is held when the penalty goes off, see `Sparsity.release`.

    Momentum and averages do not move what is held, nor do gradients: members with gradients of their own are input
    features, and channels behind an activation f with f(0) != 0.

    Args:
        model: a built Functional or Sequential `keras.Model`.

    Returns:
        A `Sparsity` without a penalty; its `release(revive=True)` lets them live again.

    Raises:
        TypeError: if `model` is not a Keras model.
        ValueError: if it is not built, or is a subclass with its own `call`.

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    >>> structures(model)[1].zero([0, 2])
    >>> held = hold(model)
    """
    sparsity = Sparsity(model, list(structures(model)), 0.0, None, "proximal", 0.0, None)
    sparsity.release()
    return sparsity
