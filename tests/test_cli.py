"""The command `tf-terngrad`: help, exit codes, and saved models that are loaded safely or refused in one sentence."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import tf_terngrad as tt
from tf_terngrad.cli import main, parser

ROOT = pathlib.Path(__file__).parents[1]
COMMANDS = ("benchmark", "compact", "convert", "structures", "worth-it")
LAYERS = """
import keras

class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x

def half(x):
    return x / 2
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's folder, with models of many kinds."""
    folder = tmp_path_factory.mktemp("user")
    keras.utils.set_random_seed(0)
    small(layers.Dense(5, name="hidden")).save(folder / "dense.keras")
    with_code = small(layers.Dense(5), layers.Lambda(lambda x: x * 2, name="twice"))
    with_code.save(folder / "code.keras")
    with_code.save(folder / "code.h5")
    keras.Sequential([keras.Input((4, 2)), layers.LSTM(3, name="memory"), layers.Dense(2)]).save(folder / "lstm.keras")
    (folder / "mine.py").write_text(LAYERS)
    names = {"__name__": "mine"}
    exec(LAYERS, names)
    custom = small(names["Doubled"](name="doubled"), layers.Dense(5, activation=names["half"]))
    custom.save(folder / "custom.keras")
    custom.save(folder / "custom.h5")
    custom.save_weights(folder / "mine.weights.h5")
    tt.tflite.convert(small(), folder / "m.tflite")
    (folder / "saved").mkdir()
    (folder / "text.keras").write_text("hello")
    (folder / "text.h5").write_text("hello")
    (folder / "broken.py").write_text("import none_such")
    np.savez(folder / "arrays.npz", x=np.ones(3))
    (folder / "arrays.npz").rename(folder / "arrays.keras")
    return folder


def small(*inner):
    return keras.Sequential([keras.Input((4,)), *inner, layers.Dense(2, name="out")])


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Calls the command in the user's folder; gives its exit code, what it printed and its complaint."""
    monkeypatch.chdir(folder)

    def call(*arguments):
        code = main(arguments)
        return code, *capsys.readouterr()

    yield call
    sys.modules.pop("mine", None)


