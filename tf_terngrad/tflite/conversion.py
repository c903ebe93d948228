"""From a Keras model to a TFLite file that gives the same outputs."""

import dataclasses
import warnings

import keras
import numpy as np

from tf_terngrad.tflite import check
from tf_terngrad.tflite.candidates import candidates
from tf_terngrad.tflite.converter import QUANTIZE, ConversionError, float32
from tf_terngrad.tflite.draft import replacing
from tf_terngrad.tflite.litert import float_operators, operators
from tf_terngrad.tflite.ports import arrange, integer_limit, ports, structures_of
from tf_terngrad.tflite.recurrent import ROUTES, stateless
from tf_terngrad.tflite.report import ConversionReport
from tf_terngrad.tflite.streaming import stream_of
from tf_terngrad.tflite.whole import Whole

# The largest difference of an output, over its scale. Float32 has no excuse; the others are expected to lose something.
TOLERANCE = {None: 1e-4, "float16": 1e-2, "dynamic": 0.25, "int8": 0.25}


def convert(
    model, path, quantize=None, calibration=None, evaluation=None, batch_size=1, recurrent="auto", streaming=None
):
    """Writes `model` as a TFLite file, runs the file with LiteRT, and reports how its outputs compare.

    The file has the model's inputs and outputs by name, float32 where the model has float32, in every mode: it
    replaces the model without a change in the application. Its operators are the stock ones. Law, for float32:

        max |file(x) - model(x)| <= 1e-4 * max |model(x)|

    Batch normalization folds into the convolution before it, and bias and activation fuse, only when the batch is
    fixed; a free batch also adds SHAPE, STRIDED_SLICE and PACK before each Flatten. So the file takes 1 example at a
    time, as phones do, unless you say otherwise. A model of mixed precision is converted and checked in float32.

    Recurrent layers start each run from zeros, stateful ones too. TFLite has one fused operator for a whole LSTM; any
    other recurrent layer becomes a loop, or its operators once for each step, "unrolled". Which is the fastest depends
    on sizes, steps and mode: here they are measured, and the report says which was taken.

    `streaming` makes a file that takes a few steps at a time, for sequences with no end in sight: the states of every
    recurrent layer go in and come out beside the data, as `<layer>_hidden` and `<layer>_cell` of an LSTM and
    `<layer>_state` of the others (numbered where there are more, or where a name is taken); they start as zeros. Law,
    for float32: piece by piece it gives what the model gives for the whole sequence.

    What cannot stream: `Bidirectional`, `go_backwards`, a layer that starts from another one's states or is called
    twice, inputs without a time axis, layers that mix steps, and a mask at cells of your own or stacked ones, unless
    they have `zero_output_for_mask`.

    Args:
        model: A built Keras model with known inputs: Sequential or Functional, any number of inputs and outputs.
        path: Of the file to write, which ends in .tflite. It appears, or replaces another, only when the file has
            passed its check.
        quantize: None keeps float32. "float16" halves the file and computes in float32. "dynamic" stores weights as
            int8 and computes in int8 where LiteRT can. "int8" also stores activations as int8, with float32 at the
            inputs and outputs; an operator without an int8 kernel stays float32, with a warning.
        calibration: Representative inputs for "int8", a few hundred: an array of shape (n, ...), a tuple of them in
            the order of the inputs, or a dict by input name. In every mode the check runs on the first 32.
        evaluation: The pair (inputs, labels); the report then gives the accuracy of the model and of the file. Labels
            are class numbers or one-hot; for several outputs, a dict of them by output name.
        batch_size: Examples that one run of the file takes; None leaves it free. A model whose inputs have a fixed
            batch keeps that, unless it streams.
        recurrent: How recurrent layers run: "loop"; "fused", which leaves loops where TFLite has no fused operator;
            "unroll", where the number of steps is known; "auto" takes the fastest, or the smallest of those within 10 %
            of it; of quantized files, the first in this order whose outputs are within tolerance, else the nearest.
            For int8 it unrolls: the calibration cannot run loops.
        streaming: Steps of time that one run takes, with states as inputs and outputs; True for 1, None or False for
            the whole sequence. Calibration and evaluation are whole sequences all the same, cut to a multiple of it.

    Returns:
        A `ConversionReport`; `print` it.

    Warns:
        UserWarning: A quantized file whose outputs are far from the model's, or an int8 file that computes in float32.

    Raises:
        TypeError: `model` is not a Keras model, or data is a path, or has a dtype that an input cannot take.
        ValueError: A wrong argument, a model without known inputs, weights that are not finite, data of a wrong shape,
            labels that are no classes of their output; with `streaming`, a model that cannot stream, sequences that are
            too short, or labels of a last step that the cut takes away.
        OSError: `path` cannot be written. This is found before the conversion begins.
        ConversionError: An operator that TFLite does not have, or a file that breaks the law.

    Example:
        ```python
        report = tf_terngrad.tflite.convert(model, "digits.tflite", quantize="int8", calibration=x_train[:200])
        print(report)
        ```
    """
    inputs, outputs = _checked_ports(model)
    streaming = None if streaming is False else streaming
    _check_arguments(quantize, calibration, batch_size, recurrent, streaming)
    inputs_of = {"calibration": calibration, "evaluation": _evaluation_inputs(evaluation)}
    data = {what: arrange(given, inputs, what) for what, given in inputs_of.items() if given is not None}
    with replacing(path) as draft, float32(model), stateless(model):
        if streaming:
            shipped = stream_of(model, inputs, outputs, int(streaming), batch_size)
        else:
            shipped = Whole(model, [_batched(port, batch_size) for port in inputs], outputs)
        if evaluation is not None:
            labels = shipped.cut_labels(_by_output(evaluation[1], outputs), data["evaluation"])
        data = {what: shipped.cut(arrays, what) for what, arrays in data.items()}
        checked_on, arrays = _check_inputs(model, shipped, data)
        ranges_by = shipped.calibration(data["calibration"]) if quantize == "int8" else None
        found = candidates(shipped, quantize, ranges_by, recurrent, draft)
        taken, checks = _first_lawful(found, model, shipped, draft, outputs, quantize, arrays, checked_on)
        if evaluation is not None:
            checks = _with_accuracy(model, shipped, draft, outputs, checks, data["evaluation"], labels)
        counts, custom = operators(draft)
        floating = float_operators(draft) if quantize == "int8" else ()
        if floating:
            warnings.warn(f"{path} is not all int8: {', '.join(floating)} compute in float32.", stacklevel=2)
        return ConversionReport(
            str(path),
            quantize,
            draft.stat().st_size,
            counts,
            custom,
            {port.name: port.shape for port in shipped.inputs},
            checked_on,
            tuple(checks),
            taken.became,
            {one.route: (one.latency, len(one.content)) for one in found if one.latency is not None},
        )


