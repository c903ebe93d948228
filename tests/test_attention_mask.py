"""Attention with a learnable mask: what it computes, how it learns, and what is left of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from laws import TOLERANCE, check_laws, difference, fresh_inputs, outputs_of, randomize, structure, zero

import tf_terngrad as tt
from tf_terngrad.keras_internals import all_layers

WIDTH, STEPS, HEADS, SIZE = 12, 6, 3, 4


class Attend(layers.Layer):
    """Attention as people write it, with a softmax of ours."""

    def __init__(self, causal=False, **options):
        super().__init__()
        self.parts = [layers.Dense(HEADS * SIZE, name=name) for name in ("query", "key", "value")]
        self.out, self.causal = layers.Dense(WIDTH, name="out"), causal
        self.mask = tt.layers.AttentionMask(name="mask", **options)

    def call(self, x):
        q, k, v = (ops.transpose(ops.reshape(p(x), (-1, STEPS, HEADS, SIZE)), (0, 2, 1, 3)) for p in self.parts)
        allowed = ops.tril(ops.ones((STEPS, STEPS))) > 0 if self.causal else None
        weights = self.mask(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / SIZE**0.5, allowed=allowed)
        return self.out(ops.reshape(ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3)), (-1, STEPS, HEADS * SIZE)))


def one_head(x, **options):
    scores = ops.matmul(layers.Dense(SIZE)(x), ops.transpose(layers.Dense(SIZE)(x), (0, 2, 1)))
    return ops.matmul(tt.layers.AttentionMask(name="mask", **options)(scores), layers.Dense(WIDTH)(x))


def sparse(x, attend=None, call=None, **options):
    layer = tt.layers.SparseAttention(HEADS, SIZE, name="attention", **options)
    return layer(x, x, **(call or {}))


def twice(x):
    layer = tt.layers.SparseAttention(HEADS, SIZE, name="attention", groups=ALL)
    return layer(x, x) + ops.pad(layer(x[:, 2:], x[:, 2:]), [(0, 0), (1, 1), (0, 0)])


ALL = ["head", "offset"]
MASKS = np.random.default_rng(0).random((1, HEADS, STEPS, STEPS)) < 0.7
CASES = {
    "offsets": lambda x: sparse(x, groups=ALL),
    "offsets of all heads": lambda x: sparse(x, groups=ALL, each_head=False),
    "blocks": lambda x: sparse(x, groups=["head", "block"], block=2),
    "blocks that do not divide": lambda x: sparse(x, groups="block", block=4),
    "heads": lambda x: sparse(x, groups="head"),
    "causal": lambda x: sparse(x, groups=ALL, call={"use_causal_mask": True}),
    "given a mask": lambda x: sparse(x, groups=ALL, call={"attention_mask": np.tri(STEPS, k=1)[None] > 0}),
    "given a mask for each head": lambda x: sparse(x, groups=ALL, call={"attention_mask": MASKS}),
    "dropout": lambda x: sparse(x, groups=ALL, dropout=0.3),
    "scores": lambda x: sparse(x, groups=ALL, call={"return_attention_scores": True})[0],
    "no bias": lambda x: sparse(x, groups=ALL, use_bias=False, value_dim=5),
    "called on fewer steps too": lambda x: twice(x),
    "residual": lambda x: x + sparse(x, groups=ALL),
    "by hand": lambda x: Attend(groups=ALL)(x),
    "by hand, causal": lambda x: Attend(causal=True, groups=ALL, each_head=False)(x),
    "by hand, blocks": lambda x: Attend(groups=["block"], block=3)(x),
    "by hand, one head": lambda x: x + one_head(x, groups=ALL),
    "by hand, one head, blocks": lambda x: one_head(x, groups="block", block=2),
}  # fmt: skip


def model_of(attend, learned=True, seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((STEPS, 5))
    x = attend(layers.Dense(WIDTH, name="front")(inputs))
    model = randomize(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))))
    for mask in masks(model):
        learn(mask, np.random.default_rng(seed + 1) if learned else None)
    return model


def masks(model):
    return [layer for layer in all_layers(model) if isinstance(layer, tt.layers.AttentionMask)]


def learn(mask, rng=None):
    """Weights that training may leave: zeros, ones and numbers between; all ones without a generator."""
    for weight in mask.weights:
        values = (
            np.ones(weight.shape)
            if rng is None
            else rng.uniform(0.1, 1, weight.shape) * (rng.random(weight.shape) < 0.6)
        )
        weight.assign(values)


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


def test_the_gradient_is_that_of_a_factor_before_the_exponential():
    rng = np.random.default_rng(1)
    scores, weight = rng.normal(size=(2, 4, 4)), rng.normal(size=(2, 4, 4))
    layer = tt.layers.AttentionMask("offset")
    layer.build((None, 2, 4, 4))
    layer.window.assign(np.where(np.arange(12) % 5 == 0, 0.0, 0.7))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(scores.astype("float32")) * weight)
    found = tape.gradient(loss, layer.window.value).numpy().reshape(2, -1)
    seen, step = layer.seen().astype(float), 1e-6
    for head, number in np.ndindex(2, 6):
        nudged = seen.copy()
        nudged[head][layer.index == number] *= 1 + step
        change = (oracle(scores, 1, np.ones(2), nudged) - oracle(scores, 1, np.ones(2), seen)) * weight
        assert found[head, number] == pytest.approx(change.sum() / step, abs=1e-4)


@pytest.mark.parametrize("name", [name for name in CASES if "hand" not in name])
def test_before_it_learns_it_is_keras_attention(name):
    model = model_of(CASES[name], learned=False)
    inputs = fresh_inputs(model)
    for expected, got in zip(outputs_of(as_keras(model), inputs), outputs_of(model, inputs), strict=True):
        assert difference(expected, got) < 1e-6


# What is left of it


@pytest.mark.filterwarnings("ignore:.*every channel is dead", "ignore:.*one dead channel is kept")
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_what_it_learned_becomes_a_constant_mask_of_stock_layers(name, seed, tmp_path):
    model = model_of(CASES[name], seed=seed)
    small = check_laws(model)
    inputs = fresh_inputs(model, seed=3)
    for expected, got in zip(outputs_of(model, inputs), outputs_of(small, inputs), strict=True):
        assert difference(expected, got) < 1e-5
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    for expected, got in zip(outputs_of(small, inputs), outputs_of(loaded, inputs), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_heads_whose_factor_is_zero_leave_and_the_others_factors_go_into_the_output():
    model = model_of(CASES["heads"], learned=False)
    (mask,) = masks(model)
    mask.gate.assign([0.5, 0.0, 2.0])
    small = check_laws(model)
    assert small.get_layer("attention").num_heads == 2
    output = model.get_layer("attention").output_dense.kernel
    fate = next(fate for fate in tt.fates(small) if fate.old is output)
    np.testing.assert_allclose(fate.new, (np.asarray(fate.factor) * output.numpy())[np.ix_(*fate.kept)], rtol=1e-6)
    np.testing.assert_allclose(fate.new[0], 0.5 * output.numpy()[0], rtol=1e-6)
    assert next(fate for fate in tt.fates(small) if fate.old is mask.gate).new is None


@pytest.mark.filterwarnings("ignore:.*every channel is dead")
def test_where_no_head_adds_anything_the_layer_leaves_a_sum():
    model = model_of(CASES["residual"], learned=False)
    masks(model)[0].gate.assign(np.zeros(HEADS))
    small = tt.compact(model)
    assert difference(outputs_of(model, fresh_inputs(model))[0], outputs_of(small, fresh_inputs(model))[0]) < 1e-5
    model.get_layer("attention").output_dense.bias.assign(np.zeros(WIDTH))
    assert not any(isinstance(layer, layers.MultiHeadAttention) for layer in check_laws(model).layers)


def test_a_head_that_gives_a_constant_is_folded_with_its_factor():
    model = model_of(CASES["heads"], learned=False)
    masks(model)[0].gate.assign([0.5, 1.0, 2.0])
    zero(model.get_layer("attention").value_dense.kernel, 1, [0, 2])
    assert check_laws(model).get_layer("attention").num_heads == 1


@pytest.mark.parametrize("name", ["offsets", "by hand"])
def test_groups_within_the_tolerance_are_masked(name):
    model = model_of(CASES[name], learned=False)
    (mask,) = masks(model)
    mask.window.assign(np.where(np.arange(mask.window.shape[0]) % 3, 0.1, 0.01))
    mask.gate.assign([1.0, 0.01, 1.0])
    small = tt.compact(model, tolerance=0.02)
    mask.window.assign(np.where(np.arange(mask.window.shape[0]) % 3, 0.1, 0.0))
    mask.gate.assign([1.0, 0.0, 1.0])
    given = fresh_inputs(model)
    assert difference(outputs_of(model, given)[0], outputs_of(small, given)[0]) < 1e-5


def test_structures_tell_what_learns():
    found = {each.name: (each.kind, each.size) for each in tt.structures(model_of(CASES["offsets"]))}
    assert found["attention factors of heads"] == ("gate", HEADS)
    assert found["attention offsets"] == ("offset", HEADS * 2 * (STEPS - 1))
    found = {each.name: (each.kind, each.size) for each in tt.structures(model_of(CASES["by hand, blocks"]))}
    assert ("block", HEADS * 2) in found.values()


def test_what_learns_is_no_part_of_a_residual_branch():
    (branch,) = [each for each in tt.structures(model_of(CASES["residual"])) if each.kind == "branch"]
    assert {piece.variable.name for piece in branch.slices} == {"kernel", "bias"}


def test_a_mask_that_masks_nothing_is_none():
    small = tt.compact(model_of(CASES["offsets"], learned=False))
    assert "attention_mask" not in str(small.get_config()) or "'attention_mask': None" in str(small.get_config())


def test_rounding_keeps_no_offsets():
    model = model_of(CASES["offsets"])
    structure(model, "attention offsets").zero(range(7))
    masks(model)[0].gate.assign(np.ones(HEADS))
    plan = tt.compact(model, round_to=8, dry_run=True)
    dead = int((masks(model)[0].window.numpy() == 0).sum())
    assert ("attention offsets", "offset", 30, 30 - dead) in plan.widths


# How it learns


def data(samples=512):
    """The answer at each step is what stood two steps before; where nothing did, nothing."""
    x = np.random.default_rng(0).normal(size=(samples, STEPS, 4)).astype("float32")
    y = np.zeros_like(x)
    y[:, 2:] = x[:, :-2]
    return x, y


def copying(groups):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((STEPS, 4))
    places = layers.Embedding(STEPS, 8)(ops.arange(STEPS))
    h = layers.Dense(8)(inputs) + places
    h = tt.layers.SparseAttention(2, 8, groups=groups, name="attention")(h, h)
    return keras.Model(inputs, layers.Dense(4)(h))


@pytest.mark.parametrize("optimizer", [lambda: keras.optimizers.Adam(1e-2), lambda: keras.optimizers.SGD(0.3, 0.9)])
def test_a_window_is_learned_and_stays(optimizer):
    x, y = data()
    model = copying("offset")
    sparsity = tt.sparsify(model, strength=5e-3, kinds=["offset"])
    model.compile(optimizer(), "mse")
    model.fit(x, y, batch_size=64, epochs=40, verbose=0)
    (mask,) = masks(model)
    window = mask.window.numpy()
    assert window.min() == 0
    assert 0.05 < window.max() <= 0.1
    seen = mask.seen()
    assert seen[:, 2:, :-2].diagonal(axis1=1, axis2=2).any()  # two steps before
    assert seen.mean() < 0.7
    sparsity.release()
    model.fit(x, y, batch_size=64, epochs=2, verbose=0)
    assert not mask.window.numpy()[window == 0].any()
    small = tt.compact(model)
    assert difference(*(outputs_of(each, x[:8])[0] for each in (model, small))) < 1e-5


@pytest.mark.parametrize("optimizer", [lambda: keras.optimizers.Adam(1e-2), lambda: keras.optimizers.SGD(0.3, 0.9)])
def test_what_is_worth_less_than_the_strength_dies_and_what_is_worth_more_stays(optimizer):
    """Only the mask learns: at the end no group that is seen is worth less than the strength."""
    x, y = data()
    model = copying("offset")
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(x, y, batch_size=64, epochs=20, verbose=0)
    (mask,) = masks(model)
    for layer in all_layers(model):
        if layer.weights and isinstance(layer, (layers.Dense, layers.EinsumDense, layers.Embedding)):
            layer.trainable = False
    strength = 2e-3
    tt.sparsify(model, strength=strength, kinds=["offset"])
    model.compile(optimizer(), "mse")
    model.fit(x, y, batch_size=64, epochs=25, verbose=0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x) - y) ** 2)
    worth, window = -tape.gradient(loss, mask.window.value).numpy(), mask.window.numpy()
    assert 0 < (window == 0).sum() < window.size
    assert worth[window > 0].min() > strength
    assert window[window > 0].min() > 0.05  # what is worth more goes up to its bound, and a step of the penalty down


def test_what_a_constraint_makes_zero_is_dead_too():
    x = np.random.default_rng(0).normal(size=(8, STEPS, 4)).astype("float32")
    inputs = keras.Input((STEPS, 4))
    attend = [tt.layers.SparseAttention(1, 4, groups="head") for _ in range(2)]
    model = keras.Model(inputs, [layer(inputs, inputs) for layer in attend])
    output = model.predict(x, verbose=0)
    for part in all_layers(model):
        part.trainable = part in (model, *masks(model), *attend)
    sparsity = tt.sparsify(model, strength=1e-6, kinds=["gate"])
    model.compile(keras.optimizers.SGD(100.0), ["mse", "mse"])
    model.fit(x, [-each for each in output], verbose=0)  # far below zero, were it not for the constraint
    assert [mask.gate.numpy() for mask in masks(model)] == [0, 0]
    sparsity.strength.assign(0.0)
    model.fit(x, output, verbose=0)
    assert [mask.gate.numpy() for mask in masks(model)] == [0, 0]


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


def masked_words(**options):
    inputs = keras.Input((STEPS,), dtype="int32")
    x = layers.Embedding(20, WIDTH, mask_zero=True)(inputs)
    x = tt.layers.SparseAttention(HEADS, SIZE, name="attention", **options)(x, x)
    return randomize(keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x))))


def test_masks_that_travel_go_with_a_shared_window_only():
    with pytest.raises(ValueError, match="'attention': expected tensors without masks of steps"):
        masked_words(groups="offset")
    model = masked_words(groups=["head", "offset"], each_head=False)
    learn(masks(model)[0], np.random.default_rng(0))
    check_laws(model)


def test_heads_learn_where_windows_cannot():
    inputs = [keras.Input((5, 4)), keras.Input((None, 4))]
    x = tt.layers.SparseAttention(HEADS, SIZE, groups="head")(*inputs)
    model = randomize(keras.Model(inputs, layers.Dense(3)(x)))
    masks(model)[0].gate.assign([1.0, 0.0, 0.5])
    small = tt.compact(model)
    given = fresh_inputs(model)
    assert difference(outputs_of(model, given)[0], outputs_of(small, given)[0]) < TOLERANCE["float32"]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_in_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        check_laws(model_of(CASES["offsets"]))
        check_laws(model_of(CASES["by hand"]))
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("name", ["offsets", "blocks", "heads"])
def test_it_loads_as_it_was(name, tmp_path):
    model = model_of(CASES[name])
    model.save(tmp_path / "model.keras")
    loaded, given = keras.models.load_model(tmp_path / "model.keras"), fresh_inputs(model)
    np.testing.assert_allclose(outputs_of(loaded, given)[0], outputs_of(model, given)[0], atol=1e-6)


@pytest.mark.parametrize("name", ["offsets", "by hand", "blocks"])
def test_what_is_left_converts(name, tmp_path):
    report = tt.tflite.convert(tt.compact(model_of(CASES[name])), tmp_path / "model.tflite")
    assert report.relative_difference <= 1e-4
