"""What became of every variable: the positions that stay, by what is in the compact model."""

import gc
import weakref

import hard_graphs
import keras
import pytest
import recurrent_graphs
from composite_graphs import Affine, Positions
from keras import layers
from laws import check_fates, random_members, randomize, sequential, zero, zero_members
from laws import structure as named

import tf_terngrad as tt

MODELS = {**hard_graphs.MODELS, **recurrent_graphs.MODELS}


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
@pytest.mark.parametrize("name", MODELS)
def test_every_variable_of_hard_models_has_its_fate(name):
    model = tt.compact(keras.Model(*MODELS[name]()))
    zero_members(model, random_members(seed=3))
    check_fates(model, tt.compact(model))


def test_a_branch_that_leaves_is_told_and_passes_are_composed():
    inputs = keras.Input((4,))
    x = layers.Dense(6, "relu", name="stem")(inputs)
    branch = layers.Dense(6, name="last")(layers.Dense(5, "relu", name="first")(x))
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Add(name="sum")([x, branch])))
    named(model, "sum branch").zero([0])
    zero(model.get_layer("stem").kernel, 1, [1])  # free to leave once the branch no longer ties it
    zero(model.get_layer("stem").bias, 0, [1])
    small = tt.compact(model)
    check_fates(model, small)
    left = {fate.old.path for fate in tt.fates(small) if fate.new is None}
    assert left == {"first/kernel", "first/bias", "last/kernel", "last/bias"}
    (stem,) = (fate for fate in tt.fates(small) if fate.old is model.get_layer("stem").kernel)
    assert stem.kept[1].tolist() == [0, 2, 3, 4, 5]


def test_weights_that_an_embedding_keeps_are_told_over_two_passes():
    inputs = keras.Input((5, 4))
    x = Positions(name="places")(Affine(name="affine")(layers.Dense(6, name="stem")(inputs)))
    branch = layers.Dense(6, name="last")(layers.LayerNormalization()(x))  # it ties the channels until it has left
    model = randomize(keras.Model(inputs, layers.Dense(2)(layers.Add(name="sum")([x, branch]))))
    named(model, "sum branch").zero([0])
    stem, affine, places = map(model.get_layer, ("stem", "affine", "places"))
    for weight in (stem.kernel, stem.bias, affine.shift, places.table):
        zero(weight, -1, [1])
    small = tt.compact(model)
    check_fates(model, small)
    (fate,) = (fate for fate in tt.fates(small) if fate.old is places.table)
    assert [len(kept) for kept in fate.kept] == [1, 5, 5] and fate.new.shape == (5, 5)


def test_folded_biases_are_named_and_new_ones_have_no_old_variable():
    model = sequential(
        keras.Input((4,)), layers.Dense(3, name="hidden"), layers.Dense(2, use_bias=False, name="bare"), layers.Dense(2)
    )
    zero(model.get_layer("hidden").kernel, 1, [1])  # emits its bias
    small = tt.compact(model)
    folded = [fate for fate in tt.fates(small) if fate.folded]
    assert [(fate.old, fate.new.path, fate.kept[0].tolist()) for fate in folded] == [(None, "bare/bias", [0, 1])]
    check_fates(model, small)


def test_a_file_keeps_no_fates_and_the_question_is_refused(tmp_path):
    small = tt.compact(sequential(keras.Input((4,)), layers.Dense(3), layers.Dense(2)))
    small.save(tmp_path / "small.keras")
    with pytest.raises(ValueError, match=r"Expected a model that compact\(\) returned"):
        tt.fates(keras.models.load_model(tmp_path / "small.keras"))


def test_fates_keep_neither_model_alive():
    model = sequential(keras.Input((4,)), layers.Dense(3), layers.Dense(2))
    small = tt.compact(model)
    references = [weakref.ref(model.layers[0].kernel), weakref.ref(small)]
    fate = tt.fates(small)[0]
    del model
    gc.collect()
    assert fate.old is None and references[0]() is None
    del small
    gc.collect()
    assert references[1]() is None
