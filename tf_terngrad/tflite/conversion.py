"""From a Keras model to a TFLite file that gives the same outputs."""

import dataclasses
import pathlib
import warnings

import keras
import numpy as np

from tf_terngrad.checks import integer, one_of, refusal
from tf_terngrad.files import replacing
from tf_terngrad.tflite import check
from tf_terngrad.tflite.candidates import AUTO, candidates
from tf_terngrad.tflite.converter import float32
from tf_terngrad.tflite.litert import float_operators, operators
from tf_terngrad.tflite.modes import mode_of, simpler_modes
from tf_terngrad.tflite.ports import arrange, integer_limit, ports, structures_of
from tf_terngrad.tflite.recurrent import ROUTES, stateless
from tf_terngrad.tflite.report import ConversionReport
from tf_terngrad.tflite.streaming import stream_of
from tf_terngrad.tflite.trial import Trial, by_output
from tf_terngrad.tflite.whole import Whole


def convert(
    model, path, quantize=None, calibration=None, evaluation=None, batch_size=1, recurrent="auto", streaming=None
):
    """Write a model as a TFLite file, run the file with LiteRT, and report how its outputs compare.

    Use it when a model is ready to go into an application: on a phone, in a browser, on a small board.

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
        model: a built `keras.Model` with known inputs: Sequential or Functional, any number of inputs and outputs.
        path: of the file to write, which ends in .tflite. It appears, or replaces another, only when the file has
            passed its check.
        quantize: None keeps float32. "float16" halves the file and computes in float32. "dynamic" stores weights as
            int8 and computes in int8 where LiteRT can. "int8" also stores activations as int8, with float32 at the
            inputs and outputs; an operator without an int8 kernel stays float32, with a warning. Or a
            `QuantizationMode` of your own, or the name under which you registered one.
        calibration: representative inputs for "int8", a few hundred: an array of shape (n, ...), a tuple of them in
            the order of the inputs, or a dict by input name. In every mode the check runs on the first 32.
        evaluation: the pair (inputs, labels); the report then gives the accuracy of the model and of the file. Labels
            are class numbers or one-hot; for several outputs, a dict of them by output name.
        batch_size: how many examples one run of the file takes, an integer of at least 1; None leaves it free. A model
            whose inputs have a fixed batch keeps that, unless it streams.
        recurrent: how recurrent layers run: "loop"; "fused", which leaves loops where TFLite has no fused operator;
            "unroll", where the number of steps is known; "auto" takes the fastest, or the smallest of those within 10 %
            of it; of quantized files, the first in this order whose outputs are within tolerance, else the nearest.
            For int8 it unrolls: the calibration cannot run loops.
        streaming: how many steps of time one run takes, an integer of at least 1, with states as inputs and outputs;
            True for 1, None or False for the whole sequence. Calibration and evaluation are whole sequences all the
            same, cut to a multiple of it.

    Returns:
        A `ConversionReport`; `print` it.

    Warns:
        UserWarning: a quantized file whose outputs are far from the model's, or an int8 file that computes in float32.

    Raises:
        TypeError: `model` is not a Keras model, or an argument is of another kind, or data is a path, or has a dtype
            that an input cannot take.
        ValueError: a wrong argument, a model without known inputs, weights that are not finite, data of a wrong shape,
            labels that are no classes of their output; with `streaming`, a model that cannot stream, sequences that are
            too short, or labels of a last step that the cut takes away.
        OSError: `path` cannot be written. This is found before the conversion begins, except for a disk that fills.
        ConversionError: an operator that TFLite does not have, or a file that breaks the law.

    Example:

    ```python
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, activation="softmax")])
    examples = np.random.normal(size=(200, 8))
    print(tt.tflite.convert(model, "digits.tflite", quantize="int8", calibration=examples))
    ```
    """
    inputs, outputs = _checked_ports(model)
    mode = _checked_mode(quantize, calibration, recurrent)
    batch_size = integer(batch_size, "batch_size", "convert", least=1, or_none=True)
    steps = _steps(streaming)
    inputs_of = {"calibration": calibration, "evaluation": _evaluation_inputs(evaluation)}
    data = {what: arrange(given, inputs, what) for what, given in inputs_of.items() if given is not None}
    _check_suffix(path)
    with replacing(path) as draft, float32(model), stateless(model):
        if steps:
            shipped = stream_of(model, inputs, outputs, steps, batch_size)
        else:
            shipped = Whole(model, [_batched(port, batch_size) for port in inputs], outputs)
        if evaluation is not None:
            labels = shipped.cut_labels(by_output(evaluation[1], outputs), data["evaluation"])
        data = {what: shipped.cut(arrays, what) for what, arrays in data.items()}
        checked_on, arrays = _check_inputs(model, shipped, data)
        ranges_by = shipped.calibration(data["calibration"]) if mode.needs_calibration else None
        found = candidates(shipped, mode, ranges_by, recurrent, draft)
        trial = Trial(model, shipped, mode, outputs, draft)
        taken, checks = trial.first_lawful(found, arrays, checked_on)
        if evaluation is not None:
            checks = trial.with_accuracy(checks, data["evaluation"], labels)
        counts, custom = operators(draft)
        floating = float_operators(draft) if mode.needs_calibration else ()
        if floating:
            warnings.warn(f"{path} is not all {mode}: {', '.join(floating)} compute in float32.", stacklevel=2)
        return ConversionReport(
            str(path),
            mode.name,
            draft.stat().st_size,
            counts,
            custom,
            {port.name: port.shape for port in shipped.inputs},
            checked_on,
            tuple(checks),
            {name: str(outcome) for name, outcome in taken.became.items()},
            {one.route: (one.latency, len(one.content)) for one in found if one.latency is not None},
        )


def _batched(port, size):
    return dataclasses.replace(port, shape=(port.shape[0] or size, *port.shape[1:]))


def _checked_mode(quantize, calibration, recurrent):
    """The `QuantizationMode`; the data and the route of recurrent layers fit it."""
    mode = mode_of(quantize)
    one_of(recurrent, (AUTO, *ROUTES), "recurrent", "convert")
    if mode.needs_calibration and calibration is None:
        expected = f"representative inputs, from which quantize='{mode}' takes the ranges of activations"
        raise ValueError(refusal("convert", "calibration", expected, None, "A few hundred examples do"))
    if recurrent not in (AUTO, *mode.routes):
        expected = f"one of {', '.join(map(repr, (AUTO, *mode.routes)))} for quantize='{mode}'"
        reason = ROUTES[recurrent].limit or "The mode leaves it out"
        remedy = f"{reason}. Use recurrent={mode.routes[-1]!r}, or one of {simpler_modes(mode)}"
        raise ValueError(refusal("convert", "recurrent", expected, recurrent, remedy))
    return mode


def _steps(streaming):
    """How many steps a run takes, None for all: True is 1, False is None."""
    if isinstance(streaming, (bool, np.bool_)):
        streaming = 1 if streaming else None
    return integer(streaming, "streaming", "convert", least=1, or_none=True)


def _check_suffix(path):
    path = pathlib.Path(path)
    if path.suffix != ".tflite" and not path.is_dir():
        raise ValueError(refusal("convert", "path", "the name of a file that ends in .tflite", str(path)))


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
