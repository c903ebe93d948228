"""TensorFlow's converter, fed so that its files are right and small."""

import contextlib
import re
import unittest.mock
import warnings

import keras
import numpy as np
import tensorflow as tf

from tf_terngrad.keras_internals import all_layers, keep_scales_before_matmuls
from tf_terngrad.sparsity.rules.equation import Equation
from tf_terngrad.tflite import masks
from tf_terngrad.tflite.litert import quiet
from tf_terngrad.tflite.modes import simpler_modes
from tf_terngrad.tflite.ports import structures_of


class ConversionError(RuntimeError):
    """TensorFlow Lite cannot express the model, or the file's outputs are not the model's. No file was written.

    Use it when a program should go on although a model cannot become a TFLite file: catch it.
    """


@contextlib.contextmanager
def float32(model):
    """Lets the layers that compute in half precision compute in float32, which TFLite's operators need."""
    halves = [layer for layer in all_layers(model) if layer.compute_dtype in ("float16", "bfloat16")]
    policies = [layer.dtype_policy for layer in halves]
    try:
        for layer in halves:
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in zip(halves, policies, strict=True):
            layer.dtype_policy = policy


def trace(model, inputs, outputs, calibration=None):
    """Traces a model as in inference; `inputs` and `outputs` are lists of `Port`, the inputs' batch filled in.

    With calibration, a list of arrays in the order of the inputs, masks of attention fit the scores that it gives.
    """
    function = _traced(model, inputs, outputs, lambda graph, results: results)
    if calibration is None or not masks.has_masks(function.graph):
        return function
    probe = _traced(model, inputs, outputs, lambda graph, results: masks.extremes(graph))
    few = [array[:_PROBED] for array in calibration]
    batches = (dict(zip(batch, map(tf.constant, batch.values()), strict=True)) for batch in _batches(inputs, few))
    found = [probe(**batch) for batch in batches]
    least, most = min(float(each["least"]) for each in found), max(float(each["most"]) for each in found)

    def finish(graph, results):
        masks.bring_near(graph, least, most)
        return results

    return _traced(model, inputs, outputs, finish)


def _traced(model, inputs, outputs, finish):
    """A function of the model's inputs that returns what `finish(graph, results)` does, once the graph is there."""

    def serve(**tensors):
        batch = keras.tree.pack_sequence_as(structures_of(model)[0], [tensors[port.name] for port in inputs])
        results = keras.tree.flatten(model(batch, training=False))
        named = {port.name: result for port, result in zip(outputs, results, strict=True)}
        return finish(tf.compat.v1.get_default_graph(), named)

    # Keras's own way to a converter leaves the batch free and names the outputs output_0, output_1.
    signature = {port.name: tf.TensorSpec(port.shape, port.dtype, name=port.name) for port in inputs}
    with _patched(tf.nn, "bias_add", _bias_add), _patched(tf, "einsum", _einsum):
        return tf.function(serve, autograph=False).get_concrete_function(**signature)


_PROBED = 64  # examples of which the scores are looked at
_patched = unittest.mock.patch.object
_any_einsum = tf.einsum
_last_axis_bias_add = tf.nn.bias_add


def _einsum(equation, *inputs, **options):
    """A product of single elements is one; of its einsum the converter makes products of matrices that do not fit."""
    shape = _broadcast(equation, *inputs) if len(inputs) == 2 and "->" in equation else None
    if shape is None:
        return _any_einsum(equation, *inputs, **options)
    return inputs[0] * tf.reshape(inputs[1], shape)


def _broadcast(equation, x, factor):
    """The shape in which a factor multiplies each element of a tensor; None: the equation says something else."""
    terms = Equation.parse(equation).spelled((x.shape.rank, factor.shape.rank), x.shape.rank)
    (axes, its_axes), result = terms.operands, terms.result
    shared = [letter for letter in axes if letter in its_axes]
    if axes != result or shared != list(its_axes) or not factor.shape.is_fully_defined():
        return None
    return [factor.shape[its_axes.index(letter)] if letter in its_axes else 1 for letter in axes]


