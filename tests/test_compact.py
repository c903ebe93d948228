"""Compaction keeps the laws: on graphs that are hard, and with a user's own regularizers."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from hard_graphs import MODELS
from keras import layers, ops
from laws import (
    check_laws,
    check_widths,
    fresh_inputs,
    outputs_of,
    random_members,
    randomize,
    sequential,
    shapes,
    zero,
    zero_members,
)

import tf_terngrad as tt

# Graphs that are hard


@pytest.mark.parametrize("name", MODELS)
def test_hard_graphs(name):
    check_widths(tt.compact(randomize(keras.Model(*MODELS[name]()))), random_members(3))


@pytest.mark.filterwarnings("ignore:.*every channel is dead")
@pytest.mark.parametrize("name", MODELS)
def test_hard_graphs_with_one_member_left(name):
    model = randomize(keras.Model(*MODELS[name]()))
    zero_members(model, lambda found: np.arange(found.size - 1))
    check_laws(model, must_vary=False)


@pytest.mark.filterwarnings("ignore:.*every channel is dead")
@pytest.mark.parametrize("name", MODELS)
def test_hard_graphs_with_every_member_dead(name):
    model = randomize(keras.Model(*MODELS[name]()))
    zero_members(model, lambda found: np.arange(found.size))
    check_laws(model, must_vary=False)


@pytest.mark.filterwarnings("ignore:.*every channel is dead")
@pytest.mark.parametrize("dead", [["first"], ["hidden"], ["first", "hidden"]], ids="-".join)
@pytest.mark.parametrize(
    "views",
    [
        (layers.GlobalAveragePooling2D(), layers.GlobalMaxPooling2D()),
        (layers.Flatten(), layers.GlobalMaxPooling2D(), layers.GlobalAveragePooling2D()),
    ],
    ids=len,
)
def test_a_dead_layer_may_reach_one_reader_twice(views, dead):
    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, name="first")(image)
    hidden = layers.Dense(5, "gelu", name="hidden")(layers.concatenate([view(x) for view in views]))
    model = randomize(keras.Model(image, layers.Dense(2)(hidden)))
    zero_members(model, lambda found: np.arange(found.size if found.name in dead else 0))
    small = check_laws(model, must_vary=False)
    widths = {layer.name: layer.kernel.shape[-1] for layer in small.layers if layer.name in ("first", "hidden")}
    assert all(widths[name] == 1 for name in dead)


# What is zero in what stays


def test_a_term_that_is_zero_in_what_stays_leaves_at_once():
    inputs = keras.Input((5,))
    table = layers.Dense(4, name="table")(inputs)
    total = layers.Dense(4, "relu", name="front")(inputs) + table
    model = randomize(keras.Model(inputs, layers.Dense(2, name="head")(total)))
    zero(model.get_layer("head").kernel, 0, [3])
    for weight in model.get_layer("table").weights:
        zero(weight, -1, [0, 1, 2])
    small = check_laws(model)
    assert "table" not in [layer.name for layer in small.layers]
    assert small.get_layer("front").units == 3


def test_what_is_zero_in_the_dimensions_that_stay_leaves_too():
    inputs = keras.Input((5,))
    heads = layers.EinsumDense("bd,dhk->bhk", (3, 4), bias_axes="hk", name="heads")(inputs)
    joined = layers.EinsumDense("bhk,hkd->bd", (6,), bias_axes="d", name="joined")(heads)
    model = randomize(keras.Model(inputs, layers.Dense(2)(layers.Activation("relu")(joined))))
    zero(model.get_layer("joined").kernel, 1, [1, 3])
    for weight in model.get_layer("heads").weights:
        array = weight.numpy()
        array[..., 2, [0, 2]] = 0
        weight.assign(array)
    small = check_laws(model)
    assert small.get_layer("heads").kernel.shape == (5, 2, 2)


# What nobody reads


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
    keras.backend.clear_session(free_memory=False)  # names start anew, as where a saved model is loaded
    zero(small.layers[-2].kernel, 0, [0])
    smaller = check_laws(small)
    assert shapes(smaller)[0] == (4, 6)
    assert len(smaller.layers) == len(small.layers)


def test_pixels_that_nobody_reads_leave_behind_the_flatten():
    inputs, other = keras.Input((3, 4, 2), name="image"), keras.Input((3, 4, 2), name="other")
    flatten = layers.Flatten("channels_first", name="flat")
    towers = [layers.Dense(4, "relu", name=name)(flatten(x)) for name, x in (("a", inputs), ("b", other))]
    towers.append(layers.Dense(4, "relu", name="c")(layers.Flatten(name="again")(inputs)))
    model = randomize(keras.Model([inputs, other], layers.Dense(2)(layers.Add()(towers))))
    assert {s.name for s in tt.structures(model) if s.kind == "input"} == {"flat", "again"}
    for name in "abc":
        zero(model.get_layer(name).kernel, 0, [0, 7, 20])
    small = check_laws(model)
    assert small.input_shape == [(None, 3, 4, 2)] * 2
    # one gather for each Flatten layer: of the two towers behind the shared one, only the first can lose pixels
    assert sorted(small.get_layer(name).kernel.shape[0] for name in "ab") == [21, 24]
    assert small.get_layer("c").kernel.shape[0] == 21
    zero(small.get_layer("c").kernel, 0, range(20))
    assert check_laws(small).get_layer("c").kernel.shape[0] == 1


def test_two_gathers_and_a_reader_of_everything():
    inputs = keras.Input((8,))
    x = ops.take(inputs, [0, 3, 3, 5], axis=1)
    model = randomize(keras.Model(inputs, layers.Dense(2)(ops.concatenate([x, layers.Dense(4)(inputs)], axis=1))))
    dense = model.get_layer("dense_1" if "dense_1" in [layer.name for layer in model.layers] else "dense")
    zero(next(w for w in model.weights if tuple(w.shape) == (8, 4)), 0, [1, 3, 6])
    zero(next(w for w in model.weights if tuple(w.shape) == (8, 2)), 0, [0])
    check_laws(model)
    assert dense in model.layers


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
        [sys.executable, "-P", "-c", program, str(tmp_path)], cwd=tmp_path, env={"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert sorted(result.stdout.split()) == sorted(names)


# What the user put on a weight


@keras.saving.register_keras_serializable("test_compact")
class RowLasso(tt.regularizers.StructuredRegularizer):
    """A user's own regularizer on the public base."""

    def __call__(self, weights):
        return keras.ops.sum(keras.ops.sqrt(keras.ops.sum(keras.ops.square(weights), -1) + 1e-8))

    def attached(self, layer, variable):
        return self

    def get_config(self):
        return {}


