"""Intrinsic sparse structures: the penalty on a recurrent layer's units, and hidden units across a model."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from keras import layers
from laws import check_laws, randomize, sequential, structure

import tf_terngrad as tt
from tf_terngrad.sparsity.report import compare

STRENGTH = 0.25
UNITS = 3
LAYERS = {
    "LSTM": lambda: layers.LSTM(UNITS),
    "LSTM without bias": lambda: layers.LSTM(UNITS, use_bias=False),
    "GRU": lambda: layers.GRU(UNITS, return_sequences=True, return_state=True),
    "GRU before": lambda: layers.GRU(UNITS, reset_after=False),
    "SimpleRNN": lambda: layers.SimpleRNN(UNITS, stateful=True),
    "RNN": lambda: layers.RNN(layers.LSTMCell(UNITS)),
    "stack": lambda: layers.RNN([layers.GRUCell(UNITS), layers.LSTMCell(UNITS)]),
    "Bidirectional": lambda: layers.Bidirectional(layers.GRU(UNITS)),
}
EACH = pytest.mark.parametrize("kind", LAYERS)
SEQUENCES = np.random.default_rng(1).normal(size=(2, 5, 4)).astype("float32")


def wrapped(kind, strength=STRENGTH, **kwargs):
    layer = tt.layers.IntrinsicSparse(LAYERS[kind](), strength, **kwargs)
    layer.build(SEQUENCES.shape)
    rng = np.random.default_rng(3)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def cells_of(layer):
    """The weights of each cell: lists of kernel, recurrent kernel and bias, if any."""
    found = []
    for weight in layer.weights:
        found += [[]] if weight.name == "kernel" else []
        found[-1].append(weight)
    return found


def unit_groups(weights):
    """Flat values of a cell's weights, one after the other, and by unit the indices of the paper's group."""
    groups, start = [set() for _ in range(UNITS)], 0
    for weight in weights:
        indices = start + oracles.indices_like(weight.numpy())
        for unit, group in enumerate(groups):
            for gate in range(indices.shape[-1] // UNITS):
                group.update(indices[..., gate * UNITS + unit].ravel().tolist())
            if weight.name == "recurrent_kernel":
                group.update(indices[unit].tolist())
        start += indices.size
    values = np.concatenate([weight.numpy().ravel() for weight in weights])
    return values, [np.array(sorted(group)) for group in groups]


# The wrapper


@EACH
def test_the_layer_is_the_same_and_the_penalty_is_the_oracles(kind):
    layer = wrapped(kind)
    plain = LAYERS[kind]()
    plain.build(SEQUENCES.shape)
    plain.set_weights(layer.get_weights())
    for ours, theirs in zip(*(keras.tree.flatten(each(SEQUENCES)) for each in (layer, plain)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert layer.compute_output_shape(SEQUENCES.shape) == plain.compute_output_shape(SEQUENCES.shape)
    expected = [unit_groups(weights) for weights in cells_of(layer)]
    with tf.GradientTape() as tape:
        loss = sum(layer.losses)
    np.testing.assert_allclose(loss, STRENGTH * sum(oracles.lasso(*each) for each in expected), rtol=1e-5)
    gradients = iter(tape.gradient(loss, [weight.value for weight in layer.weights]))
    for weights, each in zip(cells_of(layer), expected, strict=True):
        got = np.concatenate([np.ravel(next(gradients)) for _ in weights])
        np.testing.assert_allclose(got, STRENGTH * oracles.lasso_gradient(*each), rtol=1e-4, atol=1e-6)


@EACH
def test_it_survives_saving(kind, tmp_path):
    inputs = keras.Input(batch_shape=SEQUENCES.shape)
    layer = wrapped(kind, name="sparse")
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    if kind == "SimpleRNN":
        layer.reset_state()
    for ours, theirs in zip(*(keras.tree.flatten(each(SEQUENCES)) for each in (loaded, model)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    np.testing.assert_allclose(sum(loaded.losses), sum(model.losses), rtol=1e-6)
    assert loaded.get_layer("sparse").strength == STRENGTH


def test_masks_states_and_the_training_flag_reach_the_layer():
    layer = layers.LSTM(UNITS, dropout=0.5, return_sequences=True)
    sparse = tt.layers.IntrinsicSparse(layer, STRENGTH)
    mask = np.array([[True, True, False, False, False], [True] * 5])
    states = [np.ones((2, UNITS), "float32"), np.zeros((2, UNITS), "float32")]
    np.testing.assert_allclose(
        sparse(SEQUENCES, initial_state=states, mask=mask), layer(SEQUENCES, initial_state=states, mask=mask)
    )
    assert np.abs(sparse(SEQUENCES, training=True) - sparse(SEQUENCES)).max() > 0
    tokens = np.array([[5, 7, 1], [2, 0, 0]])
    model = keras.Sequential([layers.Embedding(9, 4, mask_zero=True), sparse, layers.GRU(2)])
    np.testing.assert_allclose(model(tokens)[1:], model(tokens[1:, :1]), rtol=1e-5)


def test_weights_that_do_not_train_count_only_with_others():
    layer = wrapped("LSTM")
    layer.trainable = False
    assert layer.losses == []
    layer.trainable = True
    (weights,) = cells_of(layer)
    weights[0].trainable = False
    values, groups = unit_groups(weights[1:])
    np.testing.assert_allclose(sum(layer.losses), STRENGTH * oracles.lasso(values, groups), rtol=1e-5)


def test_the_layer_s_own_regularizers_count_as_ever():
    layer = layers.GRU(UNITS, kernel_regularizer="l2")
    sparse = tt.layers.IntrinsicSparse(layer, 0.0)
    sparse.build(SEQUENCES.shape)
    assert float(sum(sparse.losses)) == pytest.approx(0.01 * np.sum(layer.cell.kernel.numpy() ** 2))


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dense(3),
        layers.ConvLSTM1D(3, 2),
        layers.Embedding(3, 2),
        "LSTM",
        None,
    ],
    ids=["Dense", "ConvLSTM1D", "Embedding", "text", "None"],
)
def test_it_says_which_layers_it_takes(layer):
    with pytest.raises(ValueError, match=r"IntrinsicSparse: `layer` must be an LSTM, .* Received: layer="):
        tt.layers.IntrinsicSparse(layer, 0.1)


@pytest.mark.parametrize(
    "strength, error", [(-1e-9, ValueError), (float("nan"), ValueError), ("0.1", TypeError), (None, TypeError)]
)
def test_a_strength_that_makes_no_sense_is_refused(strength, error):
    with pytest.raises(error, match=r"IntrinsicSparse of layer 'inner': expected `strength` .* Received: strength="):
        tt.layers.IntrinsicSparse(layers.LSTM(2, name="inner"), strength)


def test_directions_are_wrapped_together():
    with pytest.raises(ValueError, match=r"layer 'inner': .* IntrinsicSparse\(Bidirectional\(layer\), strength\)"):
        layers.Bidirectional(tt.layers.IntrinsicSparse(layers.LSTM(3, name="inner"), 0.1))


# From training to the compact model


def copy_task(seed=0):
    """Sequences whose sum of the first feature is to be told: one hidden unit can."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(256, 5, 4)).astype("float32")
    return x, np.tanh(x[..., :1].sum(1))


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
def test_hidden_units_that_are_not_needed_leave(kind):
    x, y = copy_task()
    model = sequential(keras.Input((5, 4)), kind(12, name="hidden"), layers.Dense(1, name="out"))
    found = structure(model, "hidden")
    assert (found.kind, found.size, found.layers) == ("hidden", 12, ("hidden", "out"))
    assert str(found).startswith("hidden: 12 hidden units — hidden: kernel[:, ")
    sparsity = tt.sparsify(model, strength=0.02, kinds=["hidden"])
    assert sparsity.groups == 12
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.fit(x, y, epochs=12, batch_size=32, verbose=0)
    small = check_laws(model)
    assert small.get_layer("hidden").units < 8
    assert model.evaluate(x, y, verbose=0) < 0.5 * np.var(y)


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
@pytest.mark.parametrize("callbacks, most", [([tt.callbacks.ZeroSmallWeights(1e-3)], 6), ([], 12)])
def test_the_wrappers_units_leave_by_small_weights_and_a_rate_that_falls_to_zero(kind, callbacks, most):
    x, y = copy_task()
    wrapper = tt.layers.IntrinsicSparse(kind(12), 0.05, name="hidden")
    model = sequential(keras.Input((5, 4)), wrapper, layers.Dense(1, name="out"))
    rate = keras.optimizers.schedules.PolynomialDecay(0.1, 20 * 8)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), "mse")
    model.fit(x, y, epochs=20, batch_size=32, verbose=0, callbacks=callbacks)
    units = tt.compact(model).get_layer("hidden").units
    assert units <= most and (callbacks or units == 12)
    assert np.mean((model.predict(x, verbose=0) - y) ** 2) < 0.2 * np.var(y)  # evaluate adds the penalty


