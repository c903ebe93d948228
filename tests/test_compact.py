"""Compaction keeps the laws: on random graphs, on graphs that are hard, and on bad input."""

import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from graphs import (
    check_laws, check_widths, difference, fresh_inputs, grow, outputs_of, random_members, randomize, shapes, varies,
    zero_members,
)  # fmt: skip
from hard_graphs import MODELS
from keras import layers, ops

import tf_terngrad as tt

RANDOM = st.randoms(use_true_random=False)


def sequential(*parts, seed=0):
    return randomize(keras.Sequential([*parts]), seed)


def zero(weight, axis, indices):
    array = np.array(weight.numpy())
    np.moveaxis(array, axis, 0)[indices] = 0
    weight.assign(array)


def structure(model, name):
    return next(found for found in tt.structures(model) if found.name == name)


# The laws, on any graph


@pytest.mark.filterwarnings("ignore:.*every channel is dead")
@hypothesis.given(RANDOM, st.integers(0, 99))
@hypothesis.settings(max_examples=30)
def test_zeroed_members_leave_and_nothing_else(choices, seed):
    model = tt.compact(grow(choices))
    hypothesis.assume(all(map(varies, outputs_of(model, fresh_inputs(model, seed=1)))))
    found = [found for found in tt.structures(model) if found.kind != "branch"]
    hypothesis.assume(found)
    check_widths(model, random_members(seed))


@pytest.mark.filterwarnings("ignore:.*every channel is dead")
@hypothesis.given(RANDOM, st.integers(0, 99))
@hypothesis.settings(max_examples=30)
def test_any_zeros_leave_the_outputs_alone(choices, seed):
    model, rng = grow(choices), np.random.default_rng(seed)
    for weight in model.weights:
        if rng.random() < 0.5 and len(weight.shape) > 1:
            axis = int(rng.integers(-2, 0))
            zero(weight, axis, rng.random(weight.shape[axis]) < 0.5)
    zero_members(model, random_members(seed, fraction=0.2))
    check_laws(model, must_vary=False)


@pytest.mark.parametrize("name", MODELS)
def test_hard_graphs(name):
    check_widths(tt.compact(randomize(keras.Model(*MODELS[name]()))), random_members(3))


@pytest.mark.filterwarnings("ignore:.*every channel is dead")
@pytest.mark.parametrize("name", MODELS)
def test_hard_graphs_with_one_member_left(name):
    model = randomize(keras.Model(*MODELS[name]()))
    zero_members(model, lambda found: np.arange(found.size - 1))
    check_laws(model, must_vary=False)


# Constants


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


def test_what_nobody_reads_leaves():
    model = sequential(keras.Input((5,)), layers.Dense(6, "sigmoid"), layers.BatchNormalization(), layers.Dense(4))
    zero(model.layers[-1].kernel, 0, [0, 3, 4])
    assert check_laws(model).layers[0].units == 3


def test_what_only_dead_channels_read_leaves_too():
    model = sequential(keras.Input((5,)), *(layers.Dense(6, "relu", name=name) for name in "abc"), layers.Dense(2))
    zero(model.get_layer("c").kernel, 1, [0, 1, 2])
    for row in (model.get_layer("c").kernel,):
        array = row.numpy()
        array[:3, 3:] = 0
        row.assign(array)
    small = check_laws(model)
    assert [small.get_layer(name).units for name in "abc"] == [6, 3, 3]


def test_tolerance_takes_small_weights_for_zero():
    model = sequential(keras.Input((5,)), layers.Dense(6, "relu"), layers.Dense(4))
    kernel = model.layers[0].kernel.numpy()
    kernel[:, :2] = 1e-6
    model.layers[0].kernel.assign(kernel)
    assert tt.compact(model).layers[0].units == 6
    assert check_laws(model, tolerance=1e-5).layers[0].units == 4


def test_features_that_nobody_reads_leave_by_a_gather_in_front():
    model = sequential(keras.Input((8,)), layers.Dense(6, "relu"), layers.Dense(2))
    zero(model.layers[0].kernel, 0, [1, 2, 5])
    small = check_laws(model)
    assert small.input_shape == (None, 8)
    assert shapes(small)[0] == (5, 6)
    keras.backend.clear_session()  # names start anew, as where a saved model is loaded
    zero(small.layers[-2].kernel, 0, [0])
    smaller = check_laws(small)
    assert shapes(smaller)[0] == (4, 6)
    assert len(smaller.layers) == len(small.layers)


