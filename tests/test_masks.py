"""Masks keep their meaning where composites are opened: taken, handed on, changed, dropped, or not shown at all."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from laws import check_laws, check_widths, outputs_of, random_members, randomize, zero_members

import tf_terngrad as tt
from tf_terngrad.keras_internals import mask_of

# Keras's own words for what a layer that says nothing of masks is given; it has them for the user's model too.
pytestmark = pytest.mark.filterwarnings("ignore:Layer '.*' .* was passed an input with a mask:UserWarning")


# What people write


class Feed(layers.Layer):
    """It hands the mask on, for it says so."""

    def __init__(self, width=6):
        super().__init__()
        self.inner, self.outer = layers.Dense(2 * width, "relu"), layers.Dense(width)
        self.supports_masking = True

    def call(self, x):
        return ops.tanh(x + self.outer(self.inner(x)))


class Zeroing(Feed):
    """It takes the mask, too."""

    def call(self, x, mask=None):
        x = super().call(x)
        return x if mask is None else x * ops.cast(mask, x.dtype)[..., None]


class Forgetting(layers.Layer):
    """It says nothing of masks, and computes with a weight by itself: what comes behind sees none."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 6), name="kernel")
        self.bias = self.add_weight(shape=(6,), name="bias")

    def call(self, x):
        return ops.matmul(x, self.kernel) + self.bias


class Transparent(layers.Layer):
    """It says nothing of masks, but its layers do."""

    def __init__(self):
        super().__init__()
        self.steps, self.last = layers.GRU(6, return_sequences=True), layers.Dense(6)

    def call(self, x):
        return self.last(self.steps(x))


class Halving(layers.Layer):
    """Every other step, and a mask to match."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(6)

    def call(self, x, mask=None):
        return self.dense(x)[:, ::2]

    def compute_mask(self, inputs, mask=None):
        return None if mask is None else mask[:, ::2]


class Tokens(layers.Layer):
    """Two tables; where the words end says the first of them."""

    def __init__(self):
        super().__init__()
        self.token, self.position = layers.Embedding(5, 6, mask_zero=True), layers.Embedding(6, 6)

    def call(self, ids):
        return self.token(ids) + self.position(ops.arange(ops.shape(ids)[-1]))

    def compute_mask(self, ids, mask=None):
        return self.token.compute_mask(ids)


class Attending(layers.Layer):
    """A transformer's block; attention reads the masks of its queries and values."""

    def __init__(self):
        super().__init__()
        self.attention = layers.MultiHeadAttention(2, 3)
        self.sum, self.norm, self.feed = layers.Add(), layers.LayerNormalization(), Feed()
        self.supports_masking = True

    def call(self, x, training=None):
        x = self.norm(self.sum([x, self.attention(x, x, training=training)]))
        return self.feed(x)


class Decoding(layers.Layer):
    """A translation's decoder, whose feed-forward part is a model in it; the last normalization has the mask."""

    def __init__(self):
        super().__init__()
        self.attention, self.across = layers.MultiHeadAttention(2, 3), layers.MultiHeadAttention(2, 3)
        self.feed = keras.Sequential([layers.Dense(12, "relu"), layers.Dense(6)])
        self.norms, self.sum = [layers.LayerNormalization() for _ in range(3)], layers.Add()
        self.supports_masking = True

    def call(self, inputs, mask=None):
        x, encoded = inputs
        own, others = mask or (None, None)
        x = self.norms[0](self.sum([x, self.attention(x, x, query_mask=own, use_causal_mask=True)]))
        x = self.norms[1](self.sum([x, self.across(x, encoded, query_mask=own, key_mask=others)]))
        return self.norms[2](self.sum([x, self.feed(x)]))


