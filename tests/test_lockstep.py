"""Workers end epochs and trainings together, whatever one of them does: two real ones in each test."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from workers import run_workers

from tf_terngrad.ternary.compressor import TernGrad
from tf_terngrad.ternary.distributed import DistributedGradientTape, DistributedOptimizer, callbacks
from tf_terngrad.ternary.transport import transport_of

BATCHES, BATCH = 6, 8
FEW = 4  # of the second worker, where it has fewer
LEARNING_RATE = 0.05
TERNARY = TernGrad(smallest=1)


def rank():
    return int(transport_of().rank())


class At(keras.callbacks.Callback):
    """Does something at a batch or at the end of an epoch, on the second worker only."""

    def __init__(self, act, batch=None, epoch=0):
        super().__init__()
        self.act, self.batch, self.epoch, self.now = act, batch, epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if rank() == 1 and (self.now, batch) == (self.epoch, self.batch):
            self.act(self.model)

    def on_epoch_end(self, epoch, logs=None):
        if rank() == 1 and self.batch is None and epoch == self.epoch:
            self.act(self.model)


def stop(model):
    model.stop_training = True


def fail(model):
    raise OSError("disk full")


def network(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1, name="head")]
    )


def examples(batches=BATCHES):
    rng = np.random.default_rng(rank())
    x = rng.normal(size=(batches * BATCH, 4)).astype("float32")
    return x, x[:, :1] * x[:, 1:2]


def generated(batches, broken=None):
    """As many batches as a worker has, which fit cannot know."""
    x, y = examples(batches)

    def parts():
        for number in range(batches):
            if number == broken:
                raise OSError("corrupt record")
            yield x[number * BATCH :][:BATCH], y[number * BATCH :][:BATCH]

    kinds = (tf.TensorSpec((BATCH, 4), tf.float32), tf.TensorSpec((BATCH, 1), tf.float32))
    return tf.data.Dataset.from_generator(parts, output_signature=kinds)


def fitted(given, data=None, epochs=3, optimizer=None, compression=TERNARY, **options):
    """What a worker has after `fit`: its counts, its weights and its curves, or what it raised."""
    model = network()
    optimizer = optimizer or keras.optimizers.Adam(LEARNING_RATE)
    model.compile(DistributedOptimizer(optimizer, compression), "mse")
    data, options = ((data,), options) if data is not None else (examples(), {"batch_size": BATCH} | options)
    error = None
    try:
        model.fit(*data, epochs=epochs, callbacks=given, verbose=0, shuffle=False, **options)
    except (OSError, RuntimeError, tf.errors.OpError) as raised:
        error = f"{type(raised).__name__}: {raised}"
    return {
        "updates": int(model.optimizer.iterations),
        "epochs": len(model.history.epoch),
        "weights": [weight.numpy() for weight in model.weights],
        "state": [variable.numpy() for variable in model.optimizer.variables],
        "curves": model.history.history,
        "error": error,
    }


def require_same(first, second, *what):
    for name in ("updates", "epochs", *what):
        assert first[name] == second[name], name
    for name in ("weights", "state"):
        for one, other in zip(first[name], second[name], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


def stopped(batch, epoch=0, **options):
    return fitted([callbacks.BroadcastVariables(), At(stop, batch, epoch)], **options)


@pytest.mark.parametrize(
    ("batch", "updates"),
    [(2, BATCHES + 3), (BATCHES - 1, 2 * BATCHES), (None, 2 * BATCHES)],
    ids=["in an epoch", "at its last batch", "at its end"],
)
def test_one_that_stops_stops_all_after_the_same_update(batch, updates):
    first, second = run_workers(stopped, batch, 1)
    require_same(first, second)
    assert (first["updates"], first["epochs"]) == (updates, 2)


def accumulating():
    return stopped(2, 1, optimizer=keras.optimizers.Adam(LEARNING_RATE, gradient_accumulation_steps=3))


def test_gradients_that_accumulate():
    first, second = run_workers(accumulating)
    for one, other in zip(first["weights"], second["weights"], strict=True):
        np.testing.assert_array_equal(one, other)
    assert first["epochs"] == second["epochs"] == 2


def uneven(given):
    return fitted([callbacks.BroadcastVariables(), *given], generated(BATCHES if rank() == 0 else FEW))


@pytest.mark.parametrize("given", [[], [callbacks.AverageMetrics()]], ids=["alone", "with averages"])
def test_an_epoch_ends_where_the_first_workers_data_end(given):
    first, second = run_workers(uneven, given)
    require_same(first, second)
    assert (first["updates"], first["epochs"]) == (3 * FEW, 3)


def early(where):
    """EarlyStopping with a threshold of this worker's own, before or behind the averages, or on one worker only."""
    early_stopping = keras.callbacks.EarlyStopping(
        "loss", min_delta=10.0 if rank() == 1 else 0.0, patience=1, restore_best_weights=True
    )
    given = {
        "before": [early_stopping, callbacks.AverageMetrics()],
        "behind": [callbacks.AverageMetrics(), early_stopping],
        "one": [early_stopping] if rank() == 1 else [],
    }[where]
    return fitted([callbacks.BroadcastVariables(), *given], epochs=6, compression=None)


