"""What a budget is worth: a network trained to it, beside the same cost by other ways, all trained equally long."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tf_terngrad as tt
from models.cifarnet import cifarnet
from models.data import datasets
from models.data.text import load_text
from models.decoder_lm import decoder_lm
from models.lenet import lenet
from models.lstm_lm import lstm_lm
from models.mlp import mlp
from models.resnet20 import resnet20
from tf_terngrad.files import write

AT_ONCE = 0.35
"""The share of a training after which members leave at once: in the middle of the course of a budget."""

WORDS, VOCABULARY, THIN = 32, 2000, 2
"""Words of an example, the most frequent words, and of how many blocks of the text one is read."""

WAYS = ("dense", "budget", "norm", "taylor", "random", "scratch")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Args:
        build: the function that makes it.
        data: "mnist", "cifar10" or "text".
        epochs: how many.
        rates: the first learning rate under "momentum" and "adam"; it falls along half a cosine.
        decay: the weight of L2 on convolution kernels.
    """

    build: Callable
    data: str
    epochs: int
    rates: dict
    decay: float = 0.0

    @property
    def measure(self):
        """What is measured, lower is better."""
        return "perplexity" if self.data == "text" else "error %"


RECIPES = {
    "mlp": Recipe(mlp, "mnist", 20, {"momentum": 0.05, "adam": 1e-3}),
    "lenet": Recipe(lenet, "mnist", 20, {"momentum": 0.05, "adam": 1e-3}),
    "cifarnet": Recipe(lambda: cifarnet((32, 32, 3)), "cifar10", 30, {"momentum": 0.02, "adam": 1e-3}, 1e-4),
    "resnet20": Recipe(resnet20, "cifar10", 60, {"momentum": 0.1, "adam": 2e-3}, 1e-4),
    "lstm": Recipe(
        lambda: lstm_lm(VOCABULARY, (100, 100), steps=WORDS, dropout=0.2),
        "text",
        12,
        {"momentum": 1.0, "adam": 2e-3},
    ),
    "decoder": Recipe(
        lambda: decoder_lm(VOCABULARY, (128, 128), steps=WORDS, dropout=0.1),
        "text",
        12,
        {"momentum": 0.2, "adam": 2e-3},
    ),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One training.

    Args:
        network: a name in `RECIPES`.
        way: one of `WAYS`.
        share: of the dense network's multiply-adds; 1 for the dense one.
        optimizer: "momentum" or "adam".
        seed: of the weights and the order of the data.
        kinds: of the structures that leave, with commas; "": widths.
    """

    network: str
    way: str
    share: float
    optimizer: str
    seed: int
    kinds: str = ""

    @property
    def name(self):
        """The name of its file."""
        kinds = f"-{self.kinds}" if self.kinds and self.way != "dense" else ""
        return f"{self.network}-{self.way}{kinds}-{self.share:g}-{self.optimizer}-{self.seed}.json"

    @property
    def listed_kinds(self):
        """The kinds as `tt.sparsify` takes them."""
        return self.kinds.split(",") if self.kinds else None


class Data:
    """Examples of a kind, those to train on and those to test on, with what is read off a model on them.

    Args:
        name: as of `Recipe.data`.
        folder: where it is.
        count: of the training examples, the first so many; None: all.
    """

    def __init__(self, name, folder, count=None):
        self.name = name
        if name == "text":
            text = load_text(folder, VOCABULARY).thinned(THIN)
            (x, y), test = _windows(text.train), _windows(text.test)
        else:
            (x, y), test = datasets.load(name, folder)
        if name == "cifar10":
            mean, deviation = x.mean((0, 1, 2)), x.std((0, 1, 2))
            x, test = (x - mean) / deviation, ((test[0] - mean) / deviation, test[1])
        self.x, self.y, self.test = x[:count], y[:count], test

    def batches(self, seed):
        """All batches of an epoch, anew each time; images of CIFAR-10 are shifted and mirrored."""
        batches = tf.data.Dataset.from_tensor_slices((self.x, self.y)).shuffle(len(self.x), seed=seed)
        batches = batches.batch(64 if self.name == "text" else 128, drop_remainder=True)
        return batches.map(_moved).prefetch(2) if self.name == "cifar10" else batches.prefetch(2)

    def measured(self, model):
        """The error in percent, or the perplexity, on the test examples."""
        loss, accuracy = model.evaluate(*self.test, batch_size=250, verbose=0)
        return float(np.exp(loss)) if self.name == "text" else 100 * (1 - accuracy)


def train(row: Row, recipe: Recipe, data: Data, epochs: int, folder: Path) -> dict:
    """Train a row, or read what it gave before.

    Returns:
        `measure`, `cost` (share of the dense network's multiply-adds), `layers` (convolutions of more than one tap, and
        layers of units) and `sizes` of the structures.
    """
    path = folder / row.name
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    keras.utils.set_random_seed(row.seed)
    model = recipe.build()
    dense, budget = tt.costs(model).multiply_adds, tt.Budget(multiply_adds=row.share)
    batches = data.batches(row.seed)
    for layer in model.layers:
        if recipe.decay and isinstance(layer, keras.layers.Conv2D):
            layer.kernel_regularizer = keras.regularizers.L2(recipe.decay)
    if row.way == "scratch":
        tt.prune(model, budget, kinds=row.listed_kinds, uniform=True)
        model = keras.models.clone_model(tt.compact(model))  # with weights drawn anew
    if row.way == "budget":
        tt.sparsify(model, budget=budget, kinds=row.listed_kinds)
    _compile(model, recipe.rates[row.optimizer], row.optimizer, epochs * len(batches))
    callbacks = [] if row.way in ("dense", "budget", "scratch") else [_AtOnce(row, budget, data, epochs)]
    model.fit(batches, epochs=epochs, verbose=2, callbacks=callbacks, shuffle=False)
    small = tt.compact(model) if row.way != "dense" else model
    result = {
        "measure": data.measured(model),
        "cost": tt.costs(small).multiply_adds / dense,
        "layers": sum(map(_is_counted, small.layers)),
        "sizes": [structure.size for structure in tt.structures(small) if structure.kind != "input"],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, json.dumps(result).encode())
    return result


def _is_counted(layer):
    """Whether a layer counts where a network's depth is told: projections on shortcuts do not."""
    if isinstance(layer, keras.layers.Conv2D):
        return layer.kernel_size != (1, 1)
    return isinstance(layer, keras.layers.Dense)


class _AtOnce(keras.callbacks.Callback):
    """Prunes a model at once, in the middle of its training, to what is least by one of the scores."""

    def __init__(self, row, budget, data, epochs):
        super().__init__()
        self._row, self._budget, self._data, self._epoch = row, budget, data, round(AT_ONCE * epochs)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self._epoch:
            few = self._data.x[:512], self._data.y[:512]
            scores = tt.importance.Taylor(self.model, *few) if self._row.way == "taylor" else self._row.way
            tt.prune(self.model, self._budget, scores, kinds=self._row.listed_kinds)
            tt.hold(self.model)


def _compile(model, rate, optimizer, updates):
    rate = keras.optimizers.schedules.CosineDecay(rate, updates)
    if optimizer == "momentum":
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, clipnorm=1.0)
    else:
        optimizer = keras.optimizers.Adam(rate)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)


def _windows(words):
    """Runs of words, and for each word the next one."""
    count = (len(words) - 1) // WORDS * WORDS
    return words[:count].reshape(-1, WORDS), words[1 : count + 1].reshape(-1, WORDS)


def _moved(images, labels):
    images = tf.image.random_flip_left_right(images)
    images = tf.pad(images, [[0, 0], [4, 4], [4, 4], [0, 0]])
    return tf.image.random_crop(images, (tf.shape(images)[0], 32, 32, 3)), labels
