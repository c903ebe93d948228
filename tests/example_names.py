"""What the fenced examples of the documentation find ready-made: a small model, data, files, an optimizer."""

import math
import os
import tempfile
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

import tf_terngrad
from models.lenet import lenet
from tf_terngrad.files import replacing

# A reader fills these in; the examples leave them out.
OMITTED = {
    "model.compile(...)": "model.compile('sgd', 'sparse_categorical_crossentropy', jit_compile=False)",
    "model.fit(...)": "model.fit(x, y, verbose=0)",
}


def run_example(source, optimizer="sgd"):
    """Run an example in a folder of its own; whatever it raises is a fault of the documentation."""
    for left_out, filled_in in OMITTED.items():
        source = source.replace(left_out, filled_in)
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.datasets.mnist, "load_data", small_mnist)
        os.chdir(place)
        try:
            found = names(optimizer)
            write_files(source, found["model"])
            exec(compile(source, "<example>", "exec"), found)
        finally:
            os.chdir(before)
    return found


def small_mnist():
    """scikit-learn's 1,797 digits of 8 x 8 pixels, in the form of `keras.datasets.mnist.load_data`."""
    x, y = load_digits(return_X_y=True)
    x, order = x.reshape(-1, 8, 8) * (255 / 16), np.random.default_rng(0).permutation(len(x))
    x, y = x[order].astype("uint8"), y[order].astype("uint8")
    return (x[:1400], y[:1400]), (x[1400:], y[1400:])


def names(optimizer="sgd") -> dict:
    """The names that an example may use."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(64, 8, 8, 1)).astype("float32"), random.integers(0, 3, 64)
    model = classifier(optimizer)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(model(x[:1]))
    return {
        **{"tt": tf_terngrad, "tf_terngrad": tf_terngrad, "keras": keras, "tf": tf, "np": np, "math": math},
        **{"model": model, "small": classifier("sgd"), "lenet": lenet()},
        **{"x": x, "y": y, "images": x, "labels": y, "x_train": x, "y_train": y, "test_x": x, "test_y": y},
        **{"optimizer": model.optimizer, "loss": "sparse_categorical_crossentropy", "value": value, "tape": tape},
        **{"loss_of": lambda outputs, labels: tf.reduce_mean(outputs), "gradient": tf.random.normal((3000,))},
        **{"Gate": type("Gate", (keras.layers.Layer,), {"call": lambda self, x: x}), "__name__": "example"},
        "replacing": replacing,
        "MyTransport": lambda: None,  # stands for Horovod's own
    }


def classifier(optimizer) -> keras.Model:
    """A compiled model of 8 x 8 images and 3 classes, with layers of the names that examples have."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            keras.layers.Conv2D(4, 3, activation="relu", name="stem"),
            keras.layers.Conv2D(4, 3, activation="relu", name="body"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(8, activation="relu", name="hidden"),
            keras.layers.Dense(3, activation="softmax", name="out"),
        ]
    )
    # Compiled for so few steps, XLA's programs would take most of the time.
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def write_files(source, model) -> None:
    """The files that an example reads."""
    if "model.keras" in source:
        model.save("model.keras")
    for name in ("digits.tflite", "dense.tflite", "compact.tflite"):
        if f'"{name}"' in source and "convert" not in source:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tf_terngrad.tflite.convert(model, name)