def _bias_add(value, bias, data_format=None, name=None):
    """Adds along axis 1 without a BiasAdd of data format NCHW.

    Keras makes one of every sum whose second term has one axis that is not 1, where that fits axis 1 of the first: of
    a residual (1, time, 1), of a position table. The converter takes each for that of an image of four dimensions.
    """
    if data_format is None or not data_format.startswith("NC"):
        return _last_axis_bias_add(value, bias, data_format=data_format, name=name)
    return tf.add(value, tf.reshape(bias, [-1] + [1] * (value.shape.rank - 2)), name=name)


def flatbuffer(model, function, inputs, mode, calibration):
    """Converts a model.

    Args:
        model: A built Keras model.
        function: What `trace` gave for it.
        inputs: A list of `Port`, the batch filled in, None where it stays free.
        mode: A `QuantizationMode`.
        calibration: A list of arrays in the order of `inputs`, if the mode needs them.

    Returns:
        The content of the file, bytes.

    Raises:
        ConversionError: TensorFlow Lite refuses the model.
    """
    if mode.needs_calibration and _loops(function):
        raise ConversionError(
            f"TensorFlow Lite cannot calibrate loops or branches for {mode}, and model '{model.name}' has some. Give"
            " its inputs a known number of steps, so that recurrent layers can be unrolled, or use one of"
            f" {simpler_modes(mode)}."
        )
    # The converter reads the values of variables that it can reach from here; the others become empty.
    holder = tf.Module()
    holder.captured = list(function.variables)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], holder)
    if _widens(function):
        keep_scales_before_matmuls(converter)
    mode.prepare(converter)
    if mode.needs_calibration:
        converter.representative_dataset = lambda: _batches(inputs, calibration)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
            return converter.convert()
    except Exception as error:  # the converter raises its own ConverterError, RuntimeError and ValueError
        raise ConversionError(_reason(model, inputs, mode, str(error))) from error


def _loops(function):
    """Whether a loop or a branch runs in the function; the converter's calibration ends the process on one."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    return any(node.op in {"While", "StatelessWhile", "If", "StatelessIf"} for node in nodes)


def _widens(function):
    """Whether a product makes one feature into several, as the kernel of a layer on one feature does.

    The converter writes such a product as a MUL, moves that into the weights of a matrix product behind it, and then
    either refuses the file or gives it outputs of a wrong shape: https://github.com/tensorflow/tensorflow/issues/124103
    """
    return any(
        operation.type in {"Mul", "MatMul", "BatchMatMulV2", "Einsum"}
        and _features(operation.outputs[0]) != 1
        and any(_features(tensor) == 1 for tensor in operation.inputs)
        for operation in function.graph.get_operations()
    )


def _features(tensor):
    """The size of the last axis; None where there is none, or where it is not known."""
    return tensor.shape[-1] if tensor.shape.rank else None


def _batches(inputs, calibration):
    """Yields of each run of the file its inputs by name; the last one is filled up with copies of the last example."""
    size, last = inputs[0].shape[0] or 1, len(calibration[0]) - 1
    for start in range(0, last + 1, size):
        rows = np.minimum(np.arange(start, start + size), last)
        yield {port.name: array[rows] for port, array in zip(inputs, calibration, strict=True)}


def _reason(model, inputs, mode, message):
    missing = sorted(set(re.findall(r"^(?:Custom|Flex|TF Select) ops: (.*)$", message, flags=re.MULTILINE)))
    if missing:
        sizes = any(size is None for port in inputs for size in port.shape[1:])
        return (
            f"Model '{model.name}' needs operations that no stock TFLite operator covers: {', '.join(missing)}."
            " Replace the layers that use them; where they only prepare the inputs, begin the file behind them with"
            f" start= and the name of the last one.{' Inputs of known sizes may need none of them.' if sizes else ''}"
        )
    line = next(iter(message.strip().splitlines()), "no reason given").split("error: ")[-1]
    remedy = "" if inputs[0].shape[0] else " Loops over time need a fixed batch: batch_size=1."
    others = simpler_modes(mode)
    remedy += f" Another mode may fit: {others}." if others else ""
    return f"TensorFlow Lite refuses model '{model.name}': {line}.{remedy}"
