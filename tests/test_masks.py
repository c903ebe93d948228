"""Masks keep their meaning where composites are opened: taken, handed on, changed, dropped."""

import keras
import numpy as np
import pytest
from keras import layers
from laws import check_laws, check_widths, outputs_of, random_members, randomize, zero_members
from masked_composites import (
    NOT_READ,
    QUIET,
    STYLES,
    WANTS_READERS,
    After,
    Feed,
    Mean,
    Zeroing,
    decoded,
    reading,
    words,
)

import tf_terngrad as tt
from tf_terngrad.keras_internals import mask_of

pytestmark = QUIET


@pytest.mark.parametrize("options", [{}, {"training": False}], ids=["mask in the graph", "mask on the tensor"])
@pytest.mark.parametrize("name", STYLES)
def test_masks_keep_their_meaning_and_what_is_inside_can_leave(name, options):
    model = reading(STYLES[name], **options)
    frozen = {reason for entry in tt.structures(model).frozen for reason in entry.reasons}
    if name in NOT_READ and WANTS_READERS:
        assert any("not connected" in reason for reason in frozen)
    else:
        assert not [reason for reason in frozen if "no rule knows" in reason]
    zero_members(model, random_members(1))
    check_laws(model)


def test_widths_are_what_arithmetic_says():
    ids = keras.Input((6,), dtype="int32")
    x = Zeroing()(Feed()(words(ids)))
    model = randomize(keras.Model(ids, layers.Dense(3)(Mean()(x))))
    structures = tt.structures(model)
    assert sorted(each.size for each in structures) == [6, 6, 12, 12]
    check_widths(model, lambda structure: np.arange(structure.size // 2))


def test_a_decoder_with_masks_loses_its_width_too():
    ids = keras.Input((6,), dtype="int32")
    model = randomize(keras.Model(ids, layers.Dense(3, name="reader")(decoded(ids))))
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    zero_members(model, random_members(0))
    small = check_laws(model)
    assert small.get_layer("words").output_dim == small.get_layer("source").output_dim == 4


def test_what_attention_has_taken_the_mask_off_has_none():
    ids = keras.Input((6,), dtype="int32")
    model = randomize(keras.Model(ids, layers.Dense(3, name="reader")(After()(words(ids)))))
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    zero_members(model, random_members(0))
    check_laws(model)


@pytest.mark.parametrize("name", ["through a model", "decoded", "left by parts"])
def test_outputs_keep_their_masks_in_a_file_too(name, tmp_path):
    """A loss weighs the steps by the mask that the output has."""
    ids = keras.Input((6,), dtype="int32")
    model = randomize(keras.Model(ids, layers.Dense(3)(STYLES[name](ids))))
    zero_members(model, random_members(2))
    small = tt.compact(model)
    small.save(tmp_path / "small.keras")
    given = np.array([[1, 2, 3, 4, 1, 2], [1, 2, 0, 0, 0, 0]])
    for each in (model, small, keras.saving.load_model(tmp_path / "small.keras")):
        np.testing.assert_array_equal(mask_of(each(given)), given != 0)


def test_the_file_loads_without_the_classes_and_masks_are_still_there(tmp_path):
    model = reading(STYLES["told training"], training=False)
    zero_members(model, random_members(2))
    small = tt.compact(model)
    small.save(tmp_path / "small.keras")
    ids = np.array([[1, 2, 3, 4, 1, 2], [1, 2, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]])
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    for expected, got in zip(outputs_of(model, ids), outputs_of(loaded, ids), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_subclassed_model_keeps_its_masks():
    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.words, self.feed, self.zeroing = layers.Embedding(5, 6, mask_zero=True), Feed(), Zeroing()
            self.steps, self.out = layers.LSTM(5), layers.Dense(3)

        def call(self, ids, training=None):
            x = self.zeroing(self.feed(self.words(ids)))
            return self.out(self.steps(x, training=training))

    model = Classifier()
    ids = np.array([[1, 2, 3, 4, 1, 2], [1, 2, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]])
    model(ids)
    randomize(model)
    assert sorted(each.size for each in tt.structures(model)) == [5, 6, 12, 12]
    zero_members(model, random_members(3))
    np.testing.assert_allclose(outputs_of(tt.compact(model), ids)[0], outputs_of(model, ids)[0], atol=1e-5)
