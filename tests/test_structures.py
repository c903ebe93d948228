"""Structures of models as they come: types, policies, unknown layers, and what is no graph at all."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hard_graphs import MODELS
from hypothesis import given
from hypothesis import strategies as st
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
    structure,
    zero_members,
)

import tf_terngrad as tt
from tf_terngrad.sparsity.structure import Slice

# What else a model is


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        model = randomize(keras.Model(*MODELS["residual_with_projection"]()))
        small = check_widths(model, random_members(0))
        assert [layer.dtype_policy.name for layer in small.layers] == [
            layer.dtype_policy.name for layer in model.layers
        ]
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
        return tf.identity_n([x])[0] * self.scale


class OwnModel(keras.Model):
    """A model with a call of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(8)

    def call(self, x):
        return tf.identity_n([self.dense(x)])[0]


@pytest.mark.parametrize(
    "make", [OwnLayer, OwnModel, lambda: layers.Lambda(lambda x: 2 * tf.identity_n([x])[0], output_shape=(8,))]
)
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


def test_a_layer_that_cannot_be_made_smaller_is_named():
    class Stubborn(layers.Dense):
        def __init__(self, units):
            super().__init__(units, name="stubborn")

    tt.register_rule(Stubborn, tt.rules.Dense())
    model = keras.Sequential([keras.Input((5,)), Stubborn(4), layers.Dense(2)])
    zero_members(model, lambda structure: [0])
    with pytest.raises(ValueError, match=r"'stubborn' \(Stubborn\) cannot be made again"):
        tt.compact(model)


@given(st.data())
def test_zero_reaches_the_slices_of_the_members_and_nothing_else(data):
    shape = data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=4))
    axis = data.draw(st.integers(0, len(shape) - 1))
    dtype = data.draw(st.sampled_from(["float32", "float16", "bfloat16"]))
    variable = keras.Variable(np.ones(shape), dtype=dtype)
    indices = np.random.default_rng(0).permutation(shape[axis])[: shape[axis] // 2 * 2].reshape(-1, 2)
    Slice(variable, axis, indices, "layer", "kernel").zero([0])
    expected = np.ones(shape)
    np.moveaxis(expected, axis, 0)[indices[0]] = 0
    np.testing.assert_array_equal(np.asarray(variable.numpy(), np.float32), expected)


def test_zeroing_what_one_of_many_readers_reads_does_not_write_it_whole(monkeypatch):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(6, name="hidden"), layers.Dense(2)])
    reader, written = model.layers[1].kernel, []
    monkeypatch.setattr(reader, "assign", lambda value: written.append(value))
    found = structure(model, "hidden")
    found.zero([1])
    assert not written
    assert found.norms()[1] == 0


# Bad input


def unbuilt():
    return keras.Sequential([layers.Dense(3)])


class WithoutCall(keras.Model):
    """Its `train_step` calls the parts, as those of GANs and VAEs do."""

    def __init__(self, part):
        super().__init__()
        self.part = part


class OwnFunctional(keras.Model):
    """Built as a graph, but called in its own way."""

    def __init__(self):
        inputs = keras.Input((3,))
        super().__init__(inputs, layers.Dense(2)(inputs))

    def call(self, x):
        return 2 * tf.identity_n([super().call(x)])[0]


@pytest.mark.parametrize("function", [tt.structures, tt.compact])
@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: layers.Dense(3), TypeError, "Expected a Keras model. Received: <Dense"),
        (lambda: None, TypeError, "Received: None"),
        (unbuilt, ValueError, r"is not built.*keras\.Input"),
        (lambda: WithoutCall(layers.Dense(3)), ValueError, r"\(WithoutCall\) that has no `call`.*it holds none"),
        (lambda: WithoutCall(keras.Sequential()), ValueError, r"Give the models that it holds, each by itself: part\."),
        (OwnModel, ValueError, r"subclass \(OwnModel\), and it is not known on what it is called"),
        (OwnFunctional, ValueError, r"subclass \(OwnFunctional\) whose call cannot be followed"),
    ],
)
def test_what_is_not_a_built_graph_is_refused(function, make, error, message):
    with pytest.raises(error, match=message):
        function(make())


def test_a_subclass_that_is_a_graph_and_nothing_else_is_welcome():
    class Named(keras.Model):
        def __init__(self):
            inputs = keras.Input((3,))
            super().__init__(inputs, layers.Dense(2)(layers.Dense(4, "relu")(inputs)))

    model = Named()
    zero_members(model, random_members(0))
    assert type(tt.compact(model)).__name__ == "Functional"


