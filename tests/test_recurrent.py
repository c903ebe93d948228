"""Recurrent layers keep the laws of compaction: random models, hard ones, and what each cell does with its zeros."""

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from keras import layers, ops
from laws import (
    check_laws,
    check_widths,
    difference,
    fresh_inputs,
    outputs_of,
    random_members,
    randomize,
    sequential,
    shapes,
    structure,
    varies,
    zero,
    zero_members,
)
from recurrent_graphs import MODELS, grow

import tf_terngrad as tt
from models.rhn import HighwayCell

RANDOM = st.randoms(use_true_random=False)
DEAD = pytest.mark.filterwarnings("ignore:.*every channel is dead")

pytestmark = pytest.mark.filterwarnings("ignore:.*does not support masking")


def uneven_members(seed):
    """A function that picks some members of a structure, none or many, never all."""
    rng = np.random.default_rng(seed)
    return lambda found: rng.choice(found.size, rng.integers(0, found.size), replace=False)


# The laws


@DEAD
@hypothesis.given(RANDOM, st.integers(0, 99))
@hypothesis.settings(max_examples=10)
def test_zeroed_members_leave_and_nothing_else(choices, seed):
    model = tt.compact(grow(choices))
    hypothesis.assume(all(map(varies, outputs_of(model, fresh_inputs(model, seed=1)))))
    check_widths(model, random_members(seed))


@DEAD
@hypothesis.given(RANDOM, st.integers(0, 99))
@hypothesis.settings(max_examples=10)
def test_any_zeros_leave_the_outputs_alone(choices, seed):
    model, rng = grow(choices), np.random.default_rng(seed)
    for weight in model.weights:
        if rng.random() < 0.5:
            axis = int(rng.integers(-min(2, len(weight.shape)), 0))
            zero(weight, axis, rng.random(weight.shape[axis]) < 0.5)
    zero_members(model, uneven_members(seed))
    check_laws(model, must_vary=False)


@pytest.mark.parametrize("name", MODELS)
def test_hard_graphs(name):
    check_widths(randomize(keras.Model(*MODELS[name]())), uneven_members(4))


@DEAD
@pytest.mark.parametrize("name", MODELS)
def test_hard_graphs_with_every_member_dead(name):
    model = randomize(keras.Model(*MODELS[name]()))
    zero_members(model, lambda found: np.arange(found.size))
    check_laws(model, must_vary=False)


# When a unit is dead


KINDS = {
    "LSTM": layers.LSTM,
    "GRU": layers.GRU,
    "GRU before": lambda units, **options: layers.GRU(units, reset_after=False, **options),
    "SimpleRNN": layers.SimpleRNN,
    "RNN": lambda units, **options: layers.RNN(layers.LSTMCell(units), **options),
}
EACH = pytest.mark.parametrize("kind", KINDS)


def network(kind, front=(), **options):
    """A recurrent layer "hidden" of six units, before a dense layer."""
    hidden = KINDS[kind](6, name="hidden", **options)
    return sequential(keras.Input((5, 4)), *front, hidden, layers.Dense(3, name="reader"))


def silence(model, units, biases=True, name="hidden"):
    """Zero the candidate columns of some units, and all their columns of other gates stay."""
    cell = model.get_layer(name).cell
    gates = cell.kernel.shape[-1] // cell.units
    columns = min(2, gates - 1) * cell.units + np.array(units)
    for weight in (cell.kernel, cell.recurrent_kernel, *([cell.bias] if biases else [])):
        zero(weight, -1, columns)


def width(model, name="hidden"):
    return model.get_layer(name).cell.units


@EACH
def test_a_unit_that_nobody_reads_leaves_whatever_its_weights(kind):
    model = network(kind)
    zero(model.get_layer("reader").kernel, 0, [0, 3])
    zero(model.get_layer("hidden").cell.recurrent_kernel, 0, [0])
    small = check_laws(model)
    assert width(small) == 5, "the others hear unit 3"
    others = model.get_layer("hidden").cell.recurrent_kernel.numpy()
    others[3] = np.where(np.arange(others.shape[1]) % 6 == 3, others[3], 0)
    model.get_layer("hidden").cell.recurrent_kernel.assign(others)
    assert width(check_laws(model)) == 4, "it hears itself alone"