def test_as_a_user_types_it(folder):
    command = [sys.executable, "-m", "tf_terngrad.cli", "structures", "code.keras"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (complaint,) = (line for line in done.stderr.splitlines() if line.startswith("tf-terngrad structures: "))
    assert "code.keras: its layer 'twice' is Python code" in complaint


def test_help_says_what_each_command_does_and_its_defaults(capsys):
    for arguments in (["--help"], *([name, "--help"] for name in COMMANDS)):
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
    told = capsys.readouterr().out
    assert all(f"\n    {name}" in told for name in COMMANDS)
    assert told.count("Examples:\n  tf-terngrad ") == len(COMMANDS)
    assert "(default: 200)" in told and "(default: none)" in told and "None)" not in told and "[])" not in told


def test_every_example_in_a_help_text_is_a_command_line():
    seen = 0
    for name in COMMANDS:
        module = __import__(f"tf_terngrad.cli.commands.{name.replace('-', '_')}", fromlist=["run"])
        for line in module.__doc__.partition("Examples:\n")[2].splitlines():
            given = parser().parse_args(line.partition(">")[0].split()[1:])
            assert given.command == name and given.run is module.run
            seen += 1
    assert seen > 10


@pytest.mark.parametrize(
    "arguments, usage",
    [
        ("", "[-h]"),
        ("none", "[-h]"),
        ("--verbose structures a", "structures [-h]"),
        ("structures", "structures [-h]"),
        ("structures a b", "structures [-h]"),
        ("compact a b --toler=1", "compact [-h]"),
    ],
)
def test_wrong_usage_is_answered_with_that_of_the_command(capsys, arguments, usage):
    with pytest.raises(SystemExit, match="2"):
        main(arguments.split())
    assert capsys.readouterr().err.startswith(f"usage: tf-terngrad {usage}")


REFUSED = {
    "missing": ("none.keras", "none.keras does not exist"),
    "a folder": ("saved", "saved is a folder, perhaps a SavedModel, which Keras 3 cannot load"),
    "text": ("text.keras", "text.keras is not a whole .keras file"),
    "text as HDF5": ("text.h5", "text.h5 is not a whole HDF5 file"),
    "another archive": ("arrays.keras", "arrays.keras is an archive that holds no Keras model"),
    "weights alone": ("mine.weights.h5", "holds weights without the model"),
    "another kind": ("mine.py", "Expected a saved Keras model, model.keras or model.h5. Received: mine.py"),
    "code": ("code.keras", "its layer 'twice' is Python code that is stored in the file"),
    "code in HDF5": ("code.h5", "its layer 'twice' is Python code that is stored in the file"),
    "unknown": ("custom.keras", "holds 'Doubled', which Keras does not know"),
    "unknown in HDF5": ("custom.h5", "holds 'Doubled', which Keras does not know"),
    "no module": ("custom.keras --custom=none.py", "--custom=none.py cannot be imported: FileNotFoundError: none.py"),
    "no module of that name": ("custom.keras --custom=none_such", "--custom=none_such cannot be imported"),
    "a broken module": ("custom.keras --custom=broken.py", "ModuleNotFoundError: No module named 'none_such'"),
}


@pytest.mark.parametrize("command", ["structures", "compact --dry-run", "convert", "worth-it"])
@pytest.mark.parametrize("arguments, sentence", REFUSED.values(), ids=REFUSED)
def test_every_command_refuses_a_file_in_one_sentence(run, folder, command, arguments, sentence):
    before = set(folder.iterdir())
    name, *dry_run = command.split()
    target = ["target.tflite"] if name == "convert" else []
    model, *options = arguments.split()
    code, printed, complaint = run(name, model, *target, *options, *dry_run)
    assert code == 1 and printed == ""
    assert complaint.startswith(f"tf-terngrad {name}: ") and sentence in complaint and complaint.count("\n") == 1
    assert set(folder.iterdir()) - {folder / "__pycache__"} == before - {folder / "__pycache__"}


@pytest.mark.parametrize("name", ["code.keras", "code.h5"])
def test_code_runs_when_asked(run, name):
    code, printed, _ = run("structures", name, "--unsafe")
    assert code == 0 and "Can leave:" in printed and "Python code" not in printed  # it is followed


@pytest.mark.parametrize("name", ["custom.keras", "custom.h5"])
@pytest.mark.parametrize("custom", ["mine.py", "mine", "./mine.py"])
def test_layers_of_one_s_own(run, name, custom):
    code, printed, complaint = run("structures", name, f"--custom={custom}")
    assert (code, complaint) == (0, "") and "Can leave:" in printed
    assert not any("mine" in path for path in sys.path)


def test_a_layer_of_one_s_own_is_converted(run, folder):
    code, printed, complaint = run("convert", "custom.keras", "custom.tflite", "--custom=mine.py")
    assert code == 0, complaint
    assert "(all stock)" in printed
    (folder / "custom.tflite").unlink()


def test_structures_as_tables(run):
    code, printed, _ = run("structures", "dense.keras")
    assert code == 0 and "37 parameters, 30 multiply-adds" in printed
    lines = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line}
    # a unit: four weights in, a bias, two weights out; six products
    assert lines["hidden"] == ["unit", "5", "0", "7", "6"]
    assert lines["out"] == ["2", "the", "model's", "output"]
    assert printed.endswith("No member is zero yet. Train with tt.sparsify(model, strength=...), then compact.\n")


