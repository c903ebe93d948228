"""Small recurrent models for the tests of TFLite files."""

import keras
import numpy as np
from keras import layers
from small_models import sequential


def one():
    return sequential((6, 3), layers.LSTM(4, name="a"))


def stacked():
    return sequential((6, 3), layers.LSTM(4, return_sequences=True), layers.LSTM(5, use_bias=False), layers.Dense(2))


def both_ways():
    return sequential(
        (6, 3), layers.Bidirectional(layers.LSTM(4, return_sequences=True)), layers.Bidirectional(layers.LSTM(3))
    )


def shared():
    first, second = keras.Input((6, 3), name="first"), keras.Input((6, 3), name="second")
    lstm = layers.LSTM(4)
    return keras.Model([first, second], layers.Concatenate()([lstm(first), lstm(second)]))


def inside():
    inner = sequential((None, 4), layers.LSTM(3, return_sequences=True))
    return sequential((None, 3), layers.Dense(4), inner, layers.Dense(2))


def words(layer=layers.LSTM, stateful=False):
    text = keras.Input(batch_shape=(2 if stateful else None, None), dtype="int32", name="text")
    x = layers.Embedding(20, 6)(text)
    for name in ("low", "high"):
        x = layer(5, return_sequences=True, stateful=stateful, name=name)(x)
    return keras.Model(text, layers.Dense(20, name="next")(x))


def known(steps, layer=layers.LSTM):
    return sequential((steps, 3), layer(4, return_sequences=True), layers.Dense(2, name="answer"))


def noise(*shape):
    return np.random.default_rng(5).normal(size=shape).astype("float32")
