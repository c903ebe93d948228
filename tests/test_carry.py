"""What keeps its widths is carried over: a copy with its own functions, ties and class, and variables of its own."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from laws import check_laws, random_members, randomize, zero_members
from small_models import takes_functions_as_regularizers

import tf_terngrad as tt


def shrunk(model):
    """The compact model of one, a third of whose members are zero."""
    zero_members(randomize(model), random_members(1))
    return tt.compact(model)


def check_same(model, small, shape=(6,)):
    x = np.random.default_rng(0).normal(size=(5, *shape)).astype("float32")
    np.testing.assert_allclose(small(x), model(x), rtol=1e-5, atol=1e-6)
    olds = {id(weight) for weight in model.weights}
    assert not olds & {id(weight) for weight in small.weights}


def around(layer):
    first, front = layers.Dense(9, "relu", name="first"), layers.Dense(6, name="front")
    return keras.Sequential([keras.Input((6,)), first, front, layer, layers.Dense(3)])


# Activations that are called like Keras's own, and are not


def gelu(x):
    return 0.5 * x * (1 + ops.tanh(0.7978845608 * (x + 0.044715 * x**3)))


def relu(x):
    return ops.relu(x) ** 2


def sigmoid(x):
    return ops.relu6(x + 3) / 6


@pytest.mark.parametrize("function", [gelu, relu, sigmoid, functools.partial(ops.leaky_relu, negative_slope=0.5)])
@pytest.mark.parametrize("make", [lambda f: layers.Dense(8, activation=f), layers.Activation])
def test_a_function_is_given_over_and_not_its_name(make, function):
    model = around(make(function))
    small = shrunk(model)
    assert small.get_layer("first").units == 6
    check_same(model, small)


def test_cells_keep_their_functions():
    model = keras.Sequential(
        [keras.Input((4, 6)), layers.Dense(6, "relu"), layers.LSTM(5, activation=relu, recurrent_activation=sigmoid)]
    )
    small = shrunk(model)
    assert small.layers[1].cell.activation is relu
    check_same(model, small, (4, 6))


# Lambdas, and layers without a configuration


def helper(x):
    return ops.square(x)


class Stubborn(layers.Layer):
    """Cannot be written down, nor traced."""

    def __init__(self, function, bound):
        super().__init__(name="stubborn")
        self.function, self.bound = function, np.asarray(bound, "float32")
        self.steps = [layers.Dense(6), {"inner": layers.Dense(6)}]

    def build(self, shape):
        self.first = self.add_weight(shape=(6,), initializer="ones", name="first")
        self.state = self.add_weight(shape=(6,), initializer="ones", name="state", trainable=False)
        self.second = self.add_weight(shape=(6,), initializer="ones", name="second")

    def call(self, x):
        x = self.steps[1]["inner"](self.steps[0](self.function(x)))
        return tf.identity_n([tf.minimum(x * self.first + self.second * self.state, self.bound)])[0]


LAYERS = {
    "a Lambda of a global": lambda: layers.Lambda(lambda x: tf.square(x), output_shape=(6,)),
    "a Lambda of a helper": lambda: layers.Lambda(helper),
    "a layer without a configuration": lambda: Stubborn(tf.nn.relu, np.ones(6)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_what_cannot_be_written_down_is_copied(name):
    model = around(LAYERS[name]())
    zero_members(randomize(model), random_members(1))
    small = tt.compact(model)
    check_same(model, small)
    assert [weight.name for weight in small.weights] == [weight.name for weight in model.weights]
    assert [weight.trainable for weight in small.weights] == [weight.trainable for weight in model.weights]


def test_a_copy_trains_apart():
    model = around(Stubborn(tf.nn.relu, np.full(6, 10)))
    small = tt.compact(model)
    before = [weight.numpy() for weight in model.weights]
    small.compile("sgd", "mse")
    small.fit(np.ones((8, 6)), np.ones((8, 3)), verbose=0)
    assert all((old == weight.numpy()).all() for old, weight in zip(before, model.weights, strict=True))
    assert any(np.abs(old - weight.numpy()).max() > 0 for old, weight in zip(before, small.weights, strict=True))
    assert sum(fate.new is not None for fate in tt.fates(small)) == len(model.weights)


def test_a_method_that_was_put_on_a_layer_goes_with_it():
    layer = layers.Dense(6)
    layer.call = lambda inputs: tf.abs(layers.Dense.call(layer, inputs))
    model = around(layer)
    small = shrunk(model)
    check_same(model, small)
    layer.kernel.assign(layer.kernel * 3)
    with pytest.raises(AssertionError):
        check_same(model, small)


# Ties


class TiedHead(layers.Layer):
    def __init__(self, embedding):
        super().__init__()
        self.embedding = embedding

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.embedding.embeddings))

    def get_config(self):
        return {**super().get_config(), "embedding": keras.saving.serialize_keras_object(self.embedding)}


def test_a_tied_head_stays_tied():
    table = layers.Embedding(20, 8)
    ids = keras.Input((5,), dtype="int32")
    x = table(ids)
    x = x + layers.Dense(8)(layers.Dense(16, "relu", name="hidden")(x))
    model = randomize(keras.Model(ids, TiedHead(table)(x)))
    next(found for found in tt.structures(model) if found.name == "hidden").zero([1, 5])
    small = check_laws(model)
    assert small.count_params() == model.count_params() - 2 * 17
    assert sum(weight.name == "embeddings" for weight in small.weights) == 1
    small.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    words = np.random.default_rng(0).integers(0, 20, (32, 5))
    small.fit(words, words, verbose=0)
    head = next(layer for layer in small.layers if isinstance(layer, TiedHead))
    assert head.embedding is next(layer for layer in small.layers if isinstance(layer, layers.Embedding))


# What knows the width


def test_an_activity_regularizer_that_knows_the_width_keeps_it():
    class Orthogonal(keras.regularizers.Regularizer):
        def __call__(self, x):
            square = ops.reshape(x, (-1, 4, 4))
            return ops.sum(ops.square(ops.matmul(square, ops.transpose(square, (0, 2, 1)))))

    square = layers.Dense(16, "relu", activity_regularizer=Orthogonal(), name="square")
    model = keras.Sequential([keras.Input((6,)), layers.Dense(9), square, layers.Dense(3)])
    assert "square: its activity regularizer is made for this width" in str(tt.structures(model))
    small = shrunk(model)
    assert small.get_layer("square").units == 16
    small.compile("sgd", "mse")
    small.fit(np.ones((4, 6)), np.ones((4, 3)), verbose=0)


def test_a_constraint_that_knows_the_width_keeps_it():
    masked = layers.Dense(8, kernel_constraint=Masked(np.ones((6, 8), "float32")), name="masked")
    model = keras.Sequential([keras.Input((6,)), masked, layers.Dense(3)])
    assert "masked: its constraint is made for this width" in str(tt.structures(model))
    small = shrunk(model)
    assert small.get_layer("masked").units == 8
    assert isinstance(small.get_layer("masked").kernel.constraint, Masked)


class Masked(keras.constraints.Constraint):
    def __init__(self, mask):
        self.mask = mask

    def __call__(self, weight):
        return weight * self.mask


def test_what_fits_any_width_goes_with_the_smaller_layer():
    class Half(keras.constraints.Constraint):
        def __call__(self, weight):
            return weight * 0.5

    model = around(layers.Dense(9, kernel_constraint=Half(), name="own"))
    small = shrunk(model)
    assert small.get_layer("own").units == 6
    assert isinstance(small.get_layer("own").kernel.constraint, Half)


def test_what_this_package_put_on_a_layer_leaves_its_copy():
    model = around(Stubborn(tf.nn.relu, np.ones(6)))
    tt.sparsify(model, strength=1e-3)
    small = tt.compact(model)
    assert {weight.constraint for weight in small.weights} == {None}


def test_regularizers_inside_of_this_packages_wrappers_stay():
    class Closed(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = tt.layers.GroupSparse(layers.Dense(6, kernel_regularizer="l2"), 1e-3)

        def call(self, x):
            return tf.identity_n([self.inner(x)])[0]

    small = shrunk(around(Closed()))
    kernel = next(layer for layer in small.layers if isinstance(layer, Closed)).inner.kernel
    assert isinstance(kernel.regularizer, keras.regularizers.L2)


@pytest.mark.parametrize(
    "name",
    [
        *(["kernel_regularizer", "kernel_constraint"] if takes_functions_as_regularizers() else []),
        "kernel_initializer",
    ],
)
def test_functions_serve_as_settings_of_layers_that_shrink(name):
    def own(value, dtype=None):
        return ops.ones(value, dtype) if name == "kernel_initializer" else value

    model = around(layers.Dense(9, name="own", **{name: own}))
    small = shrunk(model).get_layer("own")
    assert small.units == 6 and getattr(small, name) is own


def test_graphs_inside_of_what_is_closed_are_copied_with_their_operations():
    class Closed(layers.Layer):
        def __init__(self):
            super().__init__()
            self.chain = keras.Sequential([keras.Input((6,)), layers.Dense(6, relu), layers.Dense(6)])
            inputs = keras.Input((6,))
            self.graph = keras.Model(inputs, ops.tanh(layers.Dense(6)(inputs)) + inputs)

        def call(self, x):
            return tf.identity_n([self.graph(self.chain(x))])[0]

    model = around(Closed())
    small = shrunk(model)
    assert small.get_layer("first").units == 6
    check_same(model, small)
