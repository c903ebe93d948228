"""What a TFLite file costs with fewer members: its bytes, and the operators that it has, against the real file."""

import keras
import numpy as np
import pytest
from keras import layers
from laws import random_members, randomize, zero_members

import tf_terngrad as tt
from models.lenet import lenet
from tf_terngrad.sparsity.costs import latency, timetable
from tf_terngrad.tflite.opened import Opened


def residual():
    image = keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(12, 3, padding="same", use_bias=False)(image)))
    y = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x)))
    y = layers.BatchNormalization()(layers.Conv2D(12, 1, use_bias=False)(layers.Conv2D(20, 1, activation="gelu")(y)))
    x = layers.Concatenate()([layers.Add()([x, y]), layers.Conv2D(7, 1)(x)])
    x = layers.Conv2D(9, 3)(layers.LayerNormalization()(x))
    return keras.Model(image, layers.Dense(4, activation="softmax")(layers.Flatten()(x)))


def attention():
    steps = keras.Input((10, 24))
    x = layers.Dense(16)(steps)
    x = x + layers.MultiHeadAttention(3, 5)(x, x)
    x = layers.LayerNormalization()(x)
    return keras.Model(steps, layers.Dense(2)(x + layers.Dense(16)(layers.Dense(30, "gelu")(x))))


def unrolled():
    words = keras.Input((5,), dtype="int32")
    x = layers.LSTM(18, unroll=True)(layers.Embedding(40, 12)(words))  # as "auto" measures it, it would not be fast
    return keras.Model(words, layers.Dense(3)(x))


MODELS = {"lenet": lenet, "residual": residual, "attention": attention, "unrolled": unrolled}


def random(build):
    return randomize(build())


def smaller(model, seed):
    """Zero members of a model, and say how many stay."""
    dead = zero_members(model, random_members(seed))
    return {each.name: each.size - len(dead.get(each.name, ())) for each in tt.structures(model)}


def converted(model, path, **options):
    tt.tflite.convert(model, path, **options)
    return path.read_bytes()


def elements(excerpts, idle):
    """In place of times: the numbers in all tensors of each operator."""
    return [float(sum(int(np.prod(shape)) for shape in excerpt._shapes.values())) for excerpt in excerpts]


def elements_of(content):
    file = Opened.of(content)
    graph = file.graphs[0]
    used = ({*operator.inputs, *operator.outputs} for operator in graph.operators)
    return sum(int(np.prod(graph.tensors[each].shape)) for numbers in used for each in numbers if each >= 0)


@pytest.fixture
def counted(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(timetable, "milliseconds", elements)
    monkeypatch.setattr(timetable, "_idle", lambda: 0.0)
    monkeypatch.setattr(latency, "settled_times", lambda contents: list(map(elements_of, contents)))


@pytest.mark.parametrize("name", MODELS)
def test_its_operators_and_its_bytes_are_those_of_the_compact_model_s_file(name, counted, tmp_path):
    model = random(MODELS[name])
    costs, content = tt.costs(model), converted(model, tmp_path / "whole.tflite")
    # A product of a width with itself, as in an LSTM, is no line; a table of few knots is up to 2 % off.
    assert costs.latency == pytest.approx(elements_of(content), rel=0.02) and costs.bytes == len(content)
    names = [each.name for each in costs.structures]  # operations have other names in another model
    for seed in (1, 2):
        dying = random(MODELS[name])
        less = costs.of(dict(zip(names, smaller(dying, seed).values(), strict=True)))
        content = converted(tt.compact(dying), tmp_path / "small.tflite")
        assert less.latency == pytest.approx(elements_of(content), rel=0.02)
        assert less.bytes == pytest.approx(len(content), rel=0.03)


def test_bytes_of_the_int8_file(tmp_path):
    model, inputs = random(lenet), np.random.default_rng(0).normal(size=(4, 28, 28, 1))
    costs = tt.costs(model)
    assert costs.bytes_int8 == len(converted(model, tmp_path / "w.tflite", quantize="int8", calibration=inputs))
    gone = tt.prune(model, tt.Budget(bytes_int8=150_000))
    stay = {each.name: each.size - len(gone[each.name]) for each in costs.structures}
    found = len(converted(tt.compact(model), tmp_path / "s.tflite", quantize="int8", calibration=inputs))
    assert costs.of(stay).bytes_int8 == pytest.approx(found, rel=0.001)
    assert 140_000 < found <= 150_000


def test_a_branch_takes_its_operators_along(counted, tmp_path):
    image = keras.Input((6, 6, 4))
    y = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", activation="relu")(image))
    y = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", use_bias=False)(y))
    model = randomize(keras.Model(image, layers.Conv2D(5, 3)(layers.Add()([image, y]))))
    costs = tt.costs(model)
    (branch,) = [each for each in tt.structures(model) if each.kind == "branch"]
    branch.zero([0])
    content = converted(tt.compact(model), tmp_path / "small.tflite")
    without = costs.of({branch.name: 0})
    assert without.bytes == pytest.approx(len(content), rel=0.1)  # of 2 kB
    assert without.latency == pytest.approx(elements_of(content), rel=0.02)
    assert costs.latency - without.latency > 2 * 36 * 9 * 4


def test_nothing_is_measured_or_converted_until_somebody_asks(monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("asked")

    monkeypatch.setattr(timetable.Timetable, "measure", never)
    monkeypatch.setattr("tf_terngrad.sparsity.costs.sizes.Outline", never)
    costs = tt.costs(lenet())
    str(costs), repr(costs), costs.of({"conv1": 3}).parameters, repr(costs.structures[0])
    tt.prune(lenet(), tt.Budget(multiply_adds=0.5))
    with pytest.raises(AssertionError, match="asked"):
        _ = costs.latency
