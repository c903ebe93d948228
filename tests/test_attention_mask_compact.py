"""What is left of attention with a learnable mask: a constant mask of stock layers, and fewer heads."""

import keras
import numpy as np
import pytest
from keras import layers
from laws import TOLERANCE, check_laws, difference, fresh_inputs, outputs_of, randomize, structure, zero
from learned_masks import CASES, HEADS, SIZE, STEPS, WIDTH, learn, masks, model_of

import tf_terngrad as tt


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


@pytest.mark.parametrize("name", ["offsets", "by hand", "blocks"])
def test_what_is_left_converts(name, tmp_path):
    report = tt.tflite.convert(tt.compact(model_of(CASES[name])), tmp_path / "model.tflite")
    assert report.relative_difference <= 1e-4
