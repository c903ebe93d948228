"""How a TFLite file stores its numbers: one object a quantization mode, in one registry."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from tf_terngrad.checks import flag, one_of, own_name, positive, refusal, strings
from tf_terngrad.tflite.recurrent import ROUTES


@dataclasses.dataclass(frozen=True)
class QuantizationMode:
    """One way to store the numbers of a TFLite file.

    Use it when TensorFlow's converter can do what the four modes of `convert` do not: make an object of this class,
    give it to `convert(quantize=)`, or register it under its name with `register_mode`.

    Args:
        name (str): what reports and errors call it; None is float32, as in `convert(quantize=None)`.
        prepare: a function of a `tf.lite.TFLiteConverter` that sets its options; what it returns is not read.
        tolerance (float): the largest difference of an output from the Keras model's, over the output's scale.
        exact (bool): a file beyond the tolerance is an error, and not only a warning.
        needs_calibration (bool): activations become integers too, whose ranges come from `convert(calibration=)`. The
            converter cannot run loops for that, so recurrent layers are unrolled.
        routes: names in `recurrent.ROUTES`, the ways that recurrent layers can take in this mode.

    Raises:
        TypeError: an argument of another kind.
        ValueError: a tolerance that is not above 0, or a route that is none.

    Example: activations of 16 bits beside weights of 8, for models that lose too much with "int8".

    ```python
    def prepare(converter):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]

    wide = tt.tflite.QuantizationMode("int16", prepare, tolerance=0.01, needs_calibration=True)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    print(tt.tflite.convert(model, "wide.tflite", wide, calibration=np.random.normal(size=(100, 8))))
    ```
    """

    name: str | None
    prepare: Callable
    tolerance: float
    exact: bool = False
    needs_calibration: bool = False
    routes: tuple = tuple(ROUTES)

    def __post_init__(self):
        if self.name is not None and not isinstance(self.name, str):
            raise TypeError(refusal("QuantizationMode", "name", "a string", self.name))
        if not callable(self.prepare):
            raise TypeError(refusal("QuantizationMode", "prepare", "a function of a converter", self.prepare))
        plain = {
            "tolerance": positive(self.tolerance, "tolerance", "QuantizationMode"),
            "exact": flag(self.exact, "exact", "QuantizationMode"),
            "needs_calibration": flag(self.needs_calibration, "needs_calibration", "QuantizationMode"),
            "routes": tuple(
                one_of(route, ROUTES, "routes", "QuantizationMode")
                for route in strings(self.routes, "routes", "QuantizationMode")
            ),
        }
        if not plain["routes"]:
            raise ValueError(refusal("QuantizationMode", "routes", "at least one route", self.routes))
        for name, value in plain.items():
            object.__setattr__(self, name, value)  # a frozen dataclass has no other way

    def __str__(self):
        return self.name or "float32"


MODES = {}


def register_mode(mode):
    """Let `convert(quantize=)` take a mode by its name.

    Use it when several programs or a command line shall know your mode; once, `convert(quantize=mode)` is enough.

    Args:
        mode (QuantizationMode): the mode; its name is not taken.

    Returns:
        The mode.

    Raises:
        TypeError: it is no `QuantizationMode`.
        ValueError: another mode has its name.
    """
    if not isinstance(mode, QuantizationMode):
        raise TypeError(refusal("register_mode", "mode", "a QuantizationMode", mode))
    own_name(MODES, mode, "mode", "register_mode")
    return MODES.setdefault(mode.name, mode)


def mode_of(quantize):
    """The mode that `convert(quantize=)` means: a registered name, or a mode itself."""
    if isinstance(quantize, QuantizationMode):
        return quantize
    return MODES[one_of(quantize, MODES, "quantize", "convert")]


def simpler_modes(mode):
    """The registered modes that need no calibration, without this one, in words; nothing asks less than float32."""
    if mode == MODES[None]:
        return ""
    return ", ".join(f"quantize={name!r}" for name, one in MODES.items() if one != mode and not one.needs_calibration)


def _float32(converter):
    """The converter's own default."""


def _dynamic(converter):
    converter.optimizations = [tf.lite.Optimize.DEFAULT]


def _float16(converter):
    _dynamic(converter)
    converter.target_spec.supported_types = [tf.float16]


def _int8(converter):
    _dynamic(converter)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]


# Float32 has no excuse for a difference; the others are expected to lose something.
register_mode(QuantizationMode(None, _float32, tolerance=1e-4, exact=True))
register_mode(QuantizationMode("float16", _float16, tolerance=1e-2))
register_mode(QuantizationMode("dynamic", _dynamic, tolerance=0.25))
# What clears the states of the fused LSTM between two runs is too large for the range of int8.
register_mode(QuantizationMode("int8", _int8, tolerance=0.25, needs_calibration=True, routes=("loop", "unroll")))
