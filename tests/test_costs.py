"""Multiply-adds: ones through ones give the number of products; compositions cost what their parts cost."""

import keras
import numpy as np
import pytest
from cost_models import of_layer, total
from hypothesis import given, settings
from hypothesis import strategies as st

import tf_terngrad as tt
from tf_terngrad.sparsity.costs import layer_costs
from tf_terngrad.sparsity.learn.wrappers import IntrinsicSparse

layers = keras.layers


def products(model):
    """The products of a linear model, counted by computing: every one is 1 · 1, and every one reaches an output."""
    for weight in model.weights:
        weight.assign(np.full(weight.shape, float(weight.name != "bias")))
    return _sum_of_outputs(model)


def products_of_a_layer(layer, shape):
    """The products of a convolution; a dilated kernel is one with zeros between its taps, for some processors have no
    dilated transposed convolution."""
    config, rates = layer.get_config(), np.broadcast_to(layer.dilation_rate, (layer.rank,))
    config["kernel_size"] = [(size - 1) * rate + 1 for size, rate in zip(layer.kernel_size, rates, strict=True)]
    spread = type(layer).from_config({**config, "dilation_rate": 1})
    model = of_layer(spread, shape)
    kernel = np.zeros(spread.kernel.shape)
    kernel[tuple(slice(None, None, rate) for rate in rates)] = 1
    spread.kernel.assign(kernel)
    return _sum_of_outputs(model)


def _sum_of_outputs(model):
    outputs = model([np.ones((1, *tensor.shape[1:])) for tensor in model.inputs])
    return int(np.sum(outputs, dtype=np.float64))


@st.composite
def convolutions(draw):
    """(layer class, its configuration, input shape) of a convolution without padding."""
    rank, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["Conv", "Depthwise", "Transpose"] if rank < 3 else ["Conv", "Transpose"]))
    taps = [draw(st.integers(1, 3)) for _ in range(rank)]
    widening = draw(st.sampled_from(["strides", "dilation_rate"]))
    options = {widening: draw(st.integers(1, 2)), "kernel_size": taps, "use_bias": draw(st.booleans())}
    shape = [draw(st.integers(5, 7)) for _ in range(rank)] + [groups * draw(st.integers(1, 3))]
    if kind == "Depthwise":
        return getattr(layers, f"DepthwiseConv{rank}D"), {"depth_multiplier": draw(st.integers(1, 3)), **options}, shape
    if kind == "Transpose":
        return getattr(layers, f"Conv{rank}DTranspose"), {"filters": draw(st.integers(1, 4)), **options}, shape
    filters = groups * draw(st.integers(1, 3))
    return getattr(layers, f"Conv{rank}D"), {"filters": filters, "groups": groups, **options}, shape


