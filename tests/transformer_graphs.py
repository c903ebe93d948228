"""Random transformers: encoders, decoders that attend to an encoder, patches of an image; of any depth and norms."""

import keras
from keras import layers, ops
from laws import randomize

import tf_terngrad as tt

STEPS, WIDTH = 6, 12


def grow(choices):
    """A random transformer with random weights, biases included.

    Args:
        choices: a `random.Random`, such as `hypothesis.strategies.randoms(use_true_random=False)` draws.
    """
    keras.utils.set_random_seed(choices.randrange(1000))
    return _Grower(choices).model()


class _Grower:
    def __init__(self, choices):
        self.pick = lambda *values: choices.choice(values)
        self.norm = self.pick(layers.LayerNormalization, layers.RMSNormalization, layers.LayerNormalization)
        self.before = self.pick(True, True, False)
        self.bias = self.pick(True, False)
        self.shared = self.pick(None, None, {})

    def model(self):
        inputs, x, table = self.pick(self.words, self.steps, self.image)()
        others = None
        if self.pick(True, False):
            other = keras.Input((4, 5))
            inputs.append(other)
            others = self.block(layers.Dense(WIDTH)(other), None)
        for _ in range(self.pick(1, 2)):
            x = self.block(x, others)
        x = self.norm()(x) if self.before else x
        if table is not None and self.pick(True, False):
            return randomize(keras.Model(inputs, table(x, reverse=True)))
        x = self.pick(layers.GlobalAveragePooling1D(), layers.Flatten(), lambda x: x[:, 0])(x)
        return randomize(keras.Model(inputs, layers.Dense(3, name="answer")(x)))

    def words(self):
        given = keras.Input((STEPS,), dtype="int32")
        reversible = hasattr(layers, "ReversibleEmbedding") and self.pick(True, False)
        table = layers.ReversibleEmbedding(20, WIDTH) if reversible else layers.Embedding(20, WIDTH)
        x = table(given)
        places = layers.Embedding(STEPS, WIDTH)(ops.arange(STEPS))
        return [given], x + places, table if reversible else None

    def steps(self):
        given = keras.Input((STEPS, 5))
        return [given], layers.Dense(WIDTH)(given), None

    def image(self):
        given = keras.Input((8, 8, 3))
        x = layers.Conv2D(WIDTH, 4, strides=4)(given)
        return [given], layers.Reshape((4, WIDTH))(x), None

    def block(self, x, others):
        """Attention and a network for each step, with residual sums; a shared one serves all calls."""
        x = self.residual(x, "attend", self.attention(), lambda attend, h: attend(h, h, use_causal_mask=self.causal))
        if others is not None:
            x = self.residual(x, "cross", layers.MultiHeadAttention(2, 3), lambda attend, h: attend(h, others))
        gated, units = self.pick(True, False), self.pick(8, 10)
        into = [layers.Dense(units, self.pick("gelu", "silu", "relu"), use_bias=self.bias)]
        into += [layers.Dense(units, use_bias=self.bias)] if gated else []
        out = layers.Dense(WIDTH, use_bias=self.bias)

        def feed(parts, h):
            *into, out = parts
            made = [layer(h) for layer in into]
            return out(made[0] * made[1] if len(made) > 1 else made[0])

        return self.residual(x, "feed", (*into, out), feed)

    @property
    def causal(self):
        return self.pick(True, False)

    def attention(self):
        options = {"use_bias": self.bias}
        if self.pick(True, False):
            return layers.GroupQueryAttention(4, 4, self.pick(1, 2, 4), **options)
        options |= {"value_dim": self.pick(None, 5)}
        if self.shared is None and self.pick(True, False):
            learned = self.pick({"groups": ["head", "offset"]}, {"groups": "block", "block": 2})
            return tt.layers.SparseAttention(3, 4, **learned, each_head=self.pick(True, False), **options)
        return layers.MultiHeadAttention(self.pick(2, 3), self.pick(3, 4), **options)

    def residual(self, x, name, made, call):
        norm = self.norm()
        if self.shared is not None:
            made, norm = self.shared.setdefault(name, (made, norm))
        drop = self.pick(layers.Dropout(0.2), lambda x: x)
        return x + drop(call(made, norm(x))) if self.before else norm(x + drop(call(made, x)))
