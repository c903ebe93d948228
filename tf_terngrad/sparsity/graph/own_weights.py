"""A layer's own variables, and symbolic tensors that stand for them while its call is traced."""

import keras

_OF_KERAS = frozenset(vars(keras.layers.Layer()))
"""The attributes in which Keras itself holds a layer's variables."""


class StandIns:
    """Symbolic tensors for the variables of one layer.

    Args:
        layer: the layer.
        made: what stands for variables so far: (variable, symbolic tensor) by id of the variable; it grows.
    """

    def __init__(self, layer, made):
        self._layer = layer
        self._made = made

    def attributes(self) -> dict:
        """The layer's attributes that hold variables, in lists or dicts too, with symbolic tensors in their place."""
        held = {name: value for name, value in vars(self._layer).items() if name not in _OF_KERAS}
        new = {name: self._replaced(name, value) for name, value in held.items()}
        return {name: value for name, value in new.items() if value is not held[name]}

    def _replaced(self, name, value):
        if isinstance(value, keras.Variable):
            return self._of(name, value)
        if isinstance(value, dict):
            parts = {key: self._replaced(f"{name}_{key}", part) for key, part in value.items()}
            return parts if any(parts[key] is not part for key, part in value.items()) else value
        if isinstance(value, (list, tuple)):
            parts = [self._replaced(f"{name}_{place}", part) for place, part in enumerate(value)]
            return parts if any(new is not old for new, old in zip(parts, value, strict=True)) else value
        return value

    def _of(self, name, variable):
        """A symbolic tensor like what the layer computes with where it reads a variable."""
        if id(variable) not in self._made:
            cast = self._layer.autocast and keras.backend.is_float_dtype(variable.dtype)
            dtype = self._layer.compute_dtype if cast else variable.dtype
            tensor = keras.Input(batch_shape=variable.shape, dtype=dtype, name=f"{self._layer.name}_{name}")
            self._made[id(variable)] = variable, tensor
        return self._made[id(variable)][1]


def is_seed(variable):
    """Whether a variable is the state of a generator of random numbers."""
    return variable.name.startswith("seed_generator_state")
