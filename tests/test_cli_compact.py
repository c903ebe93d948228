"""`tf-terngrad compact`: a smaller file and a comparison, or one sentence and no change."""

import errno

import keras
import numpy as np
import pytest
from keras import layers

import tf_terngrad as tt
from tf_terngrad.cli import main


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


@pytest.fixture
def run(folder, capsys):
    """Calls the command in the user's folder; gives its exit code, what it printed and its complaint."""

    def call(*arguments):
        code = main(["compact", *arguments])
        return code, *capsys.readouterr()

    return call


def units(path):
    return keras.models.load_model(path, compile=False).get_layer("hidden").units


def test_a_smaller_file_a_comparison_and_a_report(run, folder):
    code, printed, _ = run("model.keras", "small.keras", "--report=report.html")
    assert code == 0
    assert "hidden" in printed and "12 → 7" in printed and "parameters" in printed
    assert "outputs on 8 random inputs differ by at most" in printed
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


def test_dry_run_prints_the_plan_and_writes_nothing(run, folder):
    before = set(folder.iterdir())
    code, printed, _ = run("model.keras", "--dry-run")
    assert code == 0
    assert ["hidden", "unit", "12", "7"] in [line.split() for line in printed.splitlines()]
    assert set(folder.iterdir()) == before


def test_options_reach_compact(run):
    assert run("model.keras", "multiple.keras", "--round_to=5")[0] == 0
    assert units("multiple.keras") == 10
    assert run("model.keras", "kept.keras", "--keep=hidden,pixels")[0] == 0
    assert units("kept.keras") == 12


def test_a_tolerance_takes_more_and_the_difference_is_told(run):
    code, printed, told = run("model.keras", "none.keras", "--tolerance=1e3")
    assert code == 0 and "warning: hidden: every channel is dead" in told
    difference = float(printed.split("differ by at most ")[1].split(";")[0])
    assert units("none.keras") == 1 and difference > 0.01


def test_overwrite_replaces(run, folder):
    assert "old.keras exists" in run("model.keras", "old.keras")[2]
    assert (folder / "old.keras").read_text() == "precious"
    assert run("model.keras", "old.keras", "--overwrite")[0] == 0
    assert units("old.keras") == 7


def test_open_sizes_and_several_inputs(run):
    image, number = keras.Input((None, None, 3), name="image"), keras.Input((4,), name="number")
    seen = layers.GlobalMaxPooling2D()(layers.Conv2D(5, 3, name="seen")(image))
    model = keras.Model([image, number], layers.Dense(2)(layers.Concatenate()([seen, number])))
    named(model, "seen").zero([1])
    model.save("two.keras")
    assert "5 → 4" in run("two.keras", "small.keras")[1]


def test_a_full_disk_leaves_the_old_file(run, folder, monkeypatch):
    before = set(folder.iterdir())

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", fail)
    code, _, complaint = run("model.keras", "old.keras", "--overwrite")
    assert code == 1 and complaint.startswith("tf-terngrad compact: Cannot write old.keras: No space left on device.")
    assert (folder / "old.keras").read_text() == "precious"
    assert set(folder.iterdir()) == before


REFUSED = {
    "missing": (["none.keras", "small.keras"], "none.keras does not exist"),
    "truncated": (["cut.keras", "small.keras"], "cut.keras is not a whole .keras file"),
    "no model": (["old.keras", "small.keras"], "old.keras is not a whole .keras file"),
    "name": (["model.keras", "small.keras", "--keep=hiden"], "no layer or structure named 'hiden'"),
    "no folder": (["model.keras", "none/small.keras"], "Cannot write none/small.keras: there is no folder none"),
    "kind of file": (["model.keras", "small.h5"], "ends in .keras. Received: small.h5"),
    "its own source": (["model.keras", "./model.keras", "--overwrite"], "model.keras is read by this command"),
    "a folder": (["model.keras", "folder.keras", "--overwrite"], "folder.keras exists and is a folder"),
    "report": (["model.keras", "small.keras", "--report=none/r.html"], "Cannot write none/r.html"),
    "dry run": (["cut.keras", "--dry-run"], "cut.keras is not a whole .keras file"),
}


@pytest.mark.parametrize("arguments, sentence", REFUSED.values(), ids=REFUSED)
def test_mistakes_end_in_one_sentence_and_change_nothing(run, folder, arguments, sentence):
    (folder / "folder.keras").mkdir()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    code, printed, complaint = run(*arguments)
    assert code == 1 and printed == ""
    assert complaint.startswith("tf-terngrad compact: ") and sentence in complaint and complaint.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


WRONG_USAGE = {
    "negative tolerance": (["model.keras", "small.keras", "--tolerance=-1"], "at least 0. Received: -1"),
    "NaN tolerance": (["model.keras", "small.keras", "--tolerance=nan"], "at least 0. Received: nan"),
    "round_to": (["model.keras", "small.keras", "--round-to=0"], "at least 1. Received: 0"),
    "no names": (["model.keras", "small.keras", "--keep=,"], "at least one name"),
    "no target": (["model.keras"], "expected the file to write behind the model, or --dry-run"),
}


@pytest.mark.parametrize("arguments, sentence", WRONG_USAGE.values(), ids=WRONG_USAGE)
def test_wrong_usage_is_another_exit_code(folder, capsys, arguments, sentence):
    with pytest.raises(SystemExit) as stopped:
        main(["compact", *arguments])
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and told.startswith("usage: tf-terngrad compact") and sentence in told
