"""Calibration in the forms in which programs have it: the same examples, whatever holds them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_models import sequential

from tf_terngrad import tflite
from tf_terngrad.tflite.examples import MOST, read
from tf_terngrad.tflite.ports import Port, arrange

X = np.random.default_rng(0).normal(size=(12, 5, 3)).astype("float32")
Y = np.arange(12)
IMAGE = [Port("image", (None, 5, 3), "float32")]
BOTH = [Port("image", (None, 5, 3), "float32"), Port("age", (None, 1), "float32")]


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return X[3 * index : 3 * index + 3], Y[3 * index : 3 * index + 3]


def dataset(*parts):
    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0])


def yields(element):
    """TensorFlow's representative_dataset: a function that returns a generator."""
    return lambda: (element(i) for i in range(len(X)))


ONE_INPUT = {
    "array": X,
    "tensor": tf.constant(X),
    "list of it": [X],
    "dataset": dataset(X),
    "batched": dataset(X).batch(5),
    "labelled": dataset(X, Y),
    "labelled batches": dataset(X, Y).batch(5),
    "weighted batches": dataset(X, Y, Y).batch(5),
    "dict": dataset({"image": X, "label": Y}).batch(5),
    "dict and label": dataset({"image": X}, Y).batch(5),
    "PyDataset": Batches(workers=1),
    "yields lists": yields(lambda i: [X[i : i + 1]]),
    "yields tuples": yields(lambda i: (X[i],)),
    "yields pairs": yields(lambda i: (X[i], Y[i])),
    "yields dicts": yields(lambda i: {"image": X[i : i + 1]}),
    "yields arrays": yields(lambda i: X[i]),
    "generator": yields(lambda i: [X[i : i + 1]])(),
    "function of an array": lambda: X,
    "function of a dataset": lambda: dataset(X).batch(4),
    "any iterable": type("Loader", (), {"__iter__": lambda self: iter([(X[:6], Y[:6]), (X[6:], Y[6:])])})(),
}


@pytest.mark.parametrize("data", ONE_INPUT.values(), ids=ONE_INPUT)
def test_examples_are_the_same_whatever_holds_them(data):
    (received,) = arrange(read(data, IMAGE, "calibration"), IMAGE, "calibration")
    np.testing.assert_array_equal(received, X)


AGE = Y.astype("float32")
TWO_INPUTS = {
    "tuple": (X, AGE),
    "columns": {"image": X, "age": AGE[:, None]},
    "dataset of dicts": dataset({"age": AGE, "image": X, "label": Y}).batch(5),
    "dataset of pairs": dataset(X, AGE),
    "nested and labelled": dataset((X, AGE), Y).batch(5),
    "dict and label": dataset({"age": AGE, "image": X}, Y),
    "yields lists": yields(lambda i: [X[i : i + 1], AGE[i : i + 1]]),
    "yields lists of single examples": yields(lambda i: [X[i], AGE[i]]),
    "yields nested pairs": yields(lambda i: ((X[i], AGE[i]), Y[i])),
}


@pytest.mark.parametrize("data", TWO_INPUTS.values(), ids=TWO_INPUTS)
def test_examples_of_several_inputs_are_the_same_whatever_holds_them(data):
    images, ages = arrange(read(data, BOTH, "calibration"), BOTH, "calibration")
    np.testing.assert_array_equal(images, X)
    np.testing.assert_array_equal(ages, AGE[:, None])


def test_what_has_no_end_is_read_in_part():
    (received,) = read(dataset(X).repeat().batch(5), IMAGE, "calibration")
    assert len(received) == MOST
    np.testing.assert_array_equal(received[:24], np.concatenate([X, X]))


REFUSED = {
    "number": (
        3,
        TypeError,
        "`calibration` to be an array, .*tf.data.Dataset, or a generator.*Received: calibration=3",
    ),
    "model": (sequential((3,)), TypeError, "tf.data.Dataset"),
    "nothing": (dataset(X).take(0), ValueError, "calibration: expected at least one element.*without any"),
    "lengths": (
        yields(lambda i: np.zeros((i + 1, 3))),
        ValueError,
        r"input 'words'.*one shape; pad them.*\(1, 3\), \(2, 3\)",
    ),
    "other names": (dataset({"picture": X}), ValueError, r"inputs \['words'\].*Received: \['picture'\]"),
}


@pytest.mark.parametrize("data, error, message", REFUSED.values(), ids=REFUSED)
def test_other_kinds_are_told_what_is_taken(data, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        read(data, [Port("words", (None, None, 3), "float32")], "calibration")


def test_a_file_is_the_same_by_a_generator_as_by_arrays(tmp_path):
    model = sequential((5, 3), layers.Conv1D(4, 3), layers.Flatten(), layers.Dense(2))
    files = []
    for data in (X, yields(lambda i: [X[i : i + 1]]), dataset(X, Y).batch(5)):
        report = tflite.convert(model, tmp_path / "m.tflite", "int8", calibration=data)
        assert report.checked_on == "12 calibration inputs"
        files.append((tmp_path / "m.tflite").read_bytes())
    assert files[0] == files[1] == files[2]
