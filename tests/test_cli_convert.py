"""`tf-terngrad convert` and `benchmark`: a report, or one sentence and a code that is not zero."""

import keras
import numpy as np
import pytest
from keras import layers

from tf_terngrad import tflite
from tf_terngrad.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    model = keras.Sequential([keras.Input((6,)), layers.Dense(300, activation="relu"), layers.Dense(3)])
    model.save(folder / "m.keras")
    tflite.convert(model, folder / "float.tflite")
    (folder / "cut.keras").write_bytes((folder / "m.keras").read_bytes()[:3000])
    random = np.random.default_rng(0)
    np.savez(folder / "calibration.npz", anything=random.normal(size=(50, 6)))
    np.savez(folder / "evaluation.npz", x=random.normal(size=(20, 6)), y=random.integers(0, 3, 20))
    (folder / "cut.tflite").write_bytes(b"TFL3")
    return folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Calls a command in the user's folder; gives its exit code, what it printed and its last line of complaint."""
    monkeypatch.chdir(folder)

    def call(*arguments):
        code = main(arguments)
        printed, told = capsys.readouterr()
        return code, printed, (told.strip().splitlines() or [""])[-1]

    return call


def test_convert_then_benchmark(run, folder):
    code, printed, _ = run(
        "convert",
        "m.keras",
        "int8.tflite",
        "--quantize=int8",
        "--calibration=calibration.npz",
        "--evaluation=evaluation.npz",
    )
    assert code == 0 and "32 calibration inputs" in printed and "accuracy" in printed and "(all stock)" in printed
    assert (folder / "int8.tflite").stat().st_size < (folder / "float.tflite").stat().st_size
    code, printed, _ = run("benchmark", "float.tflite", "int8.tflite", "--runs=20", "--min-seconds=0")
    assert code == 0
    header, first, _second = printed.strip().splitlines()[-3:]
    assert header.split()[-1] == "ratio" and first.split()[0] == "float.tflite" and first.split()[-1] == "1.000"


def test_a_recurrent_model_streams(run, folder):
    keras.Sequential([keras.Input((4, 2)), layers.GRU(3, name="memory")]).save(folder / "recurrent.keras")
    code, printed, _ = run("convert", "recurrent.keras", "stream.tflite", "--streaming=2", "--recurrent=loop")
    assert code == 0 and "input 'memory_state'" in printed and "2 steps at a time" in printed


def test_a_model_that_takes_text_begins_behind_it(run, folder):
    lookup = layers.StringLookup(vocabulary=["a", "b"], name="words")
    text = keras.Input((3,), dtype="string", name="text")
    keras.Model(text, layers.Dense(2)(layers.Flatten()(layers.Embedding(3, 4)(lookup(text))))).save(folder / "t.keras")
    code, _, complaint = run("convert", "t.keras", "t.tflite")
    assert code == 1 and "start='words'" in complaint
    code, printed, _ = run("convert", "t.keras", "t.tflite", "--start=words")
    assert code == 0 and "input 'words'" in printed


def test_overwrite_replaces(run, folder):
    (folder / "replaced.tflite").write_text("precious")
    code, _, complaint = run("convert", "m.keras", "replaced.tflite")
    assert (
        code == 1
        and complaint.startswith("tf-terngrad convert: replaced.tflite exists. ")
        and "--overwrite" in complaint
    )
    assert (folder / "replaced.tflite").read_text() == "precious"
    assert run("convert", "m.keras", "replaced.tflite", "--overwrite")[0] == 0
    assert (folder / "replaced.tflite").stat().st_size == (folder / "float.tflite").stat().st_size


@pytest.mark.parametrize("flag", ["--calibration", "--evaluation"])
def test_what_is_read_is_never_replaced(run, folder, flag):
    (folder / "linked.tflite").unlink(missing_ok=True)
    (folder / "linked.tflite").symlink_to("calibration.npz")
    arguments = ["m.keras", "linked.tflite", f"{flag}=calibration.npz", "--overwrite"]
    code, _, complaint = run("convert", *arguments)
    assert code == 1 and "linked.tflite is read by this command" in complaint
    assert (folder / "linked.tflite").is_symlink() and np.load(folder / "calibration.npz")["anything"].shape == (50, 6)


REFUSED = {
    "kind of file": ("convert", ["m.keras", "m.keras", "--overwrite"], "ends in .tflite. Received: m.keras"),
    "truncated model": ("convert", ["cut.keras", "n.tflite"], "cut.keras is not a whole .keras file"),
    "unwritable": ("convert", ["m.keras", "none/n.tflite"], "Cannot write"),
    "truncated file": ("benchmark", ["cut.tflite"], "cut.tflite is not a whole TFLite file"),
}


@pytest.mark.parametrize("command, arguments, sentence", REFUSED.values(), ids=REFUSED)
def test_mistakes_end_in_one_sentence(run, folder, command, arguments, sentence):
    code, printed, complaint = run(command, *arguments)
    assert code == 1 and printed == ""
    assert complaint.startswith(f"tf-terngrad {command}: ") and sentence in complaint
    assert not list(folder.glob("*n.tflite*"))


def test_a_mode_that_needs_calibration_asks_for_it(folder, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["convert", str(folder / "m.keras"), str(folder / "n.tflite"), "--quantize=int8"])
    assert "--quantize=int8 needs --calibration=FILE.npz" in capsys.readouterr().err
