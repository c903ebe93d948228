"""Configurations of stock Keras: what this package put on a layer leaves, what the user put there stays."""

import keras
import numpy as np

from tf_terngrad.sparsity.learn.structured_regularizer import SumRegularizer

_NORMS = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)


def stock(config):
    """A configuration without this package's regularizers and constraints, for a smaller model is stock Keras.

    Initial values that are an array, as of an embedding that was trained elsewhere, fit no smaller layer: zeros then.
    """
    if isinstance(config, dict):
        registered = str(config.get("registered_name", ""))
        if registered == keras.saving.get_registered_name(SumRegularizer):
            return _sum([stock(part) for part in config["config"]["regularizers"]])
        if registered.startswith("tf_terngrad>"):
            return None
        if config.get("class_name") == "Constant" and not np.isscalar(config["config"]["value"]):
            return "zeros"
        return {key: stock(value) for key, value in config.items()}
    return [stock(value) for value in config] if isinstance(config, list) else config


def _sum(parts):
    """The sum of the regularizers that are not this package's own: L1 and L2 are one, others need a sum."""
    regularizers = [keras.regularizers.deserialize(part) for part in parts if part is not None]
    norms = [each for each in regularizers if type(each) in _NORMS]
    left = [each for each in regularizers if each not in norms]
    if len(norms) > 1:
        l1, l2 = (sum(float(getattr(each, name, 0.0)) for each in norms) for name in ("l1", "l2"))
        norms = [keras.regularizers.L1L2(l1, l2)]
    left = norms + left
    return keras.regularizers.serialize(left[0] if len(left) == 1 else SumRegularizer(left)) if left else None
