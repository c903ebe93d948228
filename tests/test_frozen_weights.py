"""Frozen weights: what can move decides, whenever it is frozen; what the head does not read leaves."""

import keras
import numpy as np
import pytest
from keras import layers

from tf_terngrad.sparsity.callbacks import SparsityMonitor
from tf_terngrad.sparsity.compact import compact
from tf_terngrad.sparsity.sparsify import METHODS, sparsify
from tf_terngrad.sparsity.structures import structures

FEATURES, RATE = 24, 0.05


def base():
    """Features of which the head needs few, behind a layer that nobody else reads."""
    keras.utils.set_random_seed(5)
    first = layers.Dense(16, activation="relu", name="first", kernel_initializer="he_normal")
    second = layers.Dense(FEATURES, activation="relu", name="second", kernel_initializer="he_normal")
    return keras.Sequential([keras.Input((8,)), first, second], name="base")


def data():
    x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
    return x, base().predict(x, verbose=0)[:, :3].sum(1, keepdims=True)


def head():
    return layers.Dense(1, name="head", kernel_initializer=keras.initializers.RandomNormal(stddev=0.1, seed=2))


def on_base(frozen=True):
    image, inside = keras.Input((8,), name="pixels"), base()
    inside.trainable = not frozen
    return keras.Model(image, head()(inside(image)))


def fitted(model, x, y, callbacks=(), **options):
    model.compile(keras.optimizers.SGD(RATE), "mse")
    model.fit(x, y, epochs=8, batch_size=64, shuffle=False, verbose=0, callbacks=list(callbacks), **options)
    return model


def by_layer(model):
    model.get_layer("base").trainable = False


def by_variable(model):
    for variable in model.get_layer("base").weights:
        variable.trainable = False


FREEZING = {"layer before": (by_layer, True), "variable before": (by_variable, True)}
FREEZING |= {"layer after": (by_layer, False), "variable after": (by_variable, False)}
OPTIONS = [{"strength": 0.3}, {"ratio": 0.2}, {"ratio": 0.2, "method": "subgradient", "threshold": 0.02}]
CASES = [(*freezing, OPTIONS[0]) for freezing in FREEZING.values()] + [(by_layer, False, o) for o in OPTIONS[1:]]


