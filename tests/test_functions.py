"""Functions as activations: traced, or shown by numbers, to act on each element by itself; what mixes is told apart."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops
from laws import check_laws, random_members, randomize, sequential, structure, zero, zero_members

import tf_terngrad as tt
from tf_terngrad.sparsity.rules.activation import apply_activation, why_not_elementwise
from tf_terngrad.sparsity.rules.functions import verdict


@keras.saving.register_keras_serializable("functions")
def mish_by_hand(x):
    return x * ops.tanh(ops.softplus(x))


@keras.saving.register_keras_serializable("functions")
def hard_swish_of_tensorflow(x):
    return x * tf.nn.relu6(x + 3.0) / 6.0


@tf.function
def compiled(x):
    return tf.where(x > 0, x, 0.1 * x)


class Scaled:
    """A function that is an object."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, x):
        return self.scale * ops.tanh(x)

    def method(self, x):
        return self.scale * tf.tanh(x)


TRACED = {
    "relu": keras.activations.relu,
    "operation": ops.relu,
    "gelu": lambda x: keras.activations.gelu(x, approximate=True),
    "by hand": mish_by_hand,
    "partial": functools.partial(keras.activations.leaky_relu, negative_slope=0.1),
    "object": Scaled(2.0),
    "masked": lambda x: ops.where(x > 0, x, ops.zeros_like(x)),
    "layer inside": lambda x: layers.LeakyReLU()(ops.clip(x, -1, 5)) + 0.5,
    "nothing": lambda x: x,
    "of tf.keras": tf.keras.activations.swish,
}
TRIED = {
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "swish": tf.nn.swish,
    "gelu": tf.nn.gelu,
    "gelu, tanh form": functools.partial(tf.nn.gelu, approximate=True),
    "elu": tf.nn.elu,
    "selu": tf.nn.selu,
    "softplus": tf.nn.softplus,
    "tanh": tf.nn.tanh,
    "sigmoid": tf.math.sigmoid,
    "square": lambda x: tf.square(tf.nn.relu(x)),
    "both": lambda x: tf.nn.relu(ops.tanh(x)),
    "by hand": hard_swish_of_tensorflow,
    "compiled": compiled,
    "method": Scaled(0.5).method,
    "numpy": lambda x: tf.convert_to_tensor(np.sin(np.clip(x, -9, 9))),
}
COUNTED = []
MIXING = {
    "softmax": (keras.activations.softmax, "runs across channels"),
    "softmax of operations": (ops.softmax, "runs across channels"),
    "softmax of TensorFlow": (tf.nn.softmax, "runs across elements, as numbers show"),
    "log_softmax": (tf.nn.log_softmax, "runs across elements"),
    "softmax over steps": (lambda x: ops.softmax(x, axis=1), "runs across channels"),
    "centred": (lambda x: x - ops.mean(x, axis=-1, keepdims=True), "it calls Mean"),
    "centred by TensorFlow": (lambda x: x - tf.reduce_mean(x, axis=-1, keepdims=True), "runs across elements"),
    "over the batch": (lambda x: x / (1 + tf.reduce_max(tf.abs(x), axis=0)), "runs across elements"),
    "over steps": (lambda x: x - tf.roll(x, 1, axis=1), "runs across elements"),
    "a little": (lambda x: tf.nn.relu(x) + 1e-6 * tf.reduce_sum(x), "runs across elements"),
    "sorted": (lambda x: tf.sort(x, axis=-1), "numbers show"),
    "width": (lambda x: x / x.shape[-1], "depends on the shape of its input"),
    "width in TensorFlow": (lambda x: tf.nn.relu(x) / x.shape[-1], "depends on the place"),
    "place": (lambda x: x + tf.range(tf.shape(x)[-1], dtype="float32"), "depends on the place"),
    "an array": (lambda x: x * np.ones(5, "float32"), "takes tensors of some shapes only"),
    "random": (lambda x: x + tf.random.normal(tf.shape(x)), "gives other numbers when it is called again"),
    "calls": (lambda x: tf.nn.relu(x) + len(COUNTED.append(1) or COUNTED), "gives other numbers"),
    "wider": (lambda x: tf.concat([x, x], -1), "another shape or type"),
    "narrower": (lambda x: tf.reduce_mean(x, -1), "another shape or type"),
    "whole numbers": (lambda x: tf.cast(x, "int32"), "another shape or type"),
    "no function of a tensor": (lambda: 3, "could be neither traced nor tried (TypeError)"),
}


