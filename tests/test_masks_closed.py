"""What masks do that a graph cannot show: such composites stay closed, and the reason is said."""

import keras
import pytest
from keras import layers, ops
from laws import check_laws
from masked_composites import QUIET, WANTS_READERS, Feed, reading, words

import tf_terngrad as tt

pytestmark = QUIET


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
