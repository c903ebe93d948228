"""The class of a user's model stays; what a file of a compact model asks for is said."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from small_models import takes_functions_as_regularizers

import tf_terngrad as tt


class Task(keras.Model):
    """A functional model with methods, made by a constructor of its own, as hubs of models have them."""

    def __init__(self, width=9, preprocessor=None, **kwargs):
        inputs = keras.Input((6,))
        hidden, bypass, head = layers.Dense(width, "relu", name="hidden"), layers.Dense(3), layers.Dense(3, name="head")
        features = hidden(inputs)
        super().__init__(inputs, head(features) + bypass(inputs), **kwargs)
        self.parts, self.bypass, self.features = {"hidden": hidden, "head": head}, bypass, features
        self.width, self.preprocessor = width, preprocessor

    def generate(self, x):
        return self.parts["head"](self.parts["hidden"](self.preprocessor(x)))

    def get_config(self):
        return {"width": self.width, "name": self.name}


@keras.saving.register_keras_serializable("test_classes")
class Registered(keras.Model):
    def doubled(self, x):
        return 2 * self(x)


class Chain(keras.Sequential):
    def __init__(self, width, **kwargs):
        super().__init__([keras.Input((6,)), layers.Dense(width, name="hidden"), layers.Dense(3)], **kwargs)
        self.width = width

    def doubled(self, x):
        return 2 * self(x)


X = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")


def compacted(model):
    """The compact model of one that was trained and lost hidden units 0 and 2."""
    model.compile("adam", "mse")
    model.fit(X, np.zeros((5, 3)), verbose=0)
    next(found for found in tt.structures(model) if found.name == "hidden").zero([0, 2])
    return tt.compact(model)


def check_file(small, path, kind):
    """A compact model is saved as it is, and comes back as a model of a class with the same outputs."""
    small.save(path / "small.keras")
    loaded = keras.models.load_model(path / "small.keras")
    assert type(loaded) is kind
    np.testing.assert_array_equal(loaded(X), small(X))


def test_a_model_keeps_its_methods_and_what_it_holds(tmp_path):
    model = Task(preprocessor=tf.math.abs, name="task")
    small = compacted(model)
    assert isinstance(small, Task) and small.count_params() == model.count_params() - 2 * 10
    assert small.parts == {"hidden": small.get_layer("hidden"), "head": small.get_layer("head")}
    assert small.preprocessor is tf.math.abs and small.width == 9 and not small.compiled
    np.testing.assert_allclose(small.generate(X), model.generate(X), rtol=1e-5, atol=1e-6)
    assert keras.Model(small.inputs, small.features).output_shape == (None, 7)
    check_file(small, tmp_path, type(keras.Model(small.inputs, small.outputs)))
    assert type(tt.compact(small)) is type(small)


def test_a_layer_that_left_is_lost_from_its_model(caplog):
    model = Task()
    for weight in model.bypass.weights:
        weight.assign(0 * weight)
    small = tt.compact(model)
    assert not hasattr(small, "bypass") and hasattr(small, "parts")
    assert f"{model.name} (Task) has lost bypass: layers of it have left." in caplog.text
    assert f"A file of {model.name} loads as a plain model, without the methods of Task." in caplog.text


def test_a_registered_class_is_that_of_the_file_too(tmp_path, caplog):
    inputs = keras.Input((6,))
    model = Registered(inputs, layers.Dense(3)(layers.Dense(9, name="hidden")(inputs)))
    small = compacted(model)
    np.testing.assert_allclose(small.doubled(X), model.doubled(X), rtol=1e-5, atol=1e-6)
    check_file(small, tmp_path, Registered)
    assert "A file of" not in caplog.text


def test_a_chain_keeps_its_class(tmp_path):
    model = Chain(9)
    small = compacted(model)
    assert isinstance(small, Chain) and small.width == 9 and small.get_layer("hidden").units == 7
    np.testing.assert_allclose(small.doubled(X), model.doubled(X), rtol=1e-5, atol=1e-6)
    check_file(small, tmp_path, keras.Sequential)


def test_nested_models_keep_their_classes():
    inputs = keras.Input((6,))
    backbone = Task(preprocessor=tf.math.abs, name="task")
    small = tt.compact(keras.Model(inputs, layers.Dense(2)(backbone(inputs))))
    np.testing.assert_allclose(small.get_layer("task").generate(X), backbone.generate(X), rtol=1e-5, atol=1e-6)


# What a file asks for


def gelu(x):
    return 0.5 * x * (1 + ops.tanh(0.8 * x))


class Strange(layers.Layer):
    def call(self, x):
        return tf.identity_n([x])[0]


@keras.saving.register_keras_serializable("test_classes")
class Broken(Strange):
    def get_config(self):
        return {**super().get_config(), "width": 3}


@keras.saving.register_keras_serializable("test_classes")
class Known(Strange):
    pass


def table(shape, dtype=None):
    return np.ones((6, 9), dtype)


class Fixed(Strange):
    def __init__(self):
        super().__init__(name="it")


NEEDS = {
    "(Fixed, which its configuration does not make)": Fixed,
    "(Strange)": lambda: Strange(name="it"),
    "(Broken, which its configuration does not make)": lambda: Broken(name="it"),
    "(activation gelu, for which it takes Keras's own)": lambda: layers.Dense(3, gelu, name="it"),
    "(function <lambda>)": lambda: layers.Lambda(lambda x: tf.identity_n([x])[0], name="it"),
    "": lambda: Known(name="it"),
}
if takes_functions_as_regularizers():
    NEEDS["(kernel_regularizer <lambda>)"] = lambda: layers.Dense(3, kernel_regularizer=lambda w: ops.sum(w), name="it")


@pytest.mark.parametrize("what", NEEDS)
def test_what_a_file_asks_for_is_said(what, caplog):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6, "relu"), NEEDS[what](), layers.Dense(3)], name="net")
    with caplog.at_level(logging.WARNING, "tf_terngrad"):
        small = tt.compact(model)
    said = f"A file of net asks for what it cannot say: it {what}. Register these" if what else ""
    assert said in caplog.text and bool(said) == ("A file of" in caplog.text)
    assert said in str(tt.compare(model, small))


def test_a_function_that_does_the_same_as_kerass_of_its_name_asks_for_nothing(caplog):
    small = tt.compact(keras.Sequential([keras.Input((6,)), layers.Dense(9, tf.nn.relu), layers.Dense(3, tf.nn.tanh)]))
    assert small.layers[0].activation is tf.nn.relu and "A file of" not in caplog.text


def test_an_initializer_that_gives_another_width_is_left_out(tmp_path):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(9, kernel_initializer=table, name="hidden")])
    model = keras.Sequential([*model.layers, layers.Dense(3)])
    model.build((None, 6))
    small = compacted(model)
    assert isinstance(small.get_layer("hidden").kernel_initializer, keras.initializers.Zeros)
    check_file(small, tmp_path, keras.Sequential)
