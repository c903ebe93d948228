"""Which codec serves, and that either can: in graphs, and with what the other one made."""

import numpy as np
import pytest
import tensorflow as tf
from codec_inputs import digits, gradient

from tf_terngrad.ternary import codec, native, twin


@pytest.mark.parametrize("signature", [None, [tf.TensorSpec([None]), tf.TensorSpec([], tf.int32)]], ids=str)
def test_everything_works_in_a_graph_whether_shapes_are_known_or_not(implementation, signature):
    @tf.function(input_signature=signature)
    def there_and_back(given, workers):
        cut = tf.stack([tf.size(given)])
        thresholds, scales = implementation.scale(given, cut, None)
        words = implementation.encode_words(given, cut, thresholds, scales, (1, 2), workers, 1)
        means = implementation.mean_of_words(words * tf.cast(workers, tf.int64), cut, scales, workers, 1, tf.float32)
        data = implementation.encode_bytes(given, cut, thresholds, scales, (1, 2), 1)
        streams, _ = implementation.compress(data, tf.size(data)[None])
        rows = tf.repeat(implementation.decompress(streams, tf.size(data)[None])[None], workers, axis=0)
        sums = implementation.add_bytes(rows, tf.size(given), 1)
        return means, implementation.mean_of_bytes(sums[None], cut, scales[None], workers, tf.float32)

    for size in (0, 1, 1000):
        for workers in (1, 4, 9):
            given = tf.sign(gradient(size))
            for means in there_and_back(given, tf.constant(workers)):
                np.testing.assert_array_equal(means, given)


def test_both_codecs_read_each_others_bytes_and_words():
    given = digits(5003, 2)
    for one, other in ((native, twin), (twin, native)):
        data = one.pack_bytes(tf.constant(given, tf.int8), 2)
        np.testing.assert_array_equal(other.unpack_bytes(data, 5003, 2), given)
        words = one.pack_words(tf.constant(given, tf.int32), 5, 2)
        np.testing.assert_array_equal(other.unpack_words(words, 5003, 5, 2), given)


@pytest.fixture
def choice(monkeypatch):
    codec.implementation.cache_clear()
    yield lambda value: monkeypatch.setenv("TF_TERNGRAD_CODEC", value)
    codec.implementation.cache_clear()


@pytest.mark.parametrize("value, expected", [("tensorflow", "tensorflow"), ("native", "native"), ("", "native")])
def test_the_environment_chooses_the_codec(choice, value, expected):
    choice(value)
    assert codec.implementation() == expected


def test_an_unknown_codec_is_refused(choice):
    choice("fast")
    with pytest.raises(ValueError, match="Received: 'fast'"):
        codec.implementation()


def test_where_there_is_a_gpu_the_twin_serves_unless_the_native_one_was_asked_for(choice, monkeypatch):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["a device"] if kind == "GPU" else [])
    assert codec.implementation() == "tensorflow"
    codec.implementation.cache_clear()
    choice("native")
    assert codec.implementation() == "native"


def test_without_the_library_the_twin_serves_unless_the_native_one_was_asked_for(choice, monkeypatch):
    monkeypatch.setattr(native, "library", lambda: None)
    assert codec.implementation() == "tensorflow"
    codec.implementation.cache_clear()
    choice("native")
    with pytest.raises(RuntimeError, match="not there"):
        codec.implementation()
