"""Composites are followed through their parts: custom layers, subclassed models, Lambdas, weights of their own."""

import keras
import numpy as np
import pytest
from composite_graphs import around
from keras import layers, ops
from laws import check_laws, check_widths, random_members, random_zeros, randomize, zero, zero_members

import tf_terngrad as tt

# What people write


class Block(layers.Layer):
    """A residual block with a gate for each channel."""

    def __init__(self, units, rate=0.1):
        super().__init__()
        self.first, self.second = layers.Dense(2 * units, activation="gelu"), layers.Dense(units)
        self.drop, self.units = layers.Dropout(rate), units

    def build(self, shape):
        self.scale = self.add_weight(shape=(self.units,), initializer="ones", name="scale")

    def call(self, x, training=False):
        return x + self.drop(self.second(self.first(x)), training=training) * self.scale


class ConvBlock(layers.Layer):
    """Layers in a list, and a batch normalization that follows `training`."""

    def __init__(self, filters):
        super().__init__()
        self.steps = [layers.Conv2D(filters, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()]

    def call(self, inputs, training=None):
        x = inputs
        for layer in self.steps:
            x = layer(x, training=training) if isinstance(layer, layers.BatchNormalization) else layer(x)
        return x


class TokenAndPosition(layers.Layer):
    """Two tables, one of them looked up with a constant."""

    def __init__(self, length, words, width):
        super().__init__()
        self.token, self.position = layers.Embedding(words, width), layers.Embedding(length, width)

    def call(self, ids):
        return self.token(ids) + self.position(ops.arange(ops.shape(ids)[-1]))


class OwnDense(layers.Layer):
    """The dense layer of every tutorial, by its own weights."""

    def __init__(self, units, activation=None):
        super().__init__()
        self.units, self.activation = units, keras.activations.get(activation)

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), initializer="glorot_uniform", name="w")
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", name="b")

    def call(self, inputs):
        return self.activation(ops.matmul(inputs, self.w) + self.b)


class Equation(layers.Layer):
    def build(self, shape):
        self.into = self.add_weight(shape=(shape[-1], 8), name="into")
        self.out = self.add_weight(shape=(8, 6), name="out")

    def call(self, x):
        return ops.einsum("...h,ho->...o", ops.relu(ops.einsum("bsd,dh->bsh", x, self.into)), self.out)


class Positions(layers.Layer):
    """A table of positions as a weight, with an axis for the batch, and one number for all."""

    def build(self, shape):
        self.table = self.add_weight(shape=(1, *shape[1:]), initializer="random_normal", name="table")
        self.gate = self.add_weight(shape=(), initializer="ones", name="gate")

    def call(self, x):
        return x + self.gate * self.table


class OnePlus(layers.Layer):
    """A scale that starts at zero, as Gemma's: an expression of a weight."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="zeros", name="scale")

    def call(self, x):
        return x * (1 + ops.cast(self.scale, x.dtype))


class Twins(layers.Layer):
    """Two inputs, two outputs, a setting, and one layer used twice."""

    def __init__(self):
        super().__init__()
        self.shared = layers.Dense(6)

    def call(self, pair, factor=1.0):
        first, second = pair
        return self.shared(first) * factor, self.shared(second)


class Inner(keras.Model):
    def __init__(self):
        super().__init__(name="inner")
        self.hidden, self.out = layers.Dense(12, "relu"), layers.Dense(6)

    def call(self, x):
        return self.out(self.hidden(x))


class Nested(layers.Layer):
    """Composites in a composite, one of them twice."""

    def __init__(self):
        super().__init__()
        self.inner, self.block = Inner(), Block(6)

    def call(self, x, training=None):
        return self.block(self.block(self.inner(x), training=training), training=training)


class Activated(layers.Conv2D):
    def call(self, inputs):
        return ops.tanh(super().call(inputs))


class ClassToken(layers.Layer):
    """A learnt token in front of every sequence, and positions for all: a vision transformer's first layer."""

    def __init__(self, length):
        super().__init__()
        self.positions = layers.Embedding(length + 1, 6)

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer="random_normal", name="token")

    def call(self, x):
        batch = ops.shape(x)[0]
        token = ops.broadcast_to(self.token, (batch, 1, ops.shape(x)[-1]))
        x = ops.concatenate([token, ops.reshape(x, (batch, ops.shape(x)[1], 6))], axis=1)
        return x + self.positions(ops.broadcast_to(ops.arange(ops.shape(x)[1])[None], (batch, ops.shape(x)[1])))


