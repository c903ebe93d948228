"""A Keras 3 model as one of tf_keras, which is Keras 2: for tools that know no other."""

import inspect

import keras
import numpy as np
import tf_keras

from tf_terngrad.keras_internals import all_layers
from tf_terngrad.sparsity.graph.replay import replay

TOLERANCE = 1e-5  # of the largest output


def tf_keras_copy(model: keras.Model, **options) -> tf_keras.Model:
    """The same layers with the same weights, in tf_keras.

    Initializers, regularizers and constraints stay behind: they say how weights came to be. `check_equal` finds what
    else may be lost, such as an activation that both know by one name and compute differently.

    Args:
        model: Functional, of stock layers alone.
        options: settings that every layer takes which knows them, such as unroll=True.

    Returns:
        A Functional tf_keras model, whose layers have the names of the old ones.

    Raises:
        ValueError: a layer that tf_keras does not have.
    """
    layers = {}

    def follow(node, args, kwargs):
        layer = node.operation
        if layer not in layers:
            layers[layer] = _counterpart(layer, options)
        # Keras 3 notes training=False with every call and replaces it; tf_keras would take it at its word.
        return layers[layer](*args, **{name: value for name, value in kwargs.items() if name != "training"})

    given = keras.tree.flatten(model.input)
    inputs = [tf_keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name) for tensor in given]
    outputs = keras.tree.pack_sequence_as(model.output, replay(model, inputs, follow))
    copy = tf_keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs, name=model.name)
    for layer, counterpart in layers.items():
        counterpart.set_weights(layer.get_weights())
    return copy


def check_equal(model: keras.Model, copy: tf_keras.Model, inputs: np.ndarray) -> float:
    """The largest difference between the outputs of both, if they are the same to rounding.

    Args:
        model: of one input and one output.
        copy: its tf_keras copy.
        inputs: shape (count, ...).

    Raises:
        ValueError: they differ by more than 1e-5 of the largest output.
    """
    expected, received = (np.asarray(one(inputs, training=False), "float64") for one in (model, copy))
    if expected.shape != received.shape:
        raise ValueError(f"The tf_keras copy of '{model.name}' gives {received.shape}. Expected: {expected.shape}")
    difference, scale = np.abs(received - expected).max(), np.abs(expected).max()
    if not difference <= TOLERANCE * scale:
        raise ValueError(
            f"The tf_keras copy of '{model.name}' is not equal to it: outputs up to {scale:.3g} differ by "
            f"{difference:.3g}. Expected: at most {TOLERANCE:g} of that."
        )
    return float(difference)


def taught_by(model: keras.Model, copy: tf_keras.Model) -> keras.Model:
    """A Keras 3 model with the weights to which its tf_keras copy was trained, wrapped layers among them.

    Args:
        model: the model that was copied.
        copy: its copy, or what TensorFlow Model Optimization has made of it.

    Raises:
        ValueError: the copy lacks a weight of the model.
    """
    found = {}
    for layer in all_layers(copy):
        # TFMOT's wrapper holds the variables of the weights for which it has put tensors into the layer.
        owner = getattr(layer, "layer", layer).name
        found |= {(owner, weight.name.split(":")[0].split("/")[-1]): weight.numpy() for weight in layer.weights}
    taught = keras.models.clone_model(model)
    for layer in taught.layers:
        for weight in layer.weights:
            if (layer.name, weight.name) not in found:
                raise ValueError(f"The tf_keras copy of '{model.name}' has no {weight.name} of layer '{layer.name}'.")
            weight.assign(found[layer.name, weight.name])
    return taught


def _counterpart(layer, options):
    kind = getattr(tf_keras.layers, type(layer).__name__, None)
    if kind is None or type(layer) is not getattr(keras.layers, type(layer).__name__, None):
        raise ValueError(
            f"Expected layers that Keras 3 and tf_keras both have. Received: '{layer.name}', {type(layer).__name__}"
        )
    known = {
        name
        for base in kind.__mro__
        if "__init__" in vars(base)
        for name in inspect.signature(base.__init__).parameters
    }
    config = {name: value for name, value in layer.get_config().items() if name in known - {"dtype"} and _plain(value)}
    return kind(**config | {name: value for name, value in options.items() if name in known})


def _plain(value):
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
