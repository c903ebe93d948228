"""Builds Horovod for the installed TensorFlow and installs it; the wheel is kept, so a second run only installs it.

    python tools/build_horovod.py
    python tools/build_horovod.py --no_install --wheel_dir=wheels
    HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_NCCL_HOME=/usr/local/nccl python tools/build_horovod.py

Gloo carries the messages. Horovod's own HOROVOD_* switches for MPI, NCCL, CUDA and ROCm are read from the environment;
PyTorch and MXNet are left out. The last line printed is the wheel's path.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from importlib import metadata, util

from absl import app, flags
from horovod_source import PATCHES, patch

FLAGS = flags.FLAGS
flags.DEFINE_string("wheel_dir", None, "Where wheels are kept; default: the user's cache folder.")
flags.DEFINE_bool("rebuild", False, "Build even where a wheel is kept already.")
flags.DEFINE_bool("no_install", False, "Build the wheel, or find it, and print its path; install nothing.")
flags.DEFINE_bool("verbose", False, "Show what the compilers print.")

# Of the environment's HOROVOD_* variables those that steer the build; the others steer a run.
SWITCH = re.compile(r"HOROVOD_(WITH|GPU|CUDA_|NCCL_|ROCM_|NVTX_|CPU_OPERATIONS|BUILD_|ALLOW_MIXED|DEBUG)\w*")
ONLY_TENSORFLOW = {"HOROVOD_WITH_TENSORFLOW": "1", "HOROVOD_WITHOUT_PYTORCH": "1", "HOROVOD_WITHOUT_MXNET": "1"}
# Gloo asks for the behaviour of CMake 2.8, which CMake 4 has dropped.
CMAKE = "cmake>=3.13,<4"
REMEDY = "Install it (Debian, Ubuntu: apt-get install build-essential)"


class BuildError(RuntimeError):
    """Horovod cannot be built or installed; the message says what is missing."""


def pinned_version():
    """The version of Horovod that tools/constraints.txt names."""
    constraints = pathlib.Path(__file__).with_name("constraints.txt")
    return re.search(r"^horovod==([\w.]+)", constraints.read_text("utf-8"), re.MULTILINE)[1]


def tensorflow():
    """Name and version of the installed TensorFlow, such as tensorflow_cpu-2.21.0."""
    names = sorted(set(metadata.packages_distributions().get("tensorflow", [])))
    if not names:
        raise BuildError(f"TensorFlow is not installed for {sys.executable}; Horovod is built against its headers.")
    return "-".join(f"{name}-{metadata.version(name)}" for name in names)


def switches(environment):
    """The switches of a build: those of the environment over Gloo alone, and TensorFlow alone in any case."""
    chosen = {name: value for name, value in environment.items() if SWITCH.fullmatch(name)}
    speaks_mpi = any("MPI" in f"{name}={value}" for name, value in chosen.items())
    defaults = {"HOROVOD_WITH_GLOO": "1"} | ({} if speaks_mpi else {"HOROVOD_WITHOUT_MPI": "1"})
    return defaults | chosen | ONLY_TENSORFLOW


def key(version, framework, chosen, patches=PATCHES):
    """The name of a wheel's folder, which differs where the wheel may differ.

    Args:
        version: Horovod's.
        framework: TensorFlow's name and version.
        chosen: The switches of the build, a dict.
        patches: The changes of the source.
    """
    parts = sorted(chosen.items()), patches, platform.libc_ver()
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:10]
    return f"horovod-{version}-{framework}-{sys.implementation.cache_tag}-{sysconfig.get_platform()}-{digest}"


def cache_folder():
    """This package's folder in the user's cache."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache", "tf_terngrad")


def kept_wheel(folder):
    """The whole wheel in a folder, or None."""
    return next((path for path in folder.glob("horovod-*.whl") if zipfile.is_zipfile(path)), None)


def keep(path, folder):
    """Copies a file into a folder, whole or not at all, whoever else does so at that time; returns the copy's path."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{path.name}-{os.getpid()}"
    try:
        shutil.copyfile(path, unfinished)
        os.replace(unfinished, folder / path.name)
    finally:
        unfinished.unlink(missing_ok=True)
    return folder / path.name


def compiler(language, variable, names):
    """The program that compiles a language: the one the environment names, or the first of `names` that is there."""
    names = os.environ.get(variable, "").split()[:1] or names
    found = next(filter(shutil.which, names), None)
    if found is None:
        wanted = f"no {language} compiler: looked for {', '.join(names)}"
        raise BuildError(f"{wanted}. {REMEDY}, or name one in {variable}.")
    return found


def check_machine():
    """Refuses a machine that cannot build, before anything is downloaded.

    Raises:
        BuildError: Names what is missing, and how to get it.
    """
    compiler("C", "CC", ["cc", "gcc", "clang"])
    command = [compiler("C++", "CXX", ["c++", "g++", "clang++"]), "-std=c++17", "-fsyntax-only", "-x", "c++", "-"]
    tried = subprocess.run(command, input="#include <string_view>\n", capture_output=True, text=True, check=False)
    if tried.returncode:
        why = last_line(tried.stderr)
        raise BuildError(f"{command[0]} cannot compile C++17, which TensorFlow's headers are written in: {why}")
    if not shutil.which("make"):
        raise BuildError(f"make is missing. {REMEDY}.")


def system_cmake():
    """The path of a CMake that can build Horovod, or None."""
    path = shutil.which(os.environ.get("HOROVOD_CMAKE") or "cmake")
    if path is None:
        return None
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"version (\d+)\.(\d+)", told)
    return path if version and (3, 13) <= tuple(map(int, version.groups())) < (4, 0) else None


def last_line(text):
    """The last line of a text that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")


