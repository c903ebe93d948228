"""A file appears whole or not at all: on a disk that fills, after an error, after a kill."""

import contextlib
import errno
import gc
import os
import pathlib
import resource
import signal
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from keras import layers

import tf_terngrad as tt
from models.training.checkpoint import EpochCheckpoint
from models.training.run_folder import open_run
from tf_terngrad import files

ROOT = pathlib.Path(__file__).parents[1]
OLD = b"the last good file"


@contextlib.contextmanager
def full_disk(room):
    """No file of this process can grow beyond so many bytes: as on a full disk, but for the number of the error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def large_model(units=200):
    return keras.Sequential([keras.Input((units,)), layers.Dense(units, name="hidden"), layers.Dense(units)])


def save(path):
    files.save_model(large_model(), path)


def save_weights(path):
    with files.replacing(path) as draft:
        large_model().save_weights(draft)


def convert(path):
    tt.tflite.convert(large_model(), path)


def report(path):
    tt.compare(large_model(), large_model()).to_html(path)


def picture(path):
    tt.compare(large_model(), large_model()).plot(path)


def checkpoint(path):
    model = large_model()
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    callback = EpochCheckpoint(path)
    callback.set_model(model)
    callback.on_epoch_end(0, {"loss": 1.0})


def configuration(path):
    open_run(path.parent, {"flag": "x" * 50_000})


WRITERS = {
    "keras": ("m.keras", save),
    "HDF5": ("m.h5", save),
    "weights": ("m.weights.h5", save_weights),
    "TFLite": ("m.tflite", convert),
    "report": ("r.html", report),
    "picture": ("r.png", picture),
    "checkpoint": ("c.npz", checkpoint),
    "run": ("config.json", configuration),
}
# A file of HDF5 fails in other ways when it is opened, written and closed.
ROOMS = [1_000, 8_000, 20_000]


# HDF5 tries once more when its objects are collected, and says so on stderr.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("name, write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_names_the_file_and_leaves_no_part_of_it(name, write, room, tmp_path):
    path = tmp_path / name
    if write is not configuration:
        path.write_bytes(OLD)
    with full_disk(room), pytest.raises(OSError, match=r"Cannot write .*Free some space and try again") as caught:
        write(path)
    gc.collect()
    assert str(path) in str(caught.value)
    assert path.exists() == (write is not configuration) and (not path.exists() or path.read_bytes() == OLD)
    assert {left.suffix for left in tmp_path.iterdir()} <= {path.suffix, ".csv"}, "a draft is left"
    assert not files.drafts(path)


@pytest.mark.parametrize("name, write", WRITERS.values(), ids=WRITERS)
def test_with_room_every_file_is_written(name, write, tmp_path):
    write(tmp_path / name)
    assert (tmp_path / name).stat().st_size > max(ROOMS), "a full disk would not be noticed"
    assert {left.suffix for left in tmp_path.iterdir()} <= {pathlib.Path(name).suffix, ".csv"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize(
    "raised",
    [
        lambda number: OSError(number, os.strerror(number)),
        lambda number: OSError(f"Can't write data (errno = {number}, error message = 'none')"),
        lambda number: RuntimeError(f"Can't decrement id ref count (errno = {number}, error message = 'none')"),
    ],
    ids=["the system's", "HDF5's", "HDF5's at the end"],
)
def test_every_kind_of_full_is_told(number, raised, tmp_path):
    path = tmp_path / "m.bin"
    with pytest.raises(OSError, match=r"Cannot write .*m\.bin: .*Free some space") as caught, files.replacing(path):
        raise raised(number)
    assert caught.value.errno == number and not list(tmp_path.iterdir())


class Stopped(BaseException):
    """What no handler catches."""


@pytest.mark.parametrize(
    "error", [Stopped(), KeyError("x"), FileNotFoundError(2, "of another file"), RuntimeError("x")]
)
def test_other_errors_pass_and_the_old_file_stays(error, tmp_path):
    path = tmp_path / "m.bin"
    files.write(path, OLD)
    with pytest.raises(type(error)) as caught, files.replacing(path) as draft:
        draft.write_bytes(b"new, half")
        raise error
    assert caught.value is error
    assert path.read_bytes() == OLD and list(tmp_path.iterdir()) == [path]


WRITES_FOR_EVER = """
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
with files.replacing(sys.argv[2]) as draft:
    draft.write_bytes(b"new, half")
    print("half", flush=True)
    time.sleep(3600)
