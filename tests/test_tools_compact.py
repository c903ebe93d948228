"""The command line that compacts a saved model: a smaller file and a comparison, or one sentence and no change."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from keras import layers
from tool_modules import TOOLS, load

import tf_terngrad as tt


@pytest.fixture(scope="module")
def tool():
    return load("compact")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder: model.keras, made with this package, of whose 12 hidden units 5 are dead."""
    keras.utils.set_random_seed(3)
    hidden = layers.Dense(12, activation="relu", name="hidden", kernel_regularizer=tt.regularizers.FilterLasso(1e-3))
    model = keras.Sequential(
        [keras.Input((6,), name="pixels"), hidden, tt.layers.GroupSparse(layers.Dense(4, name="out"), 1e-3)]
    )
    model.compile("sgd", "mse")
    named(model, "hidden").zero([0, 3, 4, 7, 11])
    model.save(tmp_path / "model.keras")
    (tmp_path / "cut.keras").write_bytes((tmp_path / "model.keras").read_bytes()[:2000])
    (tmp_path / "old.keras").write_text("precious")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def named(model, name):
    return next(structure for structure in tt.structures(model) if structure.name == name)


def run(tool, *arguments):
    """Calls the tool as its command line would; returns the sentence of complaint, or None."""
    with flagsaver.flagsaver():
        try:
            tool.main(flags.FLAGS(["compact", *arguments]))
        except SystemExit as complaint:
            return complaint.code
    return None


def units(path):
    return keras.models.load_model(path, compile=False).get_layer("hidden").units


def test_as_a_user_types_it(folder):
    command = [sys.executable, TOOLS / "compact.py", "model.keras", "small.keras", "--report=report.html"]
    environment = {
        "PYTHONPATH": str(TOOLS.parent),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "hidden" in done.stdout and "12 → 7" in done.stdout and "parameters" in done.stdout
    assert "outputs on 8 random inputs differ by at most" in done.stdout
    assert units("small.keras") == 7 and units("model.keras") == 12
    assert "<svg" in (folder / "report.html").read_text() or "<img" in (folder / "report.html").read_text()
    x = np.random.default_rng(0).normal(size=(5, 6))
    model, small = (keras.models.load_model(name, compile=False) for name in ("model.keras", "small.keras"))
    np.testing.assert_allclose(small.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5)
    assert {path.name for path in folder.iterdir()} == {
        "model.keras",
        "small.keras",
        "cut.keras",
        "old.keras",
        "report.html",
    }


def test_dry_run_prints_the_plan_and_writes_nothing(tool, folder, capsys):
    before = set(folder.iterdir())
    assert run(tool, "model.keras", "--dry_run") is None
    printed = capsys.readouterr().out
    assert "hidden" in printed and "12 -> 7" in printed
    assert set(folder.iterdir()) == before


def test_flags_reach_compact(tool, folder):
    assert run(tool, "model.keras", "multiple.keras", "--round_to=5") is None
    assert units("multiple.keras") == 10
    assert run(tool, "model.keras", "kept.keras", "--keep=hidden,pixels") is None
    assert units("kept.keras") == 12


def test_a_tolerance_takes_more_and_the_difference_is_told(tool, folder, capsys):
    assert run(tool, "model.keras", "none.keras", "--tolerance=1e3") is None
    printed = capsys.readouterr().out
    assert "warning: hidden: every channel is dead" in printed
    difference = float(printed.split("differ by at most ")[1].split(";")[0])
    assert units("none.keras") == 1 and difference > 0.01


def test_overwrite_replaces(tool, folder):
    assert "old.keras exists" in run(tool, "model.keras", "old.keras")
    assert (folder / "old.keras").read_text() == "precious"
    assert run(tool, "model.keras", "old.keras", "--overwrite") is None
    assert units("old.keras") == 7


def test_open_sizes_and_several_inputs(tool, folder, capsys):
    image, number = keras.Input((None, None, 3), name="image"), keras.Input((4,), name="number")
    seen = layers.GlobalMaxPooling2D()(layers.Conv2D(5, 3, name="seen")(image))
    model = keras.Model([image, number], layers.Dense(2)(layers.Concatenate()([seen, number])))
    named(model, "seen").zero([1])
    model.save("two.keras")
    assert run(tool, "two.keras", "small.keras") is None
    assert "5 → 4" in capsys.readouterr().out


def test_a_failed_save_leaves_the_old_file(tool, folder, monkeypatch):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(keras.Model, "save", fail)
    assert run(tool, "model.keras", "old.keras", "--overwrite") == "compact: No space left on device"
    assert (folder / "old.keras").read_text() == "precious"
    assert not list(folder.glob(".compact-*"))


REFUSED = {
    "missing": (["none.keras", "small.keras"], "none.keras, which does not exist"),
    "truncated": (["cut.keras", "small.keras"], "cut.keras is not a whole .keras file"),
    "no model": (["old.keras", "small.keras"], "old.keras is not a whole .keras file"),
    "negative tolerance": (["model.keras", "small.keras", "--tolerance=-1"], "Received: tolerance=-1.0"),
    "NaN tolerance": (["model.keras", "small.keras", "--tolerance=nan"], "Received: tolerance=nan"),
    "round_to": (["model.keras", "small.keras", "--round_to=0"], "Received: round_to=0"),
    "name": (["model.keras", "small.keras", "--keep=hiden"], "no layer or structure named 'hiden'"),
    "no folder": (["model.keras", "none/small.keras"], "Cannot write none/small.keras: there is no folder none"),
    "kind of file": (["model.keras", "small.h5"], "ends in .keras. Received: small.h5"),
    "its own source": (["model.keras", "./model.keras", "--overwrite"], "model.keras is read by this command"),
    "a folder": (["model.keras", "folder.keras", "--overwrite"], "folder.keras exists"),
    "report": (["model.keras", "small.keras", "--report=none/r.html"], "Cannot write none/r.html"),
    "dry run": (["cut.keras", "--dry_run"], "cut.keras is not a whole .keras file"),
}


@pytest.mark.parametrize("arguments, sentence", REFUSED.values(), ids=REFUSED)
def test_mistakes_end_in_one_sentence_and_change_nothing(tool, folder, capsys, arguments, sentence):
    (folder / "folder.keras").mkdir()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    complaint = run(tool, *arguments)
    assert complaint.startswith("compact: ") and sentence in complaint and "\n" not in complaint
    assert capsys.readouterr().out == ""
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
