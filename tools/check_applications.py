"""Compacts the convolutional models of keras.applications, a third of their structures zero, and checks the outputs.

python -m tools.check_applications                     # all of them, several minutes
python -m tools.check_applications ResNet50 VGG16

The models have small inputs and random weights, biases and batch-norm statistics; nothing is downloaded. Prints a line
for each; ends with an error if the compact model's outputs or widths are wrong, or if the model itself was changed.
"""

import gc
import sys

import keras
import numpy as np
from absl import app, flags

from tf_terngrad.console import growing_table
from tf_terngrad.keras_internals import all_layers
from tools.checked_model import TITLES, check_model

FLAGS = flags.FLAGS
flags.DEFINE_float("share", 1 / 3, "The share of each structure's members to zero.", lower_bound=0, upper_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the weights and of what is zeroed.")

LEAST_SIZES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}


def model_names():
    """The builders of keras.applications, all of which are convolutional."""
    return sorted(name for name in dir(keras.applications) if name[0].isupper())


def build(name, seed=0):
    """A model with random biases, scales, shifts and slopes, and the statistics that its signals have, shaken."""
    keras.backend.clear_session(free_memory=False)  # what is left over is collected between models
    keras.utils.set_random_seed(seed)
    size = LEAST_SIZES.get(name, 32)
    options = {"weights": None, "input_shape": (size, size, 3), "classes": 10, "classifier_activation": None}
    model = getattr(keras.applications, name)(**options)
    rng = np.random.default_rng(seed)
    normalized = any("Normalization" in type(layer).__name__ for layer in all_layers(model))
    for weight in model.trainable_weights:
        if len(weight.shape) == 1:
            center, spread = (1.0, 0.4) if weight.name == "gamma" else (0.0, 0.1)
            weight.assign(center + rng.uniform(-spread, spread, weight.shape))
        elif not normalized:
            weight.assign(weight * 3**0.5)  # or signals fade behind rectifiers and dead channels
    _measure_statistics(model, rng)
    return model


def _measure_statistics(model, rng):
    """Set batch-norm statistics to those of random images, so that no signal fades or saturates, and shake them."""
    norms = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(images(model, rng, 8), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        layer.moving_variance.assign((layer.moving_variance + 1e-3) * rng.uniform(0.8, 1.2, layer.moving_mean.shape))


def images(model, rng, batch=2):
    """Random images, each of a colour and noise, in [-1, 1], or in [0, 255] where the model itself rescales them."""
    raw = any(isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)) for layer in model.layers)
    height, width, colours = model.input_shape[1:]
    values = rng.uniform(-0.7, 0.7, (batch, 1, 1, colours)) + rng.uniform(-0.3, 0.3, (batch, height, width, colours))
    return (127.5 * (values + 1) if raw else values).astype("float32")


def check(name, share=1 / 3, seed=0):
    """Zero a share of a model's structures, compact it, and compare."""
    model = build(name, seed)
    return check_model(name, model, images(model, np.random.default_rng(seed)), share, seed)


def main(argv):
    """Reads the command line: names of models, all by default."""
    unknown = sorted(set(argv[1:]) - set(model_names()))
    if unknown:
        raise app.UsageError(f"keras.applications has no {', '.join(unknown)}. Known: {', '.join(model_names())}")
    broken = 0
    with growing_table(TITLES, text=["result", "frozen"]) as add:
        for name in argv[1:] or model_names():
            result = check(name, FLAGS.share, FLAGS.seed)
            add(*result.row())
            broken += bool(result.broken)
            gc.collect()
    if broken:
        sys.exit(f"check_applications: {broken} models break a law")


if __name__ == "__main__":
    app.run(main)