class TiledToken(ClassToken):
    def call(self, x):
        batch, length = ops.shape(x)[:2]
        token = ops.tile(self.token, (batch, 1, 1))
        return ops.concatenate([x, token], axis=1) + ops.ones((batch, length + 1, 1))


class RepeatedToken(ClassToken):
    def call(self, x):
        return ops.concatenate([ops.repeat(self.token, ops.shape(x)[0], axis=0), x], axis=1)


class Pair(layers.Layer):
    """It gives None where it has nothing to give, as attention without scores."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(6)

    def build(self, shape):
        self.shift = self.add_weight(shape=(shape[-1],), name="shift")

    def call(self, x, training=None):
        return self.dense(x + self.shift), None


class OfPairs(layers.Layer):
    def __init__(self):
        super().__init__()
        self.pairs = [Pair(), Pair()]

    def call(self, x, training=None):
        for pair in self.pairs:
            x, _ = pair(x, training=training)
        return x


class HalfMasked(layers.Layer):
    """A mask of truth values for each example."""

    def call(self, x):
        batch, length = ops.shape(x)[:2]
        mask = ops.logical_and(ops.ones((batch, length, 1), "bool"), ops.arange(length)[None, :, None] < 3)
        return ops.where(mask, x, ops.zeros((batch, length, 1)))


class Anew(layers.Layer):
    """A sum and a product that are made in each call, and an identity of which Keras writes down no policy."""

    def __init__(self):
        super().__init__()
        self.gate = layers.Dense(6, "sigmoid")
        self.dense, self.same = layers.Dense(6), layers.Identity(dtype=keras.DTypePolicy("float32"))

    def call(self, x):
        return layers.multiply([layers.add([self.same(x), self.dense(x)]), self.gate(x)], name="product")


class Crossing(layers.Layer):
    """Its weights stand in lists and in a dict."""

    def build(self, shape):
        self.kernels = [self.add_weight(shape=(6, 6), name=f"kernel_{i}") for i in range(2)]
        self.scales = {"inner": self.add_weight(shape=(6,), name="scale"), "pair": (self.add_weight(shape=()), 2.0)}

    def call(self, x):
        for kernel in self.kernels:
            x = x + self.scales["inner"] * ops.tensordot(x, kernel, axes=[[1], [0]])
        return x * self.scales["pair"][0] * self.scales["pair"][1]


class Beside(layers.Layer):
    """The mean beside each step, by the sizes."""

    def call(self, x):
        return ops.concatenate([x, ops.broadcast_to(ops.mean(x, 1, keepdims=True), ops.shape(x))], -1)


class Keyed(layers.Layer):
    """Keys that are no tuples."""

    def build(self, shape):
        self.shift = self.add_weight(shape=shape[1:], name="shift")

    def call(self, x):
        return ops.relu(x + self.shift[None])[...]


def twins(x):
    a, b = Twins()([x, layers.Dense(6, "relu", name="other")(x)], factor=2.0)
    return layers.Concatenate()([a, b])


STYLES = {
    "Block": ((5, 6), lambda x: Block(6)(x)),
    "ConvBlock": ((8, 8, 6), lambda x: ConvBlock(8)(x)),
    "OwnDense": ((6,), lambda x: OwnDense(8, "relu")(x)),
    "OwnDense in time": ((5, 6), lambda x: OwnDense(8)(x)),
    "Equation": ((5, 6), lambda x: Equation()(x)),
    "Positions": ((5, 6), lambda x: Positions()(x)),
    "Positions in space": ((3, 4, 6), lambda x: Positions()(x)),
    "OnePlus": ((6,), lambda x: OnePlus()(x)),
    "ClassToken": ((5, 6), lambda x: ClassToken(5)(x)),
    "TiledToken": ((5, 6), lambda x: TiledToken(5)(x)),
    "RepeatedToken": ((5, 6), lambda x: RepeatedToken(5)(x)),
    "HalfMasked": ((5, 6), lambda x: HalfMasked()(x)),
    "OfPairs": ((6,), lambda x: OfPairs()(x)),
    "Anew": ((6,), lambda x: Anew()(x)),
    "Twins": ((6,), twins),
    "Crossing": ((6,), lambda x: Crossing()(x)),
    "Beside": ((4, 6), lambda x: Beside()(x)),
    "Keyed": ((4, 6), lambda x: Keyed()(x)),
    "Nested": ((5, 6), lambda x: Nested()(x)),
    "Inner": ((6,), lambda x: Inner()(x)),
    "Activated": ((6, 6, 6), lambda x: Activated(8, 3)(x)),
    "Lambda": ((6,), lambda x: layers.Lambda(lambda t: ops.abs(t) * 2 + 1)(x)),
    "used twice": ((5, 6), lambda x: (lambda block: block(layers.Dense(6, name="between")(block(x))))(Block(6))),
}


@pytest.mark.parametrize("name", STYLES)
def test_what_is_inside_of_a_composite_can_leave(name):
    model = around(*STYLES[name])
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    zero_members(model, random_members(1))
    small = check_laws(model)
    assert small.count_params() < model.count_params()


class Rescaled(layers.Dense):
    """Its kernel is a product, as where a learning rate is equalized."""

    def call(self, x):
        return ops.tanh(ops.matmul(x, self.kernel * 0.5) + self.bias)


class Standardized(layers.Conv2D):
    """Each filter's weights have the mean 0 and the variance 1."""

    def convolution_op(self, inputs, kernel):
        mean = ops.mean(kernel, (0, 1, 2), keepdims=True)
        return super().convolution_op(inputs, (kernel - mean) / (ops.std(kernel, (0, 1, 2), keepdims=True) + 1e-3))