@EACH
def test_a_unit_without_a_candidate_is_silent_whatever_its_gates(kind):
    model = network(kind)
    silence(model, [0, 3])
    assert width(check_laws(model)) == 4


@EACH
def test_silent_units_may_hear_one_another_but_no_other(kind):
    model = network(kind)
    hears = model.get_layer("hidden").cell.recurrent_kernel
    before = hears.numpy()
    silence(model, [0, 3, 4])
    after, columns = hears.numpy(), before.shape[1] - (6 if before.shape[1] != 24 else 12) + np.arange(6)
    after[0, columns[3]], after[3, columns[0]] = 1.0, -1.0
    hears.assign(after)
    assert width(check_laws(model)) == 3
    after[5, columns[3]] = 1.0
    hears.assign(after)
    assert width(check_laws(model)) == 5, "unit 3 hears unit 5, and unit 0 hears unit 3"


@EACH
def test_a_candidate_that_is_constant_stays_but_for_a_simple_cell(kind):
    model = network(kind)
    silence(model, [0, 3], biases=False)
    assert width(check_laws(model)) == 6
    zero(model.get_layer("hidden").cell.recurrent_kernel, 0, [0])
    assert width(check_laws(model)) == (5 if kind == "SimpleRNN" else 6), "the reader folds it"


def test_a_simple_cell_s_constant_stays_where_steps_are_masked():
    tokens, options = keras.Input((7,), dtype="int32"), {"mask_zero": True}
    x = layers.Embedding(9, 4, **options)(tokens)
    model = randomize(keras.Model(tokens, layers.Dense(3)(layers.SimpleRNN(6, name="hidden")(x))))
    silence(model, [0, 3], biases=False)
    zero(model.get_layer("hidden").cell.recurrent_kernel, 0, [0, 3])
    assert width(check_laws(model)) == 6
    silence(model, [0, 3])
    assert width(check_laws(model)) == 4


@pytest.mark.parametrize("activation", ["sigmoid", "softmax", "selu"])
def test_a_candidate_whose_activation_is_not_zero_at_zero_is_not_silent(activation):
    model = network("LSTM", activation=activation)
    silence(model, [0, 3])
    assert width(check_laws(model)) == (4 if activation == "selu" else 6)
    if activation == "softmax":
        assert "hidden: 6 frozen — hidden: activation 'softmax' runs across channels" in str(tt.structures(model))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "GRU before", "SimpleRNN"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_constant_that_enters_is_folded_into_the_gates(kind, bias):
    model = network(kind, [layers.Dense(5, "sigmoid", name="front")], use_bias=bias, return_sequences=True)
    zero(model.get_layer("front").kernel, 1, [0, 2])
    small = check_laws(model)
    assert small.get_layer("front").units == 3
    assert small.get_layer("hidden").use_bias


def test_a_constant_that_enters_a_stack_stays():
    cells = layers.RNN([layers.GRUCell(6), layers.GRUCell(6)], name="hidden")
    model = sequential(keras.Input((5, 4)), layers.Dense(5, "sigmoid", name="front"), cells, layers.Dense(3))
    zero(model.get_layer("front").kernel, 1, [0, 2])
    assert check_laws(model).get_layer("front").units == 5


def test_small_weights_count_as_zero():
    model = network("LSTM")
    cell = model.get_layer("hidden").cell
    for weight in (cell.kernel, cell.recurrent_kernel, cell.bias):
        array = weight.numpy()
        array[..., [0 + 12, 3 + 12]] = 1e-6
        weight.assign(array)
    assert width(tt.compact(model)) == 6
    assert width(check_laws(model, tolerance=1e-5)) == 4


def test_a_state_that_is_given_or_kept_is_not_silent():
    inputs, start = keras.Input((5, 4)), keras.Input((6,))
    x = layers.GRU(6, name="hidden")(inputs, initial_state=start)
    model = randomize(keras.Model([inputs, start], layers.Dense(3)(x)))
    silence(model, [0, 3])
    assert width(check_laws(model)) == 6
    inputs = keras.Input(batch_shape=(4, 5, 4))
    model = randomize(keras.Model(inputs, layers.Dense(3)(layers.GRU(6, name="hidden", stateful=True)(inputs))))
    silence(model, [0, 3])
    assert width(tt.compact(model)) == 4
    model.get_layer("hidden").states[0].assign(np.ones((4, 6)))
    assert width(tt.compact(model)) == 6


