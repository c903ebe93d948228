"""What `convert` was given: accepted, or refused in one sentence before any work is done."""

import pathlib

import keras
import numpy as np

from tf_terngrad.checks import integer, one_of, refusal
from tf_terngrad.tflite.candidates import CHOICES
from tf_terngrad.tflite.modes import mode_of, simpler_modes
from tf_terngrad.tflite.ports import ports, structures_of
from tf_terngrad.tflite.recurrent import ROUTES
from tf_terngrad.tflite.start import readers_of_text


def check_model(model):
    """Refuses what is no Keras model of known inputs and finite weights."""
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


def checked_ports(model):
    """The lists of `Port` of a model's inputs and outputs, all of them numbers with a batch axis."""
    inputs, outputs = map(ports, structures_of(model))
    for port in inputs + outputs:
        if port.dtype == "string" or not port.shape:
            raise ValueError(
                f"Model '{model.name}': '{port.name}' needs numbers with a batch axis in front."
                f" Received: dtype {port.dtype}, shape {port.shape}.{_where_to_cut(model, port)}"
            )
    return inputs, outputs


def _where_to_cut(model, port):
    names = readers_of_text(model)
    if port.dtype != "string" or not names:
        return ""
    start = repr(names[0]) if len(names) == 1 else repr(names)
    return (
        f" TFLite's stock operators know no text. Begin the file behind what turns it into numbers, start={start}; the"
        " application does the rest."
    )


def checked_mode(quantize, calibration, recurrent):
    """The `QuantizationMode`; the data and the route of recurrent layers fit it."""
    mode = mode_of(quantize)
    one_of(recurrent, (*CHOICES, *ROUTES), "recurrent", "convert")
    if mode.needs_calibration and calibration is None:
        expected = f"representative inputs, from which quantize='{mode}' takes the ranges of activations"
        raise ValueError(refusal("convert", "calibration", expected, None, "A few hundred examples do"))
    if recurrent not in (*CHOICES, *mode.routes):
        expected = f"one of {', '.join(map(repr, (*CHOICES, *mode.routes)))} for quantize='{mode}'"
        reason = ROUTES[recurrent].limit or "The mode leaves it out"
        remedy = f"{reason}. Use recurrent={mode.routes[-1]!r}, or one of {simpler_modes(mode)}"
        raise ValueError(refusal("convert", "recurrent", expected, recurrent, remedy))
    return mode


def checked_steps(streaming):
    """How many steps a run takes, None for all: True is 1, False is None."""
    if isinstance(streaming, (bool, np.bool_)):
        streaming = 1 if streaming else None
    return integer(streaming, "streaming", "convert", least=1, or_none=True)


def check_suffix(path):
    """Refuses a name that is not that of a TFLite file."""
    path = pathlib.Path(path)
    if path.suffix != ".tflite" and not path.is_dir():
        raise ValueError(refusal("convert", "path", "the name of a file that ends in .tflite", str(path)))


def evaluation_inputs(evaluation):
    """The first of the pair (inputs, labels); None without an evaluation."""
    if evaluation is None:
        return None
    if not isinstance(evaluation, (tuple, list)) or len(evaluation) != 2:
        raise ValueError(f"evaluation: expected the pair (inputs, labels). Received: {type(evaluation).__name__}.")
    return evaluation[0]
