"""Every layer of Keras is followed or frozen with the reason; rules of users are heard."""

import inspect
import re

import keras
import numpy as np
import pytest
from keras import layers, ops
from laws import check_laws, random_members, randomize, zero_members

import tf_terngrad as tt
from tf_terngrad.sparsity.graph.composites import is_composite
from tf_terngrad.sparsity.rules import Frozen, rule_for, subclasses
from tf_terngrad.sparsity.rules.base import Unknown
from tf_terngrad.sparsity.rules.registry import cost_for
from tf_terngrad.sparsity.structures import structures

# What a layer is made with: by its name, or by its name without the rank.
ARGUMENTS = {
    "Activation": ("sigmoid",), "AdaptiveAveragePooling": (2,), "AdaptiveMaxPooling": (2,), "AlphaDropout": (0.5,),
    "AveragePooling": (2,), "CenterCrop": (4, 4), "Conv": (8, 3), "ConvLSTM": (4, 2), "Dense": (8,),
    "DepthwiseConv": (3,), "Discretization": ([-0.5, 0.0, 0.5],), "Dot": (-1,), "Dropout": (0.5,),
    "EinsumDense": ("abc,cd->abd", (6, 4)), "GRU": (4,), "GaussianDropout": (0.5,), "GaussianNoise": (0.5,),
    "GroupNormalization": (2,), "LSTM": (4,), "MultiHeadAttention": (2, 4), "Permute": ((2, 1),),
    "RandomBrightness": (0.2,), "RandomColorDegeneration": (0.2,), "RandomContrast": (0.2,), "RandomCrop": (6, 6),
    "RandomHue": (0.2,), "RandomPosterization": (4,), "RandomRotation": (0.2,), "RandomSaturation": (0.2,),
    "RandomSharpness": (0.2,), "RandomTranslation": (0.2, 0.2), "RandomZoom": (0.2,), "RepeatVector": (3,),
    "Rescaling": (0.5, 0.5), "Reshape": ((-1,),), "Resizing": (4, 4), "SeparableConv": (8, 3), "SimpleRNN": (4,),
    "SpatialDropout": (0.5,),
}  # fmt: skip
MADE = {
    "Bidirectional": lambda: layers.Bidirectional(layers.LSTM(4)),
    "GroupedQueryAttention": lambda: layers.GroupQueryAttention(4, 2, 1),
    "Lambda": lambda: layers.Lambda(lambda x: x * 2),
    "Pipeline": lambda: layers.Pipeline([layers.Rescaling(2.0)]),
    "RNN": lambda: layers.RNN(layers.GRUCell(4)),
    "SpectralNormalization": lambda: layers.SpectralNormalization(layers.Dense(4)),
    "TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(4, "sigmoid")),
}
TWO_INPUTS = [
    "Add",
    "Average",
    "Concatenate",
    "Dot",
    "Maximum",
    "Minimum",
    "Multiply",
    "Subtract",
    "Attention",
    "AdditiveAttention",
]
IMAGE_LAYERS = [
    "AutoContrast",
    "CenterCrop",
    "ContrastLimitedAdaptiveHistogramEqualization",
    "Resizing",
    "Solarization",
]
# Not layers that stand in a graph by themselves, or of other frameworks; what takes words, indices, boxes or audio and
# not another layer's numbers; and one whose output Keras itself takes for its input.
NO_LAYER = [
    "Layer",
    "Wrapper",
    "InputLayer",
    "JaxLayer",
    "FlaxLayer",
    "TFSMLayer",
    "TorchModuleWrapper",
    "GRUCell",
    "LSTMCell",
    "SimpleRNNCell",
    "StackedRNNCells",
    "Embedding",
    "ReversibleEmbedding",
    "Hashing",
    "HashedCrossing",
    "IntegerLookup",
    "StringLookup",
    "TextVectorization",
    "CategoryEncoding",
    "STFTSpectrogram",
    "MelSpectrogram",
    "MaxNumBoundingBoxes",
    "CutMix",
    "MixUp",
    "Equalization",
    # Keras 3.10 makes no model with it.
    *(["RandomGrayscale"] if keras.__version__.startswith("3.10.") else []),
]


