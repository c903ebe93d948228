"""A training on real workers that are killed goes on where it was: its weights are those of one that nobody killed."""

import contextlib
import os
import resource
import shutil
import signal

import horovod.tensorflow as hvd
import keras
import numpy as np
import pytest
import tensorflow as tf
from workers import WorkersFailed, run_workers

from tf_terngrad.ternary.compressor import TernGrad
from tf_terngrad.ternary.distributed import DistributedOptimizer, callbacks, check_replicas, exchange_state

EPOCHS, STEPS, BATCH = 3, 5, 4


def network(units=8):
    """Dropout, statistics, moments: all that a training has beside its weights."""
    keras.utils.set_random_seed(hvd.rank())
    layers = [
        keras.layers.Dense(units, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1, activation="sigmoid")])
    schedule = keras.optimizers.schedules.CosineDecay(0.05, EPOCHS * STEPS)
    optimizer = DistributedOptimizer(keras.optimizers.Adam(schedule), TernGrad(smallest=1))
    exchange_state(optimizer).step.assign(0)  # these workers may have made optimizers before
    model.compile(optimizer, "binary_crossentropy", metrics=[keras.metrics.AUC(num_thresholds=9, name="auc")])
    return model


def data():
    """This worker's, the same in every process."""
    rng = np.random.default_rng(5 + hvd.rank())
    return rng.normal(size=(STEPS * BATCH, 4)), rng.integers(0, 2, (STEPS * BATCH, 1))


class Kill(keras.callbacks.Callback):
    """Kills a worker behind a batch; or in the middle of writing the checkpoint of one."""

    def __init__(self, rank, epoch, batch, writing=False):
        super().__init__()
        self.rank, self.at, self.writing, self.epoch = rank, (epoch, batch), writing, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self.writing and hvd.rank() == self.rank and (self.epoch, batch) == self.at:

            def half(stream, **content):
                stream.write(b"PK and a half")
                stream.flush()
                os.kill(os.getpid(), signal.SIGKILL)

            np.savez = half

    def on_train_batch_end(self, batch, logs=None):
        if not self.writing and hvd.rank() == self.rank and (self.epoch, batch) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


class Note(keras.callbacks.Callback):
    """Notes where training goes on, and the iterations behind each batch; fails behind one, if asked."""

    def __init__(self, fails=None):
        super().__init__()
        self.seen, self.epoch, self.fails = [], None, fails

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((self.epoch, batch, int(self.model.optimizer.iterations)))
        if (self.epoch, batch) == self.fails:
            raise ArithmeticError


def training(folder, kill=(), epochs=EPOCHS, every=2, behind=True, units=8):
    """Weights, seeds, logs by epoch, and what was noted; the checkpoint is behind the broadcast, or before."""
    model, note = network(units), Note()
    both = [callbacks.BroadcastVariables(), callbacks.Checkpoint(folder, every)]
    killers = [Kill(*arguments) for arguments in kill]
    history = model.fit(
        *data(),
        validation_data=data(),
        batch_size=BATCH,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[*(both if behind else both[::-1]), callbacks.AverageMetrics(), *killers, note],
    )
    check_replicas([*model.trainable_variables, *model.optimizer.variables])
    trained = [variable.numpy() for variable in [*model.trainable_variables, *model.optimizer.variables]]
    seeds = [variable.numpy().tolist() for variable in model.variables if variable.name == "seed_generator_state"]
    logs = {epoch: {n: v[i] for n, v in history.history.items()} for i, epoch in enumerate(history.epoch)}
    return trained, seeds, logs, note.seen


def killed(*arguments):
    with pytest.raises(WorkersFailed, match="exit code -9"):
        run_workers(training, *arguments)


@pytest.fixture(scope="module")
def once_killed(tmp_path_factory):
    """The folder of a training that was killed behind the batch after a saving."""
    folder = tmp_path_factory.mktemp("killed")
    killed(folder, [(1, 1, 2)])
    assert sorted(path.name for path in folder.iterdir()) == ["training.npz"]
    return folder


def test_a_training_that_was_killed_twice_ends_as_one_that_was_not(tmp_path, once_killed):
    whole = run_workers(training, tmp_path / "whole")
    folder = shutil.copytree(once_killed, tmp_path / "killed")
    killed(folder, [(0, 2, 1, True)], EPOCHS, 2, False)  # while the saving behind batch 1 of epoch 2 is written
    assert len(list(folder.iterdir())) == 2, "half a file is there"
    rest = run_workers(training, folder)
    assert len(list(folder.iterdir())) == 1
    for (weights, seeds, logs, _), (others, other_seeds, other_logs, seen) in zip(whole, rest, strict=True):
        for one, other in zip(weights, others, strict=True):
            np.testing.assert_array_equal(one, other)
        assert seeds == other_seeds
        assert [each for each in seen if each[0] == 2] == seen and seen[-1] == (2, 4, 15)
        assert other_logs.keys() == {2}
        assert {n: v for n, v in logs[2].items() if "val" not in n} == {
            n: v for n, v in other_logs[2].items() if "val" not in n
        }
    assert whole[0][1] != whole[1][1], "the workers draw the same random numbers"
    again = run_workers(training, folder)
    assert [seen for *_, seen in again] == [[], []], "there was nothing left to train"
    more = run_workers(training, folder, (), EPOCHS + 1)
    assert all(seen[0] == (3, 0, 16) for *_, seen in more)


