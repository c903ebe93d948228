"""Compaction folds constants into what reads them, and leaves those that are none everywhere."""

import keras
import pytest
from keras import layers, ops
from laws import check_laws, randomize, sequential, shapes, zero


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "softplus", "gelu", "leaky_relu", keras.layers.ELU()])
@pytest.mark.parametrize("bias", [True, False])
def test_a_constant_is_folded_into_the_next_bias(activation, bias):
    model = sequential(
        keras.Input((5,)), layers.Dense(6, activation), layers.BatchNormalization(), layers.Dense(4, use_bias=bias)
    )
    zero(model.layers[0].kernel, 1, [0, 3, 4])
    small = check_laws(model)
    assert [layer.units for layer in small.layers if isinstance(layer, layers.Dense)] == [3, 4]
    assert small.layers[-1].use_bias


@pytest.mark.parametrize("padding, width", [("valid", 3), ("same", 6)])
def test_a_constant_stays_where_padding_makes_it_vary(padding, width):
    model = sequential(
        keras.Input((6, 6, 2)),
        layers.Conv2D(6, 3, activation="sigmoid"),
        layers.Conv2D(4, 3, padding=padding, use_bias=False),
        layers.GlobalMaxPooling2D(),
    )
    zero(model.layers[0].kernel, 3, [0, 3, 4])
    assert check_laws(model).layers[0].filters == width


def test_a_zero_leaves_through_padding():
    model = sequential(
        keras.Input((6, 6, 2)), layers.Conv2D(6, 3, use_bias=False), layers.ReLU(), layers.ZeroPadding2D(),
        layers.Conv2D(4, 3, padding="same"), layers.Flatten(),
    )  # fmt: skip
    zero(model.layers[0].kernel, 3, [0, 3, 4])
    assert check_laws(model).layers[0].filters == 3


def test_a_constant_stays_where_a_border_of_zeros_makes_it_vary():
    model = sequential(
        keras.Input((6, 6, 2)), layers.Conv2D(6, 3, activation="sigmoid"), layers.ZeroPadding2D(),
        layers.Conv2D(4, 3), layers.Flatten(),
    )  # fmt: skip
    zero(model.layers[0].kernel, 3, [0, 3, 4])
    assert check_laws(model).layers[0].filters == 6


def test_a_constant_of_one_call_of_a_shared_layer_stays():
    inputs, shared = keras.Input((5,)), layers.Dense(4, name="shared")
    first, second = layers.Dense(6, "sigmoid", name="a")(inputs), layers.Dense(6, "softplus", name="b")(inputs)
    model = randomize(keras.Model(inputs, [shared(first), shared(second)]))
    zero(model.get_layer("a").kernel, 1, [0, 1])
    zero(model.get_layer("b").kernel, 1, [1, 2])
    assert shapes(check_laws(model)) == shapes(model)


def test_a_branch_of_a_shared_model_that_is_dead_in_one_call_only():
    entry = keras.Input((4,))
    shared = keras.Model(
        entry, layers.Add()([layers.Dense(4)(entry), layers.Dense(4, use_bias=False)(ops.relu(entry))])
    )
    inputs = keras.Input((5,))
    live, dead = layers.Dense(4, name="live")(inputs), layers.Dense(4, name="dead", use_bias=False)(inputs)
    model = randomize(keras.Model(inputs, layers.Concatenate()([layers.Dense(2)(shared(live)), shared(dead)])))
    zero(model.get_layer("dead").kernel, 1, slice(None))
    check_laws(model, must_vary=False)


def test_one_configuration_serves_all_calls_of_a_shared_layer():
    inputs, fold = keras.Input((5,)), layers.Reshape((2, 6))
    towers = [layers.Dense(12, "relu", name=name)(inputs) for name in "ab"]
    model = randomize(keras.Model(inputs, [layers.Dense(2)(layers.Flatten()(fold(x))) for x in towers]))
    zero(model.get_layer("a").kernel, 1, [0, 1, 6, 7])
    zero(model.get_layer("a").bias, 0, [0, 1, 6, 7])
    assert check_laws(model).get_layer("a").units == 12
    zero(model.get_layer("b").kernel, 1, [0, 6])
    zero(model.get_layer("b").bias, 0, [0, 6])
    assert [check_laws(model).get_layer(name).units for name in "ab"] == [10, 10]


def test_a_constant_is_followed_through_depthwise_and_separable_layers():
    model = sequential(
        keras.Input((9, 9, 2)), layers.Conv2D(6, 3, activation="sigmoid"),
        layers.DepthwiseConv2D(3, depth_multiplier=2, activation="softplus"),
        layers.SeparableConv2D(4, 3, use_bias=False), layers.Flatten(), layers.EinsumDense("ab,bc->ac", 3),
    )  # fmt: skip
    zero(model.layers[0].kernel, 3, [0, 3, 4])
    small = check_laws(model)
    assert small.layers[0].filters == 3
    assert small.layers[2].use_bias


def test_a_constant_in_front_of_an_einsum_gives_it_a_bias():
    model = sequential(keras.Input((5, 4)), layers.Dense(6, "sigmoid"), layers.EinsumDense("abc,cd->abd", (5, 3)))
    zero(model.layers[0].kernel, 1, [1, 2])
    small = check_laws(model)
    assert small.layers[0].units == 4
    assert small.layers[1].bias_axes == "d"


def test_a_channel_that_is_kept_for_emptiness_emits_what_it_did():
    """All is constant, but another constant in each call of the shared layer: what it reads has no bias to go to."""
    inputs, shared = keras.Input((4,)), layers.Dense(5, "relu", name="shared")
    first = layers.Dense(4, kernel_initializer="zeros", name="first")(inputs)
    x = shared(layers.Dense(4, name="between")(shared(first)))
    x = layers.Dense(3, name="reader")(x) + layers.Dense(3, name="beside")(inputs)
    with pytest.warns(UserWarning, match="every channel is dead"):
        check_laws(randomize(keras.Model(inputs, x)))
