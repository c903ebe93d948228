"""Kinds of structures: what is a unit, what the width of a residual stream, and how a user picks them."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from laws import check_laws, randomize

import tf_terngrad as tt

WIDTH, STEPS = 12, 6


class Embed(layers.Layer):
    """Tokens and positions."""

    def __init__(self):
        super().__init__()
        self.tokens = layers.Embedding(20, WIDTH, name="tokens")
        self.positions = layers.Embedding(STEPS, WIDTH, name="positions")

    def call(self, x):
        return self.tokens(x) + self.positions(ops.arange(STEPS))


def encoder(norm=layers.LayerNormalization, gated=False):
    inputs = keras.Input((STEPS,), dtype="int32")
    x = Embed()(inputs)
    h = norm(name="norm_1")(x)
    x = x + layers.MultiHeadAttention(3, 4, name="attention")(h, h)
    h = norm(name="norm_2")(x)
    up = layers.Dense(10, "silu", name="up")(h)
    up = up * layers.Dense(10, name="gate")(h) if gated else up
    x = x + layers.Dense(WIDTH, name="down")(up)
    return randomize(keras.Model(inputs, layers.Dense(2, name="answer")(layers.Flatten()(norm(name="norm_3")(x)))))


def kinds(model):
    return {each.name.rsplit("/", 1)[-1]: each.kind for each in tt.structures(model)}


@pytest.mark.parametrize("norm", [layers.LayerNormalization, layers.RMSNormalization])
@pytest.mark.parametrize("gated", [False, True])
def test_a_transformer_has_one_width_and_units_between(norm, gated):
    found = kinds(encoder(norm, gated))
    assert found["tokens"] == "width"
    assert found["up"] == "unit"
    assert [kind for kind in found.values()].count("width") == 1
    assert {"head", "key", "value"} < set(found.values())


def test_the_width_goes_through_every_writer_reader_and_norm():
    (width,) = [each for each in tt.structures(encoder()) if each.kind == "width"]
    held = {part for path in width.layers for part in path.split("/")}
    assert held >= {"tokens", "positions", "norm_1", "attention", "norm_2", "up", "down", "norm_3", "answer"}
    assert str(width).split(": ")[1].startswith("12 residual dimensions")


def test_each_kind_can_be_chosen_and_learned():
    for kind in ("head", "key", "value", "unit", "width"):
        model = encoder()
        sparsity = tt.sparsify(model, strength=0.1, kinds=[kind])
        assert {each.kind for each in sparsity.structures} == {kind}


def test_widths_leave():
    model = encoder()
    (width,) = [each for each in tt.structures(model) if each.kind == "width"]
    width.zero([0, 5, 7])
    small = check_laws(model)
    assert small.get_layer("attention").output_dense.kernel.shape[-1] == WIDTH - 3


CHAINS = {
    "a chain": (lambda x: layers.Dense(4, name="b")(layers.Dense(WIDTH, name="a")(x)), {"a": "unit"}),
    "a bias by hand": (lambda x: layers.Dense(WIDTH, use_bias=False, name="a")(x) + np.ones(WIDTH), {}),
    "a product": (
        lambda x: layers.Dense(WIDTH, name="a")(x) * layers.Dense(WIDTH, name="b")(x),
        {"a": "unit"},
    ),
    "a residual sum": (
        lambda x: (h := layers.Dense(WIDTH, name="a")(x)) + layers.Dense(WIDTH, name="b")(h),
        {"a": "width"},
    ),
    "convolutions": (
        lambda x: layers.Flatten()(
            (h := layers.Conv1D(WIDTH, 3, padding="same", name="a")(layers.Reshape((5, 1))(x)))
            + layers.Conv1D(WIDTH, 3, padding="same", name="b")(h)
        ),
        {"a": "filter"},
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_width_is_what_several_layers_add_to(name):
    build, expected = CHAINS[name]
    inputs = keras.Input((5,), name="entering")
    found = kinds(keras.Model(inputs, layers.Dense(2, name="answer")(build(inputs))))
    found = {layer: kind for layer, kind in found.items() if kind not in ("input", "branch")}
    assert found.items() >= expected.items()
    assert "width" in found.values() if "width" in expected.values() else "width" not in found.values()


def test_an_unknown_kind_is_answered_with_those_that_are_known():
    with pytest.raises(ValueError, match="kinds") as error:
        tt.sparsify(encoder(), strength=0.1, kinds=["depth"])
    for kind in ("unit", "width", "head", "key", "value", "gate", "offset", "block"):
        assert f"'{kind}'" in str(error.value)
