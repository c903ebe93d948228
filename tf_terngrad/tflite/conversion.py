"""From a Keras model to a TFLite file that gives the same outputs."""

import dataclasses
import warnings

from tf_terngrad.checks import integer
from tf_terngrad.files import replacing
from tf_terngrad.keras_internals import calls_forgotten
from tf_terngrad.tflite import check
from tf_terngrad.tflite.arguments import (
    check_model,
    check_suffix,
    checked_mode,
    checked_ports,
    checked_steps,
    evaluation_inputs,
)
from tf_terngrad.tflite.candidates import candidates
from tf_terngrad.tflite.converter import float32
from tf_terngrad.tflite.delegates import refused
from tf_terngrad.tflite.draw import draw
from tf_terngrad.tflite.examples import read
from tf_terngrad.tflite.litert import Runner, float_operators, has_free_shapes, operators
from tf_terngrad.tflite.ports import arrange, ports, structures_of
from tf_terngrad.tflite.recurrent import stateless
from tf_terngrad.tflite.report import ConversionReport
from tf_terngrad.tflite.start import cut
from tf_terngrad.tflite.streaming import stream_of
from tf_terngrad.tflite.trial import Trial, by_output
from tf_terngrad.tflite.whole import Whole


def convert(
    model,
    path,
    quantize=None,
    calibration=None,
    evaluation=None,
    batch_size=1,
    recurrent="auto",
    streaming=None,
    start=None,
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
            the order of the inputs, or a dict by input name. Or a `tf.data.Dataset`, batched or not, with or without
            labels, or a generator, or a function that returns either, as TensorFlow's representative_dataset: their
            first 1,000 examples are read. In every mode the check runs on the first 32; without calibration and
            evaluation, on random inputs, of whole numbers below the rows of the lookup tables that they reach.
        evaluation: the pair (inputs, labels); the report then gives the accuracy of the model and of the file. Labels
            are class numbers or one-hot; for several outputs, a dict of them by output name.
        batch_size: how many examples one run of the file takes, an integer of at least 1; None leaves it free. A model
            whose inputs have a fixed batch keeps that, unless it streams.
        recurrent: how recurrent layers run: "loop"; "fused", which leaves loops where TFLite has no fused operator;
            "unroll", where the number of steps is known; "auto" takes the fastest, or the smallest of those within 10 %
            of it; "smallest" takes the smallest file, however slow. Of quantized files, both take the first in this
            order whose outputs are within tolerance, else the nearest. For int8 they unroll: the calibration cannot run
            loops.
        streaming: how many steps of time one run takes, an integer of at least 1, with states as inputs and outputs;
            True for 1, None or False for the whole sequence. Calibration and evaluation are whole sequences all the
            same, cut to a multiple of it.
        start: the name of a layer, or a list of them, behind which the file begins: of models that take text, such as
            "text_vectorization". What these layers give becomes the file's inputs, under their names; the application
            does what they do. Calibration and evaluation are inputs of the whole model all the same.

    Returns:
        A `ConversionReport`; `print` it. It also says which operators GPU and NPU delegates are known to refuse.

    Warns:
        UserWarning: a quantized file whose outputs are far from the model's, or an int8 file that computes in float32.

    Raises:
        TypeError: `model` is not a Keras model, or an argument is of another kind, or data is a path, or has a dtype
            that an input cannot take.
        ValueError: a wrong argument, a model without known inputs, or that takes text and has no `start`, weights that
            are not finite, data of a wrong shape, a model that takes none of the random inputs, labels that are no
            classes of their output; with `streaming`, a model that cannot stream, sequences that are
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
    check_model(model)
    mode = checked_mode(quantize, calibration, recurrent)
    batch_size = integer(batch_size, "batch_size", "convert", least=1, or_none=True)
    steps = checked_steps(streaming)
    given = {"calibration": calibration, "evaluation": evaluation_inputs(evaluation)}
    check_suffix(path)
    with replacing(path) as draft, calls_forgotten(model), float32(model), stateless(model):
        model, inputs, outputs, data = _begun(model, start, given)
        if steps:
            shipped = stream_of(model, inputs, outputs, steps, batch_size)
        else:
            shipped = Whole(model, [_batched(port, batch_size) for port in inputs], outputs)
        if evaluation is not None:
            labels = shipped.cut_labels(by_output(evaluation[1], outputs), data["evaluation"])
        data = {what: shipped.cut(arrays, what) for what, arrays in data.items()}
        checked_on, arrays = _check_inputs(model, shipped, data)
        ranges_by = shipped.calibration(data["calibration"]) if mode.needs_calibration else None
        found = candidates(shipped, mode, ranges_by, recurrent, draft, arrays)
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
            refused(draft),
            not has_free_shapes(draft),
            {port.name: port.dtype for port in Runner(draft).inputs},
            {name: str(outcome) for name, outcome in taken.became.items()},
            {one.route: (one.latency, len(one.content)) for one in found if one.latency is not None},
        )


def _begun(model, start, given):
    """What goes into the file: a model, its lists of `Port`, and its data by what it is for."""
    whole = ports(structures_of(model)[0])
    parts = None if start is None else cut(model, start)
    model = model if parts is None else parts.rest
    inputs, outputs = checked_ports(model)
    data = {what: arrange(read(one, whole, what), whole, what) for what, one in given.items() if one is not None}
    if parts is not None:
        data = {what: arrange(parts.inputs_of_rest(arrays, whole), inputs, what) for what, arrays in data.items()}
    return model, inputs, outputs, data


def _batched(port, size):
    return dataclasses.replace(port, shape=(port.shape[0] or size, *port.shape[1:]))


def _check_inputs(model, shipped, data):
    for what in ("calibration", "evaluation"):
        if what in data:
            arrays = [array[: check.EXAMPLES] for array in data[what]]
            return f"{len(arrays[0])} {what} inputs{shipped.note}", arrays
    arrays = draw(model, shipped.sequences, check.RANDOM_EXAMPLES)
    return f"{len(arrays[0])} random inputs{shipped.note}", arrays