def _batched(port, size):
    return dataclasses.replace(port, shape=(port.shape[0] or size, *port.shape[1:]))


def _check_arguments(quantize, calibration, batch_size, recurrent, streaming):
    if quantize not in QUANTIZE:
        raise ValueError(f"quantize: expected one of {list(QUANTIZE)}. Received: {quantize!r}.")
    if quantize == "int8" and calibration is None:
        raise ValueError("quantize='int8' needs calibration=, representative inputs, to choose its scales by.")
    for name, value in (("batch_size", batch_size), ("streaming", streaming)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name}: expected a whole number >= 1, or None. Received: {value!r}.")
    routes = ["auto", *ROUTES]
    if recurrent not in routes:
        raise ValueError(f"recurrent: expected one of {routes}. Received: {recurrent!r}.")
    if recurrent == "fused" and quantize == "int8":
        raise ValueError(
            "recurrent='fused' keeps the states of the run before; what clears them is too large for int8's range."
            " Expected recurrent='unroll', or quantize='dynamic'."
        )


def _checked_ports(model):
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected a keras.Model; load a file with keras.models.load_model. Received: {model!r}.")
    if not model.built or not getattr(model, "inputs", None):
        raise ValueError(
            f"Model '{model.name}' has no known inputs: it is unbuilt or subclassed. Give a Sequential model a"
            " keras.Input first, or wrap a subclassed one: keras.Model(inputs, model(inputs))."
        )
    for weight in model.weights:
        if not keras.ops.all(keras.ops.isfinite(weight)):
            raise ValueError(
                f"Model '{model.name}': weight '{weight.path}' holds NaN or infinity: the model cannot be converted."
                " Load a checkpoint from before the training diverged."
            )
    inputs, outputs = map(ports, structures_of(model))
    for port in inputs + outputs:
        if port.dtype == "string" or not port.shape:
            raise ValueError(
                f"Model '{model.name}': '{port.name}' needs numbers with a batch axis in front."
                f" Received: dtype {port.dtype}, shape {port.shape}."
            )
    return inputs, outputs