def test_what_is_kept_between_batches_goes_on():
    model = randomize(keras.Model(*MODELS["kept_between_batches"]()))
    zero_members(model, uneven_members(1))
    outputs_of(model, fresh_inputs(model))
    small = tt.compact(model)
    for seed in (1, 2):
        inputs = fresh_inputs(model, seed)
        assert difference(*outputs_of(model, inputs), *outputs_of(small, inputs)) < 1e-4


# What stays


@EACH
def test_the_settings_stay(kind):
    cell = {"dropout": 0.1, "recurrent_dropout": 0.2, "kernel_regularizer": "l2"} if kind != "RNN" else {}
    if kind in ("LSTM", "GRU", "GRU before"):
        cell |= {"use_cudnn": False, "recurrent_activation": "hard_sigmoid"}
    model = network(kind, unroll=True, go_backwards=True, **cell)
    zero_members(model, random_members(0))
    old, new = (each.get_layer("hidden") for each in (model, tt.compact(model)))
    before, after = old.get_config(), new.get_config()
    if kind == "RNN":
        before, after = ({**config.pop("cell")["config"], **config} for config in (before, after))
    assert after == {**before, "units": 4}
    assert type(new) is type(old)
    assert getattr(new, "use_cudnn", None) == getattr(old, "use_cudnn", None)


def test_directions_of_the_same_width_stay_one_layer():
    model = randomize(keras.Model(*MODELS["both_ends"]()))
    zero_members(model, random_members(0))
    small = tt.compact(model)
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]
    assert [type(layer) for layer in small.layers] == [type(layer) for layer in model.layers]
    zero_members(small, lambda found: [0] if "/forward" in found.name else [])
    smaller = check_laws(small)
    assert {type(layer).__name__ for layer in smaller.layers} >= {"Functional", "Bidirectional"}


def test_directions_of_different_widths_save_and_load(tmp_path):
    model = randomize(keras.Model(*MODELS["both_ends_apart"]()))
    zero_members(model, uneven_members(4))
    small = tt.compact(model)
    assert any(isinstance(layer, keras.Model) for layer in small.layers)
    small.save(tmp_path / "small.keras")
    loaded, inputs = keras.models.load_model(tmp_path / "small.keras"), fresh_inputs(model)
    assert difference(*outputs_of(model, inputs), *outputs_of(loaded, inputs)) < 1e-4
    assert shapes(check_laws(loaded)) == shapes(loaded)


