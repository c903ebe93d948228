"""The file beside the model: the same inputs through both, the outputs compared."""

import keras
import numpy as np

from tf_terngrad.tflite.litert import Runner
from tf_terngrad.tflite.ports import structures_of
from tf_terngrad.tflite.report import OutputCheck

EXAMPLES = 32  # of real data that a check runs
RANDOM_EXAMPLES = 8
BATCH = 128


def keras_outputs(model, arrays):
    """Runs `model` as in inference, eagerly, a batch at a time.

    Args:
        model: A Keras model.
        arrays: One array an input, in the order in which Keras flattens the model's inputs.

    Returns:
        A list of arrays, one an output.
    """
    structure, _ = structures_of(model)
    fixed = next((t.shape[0] for t in keras.tree.flatten(structure) if t.shape[0] is not None), None)
    examples, size = len(arrays[0]), fixed or BATCH
    results = []
    for start in range(0, examples, size):
        stop = start + size if fixed else min(start + size, examples)
        rows = np.minimum(np.arange(start, stop), examples - 1)
        batch = keras.tree.pack_sequence_as(structure, [keras.ops.convert_to_tensor(array[rows]) for array in arrays])
        outputs = keras.tree.flatten(model(batch, training=False))
        results.append([keras.ops.convert_to_numpy(output) for output in outputs])
    return [np.concatenate(parts)[:examples] for parts in zip(*results, strict=True)]


def file_outputs(path, arrays, inputs, outputs):
    """Runs a TFLite file; arrays and results are in the order of the model's `inputs` and `outputs`."""
    runner = Runner(path)
    by_name = {port.name: array for port, array in zip(inputs, arrays, strict=True)}
    results = runner.run([by_name[port.name] for port in runner.inputs])
    found = {port.name: result for port, result in zip(runner.outputs, results, strict=True)}
    return [found[port.name] for port in outputs]


def compare_outputs(port, expected, received):
    """Returns the `OutputCheck` of one output: max |received - expected| and max |expected|."""
    expected, received = expected.astype("float64"), received.astype("float64")
    if not expected.size:
        return OutputCheck(port.name, 0.0, 0.0)
    return OutputCheck(port.name, float(np.abs(expected).max()), float(np.abs(received - expected).max()))


def accuracies(port, expected, received, labels):
    """Returns the shares of `labels` that the model's outputs and the file's get right.

    The largest of several classes wins. An output of one class says 1 above 0.5 when the model's outputs are
    probabilities, all in [0, 1], and above 0 when they are logits.

    Args:
        port: The output's `Port`.
        expected: The model's outputs, shape (n, ..., classes).
        received: The file's outputs, the same shape.
        labels: Class numbers, shape (n, ...) or (n, ..., 1), or one-hot, shape (n, ..., classes).

    Returns:
        The pair (model's accuracy, file's accuracy), floats in [0, 1].

    Raises:
        ValueError: The labels do not fit the output, or some are not among its classes.
    """
    if expected.ndim < 2:
        raise ValueError(f"evaluation: output '{port.name}' has shape {port.shape}; accuracy needs an axis of classes.")
    labels, classes = np.asarray(labels), expected.shape[-1]
    if classes > 1 and labels.shape == expected.shape:
        labels = labels.argmax(-1)
    if labels.shape not in (expected.shape[:-1], (*expected.shape[:-1], 1)):
        raise ValueError(
            f"evaluation: labels of output '{port.name}' need shape {expected.shape[:-1]} (class numbers)"
            f" or {expected.shape} (one-hot). Received: shape {labels.shape}."
        )
    labels = labels.reshape(expected.shape[:-1])
    last = max(classes - 1, 1)
    wrong = labels[~np.isin(labels, np.arange(last + 1))]
    if wrong.size:
        raise ValueError(
            f"evaluation: labels of output '{port.name}' need to be class numbers, whole from 0 to {last}."
            f" Received: {wrong.size} of {labels.size} are not, such as {wrong[0]}."
        )
    boundary = 0.5 if expected.min() >= 0 and expected.max() <= 1 else 0.0

    def share(outputs):
        decided = outputs[..., 0] > boundary if classes == 1 else outputs.argmax(-1)
        return float(np.mean(decided == labels))

    return share(expected), share(received)