class Crossing(layers.Layer):
    """Two sequences, the mask of one of them."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(6)

    def call(self, query, value, value_mask=None):
        scores = ops.matmul(self.dense(query), ops.transpose(self.dense(value), (0, 2, 1)))
        if value_mask is not None:
            scores = scores - 1e9 * (1 - ops.cast(value_mask, "float32"))[:, None]
        return ops.matmul(ops.softmax(scores), value)


class Recalling(layers.Layer):
    """Attention to steps that are weights; the mask of the queries goes on."""

    def __init__(self):
        super().__init__()
        self.attention = layers.Attention()

    def build(self, shape):
        self.memory = self.add_weight(shape=(1, 4, shape[-1]), name="memory")

    def call(self, x):
        return self.attention([x, self.memory])


class Mean(layers.Layer):
    """The mean of the steps that are there; no mask is left."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(6, "relu")
        self.supports_masking = True

    def call(self, x, mask=None):
        x = self.dense(x)
        if mask is None:
            return ops.mean(x, 1)
        shown = ops.cast(mask, x.dtype)[..., None]
        return ops.sum(x * shown, 1) / (ops.sum(shown, 1) + 1e-3)

    def compute_mask(self, inputs, mask=None):
        return None


class Stack(keras.layers.Layer):
    """Composites in a composite that are told `training`."""

    def __init__(self):
        super().__init__()
        self.parts, self.supports_masking = [Zeroing(), Feed(), Attending()], True

    def call(self, x, training=None):
        for part in self.parts:
            x = part(x, training=training) if isinstance(part, Attending) else part(x)
        return x


def words(ids):
    return layers.Embedding(5, 6, mask_zero=True, name="words")(ids)


def explicit(ids):
    mask = ops.not_equal(ids, 0)
    return Zeroing()(layers.Embedding(5, 6, name="words")(ids), mask=mask)


class After(layers.Layer):
    """A recurrent layer reads what attention has taken the mask off, with what attention gives."""

    def __init__(self):
        super().__init__()
        self.attention, self.sum, self.steps = layers.MultiHeadAttention(2, 3), layers.Add(), layers.LSTM(6)

    def call(self, x):
        return self.steps(self.sum([x, self.attention(x, x)]))


def decoded(ids):
    return Decoding()([words(ids), layers.Embedding(5, 6, mask_zero=True, name="source")(ids)])


def crossed(ids):
    x = words(ids)
    return Crossing()(layers.Dense(6, name="query")(x), x)


STYLES = {
    "handed on": lambda ids: Feed()(words(ids)),
    "taken": lambda ids: Zeroing()(words(ids)),
    "taken as an argument": explicit,
    "forgotten": lambda ids: Forgetting()(words(ids)),
    "left by parts": lambda ids: Transparent()(words(ids)),
    "changed": lambda ids: Halving()(words(ids)),
    "made": lambda ids: Tokens()(ids),
    "read by attention": lambda ids: Attending()(words(ids)),
    "decoded": decoded,
    "through a model": lambda ids: keras.Sequential([layers.Dense(6), layers.LayerNormalization()])(words(ids)),
    "beside a weight": lambda ids: Recalling()(words(ids)),
    "of one of two": crossed,
    "told training": lambda ids: Stack()(words(ids)),
    "blocks": lambda ids: Attending()(Attending()(words(ids))),
    "one after another": lambda ids: Feed()(Forgetting()(Zeroing()(Halving()(words(ids))))),
}


NOT_READ = ("changed", "one after another")
"""In these a call is given a mask that it does not read."""
WANTS_READERS = tuple(map(int, keras.__version__.split(".")[:2])) < (3, 14)
"""Whether this Keras refuses a graph with an input that nothing reads; such a call stays closed there."""


def reading(style, **options):
    """A model that reads a composite's output by a recurrent layer, whose output a mask changes."""
    keras.utils.set_random_seed(1)
    ids = keras.Input((6,), dtype="int32")
    x = layers.LSTM(5, name="steps")(style(ids), **options)
    return randomize(keras.Model(ids, layers.Dense(3, name="reader")(x)))