def test_two_gathers_and_a_reader_of_everything():
    inputs = keras.Input((8,))
    x = ops.take(inputs, [0, 3, 3, 5], axis=1)
    model = randomize(keras.Model(inputs, layers.Dense(2)(ops.concatenate([x, layers.Dense(4)(inputs)], axis=1))))
    dense = model.get_layer("dense_1" if "dense_1" in [layer.name for layer in model.layers] else "dense")
    zero(next(w for w in model.weights if tuple(w.shape) == (8, 4)), 0, [1, 3, 6])
    zero(next(w for w in model.weights if tuple(w.shape) == (8, 2)), 0, [0])
    check_laws(model)
    assert dense in model.layers


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
    x = x + layers.Dense(8, name="second")(layers.LayerNormalization()(x))
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
        assert "Concatenate" in str([type(layer).__name__ for layer in tt.compact(model).layers]) or dead == "b"
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


def test_a_dry_run_tells_what_a_run_does():
    model = sequential(keras.Input((5,)), layers.Dense(6, "relu", name="a"), layers.Dense(7, name="b"), layers.Dense(2))
    structure(model, "a").zero([0, 1, 2])
    plan = tt.compact(model, dry_run=True)
    assert ("a", "unit", 6, 3) in plan.widths
    assert "a      6 -> 3     unit" in str(plan)
    assert "2 of 3 structures keep all their members." in str(plan)
    assert "the model's output" in str(plan)
    assert "Nothing leaves" in str(tt.compact(tt.compact(model), dry_run=True))


# What else a model is


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        model = randomize(keras.Model(*MODELS["residual_with_projection"]()))
        small = check_widths(model, random_members(0))
        assert [layer.dtype_policy.name for layer in small.layers] == [layer.dtype_policy.name for layer in model.layers]
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


def test_layers_of_several_types():
    inputs = keras.Input((8,), dtype="float64")
    x = layers.Dense(8, "sigmoid", dtype="float64")(inputs)
    x = layers.Dense(8, "relu", dtype="mixed_float16")(ops.cast(x, "float32"))
    check_widths(randomize(keras.Model(inputs, layers.Dense(2, dtype="float32")(x))), random_members(0))


def test_what_does_not_train_stays_so():
    model = sequential(keras.Input((5,)), layers.Dense(6, "relu"), layers.BatchNormalization(), layers.Dense(2))
    model.layers[0].trainable = False
    structure(model, model.layers[0].name).zero([1])
    assert [layer.trainable for layer in tt.compact(model).layers] == [False, True, True]
    model.trainable = False
    assert not tt.compact(model).trainable_weights


def test_regularizers_of_this_package_leave_and_those_of_keras_stay():
    model = sequential(
        keras.Input((5,)), layers.Dense(6, kernel_regularizer=tt.regularizers.FilterLasso(1e-3)),
        layers.Dense(6, kernel_regularizer=keras.regularizers.L2(1e-3)), layers.Dense(2),
    )  # fmt: skip
    small = check_laws(model)
    assert small.layers[0].kernel_regularizer is None
    assert isinstance(small.layers[1].kernel_regularizer, keras.regularizers.L2)


class OwnLayer(layers.Layer):
    """Keeps its input's width."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return x * self.scale


class OwnModel(keras.Model):
    """A model with a call of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(8)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize("make", [OwnLayer, OwnModel, lambda: layers.Lambda(lambda x: 2 * x)])
def test_unknown_layers_freeze_what_touches_them_and_say_so(make):
    inputs = keras.Input((5,))
    unknown = make()
    x = unknown(layers.Dense(8, "relu", name="before")(inputs))
    model = randomize(keras.Model(inputs, layers.Dense(2)(layers.Dense(8, "relu", name="after")(x))))
    found = tt.structures(model)
    assert {entry.name for entry in found} == {"after", model.inputs[0]._keras_history.operation.name}
    assert f"({type(unknown).__name__})" in str(found)
    assert any(entry.name == "before" and entry.size == 8 for entry in found.frozen)
    zero_members(model, random_members(0))
    small = tt.compact(model)
    inputs = fresh_inputs(model)
    assert difference(*outputs_of(model, inputs), *outputs_of(small, inputs)) < 1e-4
    assert small.get_layer("after").units == 6


def test_a_weight_that_an_unknown_layer_shares_stays():
    inputs, shared = keras.Input((5,)), layers.Dense(8, "relu", name="shared")
    x = layers.Concatenate()([shared(inputs), layers.SpectralNormalization(shared)(inputs)])
    found = tt.structures(keras.Model(inputs, layers.Dense(2)(x)))
    assert "shares this weight" in str(found)