@settings(max_examples=60)
@given(convolutions())
def test_convolutions_cost_their_products(case):
    layer_class, config, shape = case
    layer = layer_class(**config)
    assert total(of_layer(layer, shape)) == products_of_a_layer(layer, shape)


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=20)
def test_padding_counts_like_the_rest(length, taps, strides, filters):
    padded = of_layer(layers.Conv1D(filters, taps, strides, padding="same"), (length, 2))
    covered = (padded.output_shape[1] - 1) * strides + taps
    assert total(padded) == products(of_layer(layers.Conv1D(filters, taps, strides), (covered, 2)))


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (layers.Dense(7), [(5,)]),
        (layers.Dense(7), [(3, 2, 5)]),
        (layers.EinsumDense("abc,cde->abde", (4, 2, 6)), [(4, 5)]),
        (layers.EinsumDense("...x,xy->...y", 6), [(4, 3, 5)]),
        (layers.EinsumDense("abc,bcd->ad", 6), [(4, 5)]),
        (layers.TimeDistributed(layers.Conv1D(3, 2)), [(4, 6, 2)]),
        (layers.TimeDistributed(layers.TimeDistributed(layers.Dense(3))), [(4, 6, 2)]),
        (lambda a, b: layers.Dot(axes=(2, 1))([a, b]), [(3, 4), (4, 5)]),
        (lambda a, b: layers.Dot(axes=-1)([a, b]), [(4,), (4,)]),
        (lambda a, b: a @ b, [(3, 4), (4, 5)]),
        (lambda a: keras.ops.matmul(a, np.ones((4, 5), np.float32)), [(3, 4)]),
        (lambda a: keras.ops.dot(a, np.ones((4, 5), np.float32)), [(3, 4)]),
        (lambda a: keras.ops.tensordot(a, np.ones((3, 4, 5), np.float32), 2), [(3, 4)]),
        (lambda a: keras.ops.tensordot(a, np.ones((5, 4), np.float32), [[2], [1]]), [(3, 4)]),
        (lambda a, b: keras.ops.einsum("bij,bjk->bik", a, b), [(3, 4), (4, 5)]),
        (lambda a: keras.ops.conv(a, np.ones((3, 4, 6), np.float32)), [(7, 4)]),
        (lambda a: keras.ops.depthwise_conv(a, np.ones((3, 4, 2), np.float32)), [(7, 4)]),
    ],
)
@pytest.mark.filterwarnings("ignore:NotImplemented should not be used:DeprecationWarning")  # Keras, in tensordot
def test_products_of_matrices_cost_their_products(layer, shapes):
    model = of_layer(layer, *shapes)
    assert total(model) == products(model)


@pytest.mark.parametrize("rank", [1, 2])
def test_a_separable_convolution_costs_its_two_halves(rank):
    shape = (7,) * rank + (4,)
    both = of_layer(getattr(layers, f"SeparableConv{rank}D")(5, 3, strides=2, depth_multiplier=2), shape)
    depthwise = of_layer(getattr(layers, f"DepthwiseConv{rank}D")(3, strides=2, depth_multiplier=2), shape)
    pointwise = of_layer(getattr(layers, f"Conv{rank}D")(5, 1), depthwise.output_shape[1:])
    assert total(both) == products(depthwise) + products(pointwise)
    kernels = [np.ones((3,) * rank + (4, 2), np.float32), np.ones((1,) * rank + (8, 5), np.float32)]
    assert total(of_layer(lambda a: keras.ops.separable_conv(a, *kernels, strides=2), shape)) == total(both)


def test_a_transposed_convolution_costs_the_same_as_an_operation():
    kernel = np.ones((3, 2, 4), np.float32)
    operation = of_layer(lambda a: keras.ops.conv_transpose(a, kernel, 2, data_format="channels_last"), (7, 4))
    assert total(operation) == total(of_layer(layers.Conv1DTranspose(2, 3, 2), (7, 4)))
    assert any("(ConvTranspose)" in reason for entry in tt.structures(operation).frozen for reason in entry.reasons)


def test_multi_head_attention_costs_what_its_einsums_cost():
    def by_hand(query, value):
        q, k = (layers.EinsumDense("btd,dhk->bthk", (None, 2, 3))(x) for x in (query, value))
        v = layers.EinsumDense("btd,dhk->bthk", (None, 2, 5))(value)
        scores = keras.ops.einsum("bthk,bshk->bhts", q, k)
        attended = keras.ops.einsum("bhts,bshk->bthk", scores, v)
        return layers.EinsumDense("bthk,hkd->btd", (None, 7))(attended)

    shapes = [(6, 7), (4, 8)]
    assert total(of_layer(layers.MultiHeadAttention(2, 3, value_dim=5), *shapes)) == total(of_layer(by_hand, *shapes))


@pytest.mark.parametrize("kind", [layers.MultiHeadAttention, tt.layers.SparseAttention])
def test_scores_cost_four_times_as_much_at_twice_the_length(kind):
    def cost(steps):
        return total(of_layer(lambda x: kind(2, 3, value_dim=5, name="attention")(x, x), (steps, 7)))

    projections = 7 * 2 * (3 + 3 + 5 + 5)
    assert [cost(steps) for steps in (4, 8)] == [steps * projections + steps**2 * 2 * (3 + 5) for steps in (4, 8)]


