"""The layer wrappers: plain Keras layers with the same numbers, and one more loss."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf

from tf_terngrad.sparsity.learn import regularizers, wrappers

STRENGTH = 0.25
CASES = [case for case in oracles.CASES if case.name != "SeparableConv1D-depthwise"]


def randomize(layer, seed=3):
    generator = np.random.default_rng(seed)
    for weight in layer.weights:
        weight.assign(np.abs(generator.normal(size=weight.shape)) + 0.1)
    return layer


def unit_groups(case, layer):
    """Flat values of the kernel and the bias one after the other, and the group of each output unit."""
    kernel = next(weight for weight in layer.weights if weight.name == case.weight).numpy()
    groups = oracles.paper_groups("FilterLasso", case.as_paper(oracles.indices_like(kernel)))
    biases = [weight.numpy() for weight in layer.weights if weight.name == "bias"]
    if not biases:
        return kernel.ravel(), groups
    entries = kernel.size + oracles.indices_like(biases[0])
    if case.name == "EinsumDense-heads":  # its bias has the order of the output, (e, d), not of the kernel
        entries = entries.T
    groups = [np.append(group, entry) for group, entry in zip(groups, entries.ravel(), strict=True)]
    return np.concatenate([kernel.ravel(), biases[0].ravel()]), groups


# GroupSparse


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_group_sparse_is_the_layer_and_the_oracles_penalty(case):
    plain = case.make(None)
    plain.build(case.input_shape)
    wrapped = wrappers.GroupSparse(case.make(None), STRENGTH)
    wrapped.build(case.input_shape)
    randomize(plain)
    wrapped.set_weights(plain.get_weights())
    np.testing.assert_array_equal(wrapped(case.inputs()), plain(case.inputs()))
    assert wrapped.compute_output_shape(case.input_shape) == plain.compute_output_shape(case.input_shape)

    values, groups = unit_groups(case, wrapped.layer)
    kernel = next(weight for weight in wrapped.weights if weight.name == case.weight)
    with tf.GradientTape() as tape:
        loss = sum(wrapped.losses)
    np.testing.assert_allclose(loss, STRENGTH * oracles.lasso(values, groups), rtol=1e-5)
    expected = STRENGTH * oracles.lasso_gradient(values, groups)[: np.prod(kernel.shape)]
    np.testing.assert_allclose(np.ravel(tape.gradient(loss, kernel.value)), expected, rtol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_group_sparse_survives_saving(case, tmp_path):
    inputs = keras.Input(case.input_shape[1:])
    model = keras.Model(inputs, wrappers.GroupSparse(case.make(None), STRENGTH, name="sparse")(inputs))
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(case.inputs()), model(case.inputs()), rtol=1e-6)
    np.testing.assert_allclose(sum(loaded.losses), sum(model.losses), rtol=1e-6)
    sparse = loaded.get_layer("sparse")
    assert sparse.strength == STRENGTH
    assert type(sparse.layer) is type(model.get_layer("sparse").layer)


def test_group_sparse_adds_to_the_layers_own_regularizers():
    layer = keras.layers.Dense(4, kernel_regularizer=regularizers.ShapeLasso(0.5), bias_regularizer="l2")
    alone = keras.layers.Dense.from_config(layer.get_config())
    sparse = wrappers.GroupSparse(layer, STRENGTH)
    for part in (alone, sparse):
        part.build((None, 3))
        randomize(part)
    values, groups = unit_groups(oracles.CASES[0], layer)
    expected = float(sum(alone.losses)) + STRENGTH * oracles.lasso(values, groups)
    assert float(sum(sparse.losses)) == pytest.approx(expected, rel=1e-5)


def test_group_sparse_leaves_the_depthwise_part_of_a_separable_convolution_out():
    sparse = wrappers.GroupSparse(keras.layers.SeparableConv2D(4, 3), 1.0)
    sparse.build((None, 8, 8, 3))
    before = float(sum(sparse.losses))
    sparse.layer.depthwise_kernel.assign_add(np.ones(sparse.layer.depthwise_kernel.shape))
    assert float(sum(sparse.losses)) == before


def test_group_sparse_passes_masks_and_large_indices():
    embedding = wrappers.GroupSparse(keras.layers.Embedding(3000, 2, mask_zero=True, dtype="mixed_float16"), 0.1)
    ids = np.array([[2999, 0]])
    outputs = embedding(ids)
    assert outputs.dtype == "float16"
    np.testing.assert_allclose(outputs[0, 0], embedding.layer.embeddings[2999], rtol=1e-3)
    np.testing.assert_allclose(embedding(ids.astype("float32")), outputs)
    plain = keras.layers.Embedding(3000, 2, mask_zero=True)
    masked = keras.Sequential([embedding, keras.layers.LSTM(2)])
    expected = keras.Sequential([plain, keras.layers.LSTM(2)])
    short, long = np.array([[5, 7]]), np.array([[5, 7, 0, 0]])
    for model in (masked, expected):
        np.testing.assert_allclose(model(short), model(long), rtol=1e-3)


def test_group_sparse_computes_in_the_layers_type():
    layer = keras.layers.Dense(2, dtype="float64")
    inputs = np.random.default_rng(0).normal(size=(4, 3))
    outputs = wrappers.GroupSparse(layer, 0.1)(inputs)
    assert outputs.dtype == "float64"
    np.testing.assert_allclose(outputs, inputs @ layer.kernel.numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.LSTM(3),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
        keras.Sequential([keras.layers.Dense(2)]),
        "Dense",
        None,
    ],
    ids=["LSTM", "normalization", "ReLU", "model", "text", "None"],
)
def test_group_sparse_says_which_layers_it_takes(layer):
    with pytest.raises(ValueError, match=r"GroupSparse: expected `layer` to be a Dense, .* Received: layer="):
        wrappers.GroupSparse(layer, 0.1)


def test_group_sparse_refuses_a_bias_that_units_share():
    layer = keras.layers.EinsumDense("abc,cde->abde", (None, 4, 2), bias_axes="e", name="heads")
    with pytest.raises(
        ValueError, match=r"'.*heads/bias' of shape \(2,\) belongs to no single output of layer 'heads'"
    ):
        wrappers.GroupSparse(layer, 0.1).build((None, 5, 3))


# SkippableBranch


def branches():
    """Ways to write a residual branch on eight channels."""
    inputs = keras.Input((None, None, 8))
    outputs = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, padding="same")(inputs))
    return {
        "layer": keras.layers.Conv2D(8, 3, padding="same"),
        "list": [keras.layers.Conv2D(4, 1, activation="relu"), keras.layers.Conv2D(8, 3, padding="same")],
        "unbuilt model": keras.Sequential([keras.layers.BatchNormalization(), keras.layers.Conv2D(8, 1)]),
        "built model": keras.Model(inputs, outputs),
        "nested": wrappers.SkippableBranch(keras.layers.Conv2D(8, 1), 0.5),
    }


IMAGES = np.random.default_rng(5).normal(size=(2, 4, 4, 8)).astype("float32")


@pytest.mark.parametrize("kind", branches())
def test_skippable_branch_is_a_residual_sum_and_the_oracles_penalty(kind):
    branch = branches()[kind]
    skippable = wrappers.SkippableBranch(branch, STRENGTH, name="skippable")
    skippable.build(IMAGES.shape)
    randomize(skippable)
    np.testing.assert_allclose(skippable(IMAGES), IMAGES + skippable.branch(IMAGES), rtol=1e-6)
    assert skippable.name == "skippable"
    flat = np.concatenate([np.ravel(weight) for weight in skippable.trainable_weights])
    expected = STRENGTH * np.sqrt(np.sum(flat**2) + 1e-8)
    if kind == "nested":
        expected *= 1 + 0.5 / STRENGTH
    with tf.GradientTape() as tape:
        loss = sum(skippable.losses)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    kernel = skippable.trainable_weights[0]
    gradient = expected * kernel.numpy() / np.sum(flat**2)
    np.testing.assert_allclose(tape.gradient(loss, kernel.value), gradient, rtol=1e-4)


@pytest.mark.parametrize("kind", branches())
def test_skippable_branch_survives_saving(kind, tmp_path):
    inputs = keras.Input((None, None, 8))
    model = keras.Model(inputs, wrappers.SkippableBranch(branches()[kind], STRENGTH, name="skippable")(inputs))
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(IMAGES), model(IMAGES), rtol=1e-5)
    np.testing.assert_allclose(sum(loaded.losses), sum(model.losses), rtol=1e-6)
    assert loaded.get_layer("skippable").strength == STRENGTH
    assert isinstance(loaded.get_layer("skippable").branch, keras.Layer)


def test_skippable_branch_counts_what_trains_and_only_that():
    branch = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(4)])
    skippable = wrappers.SkippableBranch(branch, 1.0)
    skippable(np.ones((1, 4)))
    randomize(skippable)

    def expected():
        return np.sqrt(sum(np.sum(weight.numpy() ** 2) for weight in skippable.trainable_weights))

    everything = expected()
    assert float(sum(skippable.losses)) == pytest.approx(everything, rel=1e-6)
    branch.layers[0].trainable = False
    assert expected() < everything
    assert float(sum(skippable.losses)) == pytest.approx(expected(), rel=1e-6)
    skippable.trainable = False
    assert skippable.losses == []
    skippable.trainable = True
    assert float(sum(skippable.losses)) == pytest.approx(everything, rel=1e-6)


def test_a_dead_branch_leaves_the_shortcut_and_a_gradient_without_nan():
    skippable = wrappers.SkippableBranch(keras.layers.Dense(4, kernel_initializer="zeros"), 1.0)
    inputs = np.ones((1, 4), "float32")
    with tf.GradientTape() as tape:
        outputs = skippable(inputs)
        loss = sum(skippable.losses)
    np.testing.assert_array_equal(outputs, inputs)
    assert not np.any(tape.gradient(loss, skippable.branch.kernel.value))


@pytest.mark.parametrize(
    ("branch", "output_shape"),
    [
        (keras.layers.Conv2D(4, 3, padding="same"), (2, 4, 4, 4)),
        ([keras.layers.Conv2D(8, 3)], (2, 2, 2, 8)),
        ([keras.layers.Conv2D(8, 1), keras.layers.Flatten()], (2, 128)),
    ],
    ids=["channels", "places", "rank"],
)
def test_skippable_branch_names_both_shapes_when_they_differ(branch, output_shape):
    message = f"input shape (2, 4, 4, 8), output shape {output_shape}"
    with pytest.raises(ValueError, match="SkippableBranch 'cut'") as raised:
        wrappers.SkippableBranch(branch, 0.1, name="cut").build((2, 4, 4, 8))
    assert message in str(raised.value)


def test_skippable_branch_never_broadcasts_over_places_unknown_at_build():
    branch = keras.Sequential([keras.layers.Conv2D(8, 4)])
    skippable = wrappers.SkippableBranch(branch, 0.1)
    skippable.build((None, None, None, 8))
    with pytest.raises(ValueError, match=r"input shape \(2, 4, 4, 8\), output shape \(2, 1, 1, 8\)"):
        skippable(IMAGES)


@pytest.mark.parametrize("branch", [None, "Dense", [], ["Dense"], [keras.layers.Dense(2), 3]], ids=repr)
def test_skippable_branch_says_what_a_branch_is(branch):
    with pytest.raises(ValueError, match=r"SkippableBranch: `branch` must be .* Received: branch="):
        wrappers.SkippableBranch(branch, 0.1)


def test_skippable_branch_needs_weights():
    with pytest.raises(ValueError, match=r"SkippableBranch 'empty': branch 'nothing' has no weights"):
        wrappers.SkippableBranch(keras.layers.ReLU(name="nothing"), 0.1, name="empty").build((None, 3))


# Both


def wrapped_dense(kind, **kwargs):
    layer = keras.layers.Dense(4, name="inner", **kwargs)
    return getattr(wrappers, kind)(layer, STRENGTH)


BOTH = pytest.mark.parametrize("kind", ["GroupSparse", "SkippableBranch"])


@BOTH
def test_a_strength_that_makes_no_sense_is_refused(kind):
    for strength in (-1e-9, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=rf"{kind} of .*'inner': expected `strength` .* Received: strength="):
            getattr(wrappers, kind)(keras.layers.Dense(4, name="inner"), strength)
    for strength in ("0.1", None, True):
        with pytest.raises(TypeError, match=rf"{kind} of .*'inner': expected `strength` .* Received: strength="):
            getattr(wrappers, kind)(keras.layers.Dense(4, name="inner"), strength)


@BOTH
def test_a_shared_layer_counts_once(kind):
    shared = wrapped_dense(kind)
    inputs = [keras.Input((4,)), keras.Input((4,))]
    model = keras.Model(inputs, keras.layers.Add()([shared(shared(inputs[0])), shared(inputs[1])]))
    randomize(model)
    once = float(sum(shared.losses))
    model([np.ones((2, 4)), np.ones((2, 4))])
    assert float(sum(model.losses)) == pytest.approx(once)
    assert once > 0


@BOTH
def test_building_twice_counts_once(kind):
    layer = wrapped_dense(kind)
    layer.build((None, 4))
    once = float(sum(layer.losses))
    layer.build((None, 4))
    assert float(sum(layer.losses)) == once


@BOTH
def test_a_layer_built_before_keeps_its_weights(kind):
    inner = keras.layers.Dense(4)
    inner.build((None, 4))
    kernel = inner.kernel.numpy()
    wrapped = getattr(wrappers, kind)(inner, STRENGTH)
    wrapped(np.ones((1, 4)))
    np.testing.assert_array_equal(inner.kernel, kernel)
    assert float(sum(wrapped.losses)) > 0


@BOTH
@pytest.mark.parametrize(("policy", "jit_compile"), [("float32", False), ("float32", True), ("mixed_float16", True)])
def test_training_is_that_of_plain_keras_with_the_penalty_added(kind, policy, jit_compile):
    inputs = np.random.default_rng(6).normal(size=(16, 4)).astype("float32")

    def plain_penalty(kernel):
        bias = plain.bias.value
        if kind == "GroupSparse":
            squares = keras.ops.sum(kernel**2, axis=0) + bias**2
        else:
            squares = keras.ops.sum(kernel**2) + keras.ops.sum(bias**2)
        return STRENGTH * keras.ops.sum(keras.ops.sqrt(squares + 1e-8))

    plain = keras.layers.Dense(4, kernel_regularizer=plain_penalty, dtype=policy)
    start = keras.Input((4,))
    outputs = plain(start) if kind == "GroupSparse" else keras.layers.Add(dtype=policy)([start, plain(start)])
    expected = keras.Model(start, outputs)
    model = keras.Sequential([keras.Input((4,)), wrapped_dense(kind, dtype=policy)])
    model.set_weights(randomize(expected).get_weights())
    for each in (expected, model):
        each.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=jit_compile)
        each.fit(inputs, inputs[:, ::-1], epochs=3, batch_size=8, shuffle=False, verbose=0)
    for ours, theirs in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3 if "16" in policy else 1e-5, atol=1e-5)
    np.testing.assert_allclose(model.predict(inputs, verbose=0), expected.predict(inputs, verbose=0), atol=2e-3)


@BOTH
def test_the_training_flag_reaches_the_inside(kind):
    inner = {
        "GroupSparse": keras.layers.Dense(4),
        "SkippableBranch": [keras.layers.Dense(4), keras.layers.Dropout(0.9)],
    }
    model = keras.Sequential([keras.Input((4,)), getattr(wrappers, kind)(inner[kind], 0.1)])
    inputs = np.ones((64, 4), "float32")
    still = np.array_equal(model(inputs, training=True), model(inputs, training=False))
    assert still == (kind == "GroupSparse")
