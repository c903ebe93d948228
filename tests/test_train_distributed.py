"""train.py on several workers, started by horovodrun as a user does."""

import functools
import os
import subprocess
import sys
import types
from pathlib import Path

import keras
import numpy as np
import patience
import psutil
import pytest
import tensorflow as tf
from workers import TensorFlowMeeting, WorkersFailed, run_workers

from models.training import workers
from models.training.checkpoint import EpochCheckpoint
from models.training.trainer import Trainer, batches
from models.training.workers import Worker, this_worker

CHECKOUT = Path(__file__).parents[1]
HOROVODRUN = Path(sys.executable).with_name("horovodrun")
SPARSE = ("--model=lenet", "--strength=0.05", "--learning_rate=0.1", "--compression=terngrad", "--finetune_epochs=1")


def start(*arguments, cwd):
    command = [HOROVODRUN, "--gloo", "-np", "2", sys.executable, CHECKOUT / "train.py", *arguments]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def worker(run, rank):
    """The process of a rank."""
    for process in psutil.Process(run.pid).children(recursive=True):
        if process.environ().get("HOROVOD_RANK") == str(rank) and "train.py" in " ".join(process.cmdline()[:3]):
            return process
    raise AssertionError(f"no process of rank {rank}")


def test_a_killed_worker_ends_the_run_by_name_and_resume_ends_it_in_a_compact_file(tmp_path):
    run = start(*SPARSE, "--epochs=6", "--output=run", cwd=tmp_path)
    patience.wait_until((tmp_path / "run/checkpoints/model.npz").exists, run)
    worker(run, 1).kill()
    printed = patience.finish(run).stdout
    assert run.returncode != 0
    assert "Process 1 exit" in printed or "process 1" in printed.lower(), printed
    assert not (tmp_path / "run/model.keras").exists()

    resumed = start(*SPARSE, "--epochs=6", "--output=run", "--resume", cwd=tmp_path)
    printed = patience.finish(resumed).stdout
    assert resumed.returncode == 0, printed
    assert "done before" in printed
    assert "[1]<stdout>" not in printed, "one worker is to print, not all"
    small = keras.models.load_model(tmp_path / "run/compact.keras")
    dense = keras.models.load_model(tmp_path / "run/model.keras")
    assert small.count_params() < dense.count_params()
    sizes = [(tmp_path / "run" / name).stat().st_size for name in ("model.tflite", "before.tflite")]
    assert sizes[0] < sizes[1]


def test_workers_that_tf_config_names_train_together(tmp_path):
    meeting = TensorFlowMeeting(2)
    command = [sys.executable, CHECKOUT / "train.py", *SPARSE, "--epochs=1", "--output=run"]
    runs = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=meeting.environment(rank),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    leader, other = (patience.finish(run).stdout for run in runs)
    assert [run.returncode for run in runs] == [0, 0], leader + other
    assert "accuracy" in leader and "accuracy" not in other
    assert (tmp_path / "run/model.tflite").exists()


def abandoned():
    """The last lines of an error of a worker that waits for another one, which has gone; and of one of its own."""
    import horovod.tensorflow as hvd

    import train
    from models.training.workers import HorovodWorker

    worker, notes = HorovodWorker("none"), []
    if worker.rank == 1:
        os._exit(0)
    for fail in (lambda: hvd.allreduce(tf.ones(3)), lambda: tf.ones(3) + tf.ones(4)):
        try:
            fail()
        except (tf.errors.OpError, RuntimeError) as error:
            train.note_what_to_do(error, worker)
            notes.append(error.__notes__)
    raise AssertionError(f"notes: {notes}")


def test_an_error_says_whose_it_is_and_how_to_go_on():
    with pytest.raises(WorkersFailed) as failed:
        run_workers(abandoned, env={"PYTHONPATH": os.pathsep.join([str(CHECKOUT), *sys.path])})
    (notes,) = [line for line in str(failed.value).splitlines() if line.startswith("AssertionError: notes: ")]
    assert notes.count("The launcher names the worker that ended first") == 1
    assert notes.count("With --resume") == 2


def test_a_bad_folder_ends_all_workers_with_one_message(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.txt").write_text("mine")
    printed = patience.finish(run := start(*SPARSE, "--output=run", cwd=tmp_path)).stdout
    assert run.returncode != 0
    assert printed.count("files that are no run") == 1


def sparse_training(folder, compression):
    """The final weights of a short sparse training on random digits of two classes."""
    import horovod.tensorflow as hvd

    import tf_terngrad as tt
    from models.lenet import lenet
    from models.training.workers import HorovodWorker

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 256)
    images = rng.normal(size=(256, 28, 28, 1)).astype("float32") + labels[:, None, None, None]
    keras.utils.set_random_seed(hvd.rank())  # the leader's weights are to serve all
    model = lenet(classes=2)
    next(found for found in tt.structures(model) if found.name == "dense1").zero(range(100 * hvd.rank(), 400))
    tt.sparsify(model, strength=0.05)
    trainer = Trainer(folder, (images, labels), (images, labels), 64, worker=HorovodWorker(compression))
    trainer.fit(model, "model", 3, 0.05)
    small = tt.compact(model)
    trainer.fit(small, "small", 1, 0.01)
    return model.get_weights(), small.get_weights(), small.get_layer("dense1").units, trainer.test_error(small)


