"""TensorFlow Model Optimization (TFMOT) on tf_keras copies: weight clustering and quantization-aware training.

It works on TensorFlow 2.21 and beside Keras 3, on four conditions:

- Importing it sets TF_USE_LEGACY_KERAS for this process and those that it starts, and turns a `tf.keras` that nobody
  has used yet into tf_keras. Here `tf.keras` is used first, which keeps it Keras 3, and the variable is taken back.
- It recognizes the classes of tf_keras alone: a model of Keras 3 needs a copy (`models.experiments.tf_keras_copy`).
- `cluster_weights` wraps the very layers that it is given; the model that they came from cannot be used again, nor be
  quantized. So every way starts from a copy of its own.
- It asks for a module that Python 3.12 has dropped, distutils; there it needs setuptools, which has a copy.
"""

import os
import warnings
from collections.abc import Callable

import tensorflow as tf
import tf_keras

from tf_terngrad.tflite.converter import flatbuffer
from tf_terngrad.tflite.modes import mode_of
from tf_terngrad.tflite.ports import Port


def _import_tfmot():
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    _ = tf.keras.layers
    try:
        with warnings.catch_warnings():
            # It compares TensorFlow's version with the least one by distutils, which Python 3.11 deprecates.
            warnings.filterwarnings("ignore", "distutils Version classes are deprecated", DeprecationWarning)
            warnings.filterwarnings("ignore", "The distutils package is deprecated", DeprecationWarning)
            import tensorflow_model_optimization
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before
    return tensorflow_model_optimization


tfmot = _import_tfmot()
quantization = tfmot.quantization.keras
quantizers = quantization.quantizers


class CellConfig(quantization.QuantizeConfig):
    """How an LSTM is quantized while it trains, for which TFMOT has no rule.

    Args:
        inside: whether the values of the activation functions are rounded too. Only an unrolled layer computes them by
            the functions that TFMOT can replace; the others have theirs in one fused operation.
        output: whether what the layer gives is rounded.
    """

    WEIGHTS = ("kernel", "recurrent_kernel")
    ACTIVATIONS = ("activation", "recurrent_activation")

    def __init__(self, inside=False, output=False):
        self.inside, self.output = inside, output

    def get_weights_and_quantizers(self, layer):
        quantizer = quantizers.LastValueQuantizer(num_bits=8, per_axis=False, symmetric=True, narrow_range=True)
        return [(getattr(layer.cell, name), quantizer) for name in self.WEIGHTS]

    def set_quantize_weights(self, layer, quantize_weights):
        for name, weight in zip(self.WEIGHTS, quantize_weights, strict=True):
            setattr(layer.cell, name, weight)

    def get_activations_and_quantizers(self, layer):
        return [(getattr(layer.cell, name), _values()) for name in self.ACTIVATIONS] if self.inside else []

    def set_quantize_activations(self, layer, quantize_activations):
        for name, activation in zip(self.ACTIVATIONS, quantize_activations, strict=False):
            setattr(layer.cell, name, activation)

    def get_output_quantizers(self, layer):
        return [_values()] if self.output else []

    def get_config(self):
        return {"inside": self.inside, "output": self.output}


def _values():
    return quantizers.MovingAverageQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)


def clustered(copy: tf_keras.Model, clusters: int, fine_tune: Callable[[tf_keras.Model], object]) -> tf_keras.Model:
    """Trains a model whose kernels and embeddings hold so many different weights each, and no more.

    Recurrent layers are clustered like others: an LSTM's kernel and recurrent kernel for themselves. Biases stay free.

    Args:
        copy: a model that cannot be used afterwards.
        clusters: how many.
        fine_tune: compiles and trains a model.

    Returns:
        A model like the one given, without wrappers.
    """

    def wrap(layer):
        # TFMOT's wrapper does not tell its layer whether it trains: dropout and batch normalization stay outside.
        if not any(len(weight.shape) > 1 for weight in layer.weights):
            return layer
        return tfmot.clustering.keras.cluster_weights(layer, number_of_clusters=clusters)

    wrapped = tf_keras.models.clone_model(copy, clone_function=wrap)
    fine_tune(wrapped)
    return tfmot.clustering.keras.strip_clustering(wrapped)


def fake_quantized(
    copy: tf_keras.Model,
    choose: Callable[[tf_keras.layers.Layer], object] = lambda layer: True,
    behind: str | None = None,
    **options,
) -> tf_keras.Model:
    """A model that rounds to int8 while it trains.

    Args:
        copy: a model.
        choose: gives of a layer True for TFMOT's own rule, a `QuantizeConfig`, or False if it is to stay as it is.
        behind: a layer from whose output on layers are quantized. TFMOT rounds every input of what it quantizes, and
            fails on inputs that are whole numbers, such as words: it has to begin behind the embedding.
        options: of `tfmot.quantization.keras.quantize_apply`.
    """

    def annotate(layer):
        config = choose(layer)
        if config is False:
            return layer
        return quantization.quantize_annotate_layer(layer, None if config is True else config)

    start = copy.input if behind is None else copy.get_layer(behind).output
    part = copy if behind is None else tf_keras.Model(start, copy.output)
    with quantization.quantize_scope({"CellConfig": CellConfig}):
        annotated = tf_keras.models.clone_model(part, clone_function=annotate)
        quantized = quantization.quantize_apply(annotated, **options)
    return quantized if behind is None else tf_keras.Model(copy.input, quantized(start), name=copy.name)


def flatbuffer_of(model: tf_keras.Model) -> bytes:
    """A TFLite file of a model for one example at a time; what rounds to int8 in it becomes int8.

    Args:
        model: of one input and one output.

    Raises:
        ConversionError: TensorFlow Lite refuses it.
    """
    port = Port(model.input_names[0], (1, *model.input_shape[1:]), model.input.dtype.name)

    def serve(inputs):
        return {"output": model(inputs, training=False)}

    given = tf.TensorSpec(port.shape, port.dtype, name=port.name)
    function = tf.function(serve, autograph=False).get_concrete_function(given)
    # "dynamic" lets the converter optimize, no more: a model that rounds by itself keeps its own ranges.
    return flatbuffer(model, function, [port], mode_of("dynamic"), None)
