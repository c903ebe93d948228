"""What cannot shrink in the middle of its training is refused before anything has changed."""

import keras
import numpy as np
import pytest
from keras import layers
from reconfiguring import compiled, network

import tf_terngrad as tt


def chain(**options):
    return keras.Sequential([keras.Input((4,)), layers.Dense(6, name="hidden", **options), layers.Dense(2, name="out")])


class Rows(keras.optimizers.SGD):
    """An optimizer that keeps a number for each row of a weight."""

    def build(self, variables):
        super().build(variables)
        self.rows = [self.add_variable(each.shape[:1], name="row") for each in variables]


class Around(keras.optimizers.SGD):
    """An optimizer around another one."""

    def __init__(self):
        super().__init__()
        self.fast = keras.optimizers.Adam(name="fast")


def moved_by(optimizer):
    model = chain()
    model.compile(optimizer, "mse")
    model.optimizer.build(model.trainable_variables)
    return model


MODELS = {
    "a wrapper": (
        lambda: keras.Sequential([keras.Input((4,)), tt.layers.GroupSparse(layers.Dense(6), 1e-3), layers.Dense(2)]),
        r"is a GroupSparse, which would be an ordinary layer",
    ),
    "blocks": (
        lambda: chain(kernel_regularizer=tt.regularizers.BlockLasso(1e-3)),
        r"the BlockLasso of weight '.*hidden/kernel' would have other blocks",
    ),
    "a sum with blocks": (
        lambda: chain(kernel_regularizer=tt.regularizers.BlockLasso(1e-3) + keras.regularizers.L2(1e-3)),
        r"the BlockLasso of weight '.*hidden/kernel' would have other blocks",
    ),
    "numbers for rows": (lambda: moved_by(Rows()), r"'rows' \(Rows\), which keeps '.*' of shape \(4,\)"),
    "another optimizer inside": (lambda: moved_by(Around()), r"'around' \(Around\), which holds 'fast' \(Adam\)"),
}


@pytest.mark.parametrize("make, message", MODELS.values(), ids=MODELS)
def test_what_cannot_go_on_is_refused_before_training(make, message):
    model = make()
    before = [variable.numpy() for variable in model.variables]
    with pytest.raises(ValueError, match=message):
        tt.reconfigure(model)
    if not model.compiled:
        model.compile("sgd", "mse", run_eagerly=True)
    with pytest.raises(ValueError, match=message):
        callback = tt.callbacks.Reconfigure(every=1)
        callback.set_model(model)
        callback.on_train_begin()
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_users_own_regularizers_go_along():
    model = chain(kernel_regularizer=keras.regularizers.L2(1e-3))
    tt.structures(model)[1].zero([0])
    assert tt.reconfigure(model)
    assert isinstance(model.get_layer("hidden").kernel_regularizer, keras.regularizers.L2)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({}, ValueError, "expected `every` or `at`"),
        ({"every": 0}, ValueError, "`every` to be an integer of at least 1"),
        ({"every": 1.5}, TypeError, "`every` to be an integer"),
        ({"at": 3}, TypeError, r"`at` to be a list of integers.*Write at=\[3\]"),
        ({"at": [0]}, ValueError, "`at` to be an integer of at least 1"),
        ({"at": ["3"]}, TypeError, "`at` to be an integer"),
    ],
)
def test_arguments(options, error, message):
    with pytest.raises(error, match=message):
        tt.callbacks.Reconfigure(**options)


def test_other_kinds_and_unknown_members():
    with pytest.raises(TypeError, match="Expected a Keras model"):
        tt.reconfigure("model")
    with pytest.raises(TypeError, match=r"expected a keras.optimizers.Optimizer. Received: optimizer='sgd'"):
        tt.reconfigure(chain(), "sgd")
    with pytest.raises(
        ValueError, match=r"Received: 2 members of 'hidden'. Structures and their sizes: .*hidden \(6\)"
    ):
        tt.reconfigure(chain(), gone=[{"hidden": [1, 6]}])


def test_where_nothing_is_dead_nothing_changes():
    model = network()
    compiled(model, "sgd")
    layer, function = model.layers[-1], model.call
    assert tt.reconfigure(model) == [] and model.layers[-1] is layer and model.call == function


def test_what_is_zero_by_chance_stays():
    """A branch whose last scale begins at zero adds nothing yet, and units that nobody reads are about to be read."""
    inputs = keras.Input((4,))
    x = layers.Dense(6, activation="relu", name="stem")(inputs)
    y = layers.BatchNormalization(gamma_initializer="zeros", name="norm")(layers.Dense(6, name="branch")(x))
    out = layers.Dense(2, name="out")
    model = keras.Model(inputs, out(layers.Add()([x, y])))
    out.kernel.assign(out.kernel * np.array([[0], [0], [1], [1], [1], [1]], "float32"))
    assert len(tt.compact(model).layers) < len(model.layers)
    assert tt.reconfigure(model) == []
