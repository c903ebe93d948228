"""What LiteRT is asked for: the operators of a file, and silence."""

import contextlib
import os
import sys

import tensorflow as tf

from tf_terngrad.tflite import litert


def test_an_operator_that_is_not_stock_is_named_by_its_own_name(tmp_path):
    function = tf.function(lambda x: tf.math.igamma(x, tf.nn.relu(x)), [tf.TensorSpec((3,), tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    converter.allow_custom_ops = True
    with litert.quiet():
        (tmp_path / "m.tflite").write_bytes(converter.convert())
    assert litert.operators(tmp_path / "m.tflite") == ({"RELU": 1, "Igamma": 1}, ("Igamma",))


def test_an_operator_that_only_writes_floats_is_one_of_floats(tmp_path):
    function = tf.function(lambda x: tf.cast(x, tf.float32), [tf.TensorSpec((3,), tf.int32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    with litert.quiet():
        (tmp_path / "m.tflite").write_bytes(converter.convert())
    assert litert.float_operators(tmp_path / "m.tflite") == ("CAST",)


def test_only_what_is_written_meanwhile_is_hidden(capfd, monkeypatch):
    with open(2, "w", closefd=False) as buffered:
        monkeypatch.setattr(sys, "stderr", buffered)
        buffered.write("before, ")
        with contextlib.suppress(RuntimeError), litert.quiet():
            os.write(2, b"native code narrates")
            buffered.flush()
            raise RuntimeError("the converter failed")
        buffered.write("after")
    assert capfd.readouterr().err == "before, after"