@pytest.mark.parametrize("options", [{}, {"training": False}], ids=["mask in the graph", "mask on the tensor"])
@pytest.mark.parametrize("name", STYLES)
def test_masks_keep_their_meaning_and_what_is_inside_can_leave(name, options):
    model = reading(STYLES[name], **options)
    frozen = {reason for entry in tt.structures(model).frozen for reason in entry.reasons}
    if name in NOT_READ and WANTS_READERS:
        assert any("not connected" in reason for reason in frozen)
    else:
        assert not [reason for reason in frozen if "no rule knows" in reason]
    zero_members(model, random_members(1))
    check_laws(model)


def test_widths_are_what_arithmetic_says():
    ids = keras.Input((6,), dtype="int32")
    x = Zeroing()(Feed()(words(ids)))
    model = randomize(keras.Model(ids, layers.Dense(3)(Mean()(x))))
    structures = tt.structures(model)
    assert sorted(each.size for each in structures) == [6, 6, 12, 12]
    check_widths(model, lambda structure: np.arange(structure.size // 2))


def test_a_decoder_with_masks_loses_its_width_too():
    ids = keras.Input((6,), dtype="int32")
    model = randomize(keras.Model(ids, layers.Dense(3, name="reader")(decoded(ids))))
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    zero_members(model, random_members(0))
    small = check_laws(model)
    assert small.get_layer("words").output_dim == small.get_layer("source").output_dim == 4


def test_what_attention_has_taken_the_mask_off_has_none():
    ids = keras.Input((6,), dtype="int32")
    model = randomize(keras.Model(ids, layers.Dense(3, name="reader")(After()(words(ids)))))
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    zero_members(model, random_members(0))
    check_laws(model)


@pytest.mark.parametrize("name", ["through a model", "decoded", "left by parts"])
def test_outputs_keep_their_masks_in_a_file_too(name, tmp_path):
    """A loss weighs the steps by the mask that the output has."""
    ids = keras.Input((6,), dtype="int32")
    model = randomize(keras.Model(ids, layers.Dense(3)(STYLES[name](ids))))
    zero_members(model, random_members(2))
    small = tt.compact(model)
    small.save(tmp_path / "small.keras")
    given = np.array([[1, 2, 3, 4, 1, 2], [1, 2, 0, 0, 0, 0]])
    for each in (model, small, keras.saving.load_model(tmp_path / "small.keras")):
        np.testing.assert_array_equal(mask_of(each(given)), given != 0)


def test_the_file_loads_without_the_classes_and_masks_are_still_there(tmp_path):
    model = reading(STYLES["told training"], training=False)
    zero_members(model, random_members(2))
    small = tt.compact(model)
    small.save(tmp_path / "small.keras")
    ids = np.array([[1, 2, 3, 4, 1, 2], [1, 2, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]])
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    for expected, got in zip(outputs_of(model, ids), outputs_of(loaded, ids), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_subclassed_model_keeps_its_masks():
    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.words, self.feed, self.zeroing = layers.Embedding(5, 6, mask_zero=True), Feed(), Zeroing()
            self.steps, self.out = layers.LSTM(5), layers.Dense(3)

        def call(self, ids, training=None):
            x = self.zeroing(self.feed(self.words(ids)))
            return self.out(self.steps(x, training=training))

    model = Classifier()
    ids = np.array([[1, 2, 3, 4, 1, 2], [1, 2, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]])
    model(ids)
    randomize(model)
    assert sorted(each.size for each in tt.structures(model)) == [5, 6, 12, 12]
    zero_members(model, random_members(3))
    np.testing.assert_allclose(outputs_of(tt.compact(model), ids)[0], outputs_of(model, ids)[0], atol=1e-5)


def nested(*inside):
    """A nested model, as a model with inputs and as a sequence."""
    inputs = x = keras.Input((6, 6))
    for layer in inside:
        x = layer(x)
    return keras.Model(inputs, x)


class Around(layers.Layer):
    """It says nothing of masks, and calls a model."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


@pytest.mark.parametrize("make", [nested, lambda *inside: keras.Sequential(inside), lambda *i: Around(nested(*i))])
@pytest.mark.parametrize("inside", [lambda: [Feed()], lambda: [layers.Dense(6), Zeroing()]])
def test_the_mask_that_a_nested_model_is_given_reaches_its_layers(make, inside):
    """Keras hangs masks on the tensors inside of a nested model, though its graph was made without."""
    ids = keras.Input((6,), dtype="int32")
    x = layers.Flatten()(layers.Dense(6)(make(*inside())(words(ids))))  # which sees the steps that are zeroed
    model = randomize(keras.Model(ids, layers.Dense(3, name="reader")(x)))
    frozen = tt.structures(model).frozen
    if WANTS_READERS:  # there a graph takes no mask that no call names
        assert any("does not show" in reason for entry in frozen for reason in entry.reasons)
        check_laws(model)
    else:
        assert [entry.name for entry in frozen] == ["reader"]
        check_widths(model, random_members(2))


# What stays closed


def test_a_model_that_is_given_a_mask_in_one_call_only_stays_closed_inside():
    inner = nested(Zeroing())
    model = reading(lambda ids: inner(words(ids)) + inner(layers.Embedding(5, 6)(ids)))
    assert any("does not show" in reason for entry in tt.structures(model).frozen for reason in entry.reasons)
    check_laws(model)


def test_a_nested_model_that_makes_its_own_mask_is_opened():
    inner = {"ids": keras.Input((6,), dtype="int32", name="ids"), "shift": keras.Input((6, 6), name="shift")}
    inner = keras.Model(inner, layers.Add()([Feed()(words(inner["ids"])), inner["shift"]]))
    ids, shift = keras.Input((6,), dtype="int32"), keras.Input((6, 6))
    x = layers.LSTM(5)(inner({"ids": ids, "shift": layers.Dense(6)(shift)}))
    model = randomize(keras.Model([ids, shift], layers.Dense(3, name="reader")(x)))
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    zero_members(model, random_members(4))
    check_laws(model)


def test_a_mask_that_a_nested_model_leaves_stays_what_it_is():
    inner = keras.Sequential([layers.Embedding(5, 6, mask_zero=True), layers.Dense(6)])
    model = reading(lambda ids: Feed()(inner(ids)))
    assert any("does not show" in reason for entry in tt.structures(model).frozen for reason in entry.reasons)
    check_laws(model)


class MaybeItsOwn(layers.Layer):
    """What its part hands on, or else its own: Keras does not show which."""

    def __init__(self):
        super().__init__()
        self.part, self.supports_masking = keras.Sequential([layers.Masking(), layers.Dense(6)]), True

    def call(self, x):
        return self.part(x)


class Beside(layers.Layer):
    """What it gives goes by the order of two calls, which a graph does not keep."""

    def __init__(self):
        super().__init__()
        self.attention, self.steps = layers.MultiHeadAttention(2, 3), layers.LSTM(6)

    def call(self, x):
        attended = self.attention(x, x)
        return attended + self.steps(x)[:, None]


class Marking(layers.Layer):
    """Its own input, with another mask."""

    def call(self, x):
        return x

    def compute_mask(self, x, mask=None):
        return ops.any(x > 0, -1)


@pytest.mark.parametrize(
    "layer, reason",
    [(MaybeItsOwn(), "or its own"), (Marking(), "with another mask"), (Beside(), "mask attention takes off")],
)
def test_what_cannot_be_shown_stays_closed_with_the_reason(layer, reason):
    model = reading(lambda ids: layer(words(ids)))
    closed = any(reason in said for entry in tt.structures(model).frozen for said in entry.reasons)
    assert closed or (WANTS_READERS and isinstance(layer, Marking))  # there a call shows where the input passes
    check_laws(model)


def test_a_layer_that_sees_a_mask_in_one_call_only_stays_closed():
    feed = Feed()
    model = reading(lambda ids: feed(words(ids)) + feed(layers.Embedding(5, 6)(ids)))
    assert any("several ways" in said for entry in tt.structures(model).frozen for said in entry.reasons)
    check_laws(model)
