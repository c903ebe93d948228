"""The examples in docstrings, in the README and in the other documents run, and give what they say."""

import doctest
import importlib
import inspect
import pkgutil
import re
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from example_names import names, run_example
from workers import run_workers

import models
import tf_terngrad as tt

ROOT = Path(__file__).parents[1]
README, SPARSITY = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/sparsity.md"))
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
CURRENT = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]  # which also tells of what has been
SOURCES = [path for package in ("tf_terngrad", "models", "tools") for path in ROOT.glob(f"{package}/**/*.py")]
FENCED = re.compile(r"^ *```python\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
NEEDS_WORKERS = re.compile(r"\bhvd\b|tt\.distributed\.(?!simulate)")
PUBLIC = {
    "tt": tt,
    "tt.layers": tt.layers,
    "tt.regularizers": tt.regularizers,
    "tt.callbacks": tt.callbacks,
    "tt.tflite": tt.tflite,
    "tt.distributed": tt.distributed,
    "tt.distributed.callbacks": tt.distributed.callbacks,
    "tt.rules": tt.rules,
}


def modules():
    packages = [tt, models]
    found = [name for p in packages for _, name, _ in pkgutil.walk_packages(p.__path__, f"{p.__name__}.")]
    never = ("._native", ".__main__")
    return [package.__name__ for package in packages] + [name for name in found if not name.endswith(never)]


def fenced():
    """Place -> the code of a fenced example, of all docstrings and documents."""
    found = {}
    for path in [*DOCUMENTS, *SOURCES]:
        if path.name == "tutorial.md":  # each block goes on where the one before ended; test_tutorial.py runs them
            continue
        text = path.read_text(encoding="utf-8")
        for match in FENCED.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found[f"{path.relative_to(ROOT)}:{line}"] = textwrap.dedent(match[1])
    return found


def public_names():
    """Name -> class or function, of all that users may call."""
    return {
        f"{place}.{name}": value
        for place, module in PUBLIC.items()
        for name in getattr(module, "__all__", vars(module))
        if (inspect.isclass(value := getattr(module, name)) or inspect.isfunction(value))
        and not name.startswith("_")
        and (hasattr(module, "__all__") or value.__module__ == module.__name__)
    }


def in_a_worker(source):
    """Runs an example in a Horovod worker, with the module that everybody imports as hvd."""
    import horovod.tensorflow as hvd

    optimizer = tt.distributed.DistributedOptimizer(keras.optimizers.SGD())
    run_example(f"import horovod.tensorflow as hvd\n{source}", optimizer)
    return hvd.size()


@pytest.mark.parametrize("name", modules())
def test_docstring_examples_give_what_they_say(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"tt": tt, "np": np, "keras": keras})
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples in {name} fail; see the output"


@pytest.mark.parametrize("place, source", fenced().items(), ids=fenced())
def test_fenced_examples_run(place, source):
    if source.startswith(">>> "):
        test = doctest.DocTestParser().get_doctest(source, names(), place, place, 0)
        assert doctest.DocTestRunner().run(test).failed == 0
    elif NEEDS_WORKERS.search(source):
        assert run_workers(in_a_worker, source, workers=1) == [1]
    else:
        run_example(source)


def test_there_are_examples_at_all():
    finder = doctest.DocTestFinder()
    count = sum(len(test.examples) for name in modules() for test in finder.find(importlib.import_module(name)))
    assert count > 50 and len(fenced()) > 20


@pytest.mark.parametrize("name, value", public_names().items(), ids=public_names())
def test_every_public_name_says_when_to_use_it(name, value):
    assert "Use it when " in (value.__doc__ or ""), f'{name}: expected a line "Use it when ..." in its docstring'


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_word_for_the_strength(path):
    assert "λ" not in path.read_text(encoding="utf-8"), "expected the word strength, in formulas too"


def test_the_documented_rule_of_one_s_own_works():
    block = next(block for block in re.findall(r"```python\n(.*?)```", SPARSITY, re.DOTALL) if "ScaleRule" in block)
    found = {"keras": keras, "tf": tf, "tt": tt}
    exec(block, found)
    hidden = [keras.layers.Dense(5, name="hidden"), found["Scale"]()]
    model = keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(2)])
    next(structure for structure in tt.structures(model) if structure.name == "hidden").zero([1, 3])
    small = tt.compact(model)
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    assert small.get_layer("hidden").units == 3
    np.testing.assert_allclose(small(x), model(x), atol=1e-5)


@pytest.mark.parametrize("path", CURRENT, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_only_what_exists(path):
    for name in re.findall(r"\btt\.((?:\w+\.)?\w+)", path.read_text(encoding="utf-8")):
        value = tt
        for part in name.split("."):
            assert hasattr(value, part), f"{path.name} names tt.{name}, which does not exist"
            value = getattr(value, part)


@pytest.mark.parametrize("path", CURRENT, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_link_to_files_that_exist(path):
    for target, heading in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", path.read_text(encoding="utf-8")):
        found = path.parent / target if target else path
        assert found.exists(), target
        assert not heading or heading in anchors(found), f"{target}#{heading}"


def anchors(path):
    """The names under which GitHub links to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", CURRENT, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_in_documents_exist(path):
    text = path.read_text(encoding="utf-8")
    for script in re.findall(r"\bpython (\S+\.py)", text):
        assert (ROOT / script).is_file(), script
    for module in re.findall(r"\bpython -m (tools\.\w+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    for script in re.findall(r"`(tools/\S+?)`", text):
        assert (ROOT / script).exists(), script
    for command in re.findall(r"\btf-terngrad ([a-z][a-z-]+)", text):
        assert (ROOT / f"tf_terngrad/cli/commands/{command.replace('-', '_')}.py").is_file(), command


def test_the_files_that_contributing_names_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:tf_terngrad|models|tools|tests)(?:/[\w./]*)?)`", text)
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("optimizer", ['"adam"', "keras.optimizers.SGD(0.05, momentum=0.9)"])
def test_the_first_example_makes_a_small_network_that_knows_the_digits(optimizer):
    """With a fortieth of MNIST's images it takes as many more epochs as fit into a test."""
    source = FENCED.search(README)[1]
    assert 'compile("adam",' in source and "epochs=5," in source
    source = source.split("print(tt.compare")[0].replace('"adam"', optimizer)
    found = run_example(source.replace("epochs=5,", "epochs=30, verbose=0,"))
    model, small = found["model"], found["small"]
    assert small.count_params() < 0.75 * model.count_params()
    answers = small.predict(found["test_x"], verbose=0)
    np.testing.assert_allclose(answers, model.predict(found["test_x"], verbose=0), atol=1e-5)
    assert np.mean(answers.argmax(1) == found["test_y"]) > 0.9
