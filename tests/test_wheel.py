"""The wheel, built from a copy of the sources and used where the checkout cannot be seen."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from tool_modules import load

from tf_terngrad.ternary import native

CHECKOUT = Path(__file__).parents[1]

USE = """
import pathlib, keras, tf_terngrad as tt
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(2)])
structure = next(s for s in tt.structures(model) if s.kind == "unit")
structure.zero([0, 2])
small = tt.compact(model)
assert [layer.units for layer in small.layers if layer.weights] == [1, 2], small.layers
print(pathlib.Path(tt.__file__).parent)
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A copy: setuptools leaves build/ and *.egg-info beside what it builds."""
    folder = tmp_path_factory.mktemp("wheel") / "sources"
    return shutil.copytree(CHECKOUT, folder, ignore=shutil.ignore_patterns(".*", "runs", "build", "*.egg-info"))


@pytest.fixture(scope="module")
def wheel(sources) -> Path:
    return built(sources, sources.parent)


def built(sources, folder, **environment) -> Path:
    """The wheel that pip makes of a copy of the sources with what is installed here."""
    copy = shutil.copytree(sources, folder / "copy")
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    if environment:  # whatever the checkout has built by now
        for library in copy.rglob("*.so"):
            library.unlink()
    run("-m", "pip", "wheel", *options, str(copy), cwd=folder, **environment)
    (path,) = folder.glob("*.whl")
    return path


def run(*arguments: str, cwd: Path, **environment: str) -> str:
    """Run Python with arguments and return what it prints; what it complains about shows when it fails."""
    env = {**os.environ, **environment}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_carries_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    assert {name.split("/")[0] for name in names} == {"tf_terngrad", "tf_terngrad-0.1.0.dist-info"}
    modules = {name for name in names if name.endswith(".py")}
    assert modules == {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "tf_terngrad").rglob("*.py")}
    # Without build isolation, TensorFlow's headers are there; so is a compiler where the checkout has a codec.
    assert ("tf_terngrad/ternary/_native.so" in names) == (native.library() is not None)


def test_wheel_says_by_its_tag_whether_it_holds_the_codec(wheel, sources, tmp_path):
    machine = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name.endswith(f"-py3-none-{machine}.whl" if native.library() else "-py3-none-any.whl")
    # Where TensorFlow cannot be imported, as in pip's own builds, there is no codec, and nothing of one machine.
    (tmp_path / "tensorflow.py").write_text("raise ImportError('none here')")
    pure = built(sources, tmp_path, PYTHONPATH=str(tmp_path))
    assert pure.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(pure) as file:
        assert not [name for name in file.namelist() if name.endswith(".so")]
        assert b"Root-Is-Purelib: true" in file.read("tf_terngrad-0.1.0.dist-info/WHEEL")


def requirements(wheel) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as file:
        metadata = file.read("tf_terngrad-0.1.0.dist-info/METADATA").decode()
    return [Requirement(line.split(": ", 1)[1]) for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]


def pins() -> dict:
    """The releases that tools/constraints.txt names, by package."""
    lines = (CHECKOUT / "tools" / "constraints.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and line[0] != "#")


def test_wheel_asks_for_one_tensorflow_and_extras_only_add_to_it(wheel):
    asked = requirements(wheel)
    always = [str(one) for one in asked if one.name.startswith("tensorflow") and one.marker is None]
    assert always == ["tensorflow<2.22,>=2.19"]
    gpu = [one for one in asked if one.marker and one.marker.evaluate({"extra": "gpu", "platform_system": "Linux"})]
    assert [(one.name, one.extras) for one in gpu] == [("tensorflow", {"and-cuda"})]
    with zipfile.ZipFile(wheel) as file:
        metadata = file.read("tf_terngrad-0.1.0.dist-info/METADATA").decode()
    extras = {line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Provides-Extra: ")}
    assert {"gpu", "horovod", "demo", "test", "tutorial", "peers"} == extras


def test_every_requirement_has_a_release_that_make_installs_within_its_range(wheel):
    named = pins()
    for requirement in requirements(wheel):
        if 'extra == "peers"' in str(requirement.marker):
            continue
        assert requirement.name in named, requirement
        assert requirement.specifier.contains(named[requirement.name]), requirement


def test_the_oldest_pair_that_is_tried_is_the_lower_end_of_each_range_and_the_newest_is_what_make_installs(wheel):
    tried = load("check_versions")
    oldest, newest = min(tried.PAIRS), max(tried.PAIRS)
    lowest = dict(zip(("tensorflow", "keras"), oldest, strict=True)) | dict(p.split("==") for p in tried.LOWEST)
    always = {one.name: one.specifier for one in requirements(wheel) if one.marker is None}
    assert {*always} - {*lowest} == {"tensorboard"}  # TensorFlow brings the one of its own release
    for name, specifier in always.items():
        (lower,) = (part.version for part in specifier if part.operator == ">=")
        assert Version(lowest.get(name, oldest[0])).release[:2] == Version(lower).release[:2], name
    assert newest == (pins()["tensorflow"], pins()["keras"])


def test_installed_wheel_works_outside_the_checkout(wheel, tmp_path):
    target = tmp_path / "installed"
    run("-m", "pip", "install", "--no-deps", "--no-index", "--target", str(target), str(wheel), cwd=tmp_path)
    where = run("-c", USE, cwd=tmp_path, PYTHONPATH=str(target)).strip()
    assert Path(where) == target / "tf_terngrad"
