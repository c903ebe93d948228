"""Random models: graphs that nobody thought of."""

import dataclasses
import random

import keras
import numpy as np
from keras import layers, ops
from laws import randomize

from tf_terngrad.keras_internals import absent

ACTIVATIONS = (None, "relu", "sigmoid", "softplus", "tanh", "gelu")


@dataclasses.dataclass
class Grower:
    """Grows a random model: each step draws a layer that the picked tensor can enter."""

    random: random.Random
    pool: list

    def pick(self, *options):
        return self.random.choice(options)

    def chance(self):
        return self.pick(True, False)

    def width(self):
        return self.pick(4, 8)

    def activation(self):
        return self.pick(*ACTIVATIONS)

    def step(self):
        x = self.pick(*self.pool)
        steps = {2: FLAT, 3: SEQUENCE, 4: IMAGE}[len(x.shape)]
        y = self.pick(*steps)(self, x)
        if y is not None and len(y.shape) > 1:
            self.pool.append(y)

    def partner(self, x):
        """Another tensor of the pool with the same shape, or the same one through a layer of its own."""
        same = [y for y in self.pool if y.shape == x.shape]
        return self.pick(*same) if self.chance() else layers.Dense(x.shape[-1], self.activation())(x)


def _convolution(g, x):
    padding = g.pick("same", "valid") if _least(x) > 3 else "same"
    rank = len(x.shape) - 2
    kind = getattr(layers, g.pick("Conv", "SeparableConv") + f"{rank}D")
    options = {"activation": g.activation(), "use_bias": g.chance(), "padding": padding}
    return kind(g.width(), g.pick(1, 3), strides=g.pick(1, 2), **options)(x)


def _grouped(g, x):
    groups = g.pick(2, 4, x.shape[-1])
    if x.shape[-1] % groups:
        return None
    kind = getattr(layers, f"Conv{len(x.shape) - 2}D")
    return kind(x.shape[-1] * g.pick(1, 2), 3, padding="same", groups=groups, activation=g.activation())(x)


def _depthwise(g, x):
    kind = getattr(layers, f"DepthwiseConv{len(x.shape) - 2}D")
    return kind(3, padding="same", depth_multiplier=g.pick(1, 2), use_bias=g.chance())(x)


def _transposed(g, x):
    if not _least(x):
        return None
    kind = getattr(layers, f"Conv{len(x.shape) - 2}DTranspose")
    return kind(g.width(), 2, strides=2, padding=g.pick("same", "valid"))(x) if max(x.shape[1:-1]) < 9 else None


def _pooled(g, x):
    if _least(x) < 2:
        return None
    rank = len(x.shape) - 2
    return getattr(layers, g.pick("MaxPooling", "AveragePooling") + f"{rank}D")(2, padding=g.pick("same", "valid"))(x)


def _bordered(g, x):
    if not _least(x):
        return None
    rank = len(x.shape) - 2
    kind = g.pick("ZeroPadding", "Cropping", "UpSampling") if _least(x) > 3 else "ZeroPadding"
    return getattr(layers, f"{kind}{rank}D")(1 if kind != "UpSampling" else 2)(x) if max(x.shape[1:-1]) < 9 else None


def _global(g, x):
    return getattr(layers, g.pick("GlobalMaxPooling", "GlobalAveragePooling") + f"{len(x.shape) - 2}D")()(x)


def _reduced(g, x):
    axes = tuple(range(1, len(x.shape) - 1))
    return ops.mean(x, axis=axes, keepdims=g.chance()) if axes else None


def _normalized(g, x):
    kind = g.pick("BatchNormalization", "GroupNormalization", "LayerNormalization")
    if kind == "GroupNormalization" and x.shape[-1] % 4:
        return None
    return layers.GroupNormalization(g.pick(2, 4))(x) if kind == "GroupNormalization" else getattr(layers, kind)()(x)