def test_attention_over_an_open_length_asks_which_one_to_count():
    model = of_layer(lambda x: layers.MultiHeadAttention(2, 3, name="attention")(x, x), (None, 7))
    with pytest.raises(ValueError, match=r"leaves a size open.*input_shapes"):
        tt.compare(model, tt.compact(model))
    closed = of_layer(lambda x: layers.MultiHeadAttention(2, 3, name="attention")(x, x), (9, 7))
    assert total(model, input_shapes=(9, 7)) == total(closed)


def test_grouped_query_attention_with_as_many_heads_is_multi_head_attention():
    shapes = [(6, 8), (4, 8)]
    assert total(of_layer(layers.GroupQueryAttention(3, 4, 4), *shapes)) == total(
        of_layer(layers.MultiHeadAttention(4, 3), *shapes)
    )


def test_attention_without_weights_costs_scores_and_sums():
    shapes = [(6, 5), (4, 5)]
    by_hand = products(of_layer(lambda q, v: keras.ops.einsum("btd,bsd->bts", q, v), *shapes)) + 6 * 4 * 5
    assert total(of_layer(lambda q, v: layers.Attention()([q, v]), *shapes)) == by_hand
    heads = [(6, 1, 5), (4, 1, 5)]
    assert total(of_layer(lambda q, v: keras.ops.dot_product_attention(q, v, v), *heads)) == by_hand


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("SimpleRNN", 1)])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_recurrent_layers_cost_their_gates_at_every_step(kind, gates, return_sequences):
    layer = getattr(layers, kind)(6, return_sequences=return_sequences)
    expected = 5 * gates * (4 * 6 + 6 * 6)
    assert total(of_layer(layer, (5, 4))) == expected
    assert total(of_layer(layers.Bidirectional(getattr(layers, kind)(6)), (5, 4))) == 2 * expected


def test_a_recurrent_layer_costs_its_cells():
    layer = layers.RNN([layers.LSTMCell(6), layers.GRUCell(3), layers.SimpleRNNCell(2)], return_sequences=True)
    expected = 5 * (4 * (4 * 6 + 6 * 6) + 3 * (6 * 3 + 3 * 3) + (3 * 2 + 2 * 2))
    assert total(of_layer(layer, (5, 4))) == expected
    assert total(of_layer(lambda x: layers.Bidirectional(layer)(sequences=x), (5, 4))) == 2 * expected
    wrapped = IntrinsicSparse(layers.Bidirectional(layer), 0.1)
    assert total(of_layer(lambda x: wrapped(sequences=x), (5, 4))) == 2 * expected


def test_a_cell_of_the_user_s_costs_what_its_rule_says():
    class Cell(layers.SimpleRNNCell):
        def call(self, inputs, states, training=False):
            return super().call(inputs, states, training)

    model = of_layer(layers.RNN([layers.GRUCell(3), Cell(2)]), (5, 4))
    assert [cost.multiply_adds for cost in layer_costs(model)][-1] is None
    tt.register_cost(Cell)(lambda cell, output, inputs: output.shape[-1] * inputs.shape[-1])
    assert total(model) == 5 * (3 * (4 * 3 + 3 * 3) + 2 * 3)


def test_a_convolutional_lstm_costs_its_convolutions_at_every_step():
    model = of_layer(layers.ConvLSTM1D(6, 3), (5, 9, 2))
    positions = 9 - 3 + 1
    assert total(model) == 5 * positions * 4 * 3 * (2 * 6 + 6 * 6)