L1, L2, OURS = keras.regularizers.L1(0.25), keras.regularizers.L2(0.5), tt.regularizers.FilterLasso(1e-3)


@pytest.mark.parametrize(
    "given, left",
    [
        (OURS, None),
        (OURS + tt.regularizers.ShapeLasso(1e-3), None),
        (L2, L2),
        (OURS + L2, L2),
        (L1 + (OURS + L2), keras.regularizers.L1L2(0.25, 0.5)),
        (L2 + OURS + L2, keras.regularizers.L1L2(0.0, 1.0)),
        (RowLasso(), RowLasso()),
        (OURS + RowLasso(), RowLasso()),
        (RowLasso() + OURS + L2, L2 + RowLasso()),
    ],
)
@pytest.mark.parametrize("holder", ["layer", "cell", "wrapper"])
def test_a_users_own_regularizers_stay_and_this_packages_leave(given, left, holder):
    hidden = {
        "layer": lambda: layers.Dense(4, kernel_regularizer=given),
        "cell": lambda: layers.RNN(layers.GRUCell(4, kernel_regularizer=given), return_sequences=True),
        "wrapper": lambda: layers.TimeDistributed(layers.Dense(4, kernel_regularizer=given)),
    }[holder]()
    small = tt.compact(keras.Sequential([keras.Input((3, 5)), hidden, layers.Dense(2)])).layers[0]
    found = getattr(getattr(small, "cell", small), "layer", getattr(small, "cell", small)).kernel_regularizer
    assert keras.regularizers.serialize(found) == keras.regularizers.serialize(left)


def test_layers_made_again_have_their_own_initializers():
    model = sequential(keras.Input((5,)), layers.Dense(6, kernel_initializer="he_normal"), layers.Dense(2))
    hidden = tt.compact(model).layers[0]
    assert isinstance(hidden.kernel_initializer, keras.initializers.HeNormal)
    assert "add_weight" not in vars(hidden)


def test_what_is_done_to_the_compact_model_does_not_reach_the_model():
    model = sequential(keras.Input((5,)), layers.Dense(6, "relu"), layers.Dense(2))
    before = [weight.numpy() for weight in model.weights]
    small = tt.compact(model)
    for weight in small.weights:
        weight.value.assign_add(weight.value)
    for found in tt.structures(small):
        found.zero([0])
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)
