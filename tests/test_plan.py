"""What leaves, what stays: dead branches and chains, rounding, names to keep, dry runs, bad options."""

import keras
import numpy as np
import pytest
from keras import layers
from laws import check_laws, difference, fresh_inputs, outputs_of, randomize, sequential, structure, zero

import tf_terngrad as tt

# Dead branches and dead chains


def residual(x, **options):
    y = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    y = layers.Conv2D(8, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(y)))
    return layers.Add(**options)([x, y])


def test_a_dead_branch_leaves_with_its_layers():
    inputs = keras.Input((6, 6, 2))
    x = residual(residual(layers.Conv2D(8, 3)(inputs), name="sum"))
    model = randomize(keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x))))
    structure(model, "sum branch").zero([0])
    small = check_laws(model)
    assert len(small.layers) == len(model.layers) - 5
    assert "sum" not in [layer.name for layer in small.layers]


def test_a_dead_branch_at_the_output_leaves_its_name():
    inputs = keras.Input((6, 6, 2))
    model = randomize(keras.Model(inputs, residual(layers.Conv2D(8, 3)(inputs), name="sum")))
    structure(model, "sum branch").zero([0])
    assert len(check_laws(model).layers) == 3


def test_a_dead_branch_frees_what_it_froze():
    inputs = keras.Input((5,))
    x = layers.Dense(8, "relu", name="first")(inputs)
    x = x + layers.Dense(8, name="second")(layers.LayerNormalization(scale=False)(x))
    model = randomize(keras.Model(inputs, layers.Dense(2)(x)))
    zero(model.get_layer("second").kernel, 1, slice(None))
    zero(model.get_layer("second").bias, 0, slice(None))
    zero(model.get_layer("first").kernel, 1, [1, 2])
    small = check_laws(model)
    assert small.get_layer("first").units == 6
    assert "Then:" in str(tt.compact(model, dry_run=True))


def test_a_dead_input_of_a_concatenation_leaves_with_its_layers():
    inputs = keras.Input((5,))
    parts = [layers.Dense(4, "sigmoid", name=name)(inputs) for name in ("a", "b", "c")]
    model = randomize(keras.Model(inputs, layers.Dense(2)(layers.Concatenate()(parts))))
    for dead in ("a", "b"):
        found = structure(model, dead)
        found.zero(np.arange(4))
        joins = [isinstance(layer, layers.Concatenate) for layer in tt.compact(model).layers]
        assert any(joins) == (dead == "a")
    small = check_laws(model)
    assert [layer.name for layer in small.layers][1:-1] == ["c"]


def test_a_dead_chain_keeps_one_channel_and_warns():
    model = sequential(keras.Input((5,)), layers.Dense(6, "relu", name="hidden"), layers.Dense(4))
    structure(model, "hidden").zero(np.arange(6))
    with pytest.warns(UserWarning, match="hidden: every channel is dead; one is kept"):
        small = tt.compact(model)
    assert small.get_layer("hidden").units == 1
    inputs = fresh_inputs(model)
    assert difference(*outputs_of(model, inputs), *outputs_of(small, inputs)) < 1e-4


# Options


def test_widths_are_rounded_up_with_the_largest_dead_members():
    model = sequential(keras.Input((5,)), layers.Dense(32, "relu", name="hidden"), layers.Dense(4))
    zero(model.layers[-1].kernel, 0, np.arange(21))
    zero(model.layers[0].kernel, 1, np.arange(16))
    small = check_laws(model, round_to=8)
    assert small.get_layer("hidden").units == 16
    assert np.count_nonzero(small.get_layer("hidden").kernel.numpy().any(0)) == 16
    assert tt.compact(model, round_to=1).get_layer("hidden").units == 11


def test_inputs_are_not_rounded():
    model = sequential(keras.Input((10,)), layers.Dense(16, "relu", name="hidden"), layers.Dense(4))
    zero(model.layers[0].kernel, 0, [1, 2, 3])
    small = check_laws(model, round_to=8)
    assert small.get_layer("hidden").kernel.shape == (7, 16)


