"""Attention with masks in int8: the file attends to what the model does, and not to all steps alike."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from laws import randomize

import tf_terngrad as tt
from tf_terngrad.tflite import masks

STEPS, SIZE = 12, 8
BEFORE = np.tril(np.ones((STEPS, STEPS), "float32"))
ADDED = {
    "where": lambda scores: ops.where(ops.convert_to_tensor(BEFORE) > 0, scores, -1e9),
    "a sum": lambda scores: scores + (1 - BEFORE) * -1e9,
    "a difference": lambda scores: scores - 1e4 * (1 - BEFORE),
    "infinity": lambda scores: ops.where(ops.convert_to_tensor(BEFORE) > 0, scores, -np.inf),
}


def by_hand(masked):
    def attend(x):
        query, key, value = (layers.Dense(SIZE)(x) for _ in range(3))
        scores = ops.matmul(query, ops.transpose(key, (0, 2, 1))) * SIZE**-0.5
        return ops.matmul(ops.softmax(masked(scores)), value)

    return attend


CASES = {
    "a stock layer": lambda x: layers.MultiHeadAttention(2, SIZE)(x, x, use_causal_mask=True),
    **{name: by_hand(masked) for name, masked in ADDED.items()},
}


def model_of(attend):
    keras.utils.set_random_seed(0)
    given = keras.Input((STEPS, SIZE))
    return randomize(keras.Model(given, layers.Dense(3, name="answer")(attend(given))))


def noise(count, shape=(STEPS, SIZE)):
    return np.random.default_rng(0).normal(size=(count, *shape)).astype("float32")


@pytest.mark.parametrize("name", CASES)
def test_a_file_of_int8_has_masks_that_it_can_write(name, tmp_path):
    model = model_of(CASES[name])
    report = tt.tflite.convert(model, tmp_path / "m.tflite", "int8", calibration=noise(64))
    assert report.relative_difference <= 0.05


@pytest.mark.filterwarnings("ignore:.*not all int8")
def test_a_mask_that_is_given_reaches_all_scores(tmp_path):
    given, words = keras.Input((STEPS, SIZE), name="steps"), keras.Input((STEPS,), name="there")
    x = layers.MultiHeadAttention(2, SIZE)(given, given, attention_mask=ops.expand_dims(words, 1) > 0)
    model = randomize(keras.Model([given, words], layers.Dense(3)(x)))
    there = (np.arange(STEPS) < np.random.default_rng(1).integers(3, STEPS, (64, 1))).astype("float32")
    data = {"steps": noise(64), "there": there}
    assert tt.tflite.convert(model, tmp_path / "m.tflite", "int8", calibration=data).relative_difference <= 0.05


@pytest.mark.parametrize("scores", [(-3.0, 2.0), (5.0, 9.0), (-40.0, -30.0), (0.0, 0.0)])
@pytest.mark.parametrize("added", [True, False])
def test_a_masked_score_is_below_all_others_and_no_farther_than_it_must_be(scores, added):
    least, most = scores

    @tf.function(input_signature=[tf.TensorSpec((4,))])
    def weights(given):
        hidden = tf.constant([0.0, 1.0, 0.0, 1.0])
        masked = given + hidden * -1e9 if added else tf.where(hidden > 0, -1e9, given)
        softmax = tf.nn.softmax(masked)
        graph = tf.compat.v1.get_default_graph()
        assert masks.has_masks(graph)
        found = masks.extremes(graph)
        masks.bring_near(graph, least, most)
        return softmax, masked, found["least"], found["most"]

    softmax, masked, *found = weights(tf.constant([least, most, most, least]))
    expected = np.exp([least - most, 0.0])
    np.testing.assert_allclose(softmax.numpy()[[0, 2]], expected / expected.sum(), atol=2e-3)
    assert softmax.numpy()[[1, 3]].max() < 1 / 512
    assert masked.numpy().min() >= least - masks.MARGIN - 2 * (most - least) - max(most, 0) - max(-least, 0) - 1e-3
    assert np.isfinite([float(each) for each in found]).all()


def test_a_graph_without_masks_has_none():
    function = tf.function(lambda x: tf.nn.softmax(x * 0.5 - 3.0), input_signature=[tf.TensorSpec((4,))])
    assert not masks.has_masks(function.get_concrete_function().graph)