@pytest.mark.parametrize("compression", ["none", "terngrad"])
def test_all_workers_learn_and_remove_the_same(tmp_path, compression):
    first, second = run_workers(sparse_training, tmp_path, compression)
    for mine, theirs in zip([*first[0], *first[1]], [*second[0], *second[1]], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert first[2:] == second[2:]
    assert first[2] == 100, "the leader's dead units leave, and no others"
    assert first[3] < 0.1


class Killed(RuntimeError):
    """What stands for a kill."""


class Kill(keras.callbacks.Callback):
    """Ends the training as an epoch begins."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise Killed


def resumable_training(folder, killed):
    """The weights after two stages of a training; or nothing, where it is killed in the first."""
    from models.lenet import lenet
    from models.training.workers import HorovodWorker

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 128)
    images = rng.normal(size=(128, 28, 28, 1)).astype("float32") + labels[:, None, None, None]
    keras.utils.set_random_seed(1)
    models = [lenet(classes=2), lenet(classes=2)]
    trainer = Trainer(folder, (images, labels), (images, labels), 64, worker=HorovodWorker("terngrad"))
    try:
        for number, model in enumerate(models):
            trainer.fit(model, f"stage{number}", 4, 0.05, (Kill(),) if killed else ())
    except Killed:
        return None
    return [weight for model in models for weight in model.get_weights()]


def test_a_resumed_training_is_the_uninterrupted_one_to_the_bit(tmp_path):
    """Ternary digits are drawn at random: those after the kill must be those that would have come without it."""
    run = functools.partial(run_workers, resumable_training, env={})
    expected, _ = run(tmp_path / "whole", False)
    assert run(tmp_path / "broken", True) == [None, None]
    resumed, others = run(tmp_path / "broken", False)
    for one, other, wanted in zip(resumed, others, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, wanted)


def test_a_run_of_several_workers_goes_on_with_one_alone(tmp_path):
    """The leader's file has what one worker needs, and one worker's file serves several."""
    several, alone = EpochCheckpoint(tmp_path / "a.npz", [tf.Variable(5)]), EpochCheckpoint(tmp_path / "a.npz")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    for writer, step in ((several, 5), (alone, 9)):
        model.fit(np.ones((4, 2)), np.ones(4), verbose=0, callbacks=[writer])
        reader = EpochCheckpoint(tmp_path / "a.npz", [tf.Variable(9)])
        reader.restore(model)
        assert int(reader.exchanged[0]) == step
        assert EpochCheckpoint(tmp_path / "a.npz").restore(model)[0] == 1


def test_the_parts_of_a_batch_are_what_one_worker_would_see():
    images, labels = np.arange(40.0), np.arange(40)
    whole = list(batches(images, labels, 12, 3, 0, 2))
    parts = [list(batches(images, labels, 12, 3, 0, 2, part=(k, 3))) for k in range(3)]
    assert len(whole) == 8
    full = [batch for batch in whole if len(batch[1]) == 12]
    for batch, *shared in zip(full, *parts, strict=True):
        assert sorted(np.concatenate([labels for _, labels in shared])) == sorted(batch[1].numpy())


def test_one_worker_says_that_nothing_is_compressed(monkeypatch, capsys):
    monkeypatch.delenv("HOROVOD_RANK", raising=False)
    assert this_worker("none").size == 1
    assert not capsys.readouterr().out
    assert this_worker("terngrad").size == 1
    assert "--compression=terngrad changes nothing" in capsys.readouterr().out


@pytest.mark.parametrize("chosen", [None, "120"])
def test_nobody_waits_for_ever_for_a_worker_that_sends_nothing(monkeypatch, chosen):
    import horovod.tensorflow as hvd

    network = types.SimpleNamespace(rank=lambda: 0, size=lambda: 2)
    name, seen = "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS", []
    monkeypatch.setattr(os, "environ", os.environ.copy() | {"HOROVOD_RANK": "0"} | ({name: chosen} if chosen else {}))
    monkeypatch.setattr(hvd, "init", lambda: seen.append(os.environ[name]))
    monkeypatch.setattr(workers, "transport_of", lambda: types.SimpleNamespace(ready=lambda: network))
    assert this_worker("none").size == 2
    assert seen == [chosen or "600"]


def test_a_worker_without_horovod_ends_with_the_remedy(monkeypatch):
    monkeypatch.setenv("HOROVOD_RANK", "0")
    monkeypatch.setitem(sys.modules, "horovod.tensorflow", None)
    with pytest.raises(SystemExit, match=r"cannot be imported.*make setup"):
        this_worker("terngrad")


def test_a_cluster_that_names_no_workers_ends_with_what_it_must_name(monkeypatch):
    monkeypatch.delenv("HOROVOD_RANK", raising=False)
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"ps": ["a:1"]}}')
    with pytest.raises(SystemExit, match=r"TF_CONFIG.*\"worker\".*Received"):
        this_worker("terngrad")


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path):

    worker = Worker()
    worker.size = 3
    data = (np.zeros((10, 4), "float32"), np.zeros(10, int))
    with pytest.raises(ValueError, match="3 workers can share evenly"):
        Trainer(tmp_path, data, data, 64, worker=worker)