"""


def test_a_kill_leaves_the_old_file_and_does_not_disturb_the_next_write(tmp_path):
    path = tmp_path / "m.keras"
    files.write(path, OLD)
    for killed in (1, 2):
        command = [sys.executable, "-c", WRITES_FOR_EVER, files.__file__, path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "half\n"
            process.send_signal(signal.SIGKILL)
        assert path.read_bytes() == OLD
        assert len(files.drafts(path)) == killed and all(left.name.startswith(".") for left in files.drafts(path))
    assert files.drafts(tmp_path / "other.keras") == []
    files.write(path, b"new")
    assert path.read_bytes() == b"new" and len(files.drafts(path)) == 2


def test_a_run_opens_the_folder_that_a_kill_left_with_a_draft(tmp_path, monkeypatch):
    (tmp_path / ".abcd1234.config.json").write_bytes(b"{")
    open_run(tmp_path, {"epochs": 1})
    monkeypatch.chdir(tmp_path)
    open_run(".", {"epochs": 1}, resume=True)


def test_a_checkpoint_takes_away_the_drafts_of_a_kill(tmp_path):
    path = tmp_path / "c.npz"
    checkpoint(path)
    (tmp_path / ".abcd1234.c.npz").write_bytes(b"half")
    model = large_model()
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    assert EpochCheckpoint(path).restore(model)[0] == 1
    assert sorted(left.name for left in tmp_path.iterdir()) == ["c.csv", "c.npz"]


def test_a_new_file_has_the_rights_of_any_other(tmp_path):
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "m.bin", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "m.bin").stat().st_mode & 0o777 == 0o640


def test_a_path_that_cannot_be_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    refused = {
        tmp_path / "none" / "m.bin": (FileNotFoundError, "Make its folder first"),
        tmp_path / "file" / "m.bin": (NotADirectoryError, "Choose another folder"),
        tmp_path: (IsADirectoryError, "it is a folder"),
    }
    for path, (error, remedy) in refused.items():
        with pytest.raises(error, match=f"Cannot write .*{remedy}") as caught, files.replacing(path):
            pytest.fail("the work began")
        assert str(path) in str(caught.value)


def is_a_name_here(name):
    """Whether a file can be called so in this locale."""
    try:
        return len(os.fsencode(name)) <= 255
    except UnicodeEncodeError:
        return False


@hypothesis.settings(max_examples=30)
@hypothesis.given(
    name=st.text(
        st.characters(codec=sys.getfilesystemencoding(), exclude_characters="/\0", exclude_categories=["Cc"]),
        min_size=1,
    ),
    content=st.binary(max_size=100),
)
@hypothesis.example(name="m" * 255, content=b"as long as a name can be")
@hypothesis.example(name="\N{SNOWMAN}" * 85, content=b"the same in bytes")
@hypothesis.example(name="[a]*.npz", content=b"no pattern")
def test_any_name_and_any_content(tmp_path_factory, name, content):
    hypothesis.assume(name not in (".", "..") and is_a_name_here(name))
    folder = tmp_path_factory.mktemp("any")
    for what in (content, content + b"!"):
        files.write(folder / name, what)
        assert [left.read_bytes() for left in folder.iterdir()] == [what]
    assert files.drafts(folder / name) == []


def test_models_and_weights_are_those_of_keras(tmp_path):
    model = large_model(5)
    for name in ("m.keras", "m.h5"):
        files.save_model(model, tmp_path / name)
        for ours, theirs in zip(
            keras.models.load_model(tmp_path / name, compile=False).get_weights(), model.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
