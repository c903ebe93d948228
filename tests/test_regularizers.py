"""The regularizers: one contract for all of them, on all layers that can take one."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tf_terngrad.sparsity.learn import regularizers

STRENGTH = 0.25
PAPER = ["FilterLasso", "ChannelLasso", "ShapeLasso", "Filter2DLasso", "LayerLasso"]
ALL = [*PAPER, "BlockLasso", "GroupLasso"]
NEED_A_KERNEL = [name for name in ALL if name not in ("LayerLasso", "GroupLasso")]
ARGUMENTS = {"BlockLasso": {"block": (2, 3)}, "GroupLasso": {"axis": (-1, 0)}}
QUICK = settings(max_examples=30)
KERNELS = arrays.arrays(
    "float64",
    arrays.array_shapes(min_dims=2, max_dims=5, max_side=3),
    elements=st.floats(-10, 10, allow_subnormal=False),
)


def make(name, strength=STRENGTH):
    return getattr(regularizers, name)(strength, **ARGUMENTS.get(name, {}))


def groups_of(name, case, shape):
    indices = np.arange(np.prod(shape)).reshape(shape)
    if name == "GroupLasso":
        return oracles.indexed_groups(indices, ARGUMENTS[name]["axis"])
    if name == "BlockLasso":
        return oracles.block_groups(case.lowered(indices), ARGUMENTS[name]["block"])
    return oracles.paper_groups(name, case.as_paper(indices))


def built(case, regularizer):
    layer = case.make(regularizer)
    layer.build(case.input_shape)
    return layer, next(weight for weight in layer.weights if weight.name == case.weight)


@pytest.mark.parametrize("case", oracles.CASES, ids=repr)
def test_the_layers_loss_and_its_gradient_are_the_oracles(case):
    for name in ALL:
        layer, weight = built(case, make(name))
        groups = groups_of(name, case, weight.shape)
        values = weight.numpy().ravel()
        values[groups[0]] = 0.0
        weight.assign(values.reshape(weight.shape))
        with tf.GradientTape() as tape:
            (loss,) = layer.losses
        np.testing.assert_allclose(loss, STRENGTH * oracles.lasso(values, groups), rtol=1e-5, err_msg=name)
        gradient = np.ravel(tape.gradient(loss, weight.value))
        expected = STRENGTH * oracles.lasso_gradient(values, groups)
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ALL)
def test_gradient_is_that_of_finite_differences(name):
    kernel = np.random.default_rng(1).normal(size=(2, 2, 3, 4))
    regularizer = make(name)
    weights = tf.Variable(kernel)
    with tf.GradientTape() as tape:
        loss = regularizer(weights)
    expected = oracles.finite_differences(lambda values: float(regularizer(values)), kernel)
    np.testing.assert_allclose(tape.gradient(loss, weights), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ALL)
@QUICK
@given(kernel=KERNELS, strength=st.floats(0, 100))
def test_the_penalty_is_linear_in_the_strength(name, kernel, strength):
    np.testing.assert_allclose(make(name, strength)(kernel), strength * make(name, 1.0)(kernel), rtol=1e-12)


@pytest.mark.parametrize("name", ALL)
@QUICK
@given(kernel=KERNELS, data=st.data())
def test_the_order_within_groups_and_the_sign_do_not_matter(name, kernel, data):
    case = oracles.CASES[0]  # a bare tensor is laid out as a Dense or a convolution
    if name == "BlockLasso":
        matrix = np.arange(kernel.size).reshape(-1, kernel.shape[-1])
        groups = oracles.block_groups(matrix, ARGUMENTS[name]["block"])
    else:
        groups = groups_of(name, case, kernel.shape)
    moved = kernel.ravel().copy()
    for group in groups:
        moved[group] = -moved[data.draw(st.permutations(list(group)))]
    np.testing.assert_allclose(make(name)(moved.reshape(kernel.shape)), make(name)(kernel), rtol=1e-9)


@QUICK
@given(KERNELS)
def test_blocks_of_one_weight_are_single_weights(kernel):
    single = np.sum(np.sqrt(kernel**2 + 1e-8))
    np.testing.assert_allclose(regularizers.BlockLasso(1.0, block=(1, 1))(kernel), single, rtol=1e-9)
    # |w| <= sqrt(w^2 + 1e-8) <= |w| + 1e-4, and all of it where w = 0: the sum's rounding comes on top.
    bound = 1e-4 * kernel.size * (1 + 1e-9)
    np.testing.assert_allclose(
        single, float(keras.regularizers.L1(1.0)(kernel.astype("float32"))), atol=bound, rtol=1e-6
    )


@QUICK
@given(KERNELS, st.integers(1, 100), st.integers(1, 100))
def test_other_regularizers_are_special_blocks(kernel, more_rows, more_columns):
    columns = kernel.shape[-1]
    rows = kernel.size // columns

    def blocks(*block):
        return float(regularizers.BlockLasso(1.0, block)(kernel))

    assert blocks(rows + more_rows, columns + more_columns) == pytest.approx(
        float(regularizers.LayerLasso(1.0)(kernel))
    )
    assert blocks(rows, 1) == pytest.approx(float(regularizers.FilterLasso(1.0)(kernel)))
    assert blocks(1, columns) == pytest.approx(float(regularizers.ShapeLasso(1.0)(kernel)))


@QUICK
@given(KERNELS)
def test_larger_groups_cost_less(kernel):
    filters, windows = regularizers.FilterLasso(1.0)(kernel), regularizers.Filter2DLasso(1.0)(kernel)
    assert float(regularizers.LayerLasso(1.0)(kernel)) <= float(filters) * (1 + 1e-9)
    assert float(filters) <= float(windows) * (1 + 1e-9)


# Sums


def test_sums_are_flat_and_associative_and_take_stock_regularizers_on_either_side():
    a, b, c = regularizers.FilterLasso(0.1), keras.regularizers.L2(0.2), regularizers.BlockLasso(0.3)
    for total in ((a + b) + c, a + (b + c), (b + a) + c, c + (a + b)):
        assert len(total.regularizers) == 3
    kernel = np.random.default_rng(2).normal(size=(9, 10))
    expected = float(a(kernel)) + float(b(kernel)) + float(c(kernel))
    for total in ((a + b) + c, a + (b + c), b + (c + a)):
        assert float(total(kernel)) == pytest.approx(expected)


@pytest.mark.parametrize("other", ["l2", 0.1, None, print])
def test_only_regularizers_add_up(other):
    with pytest.raises(TypeError):
        regularizers.FilterLasso(0.1) + other
    with pytest.raises(TypeError):
        other + regularizers.FilterLasso(0.1)


@pytest.mark.parametrize("parts", [[], ["l2"], [0.1]])
def test_a_sum_needs_regularizers(parts):
    with pytest.raises(ValueError, match=r"SumRegularizer: .* Received: regularizers="):
        regularizers.SumRegularizer(parts)


def test_a_sum_finds_the_filters_of_a_transposed_convolution():
    case = next(case for case in oracles.CASES if case.name == "Conv2DTranspose")
    layer, weight = built(case, regularizers.FilterLasso(0.1) + keras.regularizers.L2(0.2))
    values = weight.numpy().ravel()
    expected = 0.1 * oracles.lasso(values, groups_of("FilterLasso", case, weight.shape)) + 0.2 * np.sum(values**2)
    assert float(layer.losses[0]) == pytest.approx(expected, rel=1e-5)


# Serialization


@pytest.mark.parametrize("name", ALL)
def test_serialization_round_trip(name):
    regularizer = make(name) + keras.regularizers.L1(0.125)
    for original in (make(name), regularizer):
        config = keras.regularizers.serialize(original)
        assert config["registered_name"] == f"tf_terngrad>{type(original).__name__}"
        for copy in (keras.regularizers.deserialize(config), keras.regularizers.get(config)):
            assert type(copy) is type(original)
            assert copy.get_config() == original.get_config()
            assert repr(copy) == repr(original)


def test_configurations_are_plain_numbers():
    assert regularizers.FilterLasso(np.float32(0.5)).get_config() == {"strength": 0.5}
    assert regularizers.BlockLasso(1, block=[np.int64(2), 3]).get_config() == {"strength": 1.0, "block": [2, 3]}
    assert regularizers.GroupLasso(1, axis=np.int64(-1)).get_config() == {"strength": 1.0, "axis": [-1]}


@pytest.mark.parametrize("name", ALL)
def test_a_saved_model_keeps_its_regularizers(name, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Conv2DTranspose(2, 3, kernel_regularizer=make(name)),
            keras.layers.DepthwiseConv2D(2, depthwise_regularizer=make(name) + keras.regularizers.L2(0.1)),
            keras.layers.Conv2D(4, 2, kernel_regularizer=make(name)),
        ]
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(model.losses) == 3
    np.testing.assert_allclose(loaded.losses, model.losses)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_allclose(clone.losses, model.losses)


def test_one_regularizer_serves_many_layers():
    regularizer = regularizers.FilterLasso(1.0)
    plain = keras.layers.Conv2D(2, 3, kernel_regularizer=regularizer)
    transposed = keras.layers.Conv2DTranspose(5, 3, kernel_regularizer=regularizer)
    for layer in (plain, transposed):
        layer.build((None, 4, 4, 3))
        layer.kernel.assign(np.ones(layer.kernel.shape))
    assert float(plain.losses[0]) == pytest.approx(2 * np.sqrt(27), rel=1e-5)
    assert float(transposed.losses[0]) == pytest.approx(5 * np.sqrt(27), rel=1e-5)
    assert plain.kernel_regularizer is transposed.kernel_regularizer is regularizer


# Training


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_training_adds_the_penalty_to_the_loss_and_shrinks_groups(policy, jit_compile):
    regularizer = regularizers.FilterLasso(0.5) + regularizers.ShapeLasso(0.1) + regularizers.BlockLasso(0.1)
    layer = keras.layers.Dense(4, kernel_regularizer=regularizer, dtype=policy)
    model = keras.Sequential([keras.Input((3,)), layer, keras.layers.Activation("linear", dtype="float32")])
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=jit_compile)
    inputs, targets = np.ones((8, 3), "float32"), np.zeros((8, 4), "float32")
    before = float(np.linalg.norm(layer.kernel))
    predicted = np.mean(model.predict(inputs, verbose=0) ** 2)
    assert model.evaluate(inputs, targets, verbose=0) == pytest.approx(predicted + float(model.losses[0]), rel=1e-3)
    model.fit(inputs, targets, epochs=5, verbose=0)
    assert float(np.linalg.norm(layer.kernel)) < before


def test_half_precision_weights_do_not_underflow():
    kernel = keras.ops.cast(np.full((8, 2), 1e-4), "float16")
    expected = 2 * np.sqrt(8 * float(kernel[0, 0]) ** 2 + 1e-8)
    assert float(regularizers.FilterLasso(1.0)(kernel)) == pytest.approx(expected, rel=1e-5)


# Bad input


@pytest.mark.parametrize("name", ALL)
def test_a_strength_that_makes_no_sense_is_refused(name):
    for strength in (-1e-9, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"{name}: expected `strength` .* Received: strength="):
            make(name, strength)
    for strength in ("0.1", None, True):
        with pytest.raises(TypeError, match=f"{name}: expected `strength` .* Received: strength="):
            make(name, strength)


@pytest.mark.parametrize("block", [(0, 8), (8,), (8, 8, 8), (-1, 2)])
def test_a_block_that_makes_no_sense_is_refused(block):
    with pytest.raises(ValueError, match=r"BlockLasso: expected `block.* integer.* Received: block"):
        regularizers.BlockLasso(0.1, block=block)


@pytest.mark.parametrize("block", [(2.0, 2), 8, "88", (True, 1), (1, True), None])
def test_a_block_that_is_no_pair_of_integers_is_refused(block):
    with pytest.raises(TypeError, match=r"BlockLasso: expected `block.* integer.* Received: block"):
        regularizers.BlockLasso(0.1, block=block)


@pytest.mark.parametrize("axis", [(), (0, 0)])
def test_axes_that_make_no_sense_are_refused(axis):
    with pytest.raises(ValueError, match=r"GroupLasso: expected `axis.* integer.* Received: axis.*LayerLasso"):
        regularizers.GroupLasso(0.1, axis=axis)


@pytest.mark.parametrize("axis", [1.0, "1", None, (0, 1.5), True, (0, True)])
def test_an_axis_that_is_no_integer_is_refused(axis):
    with pytest.raises(TypeError, match=r"GroupLasso: expected `axis.* integer.* Received: axis"):
        regularizers.GroupLasso(0.1, axis=axis)


def test_integers_of_numpy_are_integers():
    assert regularizers.BlockLasso(1.0, block=(np.int64(2), np.int32(3))).get_config()["block"] == [2, 3]
    assert regularizers.GroupLasso(1.0, axis=np.int64(-1)).get_config()["axis"] == [-1]


@pytest.mark.parametrize("axis", [2, -3, (0, 5), (1, -1)])
def test_axes_that_the_weight_does_not_have_are_refused_at_build(axis):
    layer = keras.layers.Dense(4, kernel_regularizer=regularizers.GroupLasso(0.1, axis=axis), name="narrow")
    with pytest.raises(ValueError, match=r"GroupLasso on weight 'narrow/kernel' .* \(3, 4\)\. Received: axis="):
        layer.build((None, 3))
    with pytest.raises(ValueError, match=r"GroupLasso needs .* \(3, 4\)"):
        regularizers.GroupLasso(0.1, axis=axis)(np.ones((3, 4)))


@pytest.mark.parametrize("name", NEED_A_KERNEL)
def test_a_bias_has_no_filters(name):
    layer = keras.layers.Dense(4, bias_regularizer=make(name) + keras.regularizers.L2(0.1), name="narrow")
    with pytest.raises(ValueError, match=rf"{name} on weight 'narrow/bias' needs a kernel .* shape=\(4,\)"):
        layer(np.ones((1, 3)))
    with pytest.raises(ValueError, match=rf"{name} needs a kernel"):
        make(name)(np.ones(4))


def test_a_kernel_without_inputs_has_no_channels():
    layer = keras.layers.EinsumDense("a,bc->abc", (3, 4), kernel_regularizer=regularizers.ChannelLasso(0.1))
    with pytest.raises(ValueError, match="ChannelLasso on weight"):
        layer.build((None,))


def test_whole_biases_and_their_entries_may_be_groups():
    bias = np.array([3.0, -4.0])
    assert float(regularizers.LayerLasso(1.0)(bias)) == pytest.approx(5.0)
    assert float(regularizers.GroupLasso(1.0, axis=0)(bias)) == pytest.approx(7.0)


def test_other_regularizers_are_left_as_they_are():
    stock, other = keras.regularizers.L2(0.1), keras.regularizers.OrthogonalRegularizer()
    layer = keras.layers.Dense(4, kernel_regularizer=stock, bias_regularizer=other)
    layer.build((None, 3))
    assert layer.kernel.regularizer is stock
    assert layer.bias.regularizer is other


def test_a_layer_of_another_type_is_laid_out_as_inputs_then_outputs():
    layer = keras.layers.LSTM(2, kernel_regularizer=regularizers.FilterLasso(1.0))
    layer.build((None, 5, 3))
    layer.cell.kernel.assign(np.ones((3, 8)))
    assert float(layer.losses[0]) == pytest.approx(8 * np.sqrt(3), rel=1e-5)


def test_a_subclassed_layer_is_laid_out_as_its_parent():
    class MyTranspose(keras.layers.Conv2DTranspose):
        pass

    layer = MyTranspose(5, 2, kernel_regularizer=regularizers.FilterLasso(1.0))
    layer.build((None, 4, 4, 3))
    layer.kernel.assign(np.ones((2, 2, 5, 3)))
    assert float(layer.losses[0]) == pytest.approx(5 * np.sqrt(12), rel=1e-5)