def test_lenet_costs_what_the_paper_says():
    image = keras.Input((28, 28, 1))
    x = layers.MaxPooling2D()(layers.Conv2D(20, 5, name="conv1")(image))
    x = layers.MaxPooling2D()(layers.Conv2D(50, 5, name="conv2")(x))
    x = layers.Dense(500, activation="relu", name="dense1")(layers.Flatten()(x))
    costs = {c.path: c.multiply_adds for c in layer_costs(keras.Model(image, layers.Dense(10, name="logits")(x)))}
    named = [costs[name] for name in ("conv1", "conv2", "dense1", "logits")]
    assert named == [288_000, 1_600_000, 400_000, 5_000]
    assert sum(costs.values()) == 2_293_000


def test_a_shared_layer_counts_at_every_call_with_that_call_s_shape():
    shared = layers.Conv1D(3, 2, name="shared")
    model = of_layer(lambda a, b: keras.ops.sum(shared(a)) + keras.ops.sum(shared(b)), (7, 4), (5, 4))
    (cost,) = [cost for cost in layer_costs(model) if cost.layer is shared]
    assert cost.multiply_adds == (6 + 4) * 2 * 4 * 3


def test_a_nested_model_counts_at_every_call_inside_its_path():
    tower = keras.Sequential([keras.Input((None, 4)), layers.Conv1D(3, 2, name="inner")], name="tower")
    model = of_layer(lambda a, b: keras.ops.sum(tower(a)) + keras.ops.sum(tower(b)), (7, 4), (5, 4))
    assert {cost.path: cost.multiply_adds for cost in layer_costs(model)}["tower/inner"] == (6 + 4) * 2 * 4 * 3


def test_a_batch_folded_into_windows_counts_every_window():
    model = of_layer(lambda x: layers.Dense(3)(keras.ops.reshape(x, (-1, 2, 4))), (6, 4))
    assert total(model) == 6 * 4 * 3


def test_a_layer_under_spectral_normalization_costs_what_it_costs_alone():
    model = of_layer(layers.SpectralNormalization(layers.Dense(3, name="inner"), name="norm"), (4,))
    assert {cost.path: cost.multiply_adds for cost in layer_costs(model)}["norm/inner"] == 12


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_the_channel_axis_may_come_first(layout):
    shape = (3, 9, 9) if layout == "channels_first" else (9, 9, 3)
    assert total(of_layer(layers.Conv2D(4, 3, data_format=layout), shape)) == 7 * 7 * 4 * 3 * 9


def test_normalization_and_embedding_multiply_no_matrices():
    x = inputs = keras.Input((4,))
    for layer in (layers.Embedding(9, 5), layers.BatchNormalization(), layers.LayerNormalization(), layers.PReLU()):
        x = layer(x)
    assert total(keras.Model(inputs, x)) == 0


def test_quantized_layers_cost_what_they_cost_before():
    layer = layers.Dense(3)
    model = of_layer(layer, (4,))
    layer.quantize("int8")
    assert total(model) == 12


def test_open_sizes_are_asked_for():
    model = of_layer(layers.Conv2D(4, 3), (None, None, 3))
    with pytest.raises(ValueError, match=r"leaves a size open.*input_shapes"):
        total(model)
    assert total(model, input_shapes=(9, 9, 3)) == total(model, input_shapes=[(9, 9, 3)]) == 7 * 7 * 4 * 3 * 9


@pytest.mark.parametrize("shapes", [(9, 9, 4), (9, 9), [(9, 9, 3), (9, 9, 3)], (), [(None, 9, 3)]])
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match="input"):
        layer_costs(of_layer(layers.Conv2D(4, 3), (None, None, 3)), shapes)


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("lenet", TypeError, "Expected a Keras model. Received: 'lenet'"),
        (keras.Sequential([layers.Dense(3)], name="unbuilt"), ValueError, "'unbuilt' is not built.*keras.Input"),
        (Subclassed(name="own"), ValueError, "'own' is a subclass .Subclassed."),
    ],
)
def test_what_is_no_graph_of_layers_is_refused(model, error, message):
    with pytest.raises(error, match=message):
        layer_costs(model)
