"""The wheel, built from a copy of the sources and used where the checkout cannot be seen."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    # A copy: setuptools leaves build/ and *.egg-info beside what it builds.
    shutil.copytree(CHECKOUT, sources, ignore=shutil.ignore_patterns(".*", "runs", "build", "*.egg-info"))
    run("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(sources), cwd=folder)
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


def test_wheel_asks_for_one_tensorflow(wheel):
    with zipfile.ZipFile(wheel) as file:
        metadata = file.read("tf_terngrad-0.1.0.dist-info/METADATA").decode()
    asked = [
        Requirement(line.split(": ", 1)[1]) for line in metadata.splitlines() if line.startswith("Requires-Dist: ")
    ]
    tensorflow = [requirement for requirement in asked if requirement.name.startswith("tensorflow")]
    for machine, name in {"x86_64": "tensorflow-cpu", "aarch64": "tensorflow"}.items():
        here = {"platform_system": "Linux", "platform_machine": machine}
        chosen = [requirement for requirement in tensorflow if requirement.marker.evaluate(here)]
        assert [requirement.name for requirement in chosen] == [name]


def test_installed_wheel_works_outside_the_checkout(wheel, tmp_path):
    target = tmp_path / "installed"
    run("-m", "pip", "install", "--no-deps", "--no-index", "--target", str(target), str(wheel), cwd=tmp_path)
    where = run("-c", USE, cwd=tmp_path, PYTHONPATH=str(target)).strip()
    assert Path(where) == target / "tf_terngrad"