@pytest.mark.parametrize("padding, strides", [("same", 1), ("valid", 2)])
def test_filters_of_a_standardized_kernel_leave_with_what_they_read(padding, strides):
    def standardized(x):
        x = Standardized(9, 3, padding=padding, strides=strides, activation="relu", name="first")(x)
        return Standardized(8, 2, activation="tanh", name="second")(x)

    model = around((6, 6, 6), standardized)
    sizes = {each.name: each.size for each in tt.structures(model)}
    assert sizes == {"front": 6, "first/kernel": 9, "second/kernel": 8}
    zero_members(model, random_members(1))
    small = check_laws(model)
    assert sorted(w.shape[-1] for w in small.weights if w.name == "embeddings") == sorted([6, 6, 6, 6])
    random_zeros(model, 2)
    check_laws(model, must_vary=False)


class Softened(layers.Dense):
    """Its kernel is a distribution over the units."""

    def call(self, x):
        return ops.matmul(x, ops.softmax(self.kernel, axis=-1))


def test_units_of_a_kernel_that_is_computed_leave():
    model = around((6,), Rescaled(9, name="own"))
    (found,) = [each for each in tt.structures(model) if each.size == 9]
    assert (found.name, found.kind) == ("own/kernel", "unit")
    found.zero([0, 4])
    small = check_laws(model)
    assert model.count_params() - small.count_params() == 2 * (6 + 1 + 3)  # a column, a bias, a row of the reader


def test_units_of_a_kernel_that_is_computed_are_said_to_stay():
    model = around(
        (6,), Softened(9, use_bias=False, name="own")
    )  # Keras before 3.14 makes no graph with what nobody reads
    (frozen,) = [each for each in tt.structures(model).frozen if each.size == 9]
    assert frozen.name == "own/kernel" and "Softmax runs across channels" in str(frozen)
    zero_members(model, random_members(1))
    check_laws(model)