def layer_names():
    classes = (getattr(layers, name) for name in dir(layers) if inspect.isclass(getattr(layers, name)))
    return sorted({kind.__name__ for kind in classes if issubclass(kind, layers.Layer)} - {*NO_LAYER})


def make(name):
    if name in MADE:
        return MADE[name]()
    stem = re.sub("[123]D|Transpose", "", name)
    return getattr(layers, name)(*ARGUMENTS.get(stem, ()))


def entering(name):
    """An input, and from it a tensor that the layer can take, whose channels can shrink."""
    augments = name in IMAGE_LAYERS or name.startswith(("Rand", "AugMix"))
    rank = (
        4
        if augments
        else {"1D": 3, "2D": 4, "3D": 5}.get(re.sub(r".*([123]D).*", r"\1", name), 2 if name == "RepeatVector" else 3)
    )
    rank += name.startswith("ConvLSTM")
    inputs = keras.Input((6,) * (rank - 2) + (3,))
    return inputs, layers.Dense(3 if augments else 4, "sigmoid")(inputs)


def check_subclasses(layer):
    """A subclass that changes nothing is known as its parent, with every weight; one with its own call is unknown."""
    kind, rule, cost = type(layer), rule_for(layer), cost_for(layer)
    layer.__class__ = type(kind.__name__, (kind,), {"note": "a word", "__init__": lambda self: None})
    if type(rule) is not Unknown:
        subclasses._REMADE[layer] = True  # this __init__ is never called
        assert (rule_for(layer), cost_for(layer)) == (rule, cost)
    layer.__class__ = type(kind.__name__, (kind,), {"call": lambda self, *args: None})
    assert type(rule_for(layer)) is Unknown
    assert rule_for(layer).axes(layer) == {}
    layer.__class__ = kind


@pytest.mark.parametrize("name", layer_names())
def test_every_layer_is_followed_or_frozen_with_the_reason(name):
    inputs, x = entering(name)
    layer = make(name)
    if name in TWO_INPUTS:
        y = layer([x, layers.Dense(x.shape[-1])(inputs)])
    else:
        y = layer(x, x) if name in ("MultiHeadAttention", "GroupedQueryAttention") else layer(x)
    y = ops.cast(y, "float32")
    y = ops.mean(y, axis=tuple(range(1, len(y.shape) - 1))) if len(y.shape) > 2 else y
    model = randomize(keras.Model(inputs, layers.Dense(3)(y)))
    found = structures(model)
    check_subclasses(layer)
    if isinstance(rule_for(layer), Frozen) and not is_composite(layer):
        assert any(f"({name})" in reason for entry in found.frozen for reason in entry.reasons)
    zero_members(model, random_members(1))
    check_laws(model, must_vary=False)


def test_words_and_indices():
    words = keras.Input((), dtype="string")
    lookup, hashing = layers.StringLookup(vocabulary=["a", "b", "c"]), layers.Hashing(5)
    x = ops.concatenate([layers.Embedding(5, 4)(lookup(words)), layers.Embedding(5, 4)(hashing(words))], axis=-1)
    y = layers.CategoryEncoding(5, output_mode="one_hot")(lookup(words))
    y = layers.Concatenate()([layers.Dense(6, "relu")(x), ops.cast(y, "float32")])
    model = randomize(keras.Model(words, layers.Dense(2)(y)))
    zero_members(model, random_members(1))
    small = tt.compact(model)
    given = ops.convert_to_tensor(["a", "b", "c", "d"])
    np.testing.assert_allclose(small(given), model(given), rtol=1e-4, atol=1e-5)
    assert small.get_layer("dense").units == 4


def test_adapted_layers_keep_what_they_learnt():
    numbers = keras.Input((4,))
    bins, norm, lookup = layers.Discretization(num_bins=3), layers.Normalization(), layers.IntegerLookup()
    data = np.random.default_rng(0).normal(3, 2, (50, 4)).astype("float32")
    bins.adapt(data), norm.adapt(data), lookup.adapt(np.arange(3))
    y = layers.Concatenate()([norm(numbers), ops.cast(lookup(bins(numbers)), "float32")])
    model = randomize(keras.Model(numbers, layers.Dense(2)(layers.Dense(6, "relu")(y))))
    zero_members(model, random_members(1, fraction=0.5))
    np.testing.assert_allclose(tt.compact(model)(data), model(data), rtol=1e-4, atol=1e-5)