def test_the_wrapper_leaves_the_compact_model():
    model = sequential(
        keras.Input((5, 4)), tt.layers.IntrinsicSparse(layers.LSTM(6), 1e-3, name="sparse"), layers.Dense(2)
    )
    structure(model, "sparse/lstm").zero([0, 2])
    small = check_laws(model)
    assert type(small.get_layer("sparse")) is layers.LSTM
    assert small.get_layer("sparse").units == 4


def test_the_report_shows_what_left_a_recurrent_layer():
    model = sequential(
        keras.Input((5, 4)),
        layers.Bidirectional(layers.LSTM(6, return_sequences=True), name="both"),
        layers.RNN([layers.GRUCell(5), layers.LSTMCell(4)], name="stack"),
        layers.Dense(2, name="out"),
    )
    for found in tt.structures(model):
        found.zero(np.arange(found.size // 2))
    small = tt.compact(model)
    rows = {row.name: row for row in compare(model, small).rows}
    assert rows["both/forward_lstm"].width == (6, 3)
    assert rows["both/forward_lstm"].multiply_adds == (5 * 24 * (4 + 6), 5 * 12 * (4 + 3))
    assert rows["stack"].width == (4, 2)
    sizes = {matrix.title: (matrix.before.shape, matrix.after.shape) for matrix in rows["stack"].matrices}
    assert sizes["stack kernel"] == ((15, 12), (9, 6))
    assert sizes["stack recurrent_kernel 2"] == ((16, 4), (8, 2))
    first = rows["both/forward_lstm"].matrices[0]
    assert (first.title, first.before.shape, first.after.shape) == ("both/forward_lstm kernel", (24, 4), (12, 4))
    np.testing.assert_array_equal(first.before[first.kept[0]], first.after)


def test_randomize_reaches_the_biases_of_cells():
    model = randomize(keras.Sequential([keras.Input((5, 4)), layers.LSTM(3)]))
    assert (model.layers[0].cell.bias.numpy() != 0).all()
