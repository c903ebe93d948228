"""The report's section of attention: the heads that left, the weight of dimensions, and what each head looks at."""

import keras
import numpy as np
import pytest
from keras import layers
from laws import outputs_of, randomize, structure

import tf_terngrad as tt
from tf_terngrad.sparsity.report.figure import figure

STEPS, WIDTH, HEADS, SIZE = 7, 8, 4, 3


def attention(kind=layers.MultiHeadAttention, nested=False, **call):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((STEPS, WIDTH))
    options = (HEADS, SIZE) if kind is not layers.GroupQueryAttention else (SIZE, HEADS, 2)
    attended = kind(*options, name="attention")
    if nested:
        inner = keras.Input((STEPS, WIDTH))
        y = keras.Model(inner, attended(inner, inner, **call), name="tower")(inputs)
    else:
        y = attended(inputs, inputs, **call)
    return randomize(keras.Model(inputs, layers.Dense(2)(y)))


def data(seed=0):
    return np.random.default_rng(seed).normal(size=(5, STEPS, WIDTH)).astype("float32")


def looks(scores):
    """(batch, heads, queries, keys) -> the mean weight at each distance, one number at a time."""
    found = np.zeros((scores.shape[1], 2 * STEPS - 1))
    for head in range(scores.shape[1]):
        for number, offset in enumerate(range(1 - STEPS, STEPS)):
            at = [scores[:, head, t, s] for t in range(STEPS) for s in range(STEPS) if t - s == offset]
            found[head, number] = np.mean(at)
    return found


KINDS = [layers.MultiHeadAttention, layers.GroupQueryAttention, tt.layers.SparseAttention]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_it_shows_where_the_layer_looks(kind, nested):
    model, x = attention(kind, nested, use_causal_mask=True), data()
    layer = model.get_layer("tower").get_layer("attention") if nested else model.get_layer("attention")
    (heads,) = tt.compare(model, tt.compact(model), examples=x).heads
    _, scores = layer(x, x, use_causal_mask=True, return_attention_scores=True)
    np.testing.assert_allclose(heads.looks, looks(np.asarray(scores)), atol=1e-6)
    assert heads.offsets.tolist() == list(range(1 - STEPS, STEPS))
    assert heads.title == ("tower/attention" if nested else "attention")


def test_without_data_it_shows_norms_and_what_left():
    model = attention()
    query, key = (getattr(model.get_layer("attention"), f"{name}_dense").kernel.numpy() for name in ("query", "key"))
    structure(model, "attention heads").zero([2])
    structure(model, "attention key dimensions").zero([0])
    report = tt.compare(model, tt.compact(model))
    (heads,) = report.heads
    assert heads.looks is heads.seen is heads.scores is None
    assert heads.left.tolist() == [False, False, True, False]
    norms, kept = heads.weights["keys"]
    assert kept.tolist() == [False, True, True]
    for head, size in ((0, 1), (3, 2)):
        product = np.linalg.norm(query[:, head, size]) * np.linalg.norm(key[:, head, size])
        assert norms[head, size] == pytest.approx(product**0.5, rel=1e-5)
    assert not norms[2].any() and not norms[:, 0].any()
    assert "attention  4 → 3  3 → 2           3 → 3" in str(report)


def windowed():
    model = attention(tt.layers.SparseAttention)
    mask = model.get_layer("attention").attention_mask
    mask.window.assign(np.where(np.isin(np.tile(mask.kinds, HEADS), [1, 2]), 0.1, 0.0))
    return model, mask


def test_it_says_how_far_a_learned_window_goes():
    model, _ = windowed()
    report = tt.compare(model, tt.compact(model))
    (heads,) = report.heads
    share = (STEPS + STEPS - 1 + STEPS - 2) / STEPS**2
    assert heads.reach == (2, 0)
    assert heads.scores == pytest.approx(share)
    assert not any("is a model of operations" in note for note in report.notes)  # it is a layer of Keras's
    assert f"2 back ({share:.0%} of scores)" in str(report)
    assert f"attention: its heads look at most 2 steps back and 0 ahead, at {share:.0%} of the scores" in str(report)


def learned(causal, attended):
    """A learned mask that leaves all scores: of Keras's attention, or of attention by hand."""
    inputs = keras.Input((STEPS, WIDTH))
    if attended:
        return keras.Model(inputs, tt.layers.SparseAttention(HEADS, SIZE)(inputs, inputs, use_causal_mask=causal))
    allowed = {"allowed": np.tri(STEPS, dtype=bool)} if causal else {}
    weights = tt.layers.AttentionMask("offset")(
        keras.ops.matmul(inputs, keras.ops.transpose(inputs, (0, 2, 1))), **allowed
    )
    return keras.Model(inputs, keras.ops.matmul(weights, layers.Dense(WIDTH)(inputs)))


@pytest.mark.parametrize("attended", [True, False])
def test_scores_that_the_call_rules_out_are_not_seen(attended):
    for causal, expected in ((False, (STEPS - 1, STEPS - 1)), (True, (STEPS - 1, 0))):
        model = learned(causal, attended)
        (heads,) = tt.compare(model, tt.compact(model)).heads
        assert heads.reach == expected
        assert heads.scores == pytest.approx((STEPS + 1) / 2 / STEPS if causal else 1.0)


