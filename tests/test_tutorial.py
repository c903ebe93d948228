"""The tutorial: its cells run on little data, its outputs are there and small, and the page is the notebook."""

import base64
import contextlib
import copy
import io
import linecache
import re
import sys
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from tool_modules import load

from models.data import datasets

tool = load("tutorial")
DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOK = tool.read(DOCS / "tutorial.ipynb")
CODE = {cell["id"]: "".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"}
QUICK = """
EPOCHS = {"dense": 2, "sparse": 5, "distilled": 4}
RATES = {"dense": 3e-3, "sparse": 5e-2, "distilled": 3e-3}
STRENGTH, BATCH = 0.005, 16
"""
MOST_BYTES = 400_000


def small_cifar10():
    """Images of 8 x 8 whose colour says the class, in the form of `keras.datasets.cifar10.load_data`."""
    random = np.random.default_rng(0)
    colours, y = random.uniform(0, 255, (10, 1, 1, 3)), random.integers(0, 10, (640, 1))
    x = np.clip(colours[y[:, 0]] + random.normal(0, 25, (640, 8, 8, 3)), 0, 255).astype("uint8")
    return (x[:512], y[:512].astype("uint8")), (x[512:], y[512:].astype("uint8"))


def execute(cells, folder):
    """What cells {name: source} leave behind in one namespace, what they print, and how many pictures they show."""
    found, shown = {"__name__": "tutorial"}, []
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.chdir(folder)
        patch.setattr(keras.datasets.cifar10, "load_data", small_cifar10)
        patch.setattr(plt, "show", lambda: shown.append(plt.close("all")))
        for name, source in cells.items():
            # TensorFlow reads the source of functions that it traces.
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            exec(compile(source, name, "exec"), found)
    return found, printed.getvalue(), len(shown)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    return execute(CODE | {"parameters": QUICK}, tmp_path_factory.mktemp("tutorial"))


def test_the_cells_give_a_smaller_network_that_knows_as_much(ran):
    found, _, pictures = ran
    compact, sparse, report = (found[name] for name in ("compact", "sparse", "report"))
    living = np.array([list(counts.values()) for counts in found["counts"]])
    widths = [compact.get_layer(name).filters for name in found["counts"][0]]
    assert living[0].tolist() == [32, 64, 128, 128] and len(living) == 1 + found["EPOCHS"]["sparse"]
    assert (widths <= living[-1]).all() and sum(living[-1]) < 0.9 * sum(living[0])
    np.testing.assert_allclose(compact(found["test_x"]), sparse(found["test_x"]), atol=1e-3)
    before, after = (found["accuracy"](found[name]) for name in ("compact", "distilled"))
    assert after > 0.8 and after >= before
    assert report.metrics[1].before == found["multiply_adds"]["dense"] > found["multiply_adds"]["compact"]
    assert pictures == len([name for name, source in CODE.items() if "plt.show()" in source]) == 3


def test_the_large_network_s_answers_are_the_targets_and_their_loss_is_the_formula_s(ran):
    found, _, _ = ran
    mirrored = found["x"][:8, :, ::-1]
    teacher = (found["dense"](found["x"][:8]).numpy() + found["dense"](mirrored).numpy()) / 2
    np.testing.assert_allclose(found["answers"][:8], teacher, atol=1e-4)
    targets = np.concatenate([found["y"][:8, None], teacher], axis=1)
    logits = np.random.default_rng(0).normal(size=teacher.shape).astype("float32")
    soft, own = softmax(teacher / 4), softmax(logits / 4)
    divergence = (soft * np.log(soft / own)).sum(1)
    labels = -np.log(softmax(logits)[np.arange(8), found["y"][:8]])
    np.testing.assert_allclose(found["distillation"](targets, logits), 0.1 * labels + 0.9 * 16 * divergence, rtol=1e-3)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(1, keepdims=True)


def test_the_committed_outputs_are_whole_and_small():
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    speaks = {cell["id"] for cell in cells if cell["outputs"]}
    assert speaks == {cell["id"] for cell in cells if "print(" in CODE[cell["id"]] or "plt.show()" in CODE[cell["id"]]}
    assert (DOCS / "tutorial.ipynb").stat().st_size < MOST_BYTES
    text, _ = tool.page(NOTEBOOK)
    assert not re.search(r"Traceback|Warning|(?<![\w.])/(home|root|tmp|work|Users)\b", text)


def test_the_committed_numbers_are_of_a_whole_run():
    """Of CIFAR-10, with a smaller and faster file at the end; a run on little data must not be committed."""
    text, _ = tool.page(NOTEBOOK)
    assert "50,000 images to train on, 10,000 to test on" in text
    rows = re.findall(
        r"^(dense|compact|distilled|dense int8|distilled int8) +([\d.]+)% +([\d,]+) +([\d.]+) ", text, re.M
    )
    rows = {name: [float(number.replace(",", "")) for number in numbers] for name, *numbers in rows}
    (best, bytes_before, ms_before), (last, bytes_after, ms_after) = rows["dense"], rows["distilled int8"]
    assert len(rows) == 5 and best > 75 and last > best - 3
    assert bytes_after < bytes_before / 6 and ms_after < ms_before / 3


def test_the_page_is_the_notebook():
    text, pictures = tool.page(NOTEBOOK)
    assert (DOCS / "tutorial.md").read_text(encoding="utf-8") == text
    assert {path.name: path.read_bytes() for path in (DOCS / "tutorial").iterdir()} == pictures
    assert len(pictures) == 3 and all(content.startswith(b"\x89PNG") for content in pictures.values())


LITTLE = {
    "cells": [
        {"cell_type": "markdown", "id": "title", "metadata": {}, "source": ["# Title\n", "text"]},
        {"cell_type": "code", "id": "sum", "metadata": {}, "source": ["print(1)\n", "2"]},
        {"cell_type": "code", "id": "a-curve", "metadata": {}, "source": ["draw()"]},
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}
PICTURE = b"\x89PNG picture"


def as_jupyter(notebook, folder):
    """The outputs that Jupyter gives of `LITTLE`, of whatever is in front of it too."""
    shown = {"text/plain": "<Figure size 1x1>", "image/png": base64.b64encode(PICTURE).decode() + "\n"}
    outputs = {
        "sum": [
            {"output_type": "stream", "name": "stdout", "text": "1\n"},
            {"output_type": "stream", "name": "stderr", "text": "WARNING: /home/me\n"},
            {"output_type": "execute_result", "execution_count": 9, "data": {"text/plain": "2"}, "metadata": {}},
        ],
        "a-curve": [{"output_type": "display_data", "data": shown, "metadata": {}}],
    }
    ran = copy.deepcopy(notebook)
    for cell in ran["cells"]:
        cell["outputs"] = outputs.get(cell["id"], [])
    return ran


def test_the_tool_writes_the_notebook_its_page_and_its_pictures(tmp_path, monkeypatch):
    (tmp_path / "tutorial").mkdir()
    (tmp_path / "tutorial/old.png").write_bytes(b"of a cell that is gone")
    (tmp_path / "tutorial.ipynb").write_text(tool.written(LITTLE), encoding="utf-8")
    seen = []
    monkeypatch.setattr(tool, "run", lambda *given: seen.append(given) or as_jupyter(*given))
    tool.make(tmp_path, "here", tmp_path / "runs")
    ((ran, folder),) = seen
    assert folder.is_dir() and [cell["id"] for cell in ran["cells"]] == ["local-data", "title", "sum", "a-curve"]
    page = (tmp_path / "tutorial.md").read_text(encoding="utf-8")
    code = "```python\nprint(1)\n2\n```\n\n```text\n1\n```\n\n```text\n2\n```\n\n```python\ndraw()\n```"
    assert page == f"# Title\ntext\n\n{code}\n\n![a curve](tutorial/a-curve.png)\n"
    assert {path.name: path.read_bytes() for path in (tmp_path / "tutorial").iterdir()} == {"a-curve.png": PICTURE}
    kept = tool.read(tmp_path / "tutorial.ipynb")
    assert [cell["id"] for cell in kept["cells"]] == ["title", "sum", "a-curve"] and "outputs" not in kept["cells"][0]
    assert [cell["execution_count"] for cell in kept["cells"][1:]] == [1, 2]
    assert [output.get("execution_count") for output in kept["cells"][1]["outputs"]] == [None, 1]
    assert tool.page(kept)[0] == page


def test_nothing_is_written_if_a_cell_fails(tmp_path, monkeypatch):
    (tmp_path / "tutorial.ipynb").write_text(tool.written(LITTLE), encoding="utf-8")

    def fail(notebook, folder):
        raise RuntimeError("of a cell")

    monkeypatch.setattr(tool, "run", fail)
    with pytest.raises(RuntimeError, match="of a cell"):
        tool.make(tmp_path, None, tmp_path / "runs")
    assert {path.name for path in tmp_path.iterdir()} == {"tutorial.ipynb", "runs"}
    assert (tmp_path / "tutorial.ipynb").read_text(encoding="utf-8") == tool.written(LITTLE)


def test_two_pictures_of_one_cell_are_refused():
    two = as_jupyter(LITTLE, None)
    two["cells"][2]["outputs"] *= 2
    with pytest.raises(ValueError, match="Cell 'a-curve'"):
        tool.page(two)


def test_a_folder_stands_in_for_the_download(monkeypatch):
    """The cell that runs before the first one: bytes and columns, as `keras.datasets.cifar10` has them."""
    whole = small_cifar10()
    as_ours = tuple(((x / 255).astype("float32"), y[:, 0].astype("int64")) for x, y in whole)
    asked = []
    monkeypatch.setattr(datasets, "load", lambda *given: asked.append(given) or as_ours)
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    exec(tool.DATA_CELL.format(root=str(tool.ROOT), data_dir="/a/folder"), {})
    for found, expected in zip(keras.datasets.cifar10.load_data(), whole, strict=True):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype == np.uint8
    assert asked == [("cifar10", "/a/folder")]
