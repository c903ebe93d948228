"""Recurrent models: by name the ones that are hard to follow, and random ones."""

import keras
import numpy as np
from graphs import Grower
from keras import layers, ops
from laws import randomize

from tf_terngrad.sparsity.learn.wrappers import IntrinsicSparse

MODELS = {}


def model(build):
    """Register a function that gives inputs and outputs."""
    MODELS[build.__name__] = build
    return build


def words():
    """Sequences of tokens, of which 0 is padding, as eight numbers each."""
    tokens = keras.Input((5,), dtype="int32")
    return tokens, layers.Embedding(9, 8, mask_zero=True)(tokens)


def numbers():
    """Sequences of four numbers."""
    inputs = keras.Input((5, 4))
    return inputs, inputs


def joined(*tensors):
    return layers.Dense(3)(ops.concatenate(tensors, axis=-1))


@model
def deep():
    inputs = keras.Input((5, 4))
    x = layers.LSTM(6, return_sequences=True)(layers.Dense(8, "relu")(inputs))
    x = layers.GRU(6, return_sequences=True, reset_after=False)(x)
    x = layers.SimpleRNN(6, return_sequences=True, use_bias=False)(layers.GRU(6, return_sequences=True)(x))
    return inputs, layers.Dense(3)(layers.LSTM(6, use_bias=False)(x))


@model
def begun_with_arrays():
    tokens = keras.Input((5,), dtype="int32")
    arrays = np.cos(np.arange(72.0)).reshape(9, 8), np.ones(24), np.ones(6)
    first, second, third = map(keras.initializers.Constant, arrays)
    x = layers.Embedding(9, 8, embeddings_initializer=first)(tokens)
    y = layers.RNN(layers.LSTMCell(6, bias_initializer=second, unit_forget_bias=False), return_sequences=True)(x)
    return tokens, joined(layers.Dense(6, bias_initializer=third)(y), x)


@model
def stacked_cells():
    inputs, other = keras.Input((5, 4)), keras.Input((3, 4))
    cells = [layers.LSTMCell(6), layers.GRUCell(4), layers.SimpleRNNCell(5)]
    _, carried, *states = layers.RNN(cells, return_state=True)(inputs)
    cells = [layers.LSTMCell(6), layers.GRUCell(4), layers.SimpleRNNCell(5)]
    return [inputs, other], layers.Dense(3)(layers.RNN(cells)(other, initial_state=[carried, *states]))


@model
def encoder_and_decoder():
    source, target = keras.Input((5, 4)), keras.Input((6, 3))
    *_, h, c = layers.LSTM(6, return_sequences=True, return_state=True)(source)
    x = layers.LSTM(6, return_sequences=True)(target, initial_state=[h, c])
    return [source, target], layers.Dense(3)(x)


@model
def both_ends_to_a_decoder():
    source, target = keras.Input((5, 4)), keras.Input((6, 3))
    _, h, c, g, d = layers.Bidirectional(layers.LSTM(6, return_state=True))(source)
    x = layers.LSTM(12)(target, initial_state=[ops.concatenate(pair, axis=-1) for pair in ([h, g], [c, d])])
    y = layers.Bidirectional(layers.LSTM(6))(target, initial_state=[h, c, g, d])
    return [source, target], joined(x, y)


@model
def a_bridge_to_the_states():
    source, target = keras.Input((4,)), keras.Input((6, 3))
    states = [layers.Dense(6, activation)(source) for activation in ("tanh", None)]
    return [source, target], layers.Dense(3)(layers.LSTM(6)(target, initial_state=states))


@model
def states_as_inputs():
    inputs, h, c = keras.Input((5, 4)), keras.Input((6,)), keras.Input((6,))
    x = layers.LSTM(6)(inputs, initial_state=[h, c])
    return [inputs, h, c], joined(x, layers.GRU(6)(inputs, initial_state=h))


@model
def streaming():
    inputs, h, c = keras.Input((1, 4)), keras.Input((6,)), keras.Input((6,))
    x, h_after, c_after = layers.LSTM(6, return_state=True)(layers.Dense(8)(inputs), initial_state=[h, c])
    return [inputs, h, c], [layers.Dense(3)(x), h_after, c_after]


@model
def both_ends():
    inputs = keras.Input((5, 4))
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(inputs)
    y = layers.Bidirectional(layers.GRU(6, name="twice"), merge_mode="ave")(x)
    z = layers.Bidirectional(layers.SimpleRNN(6, name="twice"), merge_mode="mul")(x)
    return inputs, joined(y, z)


@model
def both_ends_apart():
    inputs = keras.Input((5, 4))
    x, y = layers.Bidirectional(layers.GRU(6, return_sequences=True), merge_mode=None)(inputs)
    x, y = layers.Bidirectional(layers.LSTM(6), merge_mode=None)(joined(x, y))
    return inputs, joined(x, ops.relu(y))