@pytest.mark.parametrize("name", TRACED)
def test_what_calls_operations_is_traced(name):
    assert (verdict(TRACED[name]).reason, verdict(TRACED[name]).by_numbers) == (None, False)


@pytest.mark.parametrize("name", TRIED)
def test_what_cannot_be_traced_is_shown_by_numbers(name):
    assert (verdict(TRIED[name]).reason, verdict(TRIED[name]).by_numbers) == (None, True)


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_is_told_apart(name):
    function, reason = MIXING[name]
    assert reason in why_not_elementwise(function)


@pytest.mark.parametrize("function", [*TRACED.values(), *TRIED.values()])
def test_constants_are_what_the_function_gives(function):
    values = np.array([-3.0, -0.25, np.nan, 0.0, 2.0])
    found = apply_activation(function, values)
    assert np.isnan(found[2])
    expected = np.asarray(function(tf.constant(values[[0, 1, 3, 4]][:, None], "float32")))[:, 0]
    np.testing.assert_allclose(found[[0, 1, 3, 4]], expected, rtol=1e-6, atol=1e-7)


REDUCTIONS = [
    tf.reduce_mean,
    tf.reduce_sum,
    tf.reduce_max,
    tf.reduce_min,
    tf.math.reduce_euclidean_norm,
    tf.reduce_logsumexp,
]
ELEMENTWISE = [tf.identity, tf.nn.relu, tf.tanh, tf.nn.gelu, tf.abs, tf.sin]


@given(st.sampled_from(ELEMENTWISE), st.sampled_from(REDUCTIONS), st.sampled_from([0, 1, -1, (0, 1), None]), st.data())
@settings(max_examples=30, deadline=None)
def test_a_share_of_any_reduction_is_seen(function, reduction, axis, data):
    share = 10 ** data.draw(st.floats(-6, 4))
    assert verdict(lambda x: function(x) + share * reduction(x, axis=axis, keepdims=True)).reason
    assert verdict(lambda x: function(x) * (1 + share * reduction(x, axis=axis, keepdims=True))).reason


@given(st.sampled_from(ELEMENTWISE), st.sampled_from(ELEMENTWISE), st.floats(-3, 3))
@settings(max_examples=8, deadline=None)
def test_any_composition_is_shown(one, other, scale):
    assert verdict(lambda x: one(scale * other(x)) + scale).reason is None


# In models


@pytest.mark.parametrize("activation", [tf.nn.relu, tf.nn.tanh, mish_by_hand, hard_swish_of_tensorflow])
@pytest.mark.parametrize("place", ["Dense", "Conv2D", "Activation", "SimpleRNN", "LSTM", "TimeDistributed"])
def test_units_leave_behind_a_function(activation, place):
    inputs = keras.Input({"Dense": (4,), "Activation": (4,), "Conv2D": (5, 5, 3)}.get(place, (5, 4)))
    x = {
        "Dense": lambda: layers.Dense(6, activation, name="hidden"),
        "Activation": lambda: layers.Dense(6, name="hidden"),
        "Conv2D": lambda: layers.Conv2D(6, 3, activation=activation, name="hidden"),
        "SimpleRNN": lambda: layers.SimpleRNN(6, activation, name="hidden"),
        "LSTM": lambda: layers.LSTM(6, activation, tf.nn.sigmoid, name="hidden"),
        "TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(6, activation), name="hidden"),
    }[place]()(inputs)
    x = layers.Activation(activation)(x) if place == "Activation" else x
    model = randomize(keras.Model(inputs, layers.Dense(2, name="head")(layers.Flatten()(x))))
    assert sum(map(len, zero_members(model, random_members(0)).values())) >= 2
    assert check_laws(model).get_layer("head").kernel.shape[0] < model.get_layer("head").kernel.shape[0]


