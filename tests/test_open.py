"""Composites are followed through their parts: custom layers, subclassed models, Lambdas, weights of their own."""

import keras
import numpy as np
import pytest
from composite_graphs import around
from composite_styles import STYLES, Block, Inner, OwnDense, Positions, TokenAndPosition
from keras import layers, ops
from laws import check_laws, check_widths, random_members, randomize, zero_members

import tf_terngrad as tt


@pytest.mark.parametrize("name", STYLES)
def test_what_is_inside_of_a_composite_can_leave(name):
    model = around(*STYLES[name])
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    zero_members(model, random_members(1))
    small = check_laws(model)
    assert small.count_params() < model.count_params()


class TokenLess(layers.Layer):
    """Never registered, without a configuration."""

    def __init__(self):
        super().__init__()
        self.block, self.positions = Block(6), Positions()

    def call(self, x, training=None):
        return self.block(self.positions(x), training=training)


def test_the_smaller_model_has_stock_parts_and_loads_without_the_class(tmp_path):
    model = around((5, 6), lambda x: TokenLess()(x))
    zero_members(model, random_members(1))
    small = tt.compact(model)
    small.save(tmp_path / "small.keras")
    assert "TokenLess" not in small.to_json()
    again = keras.models.load_model(tmp_path / "small.keras")
    x = np.random.default_rng(0).normal(size=(3, 5, 6)).astype("float32")
    np.testing.assert_array_equal(again(x), small(x))


class Rotated(layers.Layer):
    """Steps that are rotated by their position, as language models do it: it has no weights, and takes any heads."""

    def __init__(self, interleaved):
        super().__init__()
        self.interleaved = interleaved

    def call(self, x):
        steps, width = x.shape[1], x.shape[3]
        angles = ops.outer(ops.arange(steps, dtype="float32"), 10.0 ** -ops.arange(width // 2, dtype="float32"))
        if self.interleaved:
            angles = ops.repeat(angles, 2, axis=-1)
            turned = ops.reshape(ops.stack([-x[..., 1::2], x[..., ::2]], axis=-1), ops.shape(x))
        else:
            angles = ops.concatenate([angles, angles], axis=-1)
            first, second = ops.split(x, 2, axis=-1)
            turned = ops.concatenate([-second, first], axis=-1)
        return x * ops.cos(angles)[:, None] + turned * ops.sin(angles)[:, None]


class Attention(layers.Layer):
    """Four heads that ask, two that answer."""

    def __init__(self, interleaved):
        super().__init__()
        self.query = layers.EinsumDense("btd,dhk->bthk", (None, 4, 6), bias_axes="hk")
        self.key, self.value = (layers.EinsumDense("btd,dhk->bthk", (None, 2, 6)) for _ in range(2))
        self.out, self.rotated = layers.EinsumDense("bthk,hkd->btd", (None, 8)), Rotated(interleaved)

    def call(self, x):
        query, key = self.rotated(self.query(x)), ops.repeat(self.rotated(self.key(x)), 2, axis=2)
        scores = ops.softmax(ops.einsum("bthk,bshk->bhts", query, key))
        return self.out(ops.einsum("bhts,bshk->bthk", scores, ops.repeat(self.value(x), 2, axis=2)))


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotated_heads_leave_in_pairs(interleaved):
    inputs = keras.Input((5, 8))
    x = inputs + Attention(interleaved)(inputs)
    x = x + layers.Dense(8, name="last")(layers.Dense(12, "gelu", name="first")(x))
    model = randomize(keras.Model(inputs, layers.Dense(3, name="reader")(x)))
    sizes = [found.size for found in tt.structures(model) if found.kind != "branch"]
    assert sorted(sizes) == [2, 3, 6, 12]  # groups of heads, pairs that rotate, values, units
    check_widths(tt.compact(model), random_members(0, fraction=0.5))


def test_a_constant_lookup_stays_a_table_of_positions():
    ids = keras.Input((7,), dtype="int32")
    model = keras.Model(ids, layers.Dense(3)(layers.Flatten()(TokenAndPosition(7, 20, 6)(ids))))
    (table,) = [each for each in tt.structures(model) if each.kind == "unit"]
    assert [piece.variable.shape for piece in table.slices] == [(20, 6), (7, 6), (42, 3)]
    table.zero([1, 4])
    small = check_laws(model)
    assert [weight.shape for weight in small.weights][:2] == [(20, 4), (7, 4)]


def test_a_subclass_has_the_structures_of_the_functional_model():
    model = Inner()
    model(np.zeros((2, 6)))
    inputs = keras.Input((6,), name="inner_input")
    twin = keras.Model(inputs, model.out(model.hidden(inputs)))
    assert str(tt.structures(model)) == str(tt.structures(twin))
    assert tt.compare(model, tt.compact(model)).rows


def test_mixed_precision_computes_the_same():
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = around((5, 6), lambda x: Positions()(OwnDense(6, "relu")(Block(6)(x))))
        zero_members(model, random_members(1))
        check_laws(model)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