def _activated(g, x):
    kind = g.pick("Activation", "PReLU", "LeakyReLU", "Rescaling", "Dropout", "Softmax", "op", "arithmetic")
    return {
        "Activation": lambda: layers.Activation(g.pick(*ACTIVATIONS[1:]))(x),
        "PReLU": lambda: layers.PReLU(shared_axes=list(range(1, len(x.shape) - 1)) or None)(x),
        "LeakyReLU": lambda: layers.LeakyReLU()(x),
        "Rescaling": lambda: layers.Rescaling([0.5 + 0.1 * i for i in range(x.shape[-1])], 0.5)(x),
        "Dropout": lambda: layers.Dropout(0.5)(x),
        "Softmax": lambda: layers.Softmax()(x),
        "op": lambda: g.pick(ops.relu, ops.sigmoid, ops.tanh, ops.abs)(x),
        "arithmetic": lambda: 0.5 * x + 0.25,
    }[kind]()


def _dense(g, x):
    kind = g.pick("Dense", "Dense", "plain", "heads") if len(x.shape) == 3 else "Dense"
    if kind == "plain":
        return layers.EinsumDense("...x,xy->...y", 4, g.activation(), bias_axes=g.pick("y", None))(x)
    if kind == "heads":
        y = layers.EinsumDense("abx,xyz->abyz", (None, 2, 3), bias_axes=g.pick("yz", None))(x)
        return layers.EinsumDense("abyz,yzw->abw", (None, 4), bias_axes="w")(y)
    return layers.Dense(g.width(), g.activation(), use_bias=g.chance())(x)