@pytest.mark.parametrize("function", [tf.nn.swish, tf.nn.softsign, compiled, Scaled(2.0), Scaled(2.0).method])
def test_a_function_without_a_name_in_keras_is_carried_over(function):
    inputs = keras.Input((4,))
    x = layers.Activation(function)(layers.Dense(6, function, name="hidden")(inputs))
    model = randomize(keras.Model(inputs, layers.Dense(2)(x)))
    zero_members(model, random_members(0))
    small, x = tt.compact(model), np.random.default_rng(0).normal(size=(4, 4))
    assert small.get_layer("hidden").units == 4
    assert small.get_layer("hidden").activation == model.get_layer("hidden").activation
    np.testing.assert_allclose(small(x), model(x), rtol=1e-5, atol=1e-6)


def test_a_function_that_calls_itself_is_carried_over():
    def function(depth):
        def again(x):
            return ops.tanh(x) if depth == 0 else function(depth - 1)(x)

        return again

    model = randomize(keras.Sequential([keras.Input((4,)), layers.Dense(6, function(2)), layers.Dense(2)]))
    x = np.random.default_rng(0).normal(size=(4, 4))
    np.testing.assert_allclose(tt.compact(model)(x), model(x), rtol=1e-6)


def test_a_constant_that_it_gives_is_folded():
    model = sequential(keras.Input((4,)), layers.Dense(6, hard_swish_of_tensorflow, name="a"), layers.Dense(2))
    zero(model.get_layer("a").kernel, 1, [0, 3])
    assert check_laws(model).get_layer("a").units == 4


def test_a_layer_as_an_activation_is_known_by_its_rule():
    for activation, reason in (
        (layers.LeakyReLU(), None),
        (layers.Activation(tf.nn.elu), None),
        (layers.PReLU(), "PReLU"),
    ):
        assert bool(why_not_elementwise(activation)) == bool(reason)


def test_a_function_that_is_registered_is_believed():
    def unheard(x):
        return tf.nn.relu(x) + 0 * tf.reduce_sum(x)

    def stubborn(x):
        return tf.nn.relu(x)

    assert "runs across elements" in why_not_elementwise(unheard)
    tt.register_rule(unheard, tt.rules.Elementwise())
    assert why_not_elementwise(unheard) is None
    tt.register_rule(stubborn, tt.rules.Frozen("its table has eight rows"))
    model = sequential(keras.Input((4,)), layers.Dense(6, stubborn, name="hidden"), layers.Dense(2))
    (entry, *_) = [each for each in tt.structures(model).frozen if each.name == "hidden"]
    assert entry.reasons == ("hidden: activation 'stubborn' stays as it is: its table has eight rows",)


def test_a_rule_of_an_operation_inside_is_heard_later():
    class Own(keras.Operation):
        def call(self, x):
            return ops.relu(x)

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

    def function(x):
        return Own()(x)

    assert "it calls Own" in why_not_elementwise(function)
    tt.register_rule(Own, tt.rules.Elementwise())
    assert why_not_elementwise(function) is None


@pytest.mark.parametrize("rule", [tt.rules.Dense(), tt.rules.Reshape()])
def test_a_function_takes_rules_of_functions_only(rule):
    with pytest.raises(
        TypeError, match=r"expected tt.rules.Elementwise\(\) or tt.rules.Frozen\(reason\) for the function"
    ):
        tt.register_rule(tf.nn.relu, rule)


def test_what_numbers_show_is_said():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6, tf.nn.relu, name="hidden"), layers.Dense(2, "relu")])
    sentence = "hidden: numbers show that 'relu' acts on each element"
    found = tt.structures(model)
    assert found.notes == [sentence]
    assert str(found).endswith(sentence)
    structure(model, "hidden").zero([0])
    assert sentence in tt.compare(model, tt.compact(model)).notes


def test_tracing_takes_no_names():
    keras.backend.clear_session()
    before = layers.ReLU().name, layers.Dense(2).name
    verdict(lambda x: layers.ReLU()(ops.relu(x)) + layers.Dense(3)(x))
    assert (layers.ReLU().name, layers.Dense(2).name) == ("re_lu_1", "dense_1")
    assert before == ("re_lu", "dense")
