"""The examples in docstrings and in the README run, and give what they say."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import models
import tf_terngrad as tt

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def modules():
    packages = [tt, models]
    found = [name for p in packages for _, name, _ in pkgutil.walk_packages(p.__path__, f"{p.__name__}.")]
    return [package.__name__ for package in packages] + [name for name in found if not name.endswith("._native")]


@pytest.mark.parametrize("name", modules())
def test_docstring_examples_give_what_they_say(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"tt": tt, "np": np, "keras": keras})
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples in {name} fail; see the output"


def test_the_packages_have_examples_at_all():
    finder = doctest.DocTestFinder()
    count = sum(len(test.examples) for name in modules() for test in finder.find(importlib.import_module(name)))
    assert count > 50


def test_the_readme_s_rule_of_one_s_own_works():
    block = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "ScaleRule" in block)
    names = {"keras": keras, "tt": tt}
    exec(block, names)
    hidden = [keras.layers.Dense(5, name="hidden"), names["Scale"]()]
    model = keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(2)])
    next(structure for structure in tt.structures(model) if structure.name == "hidden").zero([1, 3])
    small = tt.compact(model)
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    assert small.get_layer("hidden").units == 3
    np.testing.assert_allclose(small(x), model(x), atol=1e-5)


def test_the_readme_names_only_what_exists():
    for name in re.findall(r"tt\.((?:\w+\.)?\w+)", README):
        value = tt
        for part in name.split("."):
            assert hasattr(value, part), f"the README names tt.{name}, which does not exist"
            value = getattr(value, part)


def test_the_readme_s_commands_exist():
    root = Path(__file__).parents[1]
    for tool in re.findall(r"python (\S+\.py)", README):
        assert (root / tool).is_file(), tool