def test_a_structure_knows_its_slices_and_prints_itself():
    model = sequential(
        keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm"),
        layers.MaxPooling2D(3), layers.Flatten(), layers.Dense(5, name="dense"),
    )  # fmt: skip
    found = structure(model, "conv")
    assert (found.kind, found.size, found.layers) == ("filter", 4, ("conv", "norm", "dense"))
    assert str(found) == "conv: 4 filters — conv: kernel[:, :, :, i], bias; norm: gamma, beta; dense: kernel[4i, :]"
    kernel, bias, dense = model.layers[0].kernel.numpy(), model.layers[0].bias.numpy(), model.layers[-1].kernel.numpy()
    parts = [(kernel**2).sum((0, 1, 2)), bias**2, model.layers[1].gamma.numpy() ** 2, model.layers[1].beta.numpy() ** 2]
    parts.append((dense.reshape(4, 4, 5) ** 2).sum((0, 2)))
    np.testing.assert_allclose(found.norms(), np.sqrt(sum(parts)), rtol=1e-5)
    found.zero([1, 3])
    assert (found.norms() == 0).tolist() == [False, True, False, True]
    found.zero(np.array([True, False, False, False]))
    assert (found.norms() == 0).tolist() == [True, True, False, True]
    statistics = [piece for piece in found.slices if piece.role == "statistic"]
    assert len(statistics) == 2 and all((piece.variable.numpy() != 0).all() for piece in statistics)


@pytest.mark.parametrize("members", [[4], [-1], [True, False]])
def test_there_is_no_such_member(members):
    model = sequential(keras.Input((3,)), layers.Dense(4, name="hidden"), layers.Dense(2))
    with pytest.raises(IndexError, match="hidden: expected"):
        structure(model, "hidden").zero(np.array(members))


@pytest.mark.parametrize("members", [0.7, [1.0], ["1"]])
def test_members_are_integers(members):
    model = sequential(keras.Input((3,)), layers.Dense(4, name="hidden"), layers.Dense(2))
    with pytest.raises(TypeError, match="hidden: expected integers or a Boolean mask"):
        structure(model, "hidden").zero(members)


def test_long_lists_are_told_in_short():
    inputs = keras.Input((4,))
    x = layers.Dense(6, name="stem")(inputs)
    for i in range(8):
        x = layers.Add(name=f"add{i}")(
            [x, layers.Dense(6, name=f"dense{i}")(layers.LayerNormalization(scale=False, name=f"n{i}")(x))]
        )
    found = tt.structures(keras.Model(inputs, layers.Dense(2)(x)))
    (frozen,) = [entry for entry in found.frozen if entry.name == "stem"]
    assert (
        str(frozen)
        == "stem: 6 frozen — n0, n1, n2, and 5 more layers: no stock layers compute it for a part of its width"
    )
    assert len(frozen.reasons) == 8


def test_channels_first_is_followed():
    options = {"data_format": "channels_first", "padding": "same"}
    inputs = keras.Input((3, 8, 8))
    x = layers.Conv2D(8, 3, name="a", **options)(inputs)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.Concatenate(axis=1)([x, layers.Conv2D(4, 3, name="b", **options)(layers.PReLU(shared_axes=[2, 3])(x))])
    x = layers.MaxPooling2D(2, data_format="channels_first")(layers.DepthwiseConv2D(3, **options)(x))
    x = layers.Flatten(data_format="channels_first")(layers.SpatialDropout2D(0.1, data_format="channels_first")(x))
    model = randomize(keras.Model(inputs, layers.Dense(2, name="out")(x)))
    assert [(found.name, found.size) for found in tt.structures(model)] == [("a", 8), ("b", 4)]
    structure(model, "a").zero([0, 1, 5])
    structure(model, "b").zero([2])
    small = tt.compact(model)
    assert tuple(small.get_layer("out").kernel.shape) == (16 * (5 + 3), 2)
    kept = np.array([2, 3, 4, 6, 7, 8, 9, 11])
    rows = model.get_layer("out").kernel.numpy().reshape(16, 12, 2)[:, kept].reshape(-1, 2)
    np.testing.assert_array_equal(small.get_layer("out").kernel.numpy(), rows)


def test_channels_first_numbers_where_the_processor_runs_them():
    inputs = keras.Input((6, 5, 5))
    x = layers.Permute((2, 3, 1))(inputs)
    x = layers.Permute((3, 1, 2))(layers.Conv2D(8, 3, activation="sigmoid")(x))
    x = layers.ZeroPadding2D(1, data_format="channels_first")(layers.BatchNormalization(axis=1)(x))
    x = layers.Concatenate(axis=1)([x, layers.GroupNormalization(4, axis=1)(x)])
    x = layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    check_widths(randomize(keras.Model(inputs, layers.Dense(2)(x))), random_members(0))
