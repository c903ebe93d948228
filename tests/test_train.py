"""Runs that start, stop, go on, and refuse."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from command_lines import run_all

from models.rhn import HighwayCell
from models.training.checkpoint import EpochCheckpoint
from models.training.run_folder import open_run
from models.training.trainer import Trainer, batches

RANDOM = np.random.default_rng(11)
CHECKOUT = Path(__file__).parents[1]
TAUGHT = ("--baseline", "--distill")
SHORT = ("--model=mlp", "--epochs=4", "--finetune_epochs=1", "--ratio=0.3", "--learning_rate=0.1", *TAUGHT)
IMAGES, LABELS = RANDOM.normal(size=(50, 6)).astype("float32"), RANDOM.integers(0, 3, 50)


def small_model():
    """Batch statistics, dropout seeds: with Adam's moments, state of every kind that training has."""
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3),
        ]
    )


def trainer(folder):
    return Trainer(folder, (IMAGES, LABELS), (IMAGES, LABELS), batch_size=16, seed=3, optimizer=keras.optimizers.Adam)


def train(folder, epochs, callbacks=()):
    model = small_model()
    return model, trainer(folder).fit(model, "state", epochs, learning_rate=0.05, callbacks=callbacks)


class Killed(BaseException):
    """What no handler catches."""


class KillAt(keras.callbacks.Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self.epoch, self.batch = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, self.batch):
            raise Killed


@pytest.mark.parametrize("epoch, batch", [(0, 1), (1, 0), (3, 2)])
def test_resumed_training_is_bit_equal_to_unbroken_training(epoch, batch, tmp_path):
    unbroken, unbroken_curves = train(tmp_path / "unbroken", 4)
    with pytest.raises(Killed):
        train(tmp_path / "broken", 4, (KillAt(epoch, batch),))
    resumed, curves = train(tmp_path / "broken", 4)
    assert curves == unbroken_curves
    for mine, theirs in zip(resumed.get_weights(), unbroken.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (tmp_path / "broken/state.csv").read_text() == (tmp_path / "unbroken/state.csv").read_text()


def test_resuming_repeats_no_finished_epoch(tmp_path):
    model, curves = train(tmp_path, 2)
    again, same = train(tmp_path, 2, (KillAt(0, 0), KillAt(1, 0)))
    assert curves == same
    assert len(curves["loss"]) == 2
    for mine, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_every_epoch_sees_every_example_once_in_its_own_order(tmp_path):
    rows = np.arange(10)
    seen = [labels.numpy() for _, labels in batches(rows, rows, 4, seed=1, start=0, stop=3)]
    epochs = [np.concatenate(seen[i : i + 3]) for i in (0, 3, 6)]
    assert [len(batch) for batch in seen] == [4, 4, 2] * 3
    assert all(sorted(epoch) == list(rows) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    later = [labels.numpy() for _, labels in batches(rows, rows, 4, seed=1, start=2, stop=3)]
    np.testing.assert_array_equal(np.concatenate(later), epochs[2])


def test_checkpoint_of_another_model_is_refused(tmp_path):
    train(tmp_path, 1)
    other = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    other.compile("sgd")
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(ValueError, match="belongs to another model"):
        EpochCheckpoint(tmp_path / "state.npz").restore(other)


def test_truncated_checkpoint_is_refused(tmp_path):
    train(tmp_path, 1)
    path = tmp_path / "state.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"state\.npz is no checkpoint; remove it"):
        train(tmp_path, 2)


def test_model_that_does_not_fit_the_data_is_refused(tmp_path):
    other = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match=r"does not fit the data. Expected .*\(None, 6\).*Received: .*\(None, 5\)"):
        trainer(tmp_path).fit(other, "state", 1, 0.1)


def test_labels_that_do_not_fit_the_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"test: expected as many labels.*Received: .*\(50, 6\).*\(49,\)"):
        Trainer(tmp_path, (IMAGES, LABELS), (IMAGES, LABELS[1:]))


