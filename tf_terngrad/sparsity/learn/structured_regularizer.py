"""What all structured regularizers share: they add up, and they learn which weight of which layer they are on."""

import functools

import keras
from keras import ops

from tf_terngrad.keras_internals import put_around


class StructuredRegularizer(keras.regularizers.Regularizer):
    """Base of the structured regularizers: they add up with `+`, and learn which weight they are on.

    Use it when you write a regularizer of your own: it then adds up with ours, and `tt.callbacks.ZeroSmallWeights`
    zeroes the weights that it is on.
    """

    def attached(self, layer, variable):
        """This regularizer as it is on one weight of one layer.

        Args:
            layer: The Keras layer that makes the weight.
            variable: The weight.

        Raises:
            ValueError: If the weight does not have the axes that index the groups.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `attached(layer, variable)`.")

    def __add__(self, other):
        return _add(self, other)

    def __radd__(self, other):
        return _add(other, self)

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


@keras.saving.register_keras_serializable(package="tf_terngrad")
class SumRegularizer(StructuredRegularizer):
    """The sum of several regularizers: `Σ_i R_i(W)`; what `+` makes.

    Use it when one weight needs several penalties, such as filters and shapes, or filters and a weight decay.

    Args:
        regularizers: Keras regularizers, one or more; the parts of a sum among them join it one by one.

    Raises:
        ValueError: If there are none, or one is not a `keras.regularizers.Regularizer`.

    >>> from tf_terngrad.sparsity.learn.regularizers import FilterLasso, ShapeLasso
    >>> total = FilterLasso(5e-4) + ShapeLasso(1e-4) + keras.regularizers.L2(1e-5)
    >>> len(total.regularizers)
    3
    """

    def __init__(self, regularizers):
        parts = [part for item in regularizers for part in _parts(item)]
        wrong = [part for part in parts if not isinstance(part, keras.regularizers.Regularizer)]
        if wrong or not parts:
            raise ValueError(
                "SumRegularizer: `regularizers` must be one or more `keras.regularizers.Regularizer` instances. "
                f"Received: regularizers={regularizers!r}"
            )
        self.regularizers = parts

    def __call__(self, weights):
        return functools.reduce(ops.add, [regularizer(weights) for regularizer in self.regularizers])

    def attached(self, layer, variable):
        """The sum of its parts, each as it is on this weight."""
        return SumRegularizer([_attached(part, layer, variable) for part in self.regularizers])

    def get_config(self):
        """The parts, serialized."""
        return {"regularizers": [keras.regularizers.serialize(part) for part in self.regularizers]}

    @classmethod
    def from_config(cls, config):
        """The sum from its serialized parts."""
        return cls([keras.regularizers.deserialize(part) for part in config["regularizers"]])


def _parts(regularizer):
    return regularizer.regularizers if isinstance(regularizer, SumRegularizer) else [regularizer]


def _add(first, second):
    if not all(isinstance(term, keras.regularizers.Regularizer) for term in (first, second)):
        return NotImplemented
    return SumRegularizer([first, second])


def _attached(regularizer, layer, variable):
    if isinstance(regularizer, StructuredRegularizer):
        return regularizer.attached(layer, variable)
    return regularizer


def _attach_at_build(add_weight):
    """`add_weight` that tells a structured regularizer which weight it is on, as soon as the weight is made.

    Keras itself calls a regularizer with a bare tensor, and not before the first loss: too late to refuse axes that
    the weight does not have, too little to know a transposed kernel. Other regularizers are left as they are.
    """

    def add_weight_and_attach(layer, *args, **kwargs):
        variable = add_weight(layer, *args, **kwargs)
        variable.regularizer = _attached(variable.regularizer, layer, variable)
        return variable

    return add_weight_and_attach


put_around(keras.Layer, "add_weight", _attach_at_build)
