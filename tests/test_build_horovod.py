"""Horovod's wheel: its key, its safe keeping, the patches, what a machine may lack; and Horovod as it was installed."""

import os
import pathlib
import sys
import zipfile

import horovod.tensorflow as hvd
import numpy as np
import patience
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver
from tool_modules import load
from workers import run_workers


@pytest.fixture(scope="module")
def tool():
    return load("build_horovod")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine that has no programs; the function it gives puts one there, a shell script."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    for name in ("CC", "CXX", "HOROVOD_CMAKE"):
        monkeypatch.delenv(name, raising=False)

    def put(name, script="exit 0"):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)

    return put


def run(tool, monkeypatch, *arguments):
    """Calls the tool as its command line would; returns the sentence of complaint, or None."""
    monkeypatch.setattr(tool.signal, "signal", lambda *_: None)  # this process keeps its handlers
    with flagsaver.flagsaver():
        try:
            tool.main(flags.FLAGS(["build_horovod", *arguments]))
        except SystemExit as complaint:
            return complaint.code
    return None


def wheel_in(folder):
    folder.mkdir(parents=True)
    path = folder / "horovod-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("horovod/__init__.py", "")
    return path


def source_tree(folder, patches):
    """Files that hold what the patches replace, between other lines."""
    for change in patches:
        path = folder / change.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((path.read_text() if path.exists() else "first\n") + change.old + "\nlast\n")


def contents(folder):
    return {path: path.read_text() for path in folder.rglob("*") if path.is_file()}


# The key


def test_key_differs_where_the_wheel_may_differ(tool):
    base = {"version": "0.28.1", "framework": "tensorflow-2.21.0", "chosen": tool.switches({})}
    others = [
        {"version": "0.28.2"},
        {"framework": "tensorflow-2.22.0"},
        {"framework": "tensorflow_cpu-2.21.0"},
        {"chosen": tool.switches({"HOROVOD_GPU_OPERATIONS": "NCCL"})},
        {"chosen": tool.switches({"HOROVOD_WITH_MPI": "1"})},
        {"patches": tool.PATCHES[1:]},
    ]
    keys = [tool.key(**base)] + [tool.key(**(base | other)) for other in others]
    assert len(set(keys)) == len(keys)
    assert all(f"cpython-3{sys.version_info.minor}" in key for key in keys)
    assert tool.key(**(base | {"chosen": dict(reversed(base["chosen"].items()))})) == keys[0]


def test_switches_of_a_run_do_not_matter_and_tensorflow_stays_the_only_framework(tool):
    running = {"HOROVOD_RANK": "1", "HOROVOD_CYCLE_TIME": "3", "HOROVOD_FUSION_THRESHOLD": "0", "HOME": "/"}
    asked = {"HOROVOD_WITH_PYTORCH": "1", "HOROVOD_WITHOUT_TENSORFLOW": "0", "HOROVOD_WITHOUT_PYTORCH": "0"}
    assert tool.switches(running) == tool.switches({})
    assert tool.switches(asked)["HOROVOD_WITHOUT_PYTORCH"] == "1"


@pytest.mark.parametrize("name, value", [("HOROVOD_WITH_MPI", "1"), ("HOROVOD_CPU_OPERATIONS", "MPI")])
def test_mpi_is_left_out_unless_a_switch_names_it(tool, name, value):
    assert tool.switches({})["HOROVOD_WITHOUT_MPI"] == "1"
    assert "HOROVOD_WITHOUT_MPI" not in tool.switches({name: value})
    assert tool.switches({name: value})[name] == value


# Keeping