@pytest.mark.parametrize("where", ["before", "behind", "one"])
def test_early_stopping_of_one_worker(where):
    first, second = run_workers(early, where)
    require_same(first, second, *(["curves"] if where != "one" else []))
    assert first["epochs"] == 2


def test_weights_that_one_worker_puts_back_become_those_of_all():
    first, second = run_workers(early, "one")
    once, _ = run_workers(trained_once)
    for ours, after_an_epoch in zip(first["weights"], once["weights"], strict=True):
        np.testing.assert_array_equal(ours, after_an_epoch)
    require_same(first, second)


def trained_once():
    return fitted([callbacks.BroadcastVariables()], epochs=1, compression=None)


def with_nan():
    """One bad label on the second worker."""
    model = network()
    model.compile(DistributedOptimizer(keras.optimizers.SGD(LEARNING_RATE), TERNARY), "mse")
    x, y = examples()
    y[BATCH * rank() * 2 : BATCH * rank() * 2 + 1] = np.nan if rank() else y[:1]
    given = [callbacks.BroadcastVariables(), keras.callbacks.TerminateOnNaN(), callbacks.AverageMetrics()]
    history = model.fit(x, y, batch_size=BATCH, epochs=3, callbacks=given, verbose=0, shuffle=False)
    return int(model.optimizer.iterations), len(history.epoch)


def test_a_loss_that_is_not_finite_on_one_worker():
    assert run_workers(with_nan) == [(3, 1), (3, 1)]


def failing(where):
    broken = 2 if rank() == 1 else None
    given = {"batch": [At(fail, 2)], "epoch": [At(fail, None)]}.get(where, [])
    data = generated(BATCHES, broken) if where == "data" else None
    options = {"validation_data": generated(BATCHES, broken)} if where == "validation" else {}
    return fitted([callbacks.AverageMetrics(), *given, callbacks.BroadcastVariables()], data, **options)


@pytest.mark.parametrize("where", ["batch", "epoch", "data", "validation"])
def test_the_others_hear_of_an_error(where):
    first, second = run_workers(failing, where)
    assert "AnotherFailed: This worker ends, for another one has failed. worker 1: " in first["error"]
    for result in (first, second):
        assert ("corrupt record" if where in ("data", "validation") else "OSError: disk full") in result["error"]
    for one, other in zip(first["weights"], second["weights"], strict=True):
        np.testing.assert_array_equal(one, other)


def going_on():
    """After a training that one worker has stopped, and one that failed, the next one is as ever."""
    first = fitted([At(stop, 2)])
    failing("batch")
    return first, fitted([callbacks.AverageMetrics()])


def test_the_next_training_knows_nothing_of_it():
    (_, first), (_, second) = run_workers(going_on)
    require_same(first, second, "curves")
    assert first["updates"] == 3 * BATCHES


def joining():
    """A loop of one's own, and Horovod's join on the worker that is ready first."""
    model, optimizer = network(), keras.optimizers.SGD(LEARNING_RATE)
    x, y = examples()

    @tf.function(autograph=False)
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - y) ** 2)
        tape = DistributedGradientTape(tape, compression=TERNARY)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    for number in range(FEW if rank() == 1 else BATCHES):
        step(x[number * BATCH :][:BATCH], y[number * BATCH :][:BATCH])
    if rank() == 1:
        import horovod.tensorflow as hvd

        hvd.join()


def test_join_is_refused_with_what_to_do():
    with pytest.raises(AssertionError, match=r"A worker has called hvd\.join\(\).*Give every worker as many batches"):
        run_workers(joining)