@model
def both_ends_of_stacked_cells():
    inputs = keras.Input((5, 4))
    cells = [layers.GRUCell(4), layers.SimpleRNNCell(6)]
    x, *states = layers.Bidirectional(layers.RNN(cells, return_sequences=True, return_state=True))(inputs)
    return inputs, joined(layers.LSTM(4)(x), *states)


@model
def an_end_of_its_own():
    inputs = keras.Input((5, 4))
    back = layers.LSTM(6, "relu", go_backwards=True, name="back")
    return inputs, layers.Dense(3)(layers.Bidirectional(layers.LSTM(6), backward_layer=back)(inputs))


@model
def a_state_as_output():
    inputs = keras.Input((5, 4))
    x, h, _ = layers.Bidirectional(layers.GRU(6, return_state=True))(inputs)
    return inputs, [layers.Dense(3)(x), h]


@model
def masked():
    tokens, x = words()
    x = layers.LSTM(6, return_sequences=True)(x)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(x)
    x, y = layers.Bidirectional(layers.GRU(6, return_sequences=True), merge_mode=None)(x)
    return tokens, joined(layers.GlobalAveragePooling1D()(x), layers.SimpleRNN(6)(y))


@model
def masked_by_a_tensor():
    inputs, tokens = keras.Input((5, 4)), keras.Input((5,), dtype="int32")
    x = layers.Bidirectional(layers.GRU(6, return_sequences=True))(inputs, mask=ops.greater(tokens, 1))
    return [inputs, tokens], layers.Dense(3)(layers.LSTM(6)(mask=ops.greater(tokens, 2), sequences=x))


@model
def masked_side_by_side():
    tokens, x = words()
    x, y = (layers.LSTM(6, return_sequences=True)(x) for _ in range(2))
    return tokens, layers.Dense(3)(layers.GRU(6)(layers.Concatenate()([x, layers.Dense(6)(ops.relu(y))])))


@model
def masked_residual():
    tokens, x = words()
    y = layers.LSTM(8, return_sequences=True)(x)
    x = layers.Add()([x, layers.LSTM(8, return_sequences=True, use_bias=False)(y)])
    return tokens, joined(layers.LSTM(6)(ops.add(x, y)), layers.LSTM(6)(x))


@model
def masked_inside():
    tokens, x = words()
    entry = keras.Input((5, 8))
    both = layers.Bidirectional(layers.LSTM(6, return_sequences=True))
    inner = keras.Model(entry, both(layers.LSTM(6, return_sequences=True)(entry)))
    return tokens, joined(layers.LSTM(4)(inner(x)), layers.LSTM(4)(inner(ops.relu(x))))


@model
def shared():
    first, second = keras.Input((5, 4)), keras.Input((3, 4))
    layer, both = layers.LSTM(6, return_sequences=True), layers.Bidirectional(layers.GRU(6))
    return [first, second], joined(both(layer(first)), both(layer(second)))


@model
def shared_with_its_own_states():
    first, second = keras.Input((5, 4)), keras.Input((3, 4))
    layer, both = layers.LSTM(6, return_state=True), layers.Bidirectional(layers.GRU(6, return_state=True))
    states, ends = layer(first)[1:], both(first)[1:]
    return [first, second], joined(layer(second, initial_state=states)[0], both(second, initial_state=ends)[0])


@model
def recurrent_in_every_step():
    inputs = keras.Input((3, 5, 4))
    x = layers.TimeDistributed(layers.Bidirectional(layers.LSTM(6)))(inputs)
    return inputs, layers.Dense(3)(layers.LSTM(4)(layers.TimeDistributed(layers.Dense(8))(x)))


@model
def between_convolutions():
    inputs = keras.Input((8, 4))
    x = layers.BatchNormalization()(layers.Conv1D(8, 3, activation="relu")(inputs))
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(layers.SpatialDropout1D(0.5)(x))
    x = layers.Conv1D(6, 3, padding="same")(x)
    return inputs, layers.Dense(3)(layers.Flatten()(layers.GRU(6, return_sequences=True)(x)))


@model
def residual():
    inputs = keras.Input((8, 4))
    x = layers.Dense(8)(inputs)
    x = x + layers.LSTM(8, return_sequences=True)(layers.LSTM(6, return_sequences=True)(x))
    return inputs, layers.Dense(3)(layers.LSTM(6)(x))


@model
def dropouts_backwards():
    inputs = keras.Input((5, 4))
    x = layers.LSTM(6, dropout=0.2, unroll=True, return_sequences=True, go_backwards=True)(inputs)
    return inputs, layers.Dense(3)(layers.GRU(6, dropout=0.3, recurrent_dropout=0.2, go_backwards=True)(x))


@model
def kept_between_batches():
    inputs = keras.Input(batch_shape=(4, 5, 4))
    x = layers.LSTM(6, stateful=True, return_sequences=True)(inputs)
    return inputs, layers.Dense(3)(layers.Bidirectional(layers.GRU(6, stateful=True))(x))


