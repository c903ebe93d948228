"""What cannot be converted is refused with one clear error, and the file that was there stays."""

import keras
import numpy as np
import pytest
from keras import layers
from small_models import example_inputs, many, nested, sequential

from tf_terngrad import tflite
from tf_terngrad.tflite import candidates


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def poisoned():
    model = sequential((3,), layers.Dense(2, name="dense"))
    model.layers[0].bias.assign([1.0, np.nan])
    return model


def dense():
    return sequential((3,), layers.Dense(2, name="dense"))


def endless():
    return sequential((None, 3), layers.GRU(3))


def silent():
    """No calibration can give the hidden activation a range."""
    model = sequential((3,), layers.Dense(4, activation="relu"), layers.Dense(2, activation="relu"), layers.Dense(2))
    for layer in model.layers[:2]:
        layer.bias.assign(np.full(layer.bias.shape, -100.0))
    return model


DATA = np.ones((4, 3))
REFUSED = {
    "not a model": (lambda: "m.keras", {}, TypeError, "keras.Model.*load_model.*'m.keras'"),
    "unbuilt": (lambda: keras.Sequential([layers.Dense(2)]), {}, ValueError, "unbuilt or subclassed.*keras.Input"),
    "subclassed": (Subclassed, {}, ValueError, "unbuilt or subclassed"),
    "nan weight": (poisoned, {}, ValueError, "weight '.*dense/bias' holds NaN.*checkpoint from before"),
    "mode": (
        dense,
        {"quantize": "int4"},
        ValueError,
        "convert: expected `quantize`.*float16.*Received: quantize='int4'",
    ),
    "batch": (dense, {"batch_size": 0}, ValueError, "convert: expected `batch_size`.*or None. Received: batch_size=0"),
    "no calibration": (
        dense,
        {"quantize": "int8"},
        ValueError,
        "convert: expected `calibration`.*quantize='int8'.*Received: calibration=None",
    ),
    "shape": (
        dense,
        {"calibration": np.ones((4, 5))},
        ValueError,
        r"input 'image'.*\(n, 3\).*Received: shape \(4, 5\)",
    ),
    "rank": (dense, {"calibration": np.ones(3)}, ValueError, r"\(n, 3\).*Received: shape \(3,\)"),
    "empty": (dense, {"calibration": np.ones((0, 3))}, ValueError, r"n >= 1.*Received: shape \(0, 3\)"),
    "nan data": (dense, {"calibration": DATA * np.nan}, ValueError, "calibration for input 'image'.*NaN"),
    "path": (dense, {"calibration": "cal.npz"}, TypeError, "input 'image'.*load the file.*Received: path cal.npz"),
    "name": (dense, {"calibration": {"picture": DATA}}, ValueError, r"inputs \['image'\].*Received: \['picture'\]"),
    "count": (nested, {"calibration": [np.ones((2, 4))]}, ValueError, "expected 2 arrays.*Received: 1"),
    "lengths": (nested, {"calibration": (np.ones((2, 4)), np.ones((3, 4)))}, ValueError, "same number of examples"),
    "dtype": (many, {"calibration": example_inputs(nested(), 2)}, ValueError, r"'image', 'tokens'.*Received"),
    "float tokens": (
        many,
        {"calibration": {"image": np.ones((2, 6, 6, 1)), "tokens": np.ones((2, 5))}},
        TypeError,
        "input 'tokens'.*int32.*Received: dtype float64",
    ),
    "no pair": (dense, {"evaluation": DATA}, ValueError, "pair .inputs, labels."),
    "labels": (
        dense,
        {"evaluation": (DATA, np.ones(3))},
        ValueError,
        r"labels of output 'dense'.*Received: shape \(3,\)",
    ),
    "classes": (
        dense,
        {"evaluation": (DATA, np.array([0, 1, 2, -1]))},
        ValueError,
        "labels of output 'dense'.*from 0 to 1.*Received: 2 of 4 are not, such as 2",
    ),
    "which output": (nested, {"evaluation": ([np.ones((2, 4))] * 2, np.ones(2))}, ValueError, "dict of labels"),
    "range": (
        lambda: sequential((3,), layers.Lambda(keras.ops.log, output_shape=(3,), name="log")),
        {},
        ValueError,
        "NaN or infinity in output 'log'.*calibration=",
    ),
    "loop": (
        endless,
        {"quantize": "int8", "calibration": np.ones((2, 6, 3))},
        tflite.ConversionError,
        "loops or branches for int8.*known number of steps.*quantize='dynamic'",
    ),
    "no range": (
        silent,
        {"quantize": "int8", "calibration": np.random.default_rng(0).normal(size=(20, 3))},
        tflite.ConversionError,
        "LiteRT cannot run.*calibration inputs vary",
    ),
    "free loop": (endless, {"batch_size": None}, tflite.ConversionError, "batch_size=1"),
    "operator": (
        lambda: sequential((3,), layers.Lambda(keras.ops.erfinv, output_shape=(3,))),
        {},
        tflite.ConversionError,
        "no stock TFLite operator covers: Erfinv",
    ),
}


@pytest.mark.parametrize("build, arguments, error, message", REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_and_nothing_lost(build, arguments, error, message, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"the last good file")
    with pytest.raises(error, match=f"(?s){message}"):
        tflite.convert(build(), path, **arguments)
    assert path.read_bytes() == b"the last good file"
    assert len(list(tmp_path.iterdir())) == 1


def test_unwritable_folder_is_found_before_the_conversion(tmp_path, monkeypatch):
    def unexpected(*arguments):
        raise AssertionError("converted before the folder was tried")

    monkeypatch.setattr(candidates, "flatbuffer", unexpected)
    (tmp_path / "file").touch()
    for path, error in [
        (tmp_path / "missing" / "m.tflite", FileNotFoundError),
        (tmp_path / "file" / "m.tflite", NotADirectoryError),
        (tmp_path, IsADirectoryError),
    ]:
        with pytest.raises(error, match=str(path)):
            tflite.convert(dense(), path)


def test_another_kind_of_file_is_refused_before_the_conversion(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "flatbuffer", None)
    with pytest.raises(ValueError, match=r"convert: .*ends in \.tflite\. Received: path='.*z\.bin'"):
        tflite.convert(dense(), tmp_path / "z.bin")
    assert not list(tmp_path.iterdir())
