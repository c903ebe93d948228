"""tools/worth_it.py: tables, a picture, or one sentence of complaint."""

import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from matplotlib import image
from tool_modules import load


@pytest.fixture(scope="module")
def tool():
    return load("worth_it")


@pytest.fixture
def run(tool, capsys):
    """Calls the tool as its command line would; gives what it printed, and its complaint or None."""

    def call(*arguments):
        complaint = None
        with flagsaver.flagsaver():
            try:
                tool.main(flags.FLAGS(["worth_it", *arguments]))
            except SystemExit as error:
                complaint = error.code
        return capsys.readouterr().out, complaint

    return call


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "mine.keras"
    inner = keras.Sequential([keras.Input((16,)), keras.layers.Dense(10)])
    picture = keras.Input((4, 4, 1))
    features = keras.layers.BatchNormalization()(keras.layers.Conv2D(16, 3)(picture))
    keras.Model(picture, inner(keras.layers.GlobalAveragePooling2D()(features)), name="mine").save(path)
    return path


def test_tables_and_a_picture(run, tmp_path):
    path = tmp_path / "picture.png"
    models = "--model=alexnet,googlenet"
    told, complaint = run(models, "--links=1gbit,infiniband", f"--plot={path}", "--max_workers=64")
    assert complaint is None
    assert told.count("float32 efficiency %") == 4 and "AlexNet: 60,965,224 parameters, 96 %" in told
    gains = [float(line.split()[-1]) for line in told.splitlines() if "shards / float32" in line]
    alexnet_slow, alexnet_fast, googlenet_slow, googlenet_fast = gains
    # more on slow links, and where fully connected layers hold the parameters
    assert alexnet_slow > alexnet_fast > googlenet_fast and alexnet_slow > googlenet_slow > googlenet_fast
    pixels = image.imread(path)
    assert min(pixels.shape[:2]) > 400 and np.std(pixels) > 0.05


def test_a_saved_model_needs_the_time_of_its_step(run, saved):
    told, complaint = run(f"--model={saved}", "--step_ms=20", "--links=100mbit", "--max_workers=4")
    assert complaint is None
    # 16 filters of 9 weights, biases, scales and shifts; then 16 x 10 weights and 10 biases
    assert f"mine: {16 * 9 + 3 * 16 + 170} parameters, 47 % of them fully connected or recurrent; 20 ms" in told
    told, complaint = run(f"--model={saved}")
    assert told == "" and complaint.endswith("give --step_ms.")


@pytest.mark.parametrize(
    "flag",
    [
        *("step_ms=0", "step_ms=-1", "step_ms=nan", "teraflops=0", "delay_us=-1", "delay_us=inf", "max_workers=1"),
        *("max_workers=2000", "batch_size=0", "cores=0", "levels=128", "model=", "links="),
    ],
)
def test_flags_that_make_no_sense_are_refused(run, flag):
    with pytest.raises(flags.IllegalFlagValueError, match=flag.split("=")[0]):
        run(f"--{flag}")


@pytest.mark.parametrize("flag", ["--model=none.keras", "--links=fast", "--links=unlimited", "--links=0gbit"])
def test_complaints_are_one_sentence(run, flag):
    told, complaint = run(flag)
    assert told == "" and "Received" in complaint and "\n" not in complaint