def test_another_number_of_workers_goes_on_in_the_same_part_of_the_epoch(tmp_path, once_killed):
    shutil.copytree(once_killed, tmp_path, dirs_exist_ok=True)
    three = run_workers(training, tmp_path, workers=3)
    for _, _, logs, seen in three:
        assert logs.keys() == {1, 2}
        assert seen[:3] == [(1, 0, 7), (1, 1, 7), (1, 2, 8)] and seen[-1] == (2, 4, 15)
    assert len({str(seeds) for _, seeds, _, _ in three}) == 3
    (one,) = run_workers(training, tmp_path, (), EPOCHS + 1, workers=1)
    assert one[3][0] == (3, 0, 16)


def by_generator():
    yield from (tuple(part[start : start + BATCH] for part in data()) for start in range(0, STEPS * BATCH, BATCH))


FEEDS = {
    "several steps at once": (2, {"steps_per_execution": 2}, (1, 3), False),
    "as many batches as come": (5, {}, (1, 4), True),  # saved at the epoch's end, which nobody knows to be its end
}


def test_the_batches_that_were_done_are_left_out(tmp_path):
    def together(folder):
        spec = tuple(tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in data())
        stream = tf.data.Dataset.from_generator(by_generator, output_signature=spec)
        batches = tf.data.Dataset.from_tensor_slices(data()).batch(BATCH)

        def run(name, every=1, compiled=(), fails=None, streams=False):
            model, note = network(), Note(fails)
            model.compile(model.optimizer, "binary_crossentropy", metrics=["mae"], **dict(compiled))
            mine = tf.Variable(42 if fails else 0)
            checkpoint = callbacks.Checkpoint(folder / name, every, also=[mine])
            given = [callbacks.BroadcastVariables(), checkpoint, note]
            fed = stream if streams else batches
            history = model.fit(fed, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=given).history
            assert int(mine) == (0 if name.startswith("whole") else 42)
            variables = [*model.trainable_variables, *model.optimizer.variables]
            return [variable.numpy() for variable in variables], history, note.seen

        pairs = {}
        for name, (every, compiled, fails, streams) in FEEDS.items():
            # Where nobody knows the length, TensorFlow draws random numbers for a batch that does not come.
            whole = run(f"whole {name}", streams=streams)
            with pytest.raises(ArithmeticError):
                run(name, every, compiled, fails, streams)
            pairs[name] = whole, run(name, every, compiled, None, streams)
        return pairs

    for pairs in run_workers(together, tmp_path):
        for feed, ((weights, history, seen), (others, other_history, rest)) in pairs.items():
            for one, other in zip(weights, others, strict=True):
                np.testing.assert_array_equal(one, other, err_msg=feed)
            assert (rest[0][0], rest[-1][2]) == (1, seen[-1][2]), feed
            for name, values in other_history.items():
                np.testing.assert_allclose(history[name][1:], values, rtol=1e-6, err_msg=feed)


@contextlib.contextmanager
def full_disk():
    """No file of this process can grow beyond a few bytes: as on a full disk, but for the number of the error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_cannot_be_written_or_read_is_said_on_all_workers(tmp_path):
    def together(tmp_path):
        import logging

        path, told = tmp_path / "training.npz", []
        handler = logging.Handler()
        handler.emit = lambda record: told.append(record.getMessage())
        logging.getLogger("tf_terngrad").addHandler(handler)
        training(tmp_path, epochs=1)
        before = path.read_bytes()
        hvd.allgather_object(0)  # all are here
        with full_disk():
            *_, seen = training(tmp_path, epochs=2)
        kept, warned = path.read_bytes() == before, list(told)
        del told[:]
        training(tmp_path, epochs=1)
        nothing = list(told)
        hvd.allgather_object(0)  # all are here
        with pytest.raises(ValueError, match=r"belongs to another model.*\(4, 9\)"):
            training(tmp_path, units=9)
        hvd.allgather_object(0)  # all are here
        if hvd.rank() == 0:
            path.write_bytes(before[: len(before) // 2])
        hvd.allgather_object(0)  # all are here
        with pytest.raises(ValueError, match=r"no checkpoint of a training, or damaged\. Remove it"):
            training(tmp_path)
        with pytest.raises(OSError, match=r"(?i)exist|not a directory"):
            training(path)
        logging.getLogger("tf_terngrad").removeHandler(handler)
        return seen, kept, warned, nothing

    (seen, kept, warned, nothing), (others, _, silent, other_nothing) = run_workers(together, tmp_path)
    assert seen == others and seen[-1] == (1, 4, 10) and kept
    assert len(warned) == 3 and all("is not saved, and training goes on" in each for each in warned)
    assert "epoch 1, step 2" in warned[0] and "Free some space" in warned[0]
    assert "nothing is left to train" in nothing[0] and not silent and not other_nothing


def spoiled(folder):
    """A training on a label that is no number, and the one that follows."""
    training(folder, epochs=1)
    before, model = (folder / "training.npz").read_bytes(), network()
    hvd.allgather_object(0)  # all are here
    x, y = data()
    y = np.where(np.arange(len(y))[:, None] == 7 * hvd.rank(), np.nan, y)
    given = [callbacks.BroadcastVariables(), callbacks.Checkpoint(folder), keras.callbacks.TerminateOnNaN()]
    model.fit(x, y, epochs=3, batch_size=BATCH, verbose=0, callbacks=given)
    hvd.allgather_object(0)  # all are here
    kept = (folder / "training.npz").read_bytes() == before
    return np.isfinite(model.layers[0].kernel.numpy()).all(), kept, training(folder, epochs=2)[-1]


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    for finite, kept, seen in run_workers(spoiled, tmp_path):
        assert not finite and kept
        assert [epoch for epoch, *_ in seen] == [1] * STEPS


def test_a_number_of_batches_is_an_integer():
    with pytest.raises(ValueError, match="every"):
        callbacks.Checkpoint("folder", every=0)