def _evaluation_inputs(evaluation):
    if evaluation is None:
        return None
    if not isinstance(evaluation, (tuple, list)) or len(evaluation) != 2:
        raise ValueError(f"evaluation: expected the pair (inputs, labels). Received: {type(evaluation).__name__}.")
    return evaluation[0]


def _check_inputs(model, shipped, data):
    for what in ("calibration", "evaluation"):
        if what in data:
            arrays = [array[: check.EXAMPLES] for array in data[what]]
            return f"{len(arrays[0])} {what} inputs{shipped.note}", arrays
    arrays = shipped.random_arrays(check.RANDOM_EXAMPLES, integer_limit(model))
    return f"{len(arrays[0])} random inputs{shipped.note}", arrays


def _first_lawful(found, model, shipped, draft, outputs, quantize, arrays, checked_on):
    """Writes the first candidate within its tolerance, else the nearest; returns it and its checks."""
    tried, errors = [], []
    for candidate in found:
        draft.write_bytes(candidate.content)
        try:
            checks = _checks(model, shipped, draft, outputs, arrays, checked_on)
        except ConversionError as error:
            errors.append(error)
            continue
        tried.append((max(output.relative_difference for output in checks), candidate, checks))
        if tried[-1][0] <= TOLERANCE[quantize]:
            break
    if not tried:
        raise errors[-1]
    _, taken, checks = min(tried, key=lambda one: one[0])
    draft.write_bytes(taken.content)
    _judge(model, quantize, checks, checked_on)
    return taken, checks


def _checks(model, shipped, draft, outputs, arrays, checked_on):
    expected = check.keras_outputs(model, arrays)
    received = _file_outputs(model, shipped, draft, arrays)
    for port, ours, theirs in zip(outputs, expected, received, strict=True):
        where = f"output '{port.name}' of model '{model.name}' on {checked_on}"
        if not np.isfinite(ours).all():
            raise ValueError(f"NaN or infinity in {where}: give inputs of the right range, calibration=.")
        if ours.shape != theirs.shape or not np.isfinite(theirs).all():
            raise ConversionError(
                f"The file breaks {where}: expected finite numbers of shape {ours.shape}. Received: shape"
                f" {theirs.shape}, {np.count_nonzero(~np.isfinite(theirs))} of them NaN or infinity."
            )
    return [check.compare_outputs(*triple) for triple in zip(outputs, expected, received, strict=True)]


def _file_outputs(model, shipped, draft, arrays):
    try:
        return shipped.file_outputs(draft, arrays)
    except ValueError as error:
        reason = str(error.__cause__ or error).strip()
        raise ConversionError(
            f"LiteRT cannot run the file made of model '{model.name}': {reason} For int8,"
            " see that the calibration inputs vary, so that no activation has an empty range."
        ) from error


def _judge(model, quantize, checks, checked_on):
    for output in checks:
        if output.relative_difference > TOLERANCE[quantize]:
            message = (
                f"The file's output '{output.name}' differs from model '{model.name}' on {checked_on} by"
                f" {output.max_difference:.3g}; expected at most {TOLERANCE[quantize]:g} of its scale"
                f" {output.scale:.3g} for {quantize or 'float32'}."
            )
            if quantize is None:
                raise ConversionError(message)
            warnings.warn(f"{message} Give evaluation= to see what it costs, or try another mode.", stacklevel=4)


def _by_output(labels, outputs):
    names = [port.name for port in outputs]
    if not isinstance(labels, dict):
        if len(outputs) > 1:
            raise ValueError(f"evaluation: expected a dict of labels by output, of {names}. Received: one array.")
        labels = {names[0]: labels}
    if not set(labels) <= set(names):
        raise ValueError(f"evaluation: expected labels for outputs among {names}. Received: {list(labels)}.")
    return labels


def _with_accuracy(model, shipped, draft, outputs, checks, arrays, labels):
    expected = check.keras_outputs(model, arrays)
    received = _file_outputs(model, shipped, draft, arrays)
    results = []
    for port, output, ours, theirs in zip(outputs, checks, expected, received, strict=True):
        if port.name in labels:
            model_share, file_share = check.accuracies(port, ours, theirs, labels[port.name])
            output = dataclasses.replace(output, keras_accuracy=model_share, file_accuracy=file_share)
        results.append(output)
    return results
