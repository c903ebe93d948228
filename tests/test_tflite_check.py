"""The accuracies of a check, and the names and arrays that a model's inputs get."""

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest

from tf_terngrad.tflite import check
from tf_terngrad.tflite.ports import Port, arrange, ports


@pytest.mark.parametrize("shape", [(30,), (30, 1), (30, 4)])
@pytest.mark.parametrize("scale", [1.0, 9.0])
def test_accuracy_is_the_share_of_right_decisions(shape, scale):
    random = np.random.default_rng(5)
    outputs, numbers = scale * random.normal(size=(30, 4)), random.integers(0, 4, 30)
    labels = np.eye(4)[numbers] if shape == (30, 4) else numbers.reshape(shape)
    expected = sum(int(max(range(4), key=row.__getitem__) == n) for row, n in zip(outputs, numbers, strict=True)) / 30
    assert check.accuracies(Port("kind", (None, 4), "float32"), outputs, outputs, labels) == (expected, expected)


def test_one_class_is_decided_at_a_half_for_probabilities_and_at_zero_for_logits():
    port, labels = Port("score", (None, 1), "float32"), np.array([0, 1, 1])
    probabilities, logits = np.array([[0.4], [0.6], [0.9]]), np.array([[-2.0], [0.1], [3.0]])
    assert check.accuracies(port, probabilities, 1 - probabilities, labels) == (1.0, 0.0)
    assert check.accuracies(port, logits, -logits, labels) == (1.0, 0.0)


@pytest.mark.parametrize("classes, wrong", [(1, 2), (1, -1), (4, 4), (4, 0.5), (4, np.nan)])
def test_labels_that_are_no_classes_are_refused(classes, wrong):
    outputs, labels = np.zeros((3, classes)), np.array([0, 1, wrong])
    message = f"from 0 to {max(classes - 1, 1)}.*Received: 1 of 3 are not, such as {wrong}"
    with pytest.raises(ValueError, match=message):
        check.accuracies(Port("kind", (None, classes), "float32"), outputs, outputs, labels)


@hypothesis.given(st.lists(st.sampled_from(["a", "a_1", "a-1", "_a", "1", "class", "a__1"]), min_size=1, max_size=6))
def test_any_names_give_distinct_identifiers(names):
    tensors = [keras.KerasTensor((None, 2)) for _ in names]
    for tensor, name in zip(tensors, names, strict=True):
        tensor._keras_history = type("History", (), {"operation": type("Operation", (), {"name": name})})
    found = [port.name for port in ports(tensors)]
    assert len(set(found)) == len(names)
    assert all(name.isidentifier() for name in found)


@hypothesis.given(examples=st.integers(1, 5), form=st.sampled_from(["tuple", "list", "dict"]))
def test_data_arrives_in_the_order_of_the_inputs_whatever_its_form(examples, form):
    inputs = [Port("b", (None, 2), "float32"), Port("a", (None,), "int32")]
    arrays = [np.full((examples, 2), 0.5), np.arange(examples)]
    data = {"tuple": tuple(arrays), "list": arrays, "dict": {"a": arrays[1], "b": arrays[0]}}[form]
    for port, given, received in zip(inputs, arrays, arrange(data, inputs, "calibration"), strict=True):
        np.testing.assert_array_equal(given, received)
        assert received.dtype == port.dtype