def _combined(g, x):
    kind = g.pick("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "+", "*")
    y = g.partner(x)
    if kind in "+*":
        return x + y if kind == "+" else x * y
    return getattr(layers, kind)()([x, y])


def _excited(g, x):
    axes = tuple(range(1, len(x.shape) - 1))
    s = ops.mean(x, axis=axes, keepdims=True) if axes else x
    s = layers.Dense(4, "relu")(s)
    return layers.Multiply()([x, layers.Dense(x.shape[-1], "sigmoid")(s)])


def _split(g, x):
    half = x.shape[-1] // 2
    if x.shape[-1] % 2:
        return x[..., half:]
    a, b = ops.split(x, 2, axis=-1) if g.chance() else (x[..., :half], x[..., half:])
    kind = g.pick("swap", "one", "sum", "every other")
    if kind == "every other":
        return x[..., ::2]
    return {"swap": lambda: ops.concatenate([b, a], -1), "one": lambda: a, "sum": lambda: a + b}[kind]()


def _shuffled(g, x):
    groups, (*space, width) = 2, x.shape[1:]
    if width % groups:
        return None
    y = layers.Reshape((*space, groups, width // groups))(x)
    y = ops.swapaxes(y, -1, -2) if g.chance() else y
    return layers.Reshape((*space, width))(y)


def _flattened(g, x):
    return layers.Flatten()(x) if _elements(x) <= 256 else None


def _rearranged(g, x):
    if len(x.shape) == 4:
        return g.pick(
            lambda: layers.Reshape((x.shape[1] * x.shape[2], x.shape[3]))(x),
            lambda: layers.Permute((2, 1, 3))(x),
            lambda: layers.Permute((3, 1, 2))(x),
        )()
    if len(x.shape) == 3:
        return g.pick(lambda: layers.Permute((2, 1))(x), lambda: layers.Reshape((x.shape[1], 1, x.shape[2]))(x))()
    return g.pick(lambda: layers.RepeatVector(3)(x), lambda: layers.Reshape((1, 1, x.shape[1]))(x))()


def _distributed(g, x):
    return layers.TimeDistributed(layers.Dense(4, g.activation()))(x)


def _nested(g, x):
    inner = keras.Input(x.shape[1:])
    a, b = layers.Dense(4, g.activation())(inner), layers.Dense(4)(inner)
    model = keras.Model(inner, g.pick(layers.Concatenate(), layers.Add())([a, b]))
    return model(x) if g.chance() else ops.add(model(x), model(g.partner(x)))


def _dotted(g, x):
    return layers.Dot(-1)([x, layers.Dense(x.shape[-1])(x)])


def _operated(g, x):
    axis, width = g.pick(*range(1, len(x.shape))), x.shape[-1]
    ends = [(0, 0)] * axis + [(g.pick(0, 1), g.pick(1, 2))] + [(0, 0)] * (len(x.shape) - axis - 1)
    if _elements(x) > 600:
        return None
    return g.pick(
        lambda: ops.pad(x, ends, constant_values=g.pick(None, 0.5)),
        lambda: ops.roll(x, g.pick(-1, 2), axis=axis),
        lambda: ops.repeat(x, 2, axis=axis),
        lambda: ops.tile(x, [1] * axis + [2]) if axis == len(x.shape) - 1 else None,
        lambda: ops.mean(ops.stack([x, g.partner(x)], axis=axis), axis=axis),
        lambda: g.pick(ops.add, ops.multiply, ops.maximum)(x, np.linspace(-1, 1, width, dtype="float32")),
        lambda: (
            x / (1 + ops.var(x, axis=axis, keepdims=True)) if axis < len(x.shape) - 1 else ops.normalize(x, axis=axis)
        ),
        lambda: ops.cumsum(x, axis=axis),
        lambda: x * ops.repeat(layers.Dense(1, "sigmoid")(x), width, axis=-1),
        lambda: (
            ops.einsum("b...d,bd->b...d", x, layers.Dense(width)(layers.Flatten()(x))) if len(x.shape) == 3 else None
        ),
    )()


def _resized(g, x):
    kind = g.pick("resize", "crop", "blocks")
    if kind == "blocks":
        fits = x.shape[-1] % 4 == 0 and max(x.shape[1:-1]) < 9 and "DepthToSpace" not in absent()
        return ops.depth_to_space(x, 2) if fits else None
    return layers.Resizing(4, 6)(x) if kind == "resize" else layers.CenterCrop(3, 3)(x)


ANY = [
    _operated,
    _operated,
    _normalized,
    _activated,
    _dense,
    _combined,
    _combined,
    _excited,
    _split,
    _shuffled,
    _rearranged,
    _nested,
]
FLAT = [*ANY, _dense, _dense]
SEQUENCE = [*ANY, _convolution, _grouped, _depthwise, _transposed, _pooled, _bordered, _global, _reduced, _flattened]
SEQUENCE += [_distributed, _dotted]
IMAGE = [*ANY, _convolution, _convolution, _convolution, _grouped, _depthwise, _transposed, _pooled, _bordered]
IMAGE += [_resized, _resized, _global, _reduced, _flattened, _distributed]


def grow(choices, steps=8, kind=Grower):
    """A random Functional model: inputs of any rank, up to `steps` random layers, one or two outputs.

    Args:
        choices: a `random.Random`, such as `hypothesis.strategies.randoms(use_true_random=False)` draws.
        steps: how many layers are tried at most.
        kind: the `Grower` that draws them.
    """
    keras.backend.clear_session(free_memory=False)  # as conftest.py does
    shapes = choices.choice([[(6, 6, 4)], [(8,)], [(6, 4)], [(8,), (8,)], [(6, 6, 4), (8,)]])
    inputs = [keras.Input(shape) for shape in shapes]
    grower = kind(choices, [_first(x) for x in inputs])
    for _ in range(choices.randint(2, steps)):
        grower.step()
    outputs = [_last(x) for x in (grower.pool[-1], grower.pick(*grower.pool))]
    for x in inputs:
        outputs[0] = layers.Add()([outputs[0], _last(x)])
    return randomize(keras.Model(inputs, outputs[: grower.pick(1, 2)]), choices.randint(0, 99))


def _first(x):
    return layers.Dense(8)(x) if len(x.shape) == 2 else x


def _last(x):
    """Three numbers that any tensor leads to."""
    if len(x.shape) > 2:
        x = layers.Flatten()(x) if _elements(x) <= 64 else ops.mean(x, axis=tuple(range(1, len(x.shape) - 1)))
    return layers.Dense(3)(x)


def _elements(x):
    """How many numbers an example has; without end where a size is open."""
    return np.inf if None in x.shape[1:] else np.prod(x.shape[1:])


def _least(x):
    """How long the shortest axis of space is; 0 where a size is open."""
    return min(size or 0 for size in x.shape[1:-1])
