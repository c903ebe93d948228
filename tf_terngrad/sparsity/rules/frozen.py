"""Layers whose width stays, for a reason worth telling. What no rule knows is frozen too, as unknown."""

import keras

from tf_terngrad.keras_internals import operations
from tf_terngrad.sparsity.rules.base import Frozen, Unknown
from tf_terngrad.sparsity.rules.registry import register_rule


class Lambda(Unknown):
    """A function of the user's, which may compute anything."""

    def multiply_adds(self, layer, output, *args, **kwargs):
        return None


register_rule(keras.layers.Lambda, Lambda("it runs Python code that cannot be followed"))
register_rule(keras.layers.Masking, Frozen("any feature may mask a step"))
for _type in operations("Glu", "Sparsemax"):
    register_rule(_type, Frozen("it runs across channels"))