def test_error_counts_what_is_wrong(tmp_path):
    model = small_model()
    right = sum(int(model(image[None]).numpy().argmax()) == label for image, label in zip(IMAGES, LABELS, strict=True))
    assert trainer(tmp_path).test_error(model) == pytest.approx(1 - right / len(LABELS))


def test_folder_keeps_the_configuration_and_resumes_only_the_same_run(tmp_path):
    path = tmp_path / "a" / "run"
    open_run(path, {"epochs": 3, "model": "mlp"})
    assert json.loads((path / "config.json").read_text()) == {"epochs": 3, "model": "mlp"}
    open_run(path, {"epochs": 3, "model": "mlp"}, resume=True)
    with pytest.raises(ValueError, match="already holds a run; pass --resume"):
        open_run(path, {"epochs": 3, "model": "mlp"})
    with pytest.raises(ValueError, match="epochs was 3, now 4"):
        open_run(path, {"epochs": 4, "model": "mlp"}, resume=True)
    assert json.loads((path / "config.json").read_text())["epochs"] == 3


def test_resume_without_a_run_starts_one(tmp_path):
    open_run(tmp_path / "run", {}, resume=True)
    assert (tmp_path / "run/config.json").exists()


def test_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="files that are no run"):
        open_run(tmp_path, {}, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot be written; name another one. Received: .*file/run"):
        open_run(tmp_path / "file" / "run", {})


def start(*arguments, cwd, **options):
    """Start train.py as a user does, from a folder of its own."""
    command = [sys.executable, str(CHECKOUT / "train.py"), *arguments]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def weights(path):
    return keras.models.load_model(path).get_weights()


def test_killed_run_goes_on_and_ends_as_an_unbroken_one(tmp_path):
    unbroken = start(*SHORT, "--output=unbroken", cwd=tmp_path)
    printed, _ = unbroken.communicate()
    assert unbroken.returncode == 0, printed
    checkpoint = tmp_path / "killed/checkpoints/model.npz"
    killed = start(*SHORT, "--output=killed", cwd=tmp_path)
    while not checkpoint.exists():
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "killed/model.keras").exists()
    resumed = start(*SHORT, "--output=killed", "--resume", cwd=tmp_path)
    printed, _ = resumed.communicate()
    assert resumed.returncode == 0, printed
    assert "done before" in printed
    for name in ("model.keras", "compact.keras"):
        for mine, theirs in zip(
            weights(tmp_path / "killed" / name), weights(tmp_path / "unbroken" / name), strict=True
        ):
            np.testing.assert_array_equal(mine, theirs)
    left = {str(path.relative_to(tmp_path / "unbroken")) for path in (tmp_path / "unbroken").rglob("*.*")}
    stages = {f"checkpoints/{stage}.{kind}" for stage in ("baseline", "model", "compact") for kind in ("npz", "csv")}
    files = {"config.json", "model.keras", "compact.keras", "model.tflite", "before.tflite", "report.html"}
    assert stages | files <= left


def test_a_disk_that_fills_ends_the_run_in_one_sentence(tmp_path):
    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    run = start("--model=mlp", "--epochs=1", "--strength=1e-3", "--output=run", cwd=tmp_path, preexec_fn=small_disk)
    printed, _ = run.communicate()
    assert run.returncode == 1 and "Traceback" not in printed
    sentence = next(line for line in printed.splitlines() if line.startswith("train.py: "))
    assert "Cannot write run/checkpoints/model.npz" in sentence
    assert "Free some space" in sentence and "--resume" in sentence
    left = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file() and "tfevents" not in path.name}
    assert left == {"config.json", "model.csv"}


