"""What accelerators are known to refuse of a file, and what a report says of it."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers
from small_models import convolution, randomized, sequential

from tf_terngrad import tflite
from tf_terngrad.tflite import delegates


@pytest.mark.parametrize("delegate", delegates.DELEGATES, ids=lambda delegate: delegate.name)
def test_every_name_is_an_operator_of_tflite(delegate):
    assert delegate.takes <= set(vars(schema.BuiltinOperator)) and set(delegate.where) <= delegate.takes
    assert delegate.source.startswith("https://")


def test_a_network_of_images_is_taken_whole(tmp_path):
    report = tflite.convert(randomized(convolution()), tmp_path / "m.tflite")
    assert report.refused == {"GPU": (), "Qualcomm NPU": (), "Core ML": ()} and report.static
    assert "refuses no operator" in str(report) and "(1, 12, 12, 2) float32" in str(report)


def test_a_loop_is_refused(tmp_path):
    model = sequential((6,), layers.Embedding(9, 4), layers.GRU(3), dtype="int32")
    report = tflite.convert(randomized(model), tmp_path / "m.tflite", recurrent="loop")
    assert {"GATHER", "WHILE"} <= set(report.refused["GPU"])  # the rows of a sequence have two axes
    assert set(report.refused["Qualcomm NPU"]) == {"WHILE"}
    assert ["Qualcomm", "NPU", "refuses", "WHILE"] in map(str.split, str(report).splitlines())


def test_a_gather_of_single_tokens_is_taken(tmp_path):
    model = sequential((), layers.Embedding(9, 4), layers.Dense(3), dtype="int32")
    assert "GATHER" not in tflite.convert(randomized(model), tmp_path / "m.tflite").refused["GPU"]


def test_integers_are_refused_where_floats_are_needed(tmp_path):
    model = randomized(sequential((4, 4, 1), layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(2)))
    data = np.random.default_rng(0).normal(size=(30, 4, 4, 1))
    report = tflite.convert(model, tmp_path / "m.tflite", "int8", calibration=data)
    assert {"CONV_2D", "FULLY_CONNECTED"} <= set(report.refused["Core ML"]) and not report.refused["GPU"]
    assert report.input_types == {"image": "float32"}


def test_free_shapes_are_told(tmp_path):
    report = tflite.convert(randomized(convolution()), tmp_path / "m.tflite", batch_size=None)
    assert not report.static and "GPU and NPU delegates need static" in str(report)