def test_a_layer_that_is_called_in_two_ways_sees_what_one_of_them_allows():
    inputs, attended = keras.Input((STEPS, WIDTH)), tt.layers.SparseAttention(HEADS, SIZE)
    both = attended(inputs, inputs, use_causal_mask=True) + attended(inputs, inputs)
    model = keras.Model(inputs, both)
    assert tt.compare(model, tt.compact(model)).heads[0].reach == (STEPS - 1, STEPS - 1)


def test_heads_that_left_do_not_count_in_a_window():
    model = attention(tt.layers.SparseAttention)
    mask = model.get_layer("attention").attention_mask
    mask.window.assign(np.repeat([0.0, 0.0, 0.0, 0.1], len(mask.kinds)))
    assert tt.compare(model, tt.compact(model)).heads[0].reach == (STEPS - 1, STEPS - 1)
    structure(model, "attention heads").zero([3])
    report = tt.compare(model, tt.compact(model))
    assert report.heads[0].reach == (0, 0)
    assert "itself alone" in str(report)


class ByHand(layers.Layer):
    """Attention with a learned mask in place of its softmax."""

    def __init__(self, groups):
        super().__init__()
        self.parts = [layers.Dense(HEADS * SIZE, name=name) for name in ("query", "key", "value")]
        self.mask = tt.layers.AttentionMask(groups)

    def call(self, x):
        query, key, value = (keras.ops.reshape(part(x), (-1, STEPS, HEADS, SIZE)) for part in self.parts)
        weights = self.mask(keras.ops.einsum("bqhd,bkhd->bhqk", query, key))
        return keras.ops.reshape(keras.ops.einsum("bhqk,bkhd->bqhd", weights, value), (-1, STEPS, HEADS * SIZE))


@pytest.mark.parametrize("groups", [["head", "offset"], ["offset"]])
def test_heads_of_attention_by_hand_leave_with_their_factor_or_without(groups):
    inputs = keras.Input((STEPS, WIDTH))
    model = randomize(keras.Model(inputs, layers.Dense(2)(ByHand(groups)(inputs))))
    (heads,) = [found for found in tt.structures(model) if found.kind == "head"]
    heads.zero([1])
    for gates in [found for found in tt.structures(model) if found.kind == "gate"]:
        gates.zero([3])
    (heads,) = tt.compare(model, tt.compact(model)).heads
    assert heads.left.tolist() == [False, True, False, "head" in groups]


def test_a_learned_mask_of_one_head_shows_where_it_looks():
    model = learned(causal=True, attended=False)
    (heads,) = tt.compare(model, tt.compact(model), examples=data()).heads
    assert heads.looks.shape == (1, 2 * STEPS - 1)
    assert (heads.looks[0, heads.offsets < 0] < 1e-6).all()


@pytest.mark.filterwarnings("ignore:.*every channel is dead")
def test_a_layer_that_left_is_drawn_too(tmp_path):
    inputs = keras.Input((STEPS, WIDTH))
    attended = layers.MultiHeadAttention(HEADS, SIZE, name="attention")(inputs, inputs)
    model = randomize(keras.Model(inputs, layers.Dense(2)(inputs + attended)))
    structure(model, "attention heads").zero(range(HEADS))
    model.get_layer("attention").output_dense.bias.assign(np.zeros(WIDTH))
    report = tt.compare(model, tt.compact(model), examples=data())
    assert report.heads[0].left.all()
    report.plot(tmp_path / "report.png")
    assert "Attention" in [part.get_suptitle().split(":")[0] for part in figure(report).subfigs]


def test_a_model_without_attention_has_no_such_section():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])
    report = tt.compare(model, tt.compact(model), examples=np.ones((2, 4)))
    assert report.heads == []
    assert "attention" not in str(report)


def test_masks_that_travel_are_those_of_the_model():
    inputs = keras.Input((STEPS,), dtype="int32")
    x = layers.Embedding(9, WIDTH, mask_zero=True)(inputs)
    model = randomize(keras.Model(inputs, layers.MultiHeadAttention(HEADS, SIZE, name="attention")(x, x)))
    words = np.random.default_rng(0).integers(1, 9, (4, STEPS))
    words[:, -2:] = 0
    (heads,) = tt.compare(model, tt.compact(model), examples=words).heads
    assert not heads.looks[:, 0].any()  # six steps ahead are only padding
    assert heads.looks[:, STEPS - 1].all()
    assert np.isfinite(outputs_of(model, words)[0]).all()


def test_data_for_another_number_of_inputs_is_refused():
    model = attention()
    with pytest.raises(ValueError, match=r"compare: expected `examples` to be an array for each of the 1 inputs"):
        tt.compare(model, tt.compact(model), examples=[data(), data()])


def test_long_names_keep_their_ends_and_stay_in_their_place_of_the_picture():
    inputs, name = keras.Input((STEPS, WIDTH)), "the_long_name_of_the_attention_layer_that_all_blocks_have"
    x = layers.MultiHeadAttention(HEADS, SIZE, name=name)(inputs, inputs)
    model = randomize(keras.Model(inputs, layers.Dense(2)(x)))
    structure(model, f"{name} heads").zero([1])
    drawn = figure(tt.compare(model, tt.compact(model)))
    drawn.draw_without_rendering()
    labels = [label.get_text() for part in drawn.subfigs for axes in part.axes for label in axes.get_yticklabels()]
    assert f"…{name[-39:]}" in labels
    titles = [[axes.title, axes._left_title] for part in drawn.subfigs for axes in part.axes]
    boxes = [title.get_window_extent() for pair in titles for title in pair if title.get_text()]
    assert len(boxes) >= 4
    assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number])
    assert max(box.x1 for box in boxes) <= drawn.bbox.x1