REFUSED = {
    ("--strength=nan",): "expected a finite number",
    ("strenght=5e-3", "--epochs=1"): "Expected flags only, such as --epochs=10. Received: ['strenght=5e-3']",
    ("--strength=1", "--ratio=0.5"): "At most one of",
    ("--strength=1", "--distill"): "--distill needs --baseline",
    ("--dataset=mnist", "--data_dir=nowhere"): "No mnist.npz in data_dir",
    ("--model=lstm_lm", "--data_dir=nowhere"): "No file of nowhere ends in train.txt",
    ("--model=lstm_lm", "--units=8,none"): "expected sizes, such as 200,200",
    ("--model=rhn", "--units=8,8"): "--model=rhn and --model=bidaf have one size: expected --units=200",
    ("--model=lstm_lm", "--ratio=0.5"): "--ratio is for images",
    ("--model=lstm_lm", "--batch_size=5000"): "train: expected a text of more than 5000 times 35 words",
    ("--model=bidaf", "--baseline", "--distill"): "--distill is for images and texts",
    ("--model=bidaf", "--ratio=0.5"): "--ratio is for images",
    ("--model=bidaf", "--vectors=nowhere"): "nowhere",
}


def test_bad_flags_are_refused_before_anything_is_written(tmp_path):
    folders = [tmp_path / str(number) for number in range(len(REFUSED))]
    for folder in folders:
        folder.mkdir()
        (folder / "thesis.txt").write_text("mine")
    lines = [(folder, ("--output=run", *arguments)) for folder, arguments in zip(folders, REFUSED, strict=True)]
    for folder, message, (code, printed) in zip(folders, REFUSED.values(), run_all("train", lines), strict=True):
        assert code != 0
        assert message in printed
        assert "Traceback" not in printed
        assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_weak_run_says_that_it_is_new_that_nothing_left_and_whose_errors_it_compares(tmp_path):
    weak = ("--model=mlp", "--epochs=1", "--finetune_epochs=1", "--strength=1e-9", "--output=run", "--resume")
    # As in a terminal that can show no arrow: the report has some, and a run must not end in an error for them.
    run = start(*weak, cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    printed, _ = run.communicate()
    assert run.returncode == 0, printed
    assert "--resume found no run in run: a new one begins." in printed
    report = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    for sentence in ("Nothing left the model", "before is that of the sparse model as trained"):
        assert sentence in printed and sentence in report


@pytest.mark.parametrize("model", ["lstm_lm", "rhn"])
def test_a_language_model_from_text_to_report(model, tmp_path):
    size = ("--units=12", "--vocabulary=100", "--steps=10", "--batch_size=100", "--epochs=1", "--dropout=0.1")
    taught = ("--baseline", "--distill", "--finetune_epochs=1")
    run = start(f"--model={model}", *size, *taught, "--strength=0.05", "--tolerance=1e-3", "--output=run", cwd=tmp_path)
    printed, _ = run.communicate()
    assert run.returncode == 0, printed
    assert "taught the compact model, beside the targets" in printed
    assert "val_perplexity" in printed and "test perplexity" in printed and "hidden units" in printed
    cells = {"HighwayCell": HighwayCell}
    small = keras.models.load_model(tmp_path / "run/compact.keras", custom_objects=cells, compile=False)
    assert small.input_shape == (None, 10) and small.output_shape == (None, 10, 100)
    assert {"model.keras", "model.tflite", "report.html"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_a_network_that_reads_from_text_to_report(tmp_path):
    for part in ("train", "valid", "test"):
        (tmp_path / f"text.{part}.txt").write_text("the sun rose upon the earth when lot entered .\n" * 20)
    size = ("--units=3", "--context=20", "--question=9", "--dropout=0.1", "--epochs=1", "--finetune_epochs=0")
    run = start("--model=bidaf", *size, "--strength=0.05", "--data_dir=.", "--output=run", cwd=tmp_path)
    printed, _ = run.communicate()
    assert run.returncode == 0, printed
    assert "of the answers match exactly" in printed and "test F1" in printed and "hidden units" in printed
    small = keras.models.load_model(tmp_path / "run/compact.keras", compile=False)
    assert small.output_shape == (None, 2, 20)
    assert {"model.keras", "model.tflite", "report.html"} <= {path.name for path in (tmp_path / "run").iterdir()}