def test_structures_for_programs(run, folder):
    model = keras.models.load_model(folder / "dense.keras")
    next(found for found in tt.structures(model) if found.name == "hidden").zero([1, 2])
    model.save(folder / "zeros.keras")
    code, printed, _ = run("structures", "zeros.keras", "--json")
    found = json.loads(printed)
    assert code == 0 and found["parameters"] == 37
    (hidden,) = (row for row in found["structures"] if row["name"] == "hidden")
    assert hidden == {
        "name": "hidden", "kind": "unit", "members": 5, "zero": 2, "weights_each": 7, "multiply_adds_each": 6,
        "layers": ["hidden", "out"],
    }  # fmt: skip
    assert found["frozen"] == [{"name": "out", "channels": 2, "reasons": ["the model's output"]}]
    assert "2 members are zero: tf-terngrad compact takes them out." in run("structures", "zeros.keras")[1]
    (folder / "zeros.keras").unlink()


def test_a_weight_that_lies_in_two_slices_of_a_unit_counts_once(run):
    found = json.loads(run("structures", "lstm.keras", "--json")[1])
    (memory,) = (row for row in found["structures"] if row["name"] == "memory")
    small = keras.Sequential([keras.Input((4, 2)), layers.LSTM(2), layers.Dense(2)])
    assert memory["weights_each"] == found["parameters"] - small.count_params()


def test_structures_with_milliseconds(run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code, printed, _ = run("structures", "dense.keras", "--latency", "--json")
    found = json.loads(printed)["latency"]
    assert code == 0 and list(found["layers"]) and set(found["layers"]) <= {"hidden", "out", "FULLY_CONNECTED"}
    assert sum(found["layers"].values()) == pytest.approx(found["milliseconds"])
    assert [(row["name"], row["members"], list(row["fewer"])) for row in found["structures"]] == [("hidden", 5, ["4"])]
    code, printed, _ = run("structures", "dense.keras", "--latency")
    assert code == 0 and "As a TFLite file on one thread" in printed and "What a smaller width saves" in printed
    assert len(list((tmp_path / "tf_terngrad" / "latency").iterdir())) == 1


def test_a_recurrent_model_whose_steps_are_open(run, folder):
    model = keras.Sequential([keras.Input((None, 2)), layers.LSTM(3, name="memory"), layers.Dense(2)])
    model.save(folder / "open.keras")
    code, printed, _ = run("structures", "open.keras")
    # four gates of three units, which read two inputs and three units; then the dense layer
    assert code == 0 and f"{4 * 3 * (2 + 3) + 3 * 2} multiply-adds an example (sizes that the inputs" in printed
    (folder / "open.keras").unlink()


def test_images_of_any_size_have_no_known_cost(run, folder):
    image = keras.Input((None, None, 1))
    keras.Model(image, layers.GlobalMaxPooling2D()(layers.Conv2D(3, 3)(image))).save(folder / "any.keras")
    code, printed, _ = run("structures", "any.keras")
    assert code == 0 and "an unknown number of multiply-adds" in printed and "Cannot leave" in printed
    (folder / "any.keras").unlink()


@pytest.mark.parametrize("error, told", [(RuntimeError("a\nb"), "RuntimeError: a"), (ValueError("why"), "why")])
def test_what_nobody_foresaw_is_one_sentence_too_and_whole_on_demand(run, monkeypatch, error, told):
    def fail(*_):
        raise error

    monkeypatch.setattr("tf_terngrad.cli.commands.structures.structures", fail)
    assert run("structures", "dense.keras") == (1, "", f"tf-terngrad structures: {told}\n")
    with pytest.raises(type(error)):
        run("structures", "dense.keras", "--traceback")


def test_an_interruption_is_silent(run, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tf_terngrad.cli.commands.structures.structures", stop)
    assert run("structures", "dense.keras") == (130, "", "")


def test_a_reader_that_leaves_early_is_no_error(folder):
    command = f"{sys.executable} -m tf_terngrad.cli structures dense.keras --json | head -c 1; exit ${{PIPESTATUS[0]}}"
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "{") and "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
