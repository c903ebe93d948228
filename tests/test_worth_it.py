"""`tf-terngrad worth-it`: tables, a picture, or one sentence of complaint."""

import keras
import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure

from tf_terngrad.cli import main
from tf_terngrad.ternary.schedules import SCHEDULES


@pytest.fixture
def run(capsys):
    """Calls the command; gives what it printed, and its complaint or None."""

    def call(*arguments):
        code = main(["worth-it", *map(str, arguments)])
        printed, told = capsys.readouterr()
        assert (code == 0) == (told == "")
        return printed, told or None

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
    told, complaint = run("alexnet", "googlenet", "--links=1gbit,infiniband", f"--plot={path}", "--max-workers=64")
    assert complaint is None
    assert told.count("float32 efficiency %") == 4 and "AlexNet: 60,965,224 parameters, 96 %" in told
    gains = [float(line.split()[-1]) for line in told.splitlines() if "shards / float32" in line]
    alexnet_slow, googlenet_slow, alexnet_fast, googlenet_fast = gains
    # more on slow links, and where fully connected layers hold the parameters
    assert alexnet_slow > alexnet_fast > googlenet_fast and alexnet_slow > googlenet_slow > googlenet_fast
    pixels = image.imread(path)
    assert min(pixels.shape[:2]) > 400 and np.std(pixels) > 0.05


def test_the_panels_of_a_picture_are_a_network_a_column_and_a_link_a_row(run, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: figures.append(figure) or path.touch())
    run("alexnet", "lstm", "--links=1gbit,infiniband", f"--plot={tmp_path / 'picture.png'}", "--max-workers=4")
    titles = [[axes.get_title(), axes.get_ylabel().split("\n")[0], axes.get_xlabel()] for axes in figures[0].axes]
    first, second, third, last = titles
    assert first[0] == "AlexNet" and second[0] and not third[0] and not last[0]
    assert first[1] and third[1] and first[1] != third[1] and not second[1] and not last[1]
    assert [title[2] for title in titles] == ["", "", "workers", "workers"]
    (legend,) = figures[0].legends
    assert [text.get_text() for text in legend.get_texts()][:3] == ["ideal", "float32", "float16"]


def test_what_a_schedule_cannot_hold_has_no_speed(run, tmp_path):
    path = tmp_path / "picture.png"
    told, complaint = run("lstm", "--levels=127", "--links=1gbit", "--max-workers=1024", f"--plot={path}")
    assert complaint is None and path.is_file()
    shards = next(line.split()[3:] for line in told.splitlines() if "shards / float32" in line)
    assert [speed == "-" for speed in shards] == [not SCHEDULES["shards"].holds(2**i, 127) for i in range(len(shards))]
    assert shards[0] != "-" == shards[-1]


def test_a_schedule_from_outside_is_in_the_picture_too(run, tmp_path, monkeypatch):
    class Mine(type(SCHEDULES["words"])):
        name = "mine"

    monkeypatch.setitem(SCHEDULES, "mine", Mine())
    told, complaint = run("lstm", "--links=1gbit", "--max-workers=8", f"--plot={tmp_path / 'picture.png'}")
    assert complaint is None and "mine / float32" in told


def test_a_saved_model_needs_the_time_of_its_step(run, saved):
    told, complaint = run(saved, "--step-ms=20", "--links=100mbit", "--max-workers=4")
    assert complaint is None
    # 16 filters of 9 weights, biases, scales and shifts; then 16 x 10 weights and 10 biases
    assert f"mine: {16 * 9 + 3 * 16 + 170} parameters, 47 % of them fully connected or recurrent; 20 ms" in told
    told, complaint = run(saved)
    assert told == "" and complaint.endswith("give --step-ms\n")


@pytest.mark.parametrize(
    "flag",
    [
        *("step-ms=0", "step-ms=-1", "step-ms=nan", "teraflops=0", "delay-us=-1", "delay-us=inf", "max-workers=1"),
        *("max-workers=2000", "batch-size=0", "cores=0", "levels=128", "links="),
    ],
)
def test_options_that_make_no_sense_are_refused(run, capsys, flag):
    with pytest.raises(SystemExit, match="2"):
        run(f"--{flag}")
    assert f"argument --{flag.split('=')[0]}: expected" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["none.keras", "--links=fast", "--links=unlimited", "--links=0gbit"])
def test_complaints_are_one_sentence(run, flag):
    told, complaint = run(flag)
    assert told == "" and "xpected" in complaint and complaint.count("\n") == 1
