"""Attention with a learnable mask: what it computes, how it is kept, and what it refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from laws import difference, fresh_inputs, outputs_of
from learned_masks import CASES, learn, masks, model_of

import tf_terngrad as tt
from tf_terngrad.sparsity.learn import hooks


def as_keras(model):
    """The same model with Keras's attention in place of ours, where its weights are the same."""
    config = model.get_config()
    (layer,) = [each for each in config["layers"] if each["class_name"] == "SparseAttention"]
    layer |= {"class_name": "MultiHeadAttention", "module": "keras.layers", "registered_name": None}
    for name in ("groups", "block", "each_head"):
        layer["config"].pop(name)
    twin = keras.Model.from_config(config)
    learned = {id(weight) for mask in masks(model) for weight in mask.weights}
    twin.set_weights([weight.numpy() for weight in model.weights if id(weight) not in learned])
    return twin


# What it computes


def oracle(scores, mask, gate, window):
    """The weights, and their derivative with respect to a factor before exp(score), in NumPy."""
    exponentials = np.exp(scores) * window * mask
    total = exponentials.sum(-1, keepdims=True)
    return gate[:, None, None] * exponentials / np.where(total == 0, 1, total)


@pytest.mark.parametrize("groups", ["offset", "block"])
def test_the_weights_are_those_of_a_softmax_over_what_is_seen(groups):
    rng = np.random.default_rng(0)
    scores, mask = rng.normal(size=(2, 3, 5, 5)), np.tri(5, dtype=bool)
    layer = tt.layers.AttentionMask(["head", groups], block=2 if groups == "block" else None)
    layer.build(scores.shape)
    learn(layer, rng)
    window = np.ones((3, 5, 5))
    for head, t, s in np.ndindex(*window.shape):
        kind = t - s if groups == "offset" else (t // 2) * 3 + s // 2
        if kind if groups == "offset" else t // 2 != s // 2:
            number = list(layer.kinds).index(kind)
            window[head, t, s] = layer.window.numpy().reshape(3, -1)[head, number] > 0
    np.testing.assert_array_equal(layer.seen(), window > 0)
    expected = oracle(scores, mask, layer.gate.numpy(), window)
    np.testing.assert_allclose(layer(scores.astype("float32"), allowed=mask), expected, atol=1e-6)


def penalized(shape, *arguments, **options):
    """A layer whose window learns: there is a penalty on it."""
    layer = tt.layers.AttentionMask(*arguments, **options)
    scores = keras.Input(shape)
    tt.sparsify(keras.Model(scores, keras.layers.Flatten()(layer(scores))), strength=1.0)
    return layer


@pytest.mark.parametrize("groups", ["offset", "block"])
def test_the_gradient_is_what_the_outputs_change_by_with_a_group(groups):
    """A group that is surely seen, against the loss without it; one that is surely not, against the loss with it."""
    rng = np.random.default_rng(1)
    scores, slope, allowed = rng.normal(size=(2, 3, 5, 5)), rng.normal(size=(2, 3, 5, 5)), np.tri(5, k=1, dtype=bool)
    layer = penalized(scores.shape[1:], groups, block=2 if groups == "block" else None)
    state = rng.integers(0, 3, layer.window.shape)  # dead, not seen, seen
    layer.window.assign(np.array([0.0, 1e-12, 0.1])[state])
    with tf.GradientTape() as tape:
        weights = layer(scores.astype("float32"), allowed, training=True)
        loss = tf.reduce_sum(weights * slope)
    window = np.stack([np.append(row == 2, True)[layer.index] for row in state.reshape(3, -1)])
    np.testing.assert_allclose(weights, oracle(scores, allowed, np.ones(3), window), atol=1e-6)
    found = tape.gradient(loss, layer.window.value).numpy().reshape(3, -1)
    for head, number in np.ndindex(*found.shape):
        turned = window.copy()
        turned[head][layer.index == number] ^= True
        change = ((oracle(scores, allowed, np.ones(3), turned) - weights) * slope).numpy().sum()
        expected = {0: 0.0, 1: change / 2, 2: -change / 2}[state.reshape(3, -1)[head, number]]
        assert found[head, number] == pytest.approx(expected, abs=1e-4)


def test_in_training_a_group_is_seen_as_often_as_its_weight_says():
    layer = penalized((1, 3, 3), "offset")
    layer.window.assign([0.0, 0.03, 0.1, 0.08])
    scores = tf.zeros((1, 1, 3, 3))
    trained = tf.function(lambda: layer(scores, training=True))
    seen = np.mean([trained().numpy() > 0 for _ in range(2000)], 0)[0, 0]
    for place, share in {(0, 2): 0.0, (0, 1): 0.03 / 0.1, (1, 0): 1.0, (2, 0): 0.8, (1, 1): 1.0}.items():
        assert seen[place] == pytest.approx(share, abs=0.05)
    np.testing.assert_array_equal(layer(scores)[0, 0] > 0, [[1, 1, 0], [1, 1, 1], [1, 1, 1]])  # all but the dead one


def test_without_a_penalty_nothing_is_learned():
    layer = penalized((2, 4, 4), "offset")
    (sparsity,) = hooks.owners([layer.window])
    layer.window.assign(np.linspace(0, 0.1, 12))
    sparsity.release()
    scores = np.random.default_rng(0).normal(size=(2, 2, 4, 4)).astype("float32")
    with tf.GradientTape() as tape:
        weights = layer(scores, training=True)
    np.testing.assert_array_equal(weights, layer(scores))
    assert not tape.gradient(weights, layer.window.value).numpy().any()


@pytest.mark.parametrize("name", [name for name in CASES if "hand" not in name])
def test_before_it_learns_it_is_keras_attention(name):
    model = model_of(CASES[name], learned=False)
    inputs = fresh_inputs(model)
    for expected, got in zip(outputs_of(as_keras(model), inputs), outputs_of(model, inputs), strict=True):
        assert difference(expected, got) < 1e-6


@pytest.mark.parametrize("name", ["offsets", "blocks", "heads"])
def test_it_loads_as_it_was(name, tmp_path):
    model = model_of(CASES[name])
    model.save(tmp_path / "model.keras")
    loaded, given = keras.models.load_model(tmp_path / "model.keras"), fresh_inputs(model)
    np.testing.assert_allclose(outputs_of(loaded, given)[0], outputs_of(model, given)[0], atol=1e-6)


# What is refused


REFUSED = {
    "groups": (lambda: tt.layers.AttentionMask("row"), "expected `groups` to be one of"),
    "two windows": (lambda: tt.layers.AttentionMask(["offset", "block"], block=2), "at most one of"),
    "a block of no blocks": (lambda: tt.layers.AttentionMask("offset", block=2), "None elsewhere"),
    "blocks of no side": (lambda: tt.layers.AttentionMask("block"), "a number of steps"),
    "an open length": (
        lambda: tt.layers.SparseAttention(2, 3, name="a")(*[keras.Input((None, 4))] * 2),
        r"'a_mask': expected a known number of steps.*None queries, None keys",
    ),
    "an open number of heads": (
        lambda: tt.layers.AttentionMask("offset")(keras.Input((None, 5, 5))),
        r"'attention_mask.*': expected scores of shape \(batch, heads, steps, steps\)",
    ),
    "no steps": (
        lambda: tt.layers.AttentionMask("offset")(keras.Input((5,))),
        r"or \(batch, steps, steps\)\. Received: \(None, 5\)",
    ),
    "another sequence": (
        lambda: tt.layers.SparseAttention(2, 3)(keras.Input((5, 4)), keras.Input((3, 4))),
        "expected as many queries as keys.*5 queries, 3 keys",
    ),
    "more steps": (
        lambda: (layer := tt.layers.AttentionMask("offset"))(np.zeros((1, 2, 3, 3))) is layer(np.zeros((1, 2, 4, 4))),
        "expected at most 3 steps, for which it was built. Received: 4",
    ),
    "images": (
        lambda: tt.layers.SparseAttention(2, 3)(*[keras.Input((5, 4, 4))] * 2),
        r"expected queries and values of shape \(batch, steps, width\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        make()
