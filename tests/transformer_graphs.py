"""Random transformers: encoders, decoders that attend to an encoder, patches of an image; of any depth and norms."""

import keras
from keras import layers, ops
from laws import randomize

import tf_terngrad as tt

STEPS, WIDTH = 6, 12


@keras.saving.register_keras_serializable()
class Positions(layers.Layer):
    """Adds a learnt vector for each step."""

    def __init__(self, steps, **options):
        super().__init__(**options)
        self.steps = steps
        self.table = layers.Embedding(steps, WIDTH)

    def build(self, shape):
        self.table.build()

    def call(self, x):
        return x + self.table(ops.arange(self.steps))

    def get_config(self):
        return {**super().get_config(), "steps": self.steps}


@keras.saving.register_keras_serializable()
class ClassToken(layers.Layer):
    """Puts a learnt vector in front of the steps."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")

    def call(self, x):
        return ops.concatenate([ops.broadcast_to(self.token, (ops.shape(x)[0], 1, WIDTH)), x], axis=1)


CLASSES = {kind.__name__: kind for kind in (Positions, ClassToken)}


def grow(choices, **limits):
    """A random transformer with random weights, biases included.

    Args:
        choices: a `random.Random`, such as `hypothesis.strategies.randoms(use_true_random=False)` draws.
        **limits: what a choice is in any case: `depth`, `masked`, or `stem`, "words", "steps" or "image".
    """
    keras.utils.set_random_seed(choices.randrange(1000))
    return _Grower(choices, limits).model()


class _Grower:
    def __init__(self, choices, limits):
        self.pick = lambda *values: choices.choice(values)
        self.limits = limits
        self.masked = limits.get("masked", self.pick(True, False, False))
        self.norm = self.pick(layers.LayerNormalization, layers.RMSNormalization, layers.LayerNormalization)
        self.before = self.pick(True, True, False)
        self.bias = self.pick(True, False)
        self.shared = self.pick(None, None, {})

    def model(self):
        stem = self.pick("words", "steps", "image")
        inputs, x, table = getattr(self, self.limits.get("stem", stem))()
        others, self.mask = None, None
        if self.pick(True, False):
            other = keras.Input((4, 5))
            inputs.append(other)
            others = self.block(layers.Dense(WIDTH)(other), None)
        if self.masked:
            inputs.append(keras.Input((x.shape[1],), dtype="int32"))
            self.mask = ops.expand_dims(inputs[-1], 1) > 0
        for _ in range(self.limits.get("depth", self.pick(1, 2))):
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
        x = Positions(STEPS)(table(given))
        return [given], x, table if reversible else None

    def steps(self):
        given = keras.Input((STEPS, 5))
        return [given], layers.Dense(WIDTH)(given), None

    def image(self):
        given = keras.Input((8, 8, 3))
        x = layers.Conv2D(WIDTH, 4, strides=4)(given)
        x = layers.Reshape((4, WIDTH))(x)
        return [given], self.pick(ClassToken(), lambda x: x)(Positions(4)(x)), None

    def block(self, x, others):
        """Attention and a network for each step, with residual sums; a shared one serves all calls."""
        x = self.residual(x, "attend", self.attention(), lambda attend, h: attend(h))
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

    def attention(self):
        """Attention of all steps to one another, a function of a tensor."""
        kind, causal, options = (
            self.pick("stock", "grouped", "by hand"),
            self.pick(True, False),
            {"use_bias": self.bias},
        )
        if kind == "by hand":
            return self.by_hand(causal)
        if kind == "grouped":
            layer = layers.GroupQueryAttention(4, 4, self.pick(1, 2, 4), **options)
        elif self.shared is None and self.pick(True, False):
            learned = self.pick({"groups": ["head", "offset"]}, {"groups": "block", "block": 2})
            layer = tt.layers.SparseAttention(3, 4, **learned, each_head=self.pick(True, False), **options)
        else:
            layer = layers.MultiHeadAttention(self.pick(2, 3), self.pick(3, 4), value_dim=self.pick(None, 5), **options)
        return lambda x: layer(x, x, attention_mask=self.mask_of(x), use_causal_mask=causal)

    def mask_of(self, x):
        """Which steps are there to look at, if the model is told and these are its steps; else None."""
        return self.mask if self.mask is not None and self.mask.shape[-1] == x.shape[1] else None

    def by_hand(self, causal):
        """The same with heads behind a reshape, of one projection or of three."""
        heads, size, fused = self.pick(2, 3), self.pick(3, 4), self.pick(True, False)
        parts = [layers.Dense(heads * size * (3 if fused else 1), use_bias=self.bias) for _ in range(1 if fused else 3)]
        out, norm = layers.Dense(WIDTH, use_bias=self.bias), self.pick(lambda x: x, layers.RMSNormalization())

        def attend(x):
            steps, mask = x.shape[1], self.mask_of(x)
            made = ops.split(parts[0](x), 3, axis=-1) if fused else [part(x) for part in parts]
            split = (ops.transpose(ops.reshape(each, (-1, steps, heads, size)), (0, 2, 1, 3)) for each in made)
            query, key, value = split
            scores = ops.matmul(norm(query), ops.swapaxes(key, -1, -2)) * size**-0.5
            scores = ops.where(ops.tril(ops.ones((steps, steps))) > 0, scores, -1e4) if causal else scores
            scores = scores if mask is None else ops.where(ops.expand_dims(mask, 1), scores, -1e4)
            y = ops.transpose(ops.matmul(ops.softmax(scores), value), (0, 2, 1, 3))
            return out(ops.reshape(y, (-1, steps, heads * size)))

        return attend

    def residual(self, x, name, made, call):
        norm = self.norm()
        if self.shared is not None:
            made, norm = self.shared.setdefault(name, (made, norm))
        drop = self.pick(layers.Dropout(0.2), lambda x: x)
        return x + drop(call(made, norm(x))) if self.before else norm(x + drop(call(made, x)))