def test_the_smaller_model_has_stock_parts_and_loads_without_the_class(tmp_path):
    model = around((5, 6), lambda x: TokenLess()(x))
    zero_members(model, random_members(1))
    small = tt.compact(model)
    small.save(tmp_path / "small.keras")
    assert "TokenLess" not in small.to_json()
    again = keras.models.load_model(tmp_path / "small.keras")
    x = np.random.default_rng(0).normal(size=(3, 5, 6)).astype("float32")
    np.testing.assert_array_equal(again(x), small(x))


class TokenLess(layers.Layer):
    """Never registered, without a configuration."""

    def __init__(self):
        super().__init__()
        self.block, self.positions = Block(6), Positions()

    def call(self, x, training=None):
        return self.block(self.positions(x), training=training)


class Rotated(layers.Layer):
    """Steps that are rotated by their position, as language models do it: it has no weights, and takes any heads."""

    def __init__(self, interleaved):
        super().__init__()
        self.interleaved = interleaved

    def call(self, x):
        steps, width = x.shape[1], x.shape[3]
        angles = ops.outer(ops.arange(steps, dtype="float32"), 10.0 ** -ops.arange(width // 2, dtype="float32"))
        if self.interleaved:
            angles = ops.repeat(angles, 2, axis=-1)
            turned = ops.reshape(ops.stack([-x[..., 1::2], x[..., ::2]], axis=-1), ops.shape(x))
        else:
            angles = ops.concatenate([angles, angles], axis=-1)
            first, second = ops.split(x, 2, axis=-1)
            turned = ops.concatenate([-second, first], axis=-1)
        return x * ops.cos(angles)[:, None] + turned * ops.sin(angles)[:, None]


class Attention(layers.Layer):
    """Four heads that ask, two that answer."""

    def __init__(self, interleaved):
        super().__init__()
        self.query = layers.EinsumDense("btd,dhk->bthk", (None, 4, 6), bias_axes="hk")
        self.key, self.value = (layers.EinsumDense("btd,dhk->bthk", (None, 2, 6)) for _ in range(2))
        self.out, self.rotated = layers.EinsumDense("bthk,hkd->btd", (None, 8)), Rotated(interleaved)

    def call(self, x):
        query, key = self.rotated(self.query(x)), ops.repeat(self.rotated(self.key(x)), 2, axis=2)
        scores = ops.softmax(ops.einsum("bthk,bshk->bhts", query, key))
        return self.out(ops.einsum("bhts,bshk->bthk", scores, ops.repeat(self.value(x), 2, axis=2)))


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotated_heads_leave_in_pairs(interleaved):
    inputs = keras.Input((5, 8))
    x = inputs + Attention(interleaved)(inputs)
    x = x + layers.Dense(8, name="last")(layers.Dense(12, "gelu", name="first")(x))
    model = randomize(keras.Model(inputs, layers.Dense(3, name="reader")(x)))
    sizes = [found.size for found in tt.structures(model) if found.kind != "branch"]
    assert sorted(sizes) == [2, 3, 6, 12]  # groups of heads, pairs that rotate, values, units
    check_widths(tt.compact(model), random_members(0, fraction=0.5))


def test_a_constant_lookup_stays_a_table_of_positions():
    ids = keras.Input((7,), dtype="int32")
    model = keras.Model(ids, layers.Dense(3)(layers.Flatten()(TokenAndPosition(7, 20, 6)(ids))))
    (table,) = [each for each in tt.structures(model) if each.kind == "unit"]
    assert [piece.variable.shape for piece in table.slices] == [(20, 6), (7, 6), (42, 3)]
    table.zero([1, 4])
    small = check_laws(model)
    assert [weight.shape for weight in small.weights][:2] == [(20, 4), (7, 4)]


# Training


def test_training_reaches_the_parts():
    model = around((8, 8, 6), lambda x: ConvBlock(8)(x))
    zero_members(model, random_members(1))
    small = tt.compact(model)
    x = np.random.default_rng(0).normal(3, 1, size=(16, 8, 8, 6)).astype("float32")
    np.testing.assert_allclose(small(x, training=True), model(x, training=True), rtol=1e-4, atol=1e-4)
    moved = [weight for weight in small.weights if "moving_mean" in weight.name]
    assert moved and all(np.abs(weight.numpy()).max() > 0.01 for weight in moved)


@pytest.mark.parametrize("regularizer", ["l1", "l2", keras.regularizers.L1L2(0.1, 0.2)])
def test_an_activity_regularizer_adds_the_same_loss(regularizer):
    class Regular(OwnDense):
        def __init__(self):
            super().__init__(8)
            self.activity_regularizer = keras.regularizers.get(regularizer)

    model = around((6,), lambda x: Regular()(x))
    zero_members(model, random_members(1))
    small, x = check_laws(model), np.random.default_rng(0).normal(size=(5, 6))
    assert small.count_params() < model.count_params()
    model(x), small(x)
    np.testing.assert_allclose(sum(small.losses), sum(model.losses), rtol=1e-5)


def test_dropout_inside_is_dropout():
    model = around((5, 6), lambda x: Block(6, rate=0.5)(x))
    zero_members(model, random_members(1))
    small, x = tt.compact(model), np.ones((64, 5, 6), "float32")
    assert np.abs(small(x, training=True) - small(x, training=False)).max() > 1e-2


class Classifier(keras.Model):
    """The model of a tutorial."""

    def __init__(self):
        super().__init__()
        self.embed = TokenAndPosition(7, 20, 8)
        self.blocks = [Block(8), Block(8)]
        self.head = keras.Sequential([layers.Dense(10, "relu"), layers.Dense(3)])

    def call(self, ids, training=False):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(ops.mean(x, axis=1))


def test_a_subclassed_model_is_trained_as_it_is_and_compacted():
    keras.utils.set_random_seed(0)
    ids = np.random.default_rng(0).integers(0, 20, (64, 7))
    model = Classifier()
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(ids, ids[:, 0] % 3, verbose=0)
    penalty = tt.sparsify(model, strength=0.05)
    before = [structure.norms() for structure in penalty.structures]
    model.fit(ids, ids[:, 0] % 3, epochs=9, verbose=0)
    assert all((new.norms() < old).all() for new, old in zip(penalty.structures, before, strict=True))
    zero_members(model, random_members(0))
    small = tt.compact(model)
    assert small.count_params() < 0.8 * model.count_params()
    np.testing.assert_allclose(small(ids), model(ids), rtol=1e-4, atol=1e-5)
    assert small.inputs[0].dtype == "int32"


def test_a_subclass_has_the_structures_of_the_functional_model():
    model = Inner()
    model(np.zeros((2, 6)))
    inputs = keras.Input((6,), name="inner_input")
    twin = keras.Model(inputs, model.out(model.hidden(inputs)))
    assert str(tt.structures(model)) == str(tt.structures(twin))
    assert tt.compare(model, tt.compact(model)).rows


def test_mixed_precision_computes_the_same():
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = around((5, 6), lambda x: Positions()(OwnDense(6, "relu")(Block(6)(x))))
        zero_members(model, random_members(1))
        check_laws(model)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


class Demodulated(layers.Layer):
    """A convolution over the norm of its kernel, which is read twice."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(3, 3, shape[-1], 8), name="kernel")

    def call(self, x):
        return ops.conv(x, self.kernel) * ops.rsqrt(ops.sum(ops.square(self.kernel[None]), axis=(1, 2, 3)) + 0.1)


def test_an_axis_that_one_reader_of_a_weight_keeps_stays():
    layer = Demodulated()
    model = around((6, 6, 6), layer)
    zero(layer.kernel, 0, [1])  # a row of the window: for the sum alone it could leave
    check_laws(model)