@model
def wrapped():
    inputs, tokens = keras.Input((5, 4)), keras.Input((5,), dtype="int32")
    x = IntrinsicSparse(layers.LSTM(6, return_sequences=True), 1e-3)(inputs, mask=ops.greater(tokens, 1))
    x, *states = IntrinsicSparse(layers.Bidirectional(layers.GRU(6, return_state=True)), 1e-3)(x)
    y = IntrinsicSparse(layers.RNN([layers.LSTMCell(6), layers.SimpleRNNCell(4)]), 1e-3)(inputs)
    return [inputs, tokens], joined(x, y, IntrinsicSparse(layers.GRU(6), 1e-3)(inputs, initial_state=states[:1]))


# Random ones

CELLS = ("LSTM", "GRU", "SimpleRNN")


def _layer(g, units, backwards=False, **options):
    kind = g.pick(*CELLS)
    of_cell = {"activation": g.pick("tanh", "tanh", "relu", "sigmoid"), "use_bias": g.chance()}
    if kind == "GRU":
        of_cell["reset_after"] = g.chance()
    if g.pick(1, 2, 3) == 1:
        return layers.RNN(getattr(layers, f"{kind}Cell")(units, **of_cell), go_backwards=backwards, **options)
    return getattr(layers, kind)(units, go_backwards=backwards, **of_cell, **options)


def _recurrent(g, x):
    return _layer(g, g.width(), g.chance(), return_sequences=g.chance())(x)


def _stacked(g, x):
    cells = [getattr(layers, f"{g.pick(*CELLS)}Cell")(g.width()) for _ in range(2)]
    return layers.RNN(cells, return_sequences=g.chance())(x)


def _bidirectional(g, x):
    mode = g.pick("concat", "concat", "sum", "mul", "ave", None)
    layer = _layer(g, g.width(), return_sequences=g.chance(), return_state=g.chance())
    results = layers.Bidirectional(layer, merge_mode=mode)(x)
    results = results if isinstance(results, (tuple, list)) else [results]
    g.pool.extend(results[1:])
    return results[0]


def _stated(g, x):
    """A layer that hands its states to another one, on the same sequence or another."""
    kind, units = g.pick(*CELLS), g.width()
    _, *states = getattr(layers, kind)(units, return_state=True)(x)
    g.pool.append(states[-1])
    other = g.pick(*(y for y in g.pool if len(y.shape) == 3))
    return getattr(layers, kind)(units, return_sequences=g.chance())(other, initial_state=states)


def _begun(g, x):
    """A layer that begins with another tensor of the pool."""
    start = g.pick(*([y for y in g.pool if len(y.shape) == 2] or [_pooled(g, x)]))
    kind = getattr(layers, g.pick("GRU", "SimpleRNN"))
    return kind(start.shape[-1], return_sequences=g.chance())(x, initial_state=start)


def _dense(g, x):
    return layers.Dense(g.width(), g.activation(), use_bias=g.chance())(x)


def _convolution(g, x):
    return layers.Conv1D(g.width(), 3, padding="same", activation=g.activation())(x)


def _normalized(g, x):
    return layers.BatchNormalization()(x)


def _pooled(g, x):
    return g.pick(layers.GlobalMaxPooling1D, layers.GlobalAveragePooling1D)()(x)


def _combined(g, x):
    return g.pick(layers.Add, layers.Concatenate, layers.Multiply)()([x, g.partner(x)])


def _repeated(g, x):
    return layers.RepeatVector(3)(x)


SEQUENCE = [_recurrent, _recurrent, _recurrent, _stacked, _bidirectional, _bidirectional, _stated, _begun]
SEQUENCE += [_dense, _convolution, _normalized, _pooled, _combined]
FLAT = [_dense, _repeated, _combined]


class RecurrentGrower(Grower):
    """Grows a model of recurrent layers."""

    def step(self):
        x = self.pick(*self.pool)
        self.pool.append(self.pick(*(SEQUENCE if len(x.shape) == 3 else FLAT))(self, x))


def grow(choices, steps=6):
    """A random recurrent model: one sequence or two, some of masked tokens, up to `steps` random layers, one output.

    Args:
        choices: a `random.Random`, such as `hypothesis.strategies.randoms(use_true_random=False)` draws.
        steps: how many layers are tried at most.
    """
    keras.backend.clear_session(free_memory=False)  # as conftest.py does
    pairs = [choices.choice([numbers, numbers, words])() for _ in range(choices.choice([1, 1, 2]))]
    inputs, first = map(list, zip(*pairs, strict=True))
    grower = RecurrentGrower(choices, [*first])
    for _ in range(choices.randint(2, steps)):
        grower.step()
    last = [*first, grower.pool[-1], grower.pick(*grower.pool)]
    last = [layers.LSTM(4)(x) if len(x.shape) == 3 else x for x in last]
    return randomize(keras.Model(inputs, joined(*last)), choices.randint(0, 99))