@pytest.mark.parametrize("add", [ops.add, lambda x, y: layers.Add()([x, y])], ids=["operation", "layer"])
def test_a_sum_hands_on_no_other_mask_than_before(add):
    tokens = keras.Input((7,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(tokens)
    dead = layers.Dense(4, use_bias=False, name="dead")(ops.relu(x))
    model = randomize(keras.Model(tokens, layers.Dense(3)(layers.LSTM(6)(add(x, dead)))))
    zero(model.get_layer("dead").kernel, 1, slice(None))
    check_laws(model)
    assert not any(found.kind == "branch" for found in tt.structures(model))


def tagger(tokens, both):
    """A network with a mask on its outputs."""
    return layers.Dense(3)(both(layers.Embedding(9, 8, mask_zero=True)(tokens)))


MASKED = {
    "merged": layers.Bidirectional,
    "a sum": lambda layer: layers.Bidirectional(layer, merge_mode="sum"),
    "apart": lambda layer: lambda x: layers.Add()(layers.Bidirectional(layer, merge_mode=None)(x)),
}


@pytest.mark.parametrize("how", MASKED)
def test_a_mask_is_handed_on_by_directions_of_different_widths(how, tmp_path):
    tokens = keras.Input((7,), dtype="int32")
    model = randomize(keras.Model(tokens, tagger(tokens, MASKED[how](layers.GRU(6, return_sequences=True)))))
    zero_members(model, uneven_members(2))
    small, inputs = check_laws(model), fresh_inputs(model)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    for each in (small, loaded):
        np.testing.assert_array_equal(each(inputs)._keras_mask, model(inputs)._keras_mask)


class Listening(layers.Layer):
    """Nobody sees what is inside, where a mask is read."""

    def build(self, shape):
        self.inside = layers.GRU(4)

    def call(self, x):
        self.add_loss(ops.mean(x))
        return self.inside(x)


def test_a_mask_is_handed_on_to_a_layer_whose_inside_is_not_known():
    tokens = keras.Input((7,), dtype="int32")
    x = layers.Embedding(9, 8, mask_zero=True)(tokens)
    x = layers.Bidirectional(layers.GRU(6, return_sequences=True))(x)
    model = randomize(keras.Model(tokens, layers.Dense(3)(Listening()(layers.Dense(5)(x)))))
    assert any("Listening" in str(each) for each in tt.structures(model).frozen)
    zero_members(model, uneven_members(2))
    assert any(isinstance(layer, keras.Model) for layer in check_laws(model).layers)


@pytest.mark.filterwarnings("error:.*does not support masking")
def test_a_mask_that_is_not_asked_for_is_not_handed_on(tmp_path):
    model = randomize(keras.Model(*MODELS["masked"]()))
    zero_members(model, uneven_members(4))
    small, inputs = check_laws(model), fresh_inputs(model)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    assert difference(*outputs_of(model, inputs), *outputs_of(loaded, inputs)) < 1e-4
    assert [layer for layer in small.layers if isinstance(layer, keras.Model)]


def test_directions_before_a_mask_that_the_graph_does_not_show_leave_together():
    model = randomize(keras.Model(*MODELS["masked_inside"]()))
    born = {found.born for found in tt.structures(model)}
    assert any(len(each) == 2 and "forward" in each[0] and "backward" in each[1] for each in born)
    shown = {found.born for found in tt.structures(keras.Model(*MODELS["masked"]()))}
    assert {len(each) for each in shown} == {1}


def test_round_to():
    model = network("LSTM")
    structure(model, "hidden").zero([0, 1, 2])
    assert [width(tt.compact(model, round_to=each)) for each in (1, 2, 4, 8)] == [3, 4, 4, 6]


def test_mixed_precision():
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        check_widths(randomize(keras.Model(*MODELS["encoder_and_decoder"]())), random_members(0))
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


# Cells of users


def highway():
    inputs = keras.Input((5, 4))
    x = layers.Bidirectional(layers.RNN(HighwayCell(6, depth=2), return_sequences=True))(
        layers.Dense(8, name="front")(inputs)
    )
    return randomize(keras.Model(inputs, layers.Dense(3)(layers.RNN([HighwayCell(6, depth=2), layers.GRUCell(4)])(x))))


def test_a_cell_of_the_user_s_that_no_rule_knows_stays_and_says_so(monkeypatch):
    monkeypatch.delitem(tt.rules.registry._REGISTRY, HighwayCell)
    model = highway()
    found = tt.structures(model)
    assert not found
    assert "rnn: frozen — no rule knows its cell (HighwayCell)" in str(found).replace("_1", "")
    zero_members(model, random_members(0))
    assert shapes(check_laws(model, must_vary=False)) == shapes(model)


def test_a_cell_of_the_user_s_with_a_rule_is_followed():
    check_widths(highway(), uneven_members(3))


def test_a_cell_outside_a_recurrent_layer_stays():
    inputs, start = keras.Input((4,)), keras.Input((5,))
    x, _ = layers.GRUCell(5, name="alone")(layers.Dense(8)(inputs), layers.Dense(5)(start))
    model = randomize(keras.Model([inputs, start], layers.Dense(3)(x)))
    assert "a cell is followed only in a recurrent layer (GRUCell)" in str(tt.structures(model))
    assert shapes(check_laws(model)) == shapes(model)


def test_a_sequential_model_stays_one():
    parts = [layers.Embedding(9, 4, mask_zero=True), layers.LSTM(6, return_sequences=True, name="hidden")]
    model = sequential(keras.Input((7,), dtype="int32"), *parts, layers.Bidirectional(layers.GRU(6)), layers.Dense(3))
    structure(model, "hidden").zero([1])
    small = check_laws(model)
    assert type(small) is keras.Sequential
    assert len(small.layers) == len(model.layers)
