"""Masks keep their meaning in nested models, which are given them, make them, or leave them."""

import keras
import pytest
from keras import layers
from laws import check_laws, check_widths, random_members, randomize, zero_members
from masked_composites import QUIET, WANTS_READERS, Feed, Zeroing, reading, words

import tf_terngrad as tt

pytestmark = QUIET


def nested(*inside):
    """A nested model, as a model with inputs and as a sequence."""
    inputs = x = keras.Input((6, 6))
    for layer in inside:
        x = layer(x)
    return keras.Model(inputs, x)


class Around(layers.Layer):
    """It says nothing of masks, and calls a model."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


@pytest.mark.parametrize("make", [nested, lambda *inside: keras.Sequential(inside), lambda *i: Around(nested(*i))])
@pytest.mark.parametrize("inside", [lambda: [Feed()], lambda: [layers.Dense(6), Zeroing()]])
def test_the_mask_that_a_nested_model_is_given_reaches_its_layers(make, inside):
    """Keras hangs masks on the tensors inside of a nested model, though its graph was made without."""
    ids = keras.Input((6,), dtype="int32")
    x = layers.Flatten()(layers.Dense(6)(make(*inside())(words(ids))))  # which sees the steps that are zeroed
    model = randomize(keras.Model(ids, layers.Dense(3, name="reader")(x)))
    frozen = tt.structures(model).frozen
    if WANTS_READERS:  # there a graph takes no mask that no call names
        assert any("does not show" in reason for entry in frozen for reason in entry.reasons)
        check_laws(model)
    else:
        assert [entry.name for entry in frozen] == ["reader"]
        check_widths(model, random_members(2))


def test_a_model_that_is_given_a_mask_in_one_call_only_stays_closed_inside():
    inner = nested(Zeroing())
    model = reading(lambda ids: inner(words(ids)) + inner(layers.Embedding(5, 6)(ids)))
    assert any("does not show" in reason for entry in tt.structures(model).frozen for reason in entry.reasons)
    check_laws(model)


def test_a_nested_model_that_makes_its_own_mask_is_opened():
    inner = {"ids": keras.Input((6,), dtype="int32", name="ids"), "shift": keras.Input((6, 6), name="shift")}
    inner = keras.Model(inner, layers.Add()([Feed()(words(inner["ids"])), inner["shift"]]))
    ids, shift = keras.Input((6,), dtype="int32"), keras.Input((6, 6))
    x = layers.LSTM(5)(inner({"ids": ids, "shift": layers.Dense(6)(shift)}))
    model = randomize(keras.Model([ids, shift], layers.Dense(3, name="reader")(x)))
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    zero_members(model, random_members(4))
    check_laws(model)


def test_a_mask_that_a_nested_model_leaves_stays_what_it_is():
    inner = keras.Sequential([layers.Embedding(5, 6, mask_zero=True), layers.Dense(6)])
    model = reading(lambda ids: Feed()(inner(ids)))
    assert any("does not show" in reason for entry in tt.structures(model).frozen for reason in entry.reasons)
    check_laws(model)