def test_a_layer_that_cannot_be_made_again_is_named():
    class Stubborn(layers.Layer):
        def __init__(self, function):
            super().__init__(name="stubborn")
            self.function = function

        def call(self, x):
            return self.function(x)

    model = keras.Sequential([keras.Input((5,)), Stubborn(ops.relu), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"'stubborn' \(Stubborn\) cannot be made again"):
        tt.compact(model)


def test_compact_models_load_where_this_package_is_not_installed(tmp_path):
    names = ["residual_sums_of_sums", "u_net", "siamese", "channel_shuffle", "wrapped", "wrapped_inside", "einsums",
             "time_distributed", "nested_with_many_ports", "slices_of_slices", "lists_of_numbers"]  # fmt: skip
    for name in names:
        model = randomize(keras.Model(*MODELS[name]()))
        zero_members(model, random_members(1))
        small = tt.compact(model)
        inputs = fresh_inputs(small)
        small.save(tmp_path / f"{name}.keras")
        flat = {f"x{i}": x for i, x in enumerate(keras.tree.flatten(inputs))}
        flat |= {f"y{i}": y for i, y in enumerate(outputs_of(small, inputs))}
        np.savez(tmp_path / f"{name}.npz", **flat)
    program = """
import pathlib, sys, keras, numpy as np
assert not any(pathlib.Path(p, "tf_terngrad").exists() for p in sys.path)
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.keras")):
    model, data = keras.models.load_model(path), np.load(path.with_suffix(".npz"))
    functional = getattr(model, "_functional", None) or model
    given = keras.tree.pack_sequence_as(functional._inputs_struct, [data[k] for k in data if k[0] == "x"])
    for got, expected in zip(keras.tree.flatten(model(given, training=False)), [data[k] for k in data if k[0] == "y"]):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    print(path.stem)
"""
    result = subprocess.run(
        [sys.executable, "-P", "-c", program, str(tmp_path)], cwd=tmp_path, env={"PATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert sorted(result.stdout.split()) == sorted(names)


# Bad input


def unbuilt():
    return keras.Sequential([layers.Dense(3)])


class OwnFunctional(keras.Model):
    """Built as a graph, but called in its own way."""

    def __init__(self):
        inputs = keras.Input((3,))
        super().__init__(inputs, layers.Dense(2)(inputs))

    def call(self, x):
        return 2 * super().call(x)


@pytest.mark.parametrize("function", [tt.structures, tt.compact])
@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: layers.Dense(3), TypeError, "Expected a Keras model. Received: <Dense"),
        (lambda: None, TypeError, "Received: None"),
        (unbuilt, ValueError, r"is not built.*keras\.Input"),
        (OwnModel, ValueError, r"subclass \(OwnModel\) with a call\(\) of its own"),
        (OwnFunctional, ValueError, r"subclass \(OwnFunctional\) with a call\(\) of its own"),
    ],
)
def test_what_is_not_a_built_graph_is_refused(function, make, error, message):
    with pytest.raises(error, match=message):
        function(make())


def small_model():
    return sequential(keras.Input((3,)), layers.Dense(4, name="hidden"), layers.Dense(2))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"tolerance": -1e-3}, "tolerance of at least 0. Received: tolerance=-0.001"),
        ({"tolerance": float("nan")}, "Received: tolerance=nan"),
        ({"tolerance": "small"}, "Received: tolerance='small'"),
        ({"round_to": 0}, "integer of at least 1. Received: round_to=0"),
        ({"round_to": 2.5}, "Received: round_to=2.5"),
        ({"keep": ["hiden"]}, "no layer or structure named 'hiden'. Structures: .*hidden"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tt.compact(small_model(), **options)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value):
    model = small_model()
    model.layers[0].bias.assign([0.0, value, 0.0, 0.0])
    with pytest.raises(ValueError, match="hidden/bias' holds NaN or infinity"):
        tt.compact(model)


def test_a_subclass_that_is_a_graph_and_nothing_else_is_welcome():
    class Named(keras.Model):
        def __init__(self):
            inputs = keras.Input((3,))
            super().__init__(inputs, layers.Dense(2)(layers.Dense(4, "relu")(inputs)))

    model = Named()
    zero_members(model, random_members(0))
    assert type(tt.compact(model)).__name__ == "Functional"