@pytest.mark.parametrize("keep, widths", [((), (3, 4)), ("a", (6, 4)), (["a", "b"], (6, 6)), (["norm"], (6, 4))])
def test_what_is_kept_by_name_stays(keep, widths):
    model = sequential(
        keras.Input((5,)), layers.Dense(6, "relu", name="a"), layers.BatchNormalization(name="norm"),
        layers.Dense(6, "relu", name="b"), layers.Dense(2),
    )  # fmt: skip
    structure(model, "a").zero([0, 1, 2])
    structure(model, "b").zero([0, 1])
    small = check_laws(model, keep=keep)
    assert (small.get_layer("a").units, small.get_layer("b").units) == widths


def test_a_sequential_model_stays_one_where_it_is_and_where_it_is_nested():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(5, "relu", name="b"), layers.Dense(6, "relu")], name="in")
    model = sequential(keras.Input((5,)), layers.Dense(6, "relu", name="a"), inner, layers.Dense(2))
    structure(model, "a").zero([1])
    structure(model, "in/b").zero([0, 2])
    small = check_laws(model)
    assert type(small) is type(small.get_layer("in")) is keras.Sequential
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]


def test_units_leave_through_an_operation_that_reshapes():
    inputs = keras.Input((5,))
    grid = keras.ops.reshape(layers.Dense(6, "relu", name="a")(inputs), (-1, 2, 3))
    model = randomize(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.Dense(4, "relu", name="b")(grid)))))
    structure(model, "a").zero([1])
    small = check_laws(model)
    assert (small.get_layer("a").units, small.get_layer("b").kernel.shape) == (4, (2, 4))


def test_a_dry_run_tells_what_a_run_does():
    model = sequential(keras.Input((5,)), layers.Dense(6, "relu", name="a"), layers.Dense(7, name="b"), layers.Dense(2))
    structure(model, "a").zero([0, 1, 2])
    plan = tt.compact(model, dry_run=True)
    assert ("a", "unit", 6, 3) in plan.widths
    assert str(plan).splitlines()[:2] == ["structure  kind  members  stay", "a          unit        6     3"]
    assert "2 of 3 structures keep all their members." in str(plan)
    assert "the model's output" in str(plan)
    assert "Nothing leaves" in str(tt.compact(tt.compact(model), dry_run=True))


def small_model():
    return sequential(keras.Input((3,)), layers.Dense(4, name="hidden"), layers.Dense(2))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"tolerance": -1e-3}, ValueError, "finite number of at least 0. Received: tolerance=-0.001"),
        ({"tolerance": float("nan")}, ValueError, "Received: tolerance=nan"),
        ({"tolerance": "small"}, TypeError, "Received: tolerance='small'"),
        ({"round_to": 0}, ValueError, "integer of at least 1. Received: round_to=0"),
        ({"round_to": 2.5}, TypeError, "Received: round_to=2.5"),
        ({"round_to": True}, TypeError, "Received: round_to=True"),
        ({"keep": ["hiden"]}, ValueError, "no layer or structure named 'hiden'. Structures: .*hidden"),
        ({"scores": "size"}, ValueError, "one of 'norm', 'random'. Received: scores='size'"),
        ({"scores": 3}, TypeError, "a name or a function of a structure. Received: scores=3"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        tt.compact(small_model(), **options)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value):
    model = small_model()
    model.layers[0].bias.assign([0.0, value, 0.0, 0.0])
    with pytest.raises(ValueError, match="hidden/bias' holds NaN or infinity"):
        tt.compact(model)


class Scaled(layers.Layer):
    """A sum with a branch that one number scales, as in SAGAN and ReZero."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4)
        self.gamma = self.add_weight(shape=(), initializer="ones", name="gamma")

    def call(self, x):
        return x + self.gamma * self.dense(x)


@pytest.mark.parametrize("dead", ["branch", "number"])
def test_a_branch_that_a_number_scales_leaves(dead):
    inputs = keras.Input((3,))
    model = randomize(keras.Model(inputs, layers.Dense(2)(Scaled()(layers.Dense(4)(inputs)))))
    (branch,) = [found for found in tt.structures(model) if found.kind == "branch"]
    if dead == "branch":
        branch.zero([0])
    else:
        next(weight for weight in model.weights if weight.name == "gamma").assign(0.0)
    assert len(check_laws(model).weights) == 4