def complaint(text):
    """The first line of a log that names an error, or else its last line."""
    found = re.search(r"^.*(fatal error:|\berror:|ERROR:|CMake Error|\w+Error:|\*\*\*).*$", text, re.MULTILINE)
    if found is None:
        return last_line(text)
    # CMake tells the place first and the reason, indented, on the line below.
    below = re.match(r"\s*\n\s*(\S.*)", text[found.end() :])
    return f"{found[0].strip()} {below[1].strip()}" if "CMake Error" in found[0] and below else found[0].strip()


def run(command, log, environment=None):
    """Runs a command, its output in a log file; when this program is ended, so are the command and its children.

    Raises:
        BuildError: The command failed.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(command, env=environment, start_new_session=True, **pipes) as process,
    ):
        try:
            for line in process.stdout:
                file.write(line)
                if FLAGS.verbose:
                    print(line, end="", file=sys.stderr)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise BuildError(complaint(log.read_text("utf-8")))


def pip(*arguments):
    """The command that runs this Python's pip."""
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]


def build_environment(tools, log):
    """The environment of the build; what it lacks of Python packages is put into the folder `tools`."""
    cmake = system_cmake()
    missing = [name for name in ("setuptools", "wheel") if util.find_spec(name) is None] + ([] if cmake else [CMAKE])
    if missing:
        run(pip("install", "--no-deps", "--target", tools, *missing), log)
    paths = [str(tools), os.environ.get("PYTHONPATH")]
    return {
        **os.environ,
        **switches(os.environ),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "HOROVOD_CMAKE": cmake or str(tools / "cmake/data/bin/cmake"),
        "MAKEFLAGS": f"-j{os.cpu_count()}",  # a `make` that runs this program hands down flags of its own
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def build(version, kept):
    """Builds a wheel in a temporary folder, puts it into the folder `kept` and returns its path.

    Raises:
        BuildError: A step failed; the message has its error and the path of its log.
    """
    with tempfile.TemporaryDirectory(prefix="horovod-") as folder:
        folder = pathlib.Path(folder)
        log = folder / "build.log"
        shared = ["--no-deps", "--no-build-isolation"]
        source = folder / f"horovod-{version}"
        try:
            environment = build_environment(folder / "tools", log)
            request = ["--no-binary=horovod", f"--dest={folder}", f"horovod=={version}"]
            run(pip("download", *shared, *request), log, environment)
            with tarfile.open(folder / f"{source.name}.tar.gz") as archive:
                archive.extractall(folder, filter="data")
            patch(source)
            run(pip("wheel", "-v", *shared, f"--wheel-dir={folder}", source), log, environment)
        except BuildError as error:
            raise BuildError(f"building Horovod failed: {error}\nThe whole log: {keep(log, kept)}") from error
        return keep(next(folder.glob("*.whl")), kept)


def install(wheel):
    """Installs a wheel and what it asks for, and loads it.

    Raises:
        BuildError: pip refused it, or it does not load.
    """
    # Only --force-reinstall replaces another build of the same version; with dependencies it would replace them too.
    for arguments in (["--force-reinstall", "--no-deps"], []):
        done = subprocess.run(pip("install", "-qq", *arguments, wheel), capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"installing {wheel} failed: {last_line(done.stderr)}")
    load = [sys.executable, "-c", "import horovod.tensorflow"]
    done = subprocess.run(load, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{wheel} does not load: {last_line(done.stderr)}\nBuild it anew: give --rebuild.")


def main(argv):
    """Reads the command line: flags only."""
    if len(argv) > 1:
        raise app.UsageError(f"Expected flags only. Received: {argv[1:]}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary folders and compilers go too
    try:
        version, framework = pinned_version(), tensorflow()
        folder = pathlib.Path(FLAGS.wheel_dir or cache_folder()).absolute()
        folder /= key(version, framework, switches(os.environ))
        wheel = None if FLAGS.rebuild else kept_wheel(folder)
        if wheel is None:
            check_machine()
            print(f"Building Horovod {version} for {framework}; this takes a few minutes ...", file=sys.stderr)
            wheel = build(version, folder)
        if not FLAGS.no_install:
            install(wheel)
        print(wheel)
    except (OSError, ValueError, BuildError) as error:
        sys.exit(f"build_horovod: {error}")


if __name__ == "__main__":
    app.run(main)