@pytest.mark.parametrize("freeze, first, options", CASES)
def test_a_head_on_a_frozen_base_learns_what_it_learns_on_the_features(freeze, first, options):
    x, y = data()
    alone = keras.Sequential([keras.Input((FEATURES,)), head()])
    expected = sparsify(alone, kinds=["input"], **options)
    fitted(alone, base().predict(x, verbose=0), y)

    model = on_base(frozen=False)
    if first:
        freeze(model)
    sparsity = sparsify(model, kinds=["unit"], **options)
    freeze(model)
    before = model.get_layer("base").get_weights()
    monitor = SparsityMonitor()
    fitted(model, x, y, [monitor])

    kernel = model.get_layer("head").kernel.numpy()
    dead = int((kernel == 0).sum())
    assert float(sparsity.strength) == pytest.approx(float(expected.strength), rel=1e-4)
    np.testing.assert_allclose(kernel, alone.layers[-1].kernel, atol=1e-5)
    assert 0 < dead < FEATURES
    assert monitor.live["base/second"] == FEATURES - dead
    assert monitor.fixed == dict.fromkeys(("pixels", "base/first"), "none of its weights trains")
    for weight, old in zip(model.get_layer("base").get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_what_the_head_does_not_read_leaves_with_everything_behind_it():
    image = keras.Input((8, 8, 3))
    shared = layers.Conv2D(6, 3, padding="same", use_bias=False, name="shared")(image)
    ways = []
    for name in ("left", "right"):
        way = layers.Conv2D(5, 3, name=name)(shared[..., :3] if name == "left" else shared[..., 3:])
        way = layers.ReLU()(layers.BatchNormalization(name=f"{name}_normal")(way))
        ways.append(layers.GlobalAveragePooling2D()(way))
    inside = keras.Model(image, layers.Concatenate()(ways), name="base")
    inside.trainable = False
    outer = keras.Input((8, 8, 3))
    model = keras.Model(outer, layers.Dense(2, name="head")(inside(outer)))
    kernel = model.get_layer("head").kernel
    kernel.assign(np.where(np.arange(10)[:, None] < 4, kernel, 0))  # all of the right and one of the left are unread
    small = compact(model)
    widths = {layer.name: layer.filters for layer in small.get_layer("base").layers if hasattr(layer, "filters")}
    assert widths["left"] == 4 and widths["shared"] == 3 and widths.get("right", 1) == 1
    x = np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(small(x), model(x), atol=1e-5)


def test_layers_that_thaw_count_from_the_next_compile():
    x, y = data()
    model = on_base()
    sparsity = sparsify(model, strength=1e-6)
    frozen = float(sparsity.lasso())
    assert frozen == pytest.approx(np.abs(model.get_layer("head").kernel).sum(), rel=1e-3)
    model.get_layer("base").trainable = True
    assert float(sparsity.lasso()) > 10 * frozen
    norms = sum(structure.norms().sum() for structure in sparsity.structures)
    assert float(sparsity.lasso()) == pytest.approx(norms, rel=1e-4)
    before = model.get_layer("base").get_weights()
    fitted(model, x, y)
    assert all((new != old).any() for new, old in zip(model.get_layer("base").get_weights(), before, strict=True))


def chain(*frozen):
    model = keras.Sequential([keras.Input((4,))])
    for name, units in (("make", 3), ("read", 5), ("out", 2)):
        model.add(layers.Dense(units, activation="relu", name=name, trainable=name not in frozen))
    return {structure.name: structure.fixed for structure in structures(model) if structure.kind == "unit"}


def test_a_member_is_fixed_if_frozen_weights_make_it_and_read_it():
    assert chain() == chain("make") == chain("read") == {"make": "", "read": ""}
    assert chain("read", "out") == {"make": "", "read": "none of its weights trains"}
    assert chain("make", "read", "out") == dict.fromkeys(("make", "read"), "none of its weights trains")


def two_readers():
    image = keras.Input((4,))
    made = layers.Dense(6, name="make")(image)
    ends = [layers.Dense(2, name=name)(made) for name in ("old", "new")]
    return keras.Model(image, layers.Concatenate()(ends))


@pytest.mark.parametrize("method", METHODS)
def test_what_a_frozen_layer_reads_too_is_neither_penalized_nor_counted(method):
    model = two_readers()
    for name in ("make", "old"):
        model.get_layer(name).trainable = False
    (structure,) = (structure for structure in structures(model) if structure.kind == "unit")
    assert structure.fixed == "make and its reader old do not train"
    assert "fixed: make and its reader old do not train" in str(structure)
    sparsity = sparsify(model, strength=1e3, method=method, threshold=0.0)
    twin = two_readers()
    twin.set_weights(model.get_weights())
    for name in ("make", "old"):
        twin.get_layer(name).trainable = False
    assert float(sparsity.lasso()) == 0
    x, y = np.ones((8, 4)), np.ones((8, 4))
    for each in (model, twin):
        each.compile(keras.optimizers.SGD(0.01), "mse")
        each.train_on_batch(x, y)
    np.testing.assert_allclose(model.get_layer("new").kernel, twin.get_layer("new").kernel, rtol=1e-6)
    model.get_layer("old").trainable = True
    assert structure.fixed == ""


READERS = {
    "Dense": lambda name: layers.Dense(2, name=name),
    "EinsumDense": lambda name: layers.EinsumDense("bxyc,co->bxyo", (6, 6, 2), name=name),
    "Conv2D": lambda name: layers.Conv2D(2, 3, name=name),
    "grouped Conv2D": lambda name: layers.Conv2D(2, 3, groups=2, name=name),
    "Conv2DTranspose": lambda name: layers.Conv2DTranspose(2, 3, name=name),
    "SeparableConv2D": lambda name: layers.SeparableConv2D(2, 3, name=name),
    "LSTM": lambda name: layers.LSTM(2, name=name),
    "GRU": lambda name: layers.GRU(2, name=name),
}


@pytest.mark.parametrize("make", READERS.values(), ids=READERS)
def test_every_layer_that_reads_is_seen_as_a_reader(make):
    image = keras.Input((6, 6, 3))
    made = layers.Conv2D(4, 3, padding="same", name="make")(image)
    steps = layers.Reshape((36, 4))(made) if isinstance(make("any"), layers.RNN) else made
    ends = [layers.Flatten()(make(name)(steps)) for name in ("old", "new")]
    model = keras.Model(image, layers.Dense(1)(layers.Concatenate()(ends)))
    for name in ("make", "old"):
        model.get_layer(name).trainable = False
    made = next(structure for structure in structures(model) if "make" in structure.born)
    assert made.fixed.startswith("make") and made.fixed.endswith(" and its reader old do not train")


def test_features_that_are_summed_without_weights_are_fixed_by_what_makes_them():
    sides = [keras.Input((4,), name=name) for name in ("left", "right")]
    made = [layers.Dense(6, use_bias=False, name=f"make_{side.name}")(side) for side in sides]
    model = keras.Model(sides, layers.Dot(1)(made))
    (structure,) = (structure for structure in structures(model) if structure.kind == "unit")
    assert structure.summed and not structure.fixed
    model.get_layer("make_left").trainable = False
    assert structure.fixed == "make_left does not train, and its members are summed without weights"


def test_a_branch_of_which_a_layer_is_frozen_is_fixed():
    image = keras.Input((4,))
    inside = layers.Dense(4, name="up")(layers.Dense(3, activation="relu", name="down")(image))
    model = keras.Model(image, layers.Dense(2)(layers.Add(name="sum")([image, inside])))
    branch = structures(model)[-1]
    assert branch.kind == "branch" and not branch.fixed
    model.get_layer("down").trainable = False
    assert branch.fixed == "down in it does not train"