def test_a_kept_wheel_is_found_without_any_compiler(tool, machine, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "wheels" / tool.key(tool.pinned_version(), tool.tensorflow(), tool.switches(os.environ))
    wheel = wheel_in(folder)
    assert run(tool, monkeypatch, f"--wheel_dir={tmp_path / 'wheels'}", "--no_install") is None
    assert capsys.readouterr().out == f"{wheel}\n"
    complaint = run(tool, monkeypatch, f"--wheel_dir={tmp_path / 'wheels'}", "--no_install", "--rebuild")
    assert complaint.startswith("build_horovod: no C compiler") and tool.kept_wheel(folder) == wheel


def test_the_cache_is_the_users(tool, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert tool.cache_folder() == tmp_path / "xdg" / "tf_terngrad"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tool.cache_folder() == tmp_path / ".cache" / "tf_terngrad"


def test_a_truncated_wheel_is_no_wheel(tool, tmp_path):
    wheel = wheel_in(tmp_path / "key")
    assert tool.kept_wheel(tmp_path / "key") == wheel
    wheel.write_bytes(wheel.read_bytes()[:-30])
    assert tool.kept_wheel(tmp_path / "key") is None


def test_an_interrupted_copy_leaves_what_was_there(tool, tmp_path, monkeypatch):
    kept = wheel_in(tmp_path / "kept")
    before = kept.read_bytes()
    new = tmp_path / kept.name
    new.write_bytes(b"new")

    def fail_half_way(_, target):
        pathlib.Path(target).write_bytes(b"n")
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(tool.shutil, "copyfile", fail_half_way)
        with pytest.raises(KeyboardInterrupt):
            tool.keep(new, kept.parent)
    assert [path.read_bytes() for path in kept.parent.iterdir()] == [before]
    assert tool.keep(new, kept.parent) == kept
    assert [path.read_bytes() for path in kept.parent.iterdir()] == [b"new"]


# The patches


def test_patches_change_their_text_and_nothing_else(tool, tmp_path):
    source_tree(tmp_path, tool.PATCHES)
    expected = contents(tmp_path)
    for change in tool.PATCHES:
        path = tmp_path / change.file
        expected[path] = expected[path].replace(change.old, change.new)
    assert contents(tmp_path) != expected
    tool.patch(tmp_path)
    assert contents(tmp_path) == expected


@pytest.mark.parametrize("damage", ["missing", "changed", "twice"])
def test_patches_refuse_an_unknown_source_and_leave_it(tool, tmp_path, damage):
    source_tree(tmp_path, tool.PATCHES)
    last = tool.PATCHES[-1]
    path = tmp_path / last.file
    if damage == "missing":
        path.unlink()
    else:
        path.write_text(last.old * 2 if damage == "twice" else last.old[1:])
    before = contents(tmp_path)
    with pytest.raises(
        ValueError, match=r"Cannot patch Horovod's .*expected once.*another version of Horovod"
    ) as error:
        tool.patch(tmp_path)
    assert all(part in str(error.value) for part in (last.file, repr(last.old), last.why))
    assert contents(tmp_path) == before


# What a machine may lack


def test_missing_programs_are_named_one_after_the_other(tool, machine):
    steps = [
        ("cc", "exit 0", r"no C compiler: looked for cc, gcc, clang\. Install it"),
        ("c++", "echo 'fatal error: string_view: No such file' >&2; exit 1", r"no C\+\+ compiler"),
        ("c++", "exit 0", r"c\+\+ cannot compile C\+\+17.*string_view: No such file"),
        ("make", "exit 0", r"make is missing\. Install it \(Debian"),
    ]
    for name, script, sentence in steps:
        with pytest.raises(tool.BuildError, match=sentence):
            tool.check_machine()
        machine(name, script)
    tool.check_machine()


def test_a_compiler_that_the_environment_names_must_be_there(tool, machine, monkeypatch):
    machine("cc"), machine("c++"), machine("make")
    monkeypatch.setenv("CXX", "my-c++ -m64")
    with pytest.raises(tool.BuildError, match=r"no C\+\+ compiler: looked for my-c\+\+\..*or name one in CXX"):
        tool.check_machine()
    machine("my-c++")
    tool.check_machine()


@pytest.mark.parametrize("version, suits", [("3.12.9", False), ("3.13.0", True), ("3.31.6", True), ("4.0.1", False)])
def test_cmake_must_be_older_than_4(tool, machine, version, suits):
    assert tool.system_cmake() is None
    machine("cmake", f"echo 'cmake version {version}'")
    assert (tool.system_cmake() is not None) == suits


def test_a_python_without_tensorflow_is_named(tool, monkeypatch):
    monkeypatch.setattr(tool.metadata, "packages_distributions", lambda: {"numpy": ["numpy"]})
    assert f"TensorFlow is not installed for {sys.executable}" in run(tool, monkeypatch, "--no_install")


@pytest.mark.parametrize(
    "log, expected",
    [
        ("cc -c x.cc\nx.cc:3:10: fatal error: a.h: No such file\nmake: *** [x.o] Error 1\nFailed", "x.cc:3:10: fatal"),
        ("ok\nCMake Error at a.cmake:230 (message):\n  Could NOT find NCCL\n\nmore", "CMake Error at a.cmake:230"),
        ("ERROR: No matching distribution found for horovod==0.28.1\n", "ERROR: No matching distribution"),
        ("nothing telling\nthe end\n\n", "the end"),
        ("", "no message"),
    ],
)
def test_a_log_is_told_by_its_first_error(tool, log, expected):
    assert tool.complaint(log).startswith(expected)
    assert ("Could NOT find NCCL" in tool.complaint(log)) == ("NCCL" in log)


def test_a_failed_build_keeps_its_log_and_no_temporary_folder(tool, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tool.tempfile, "tempdir", str(temporary))
    failing = "print('before'); print('a.cc:1: error: no'); raise SystemExit(1)"
    monkeypatch.setattr(tool, "pip", lambda *_: [sys.executable, "-c", failing])
    monkeypatch.setattr(tool, "check_machine", lambda: None)
    complaint = run(tool, monkeypatch, f"--wheel_dir={tmp_path / 'wheels'}")
    assert complaint.startswith("build_horovod: building Horovod failed: a.cc:1: error: no\nThe whole log: ")
    log = pathlib.Path(complaint.split("log: ")[1])
    assert log.read_text() == "before\na.cc:1: error: no\n" and log.is_relative_to(tmp_path / "wheels")
    assert not list(temporary.iterdir())


# Horovod as it was installed


def test_horovodrun_starts_two_workers():
    program = "import horovod.tensorflow as hvd; hvd.init(); print(hvd.allgather_object(hvd.rank()))"
    command = [
        pathlib.Path(sys.executable).with_name("horovodrun"),
        "-np",
        "2",
        "--gloo",
        sys.executable,
        "-c",
        program,
    ]
    done = patience.run(command)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", "[0]<stdout>:[0, 1]", "[1]<stdout>:[0, 1]"]


def exchanged(dtype):
    """What the collectives make of [r, r + 1, ...] of rank r."""
    mine = tf.cast(tf.range(4) + hvd.rank(), dtype)
    return {
        "sum": hvd.allreduce(mine, op=hvd.Sum).numpy(),
        "max": hvd.allreduce(mine, op=hvd.Max).numpy(),
        "gathered": hvd.allgather(mine[: 1 + hvd.rank()]).numpy(),
        "exchanged": hvd.alltoall(mine, splits=[1, 3])[0].numpy(),
        "last's": hvd.broadcast(mine, root_rank=1).numpy(),
    }


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int64", "int8", "uint8"])
def test_collectives(dtype):
    first, second = np.arange(4), np.arange(4) + 1
    of_each = {"exchanged": [[0, 1], [1, 2, 3, 2, 3, 4]]}
    of_all = {"sum": first + second, "max": second, "gathered": [0, 1, 2], "last's": second}
    for rank, results in enumerate(run_workers(exchanged, dtype)):
        for name, result in results.items():
            assert result.dtype == dtype
            np.testing.assert_array_equal(result, of_each[name][rank] if name in of_each else of_all[name], name)


def trained_with_keras_2():
    import horovod.tensorflow.keras as hvd_keras
    import tf_keras

    tf_keras.utils.set_random_seed(hvd.rank())
    model = tf_keras.Sequential([tf_keras.layers.Dense(3, activation="tanh"), tf_keras.layers.Dense(1)])
    model.compile(hvd_keras.DistributedOptimizer(tf_keras.optimizers.SGD(0.1)), "mse")
    inputs = np.random.normal(size=(32, 4)).astype("float32")
    callbacks = [hvd_keras.callbacks.BroadcastGlobalVariablesCallback(0), hvd_keras.callbacks.MetricAverageCallback()]
    history = model.fit(inputs, inputs.sum(1), epochs=2, verbose=0, callbacks=callbacks)
    return model.get_weights(), history.history["loss"]


def test_horovods_own_optimizer_and_callbacks_work_with_keras_2():
    (first, first_loss), (second, second_loss) = run_workers(trained_with_keras_2, env={"TF_USE_LEGACY_KERAS": "1"})
    assert first_loss == second_loss and first_loss[1] < first_loss[0]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
