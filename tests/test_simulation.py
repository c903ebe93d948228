"""Simulated workers: what they average is what workers that exchange do, and `fit` trains with it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import virtual_workers
from small_training import classification, compiled, small_model

import tf_terngrad as tt
from tf_terngrad.ternary import exchange
from tf_terngrad.ternary.distributed import simulation
from tf_terngrad.ternary.distributed.settings import Settings

COMPRESSIONS = {
    "shared": tt.TernGrad(),
    "private": tt.TernGrad(share_scales=False),
    "levels": tt.TernGrad(levels=3, clip=None),
    "buckets": tt.TernGrad(bucket_size=50, schedule="words"),
}


@pytest.mark.parametrize("compression", COMPRESSIONS.values(), ids=COMPRESSIONS.keys())
@pytest.mark.parametrize("workers", [1, 3])
def test_an_average_is_that_of_workers_that_exchange(compression, workers):
    gradients = [np.random.default_rng(i).normal(size=(workers, *shape)) for i, shape in enumerate([(30, 7), (9,)])]
    gradients = [tf.constant(gradient, tf.float32) for gradient in gradients]

    def exchanged(network):
        mine = [gradient[int(network.rank())] for gradient in gradients]
        return exchange.average(mine, compression, network, 4)

    (expected, *_) = virtual_workers.run(workers, exchanged)
    for found, should in zip(simulation.average(gradients, compression, 4), expected, strict=True):
        np.testing.assert_allclose(found, should, rtol=1e-6)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_without_compression_a_simulation_is_plain_training(workers):
    x, y = classification()
    histories, weights = [], []
    for simulated in (False, True):
        model = compiled(keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, kernel_regularizer="l2")]))
        model.set_weights([np.full((5, 3), 0.1), np.zeros(3)])
        if simulated:
            tt.distributed.simulate(model, workers)
        histories.append(model.fit(x, y, batch_size=40, epochs=2, shuffle=False, verbose=0).history)
        weights.append(model.get_weights())
    assert histories[0].keys() == histories[1].keys()
    for name, curve in histories[0].items():
        np.testing.assert_allclose(histories[1][name], curve, rtol=1e-5)
    for found, should in zip(weights[1], weights[0], strict=True):
        np.testing.assert_allclose(found, should, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("compression", COMPRESSIONS.values(), ids=COMPRESSIONS.keys())
def test_ternary_workers_learn(compression):
    x, y = classification()
    model = tt.distributed.simulate(compiled(small_model()), 4, compression)
    losses = model.fit(x, y, batch_size=40, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.75 * losses[0]


def test_updates_are_of_few_levels_where_digits_travel_and_of_many_where_floats_do():
    x, y = classification(40)
    model = tt.distributed.simulate(compiled(small_model()), 2, tt.TernGrad(smallest=20), exclude=["*_1/kernel"])
    before = model.get_weights()
    model.fit(x, y, batch_size=40, verbose=0)
    levels = [len(np.unique(np.round(b - a, 6))) for a, b in zip(model.get_weights(), before, strict=True)]
    assert levels[0] <= 5  # -2, -1, 0, 1, 2 times the scale
    assert levels[2] > 5


def test_an_embeddings_rows_have_scales_of_their_own():
    model = keras.Sequential([keras.Input((4,), dtype="int32"), keras.layers.Embedding(10, 6), keras.layers.Flatten()])
    model.add(keras.layers.Dense(3))
    compiled(model)
    simulated = simulation.Simulation(model, 2, Settings(tt.TernGrad(smallest=1, clip=None)))
    tokens = np.arange(8).reshape(2, 4) % 7
    gradients = simulated.gradients(tf.constant(tokens), tf.constant([0, 2]))
    (rows, *_) = simulated.average(gradients)
    largest = np.abs(gradients[0]).max(axis=(0, 2))
    assert (largest[7:] == 0).all()
    for row, scale in zip(rows.numpy(), largest, strict=True):
        distances = np.abs(np.abs(row)[:, None] - [0, scale / 2, scale]).min(axis=1)
        assert distances.max() <= 1e-6 * max(scale, 1e-3)


@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam(), keras.optimizers.SGD(gradient_accumulation_steps=2)])
def test_fit_does_what_it_always_does(optimizer):
    x, y = classification()
    inputs = keras.Input((5,))
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(8)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(hidden))
    model = tt.distributed.simulate(compiled(model, optimizer, steps_per_execution=2), 2, tt.TernGrad(smallest=1))
    moving = [variable.numpy() for variable in model.non_trainable_variables]
    history = model.fit(x, y, batch_size=40, epochs=2, validation_data=(x, y), verbose=0).history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert all(np.abs(v.numpy() - m).max() > 0 for v, m in zip(model.non_trainable_variables, moving, strict=True))


def test_mixed_precision_trains():
    x, y = classification()
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = compiled(small_model())
    finally:
        keras.config.set_dtype_policy(policy)
    losses = tt.distributed.simulate(model, 2, tt.TernGrad(smallest=1)).fit(x, y, batch_size=40, epochs=5, verbose=0)
    assert losses.history["loss"][-1] < losses.history["loss"][0]


def test_a_batch_that_cannot_be_shared_is_refused():
    x, y = classification(50)
    model = tt.distributed.simulate(compiled(small_model()), 4)
    with pytest.raises(tf.errors.InvalidArgumentError, match="shared out evenly among 4 workers"):
        model.fit(x, y, batch_size=40, verbose=0)


@pytest.mark.parametrize("eager", [False, True])
def test_a_batch_of_known_size_that_cannot_be_shared_is_refused_before_it_runs(eager):
    batches = tf.data.Dataset.from_tensor_slices(classification(50)).batch(10, drop_remainder=True)
    model = tt.distributed.simulate(compiled(small_model(), run_eagerly=eager), 4)
    with pytest.raises(ValueError, match=r"evenly among 4 workers.*a batch of 10"):
        model.fit(batches, shuffle=False, verbose=0)


def test_the_number_of_workers_may_be_one_of_numpys():
    x, y = classification(40)
    first, second = (tt.distributed.simulate(compiled(small_model()), workers) for workers in (4, np.int64(4)))
    for model in (first, second):
        model.fit(x, y, batch_size=40, shuffle=False, verbose=0)
    for expected, weights in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize("workers", [0, -1, 2.0, True, None])
def test_a_wrong_number_of_workers_is_refused(workers):
    with pytest.raises((ValueError, TypeError), match="workers="):
        tt.distributed.simulate(compiled(small_model()), workers)


def test_what_is_no_compiled_model_is_refused():
    with pytest.raises(TypeError, match=r"keras\.Model"):
        tt.distributed.simulate("model", 2)
    with pytest.raises(ValueError, match="compiled"):
        tt.distributed.simulate(small_model(), 2)
    with pytest.raises(TypeError, match="compression="):
        tt.distributed.simulate(compiled(small_model()), 2, compression="terngrad")
    with pytest.raises(ValueError, match="no floats that travel"):
        tt.distributed.simulate(compiled(small_model()), 2, compression=tt.Compression.fp16)


def test_what_xla_would_compile_is_refused():
    model = compiled(small_model(), jit_compile=True)
    with pytest.raises(ValueError, match="jit_compile=False"):
        tt.distributed.simulate(model, 2)
    model = tt.distributed.simulate(compiled(small_model()), 2)
    compiled(model, jit_compile=True)
    with pytest.raises(ValueError, match="jit_compile=False"):
        model.fit(*classification(40), batch_size=40, verbose=0)


def test_patterns_that_fit_nothing_are_refused():
    with pytest.raises(ValueError, match=r"exclude=\['\*/biass'\] fits no variable.*/bias"):
        tt.distributed.simulate(compiled(small_model()), 2, tt.TernGrad(), exclude=["*/kernel", "*/biass"])
