"""The rows of the table of language models."""

import dataclasses
import re

import numpy as np
import pytest
from tool_modules import load

from models.data.text import load_text
from models.experiments import language_rows


@pytest.fixture
def text(monkeypatch):
    """A text of a few hundred words, and recipes for tiny networks."""
    for name, recipe in language_rows.RECIPES.items():
        units = tuple(8 for _ in recipe.units)
        tiny = dataclasses.replace(recipe, units=units, rates=(0.5, 0.5, 0.5, 0.1), sparse_epochs=2)
        monkeypatch.setitem(language_rows.RECIPES, name, tiny)
    text = load_text(vocabulary=30)
    return type(text)(text.words, *[text.train[:1500]] * 3)


@pytest.mark.parametrize("network", ["lstm", "gru", "rhn"])
def test_rows_train_shrink_and_are_measured(text, tmp_path, monkeypatch, network):
    dense = language_rows.named(f"{network}-dense")
    strength = {"lstm": 1.4, "gru": 1.2, "rhn": 2.45}[network]
    sparse = dataclasses.replace(dense, name="sparse", strength=strength, dropout=0.01, compact_dropout=0.2)
    sparse = dataclasses.replace(sparse, compact_strength=0.02 if network == "lstm" else 0.0)
    models = [language_rows.train(row, text, tmp_path) for row in (dense, sparse)]
    again = language_rows.train(sparse, text, tmp_path)  # as it is kept
    for mine, kept in zip(models[1].get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, kept)
    assert {layer.rate for layer in models[1].layers if hasattr(layer, "rate")} == {0.2}
    results = [
        language_rows.measure(row, *pair) for row, *pair in ((dense, models[0], text), (sparse, models[1], text))
    ]
    assert set(results[0].units) == {8} and 0 < sum(results[1].units) < sum(results[0].units)
    assert results[1].multiply_adds < results[0].multiply_adds and results[1].weights < results[0].weights
    assert results[0].perplexity[0] == pytest.approx(results[0].perplexity[1])  # of the same text
    assert (tmp_path / "sparse.png").stat().st_size > 10_000
    monkeypatch.setattr(language_rows, "STEPS", 5)  # files of short texts are soon made
    lines = language_rows.table(results, models, tmp_path).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len({len(row) for row in cells}) == 1
    assert cells[-1][0] == "sparse" and re.search(r"\(\d\.\d\dx fewer\)", cells[-1][3])
    assert {file.name for file in tmp_path.glob("*-stream.tflite")} == {
        "sparse-stream.tflite",
        f"{network}-dense-stream.tflite",
    }


@pytest.mark.parametrize(
    "network, expected", [("lstm", 2 * 4 * (8 * 8 + 8 * 8)), ("gru", 2 * 3 * (8 * 8 + 8 * 8)), ("rhn", 2 * 8 * 8 * 4)]
)
def test_the_multiply_adds_of_a_word(text, network, expected):
    row = language_rows.named(f"{network}-dense")
    model = row.build(row.recipe.units, 30, 20)
    assert language_rows.measure(row, model, text).multiply_adds == expected


@pytest.mark.parametrize("name", ["lstm-direct", "lstm-direct-lasso"])
def test_a_direct_design_has_the_sizes_that_another_row_learned(name, text, tmp_path, monkeypatch):
    dense, direct = map(language_rows.named, ("lstm-dense", name))
    sparse = dataclasses.replace(language_rows.named("lstm-sparse"), strength=1.4)
    monkeypatch.setattr(language_rows, "ROWS", (dense, sparse, direct))
    model = language_rows.train(direct, text, tmp_path)
    assert language_rows.hidden(model) == language_rows.hidden(language_rows.train(sparse, text, tmp_path)) != (8, 8)


def test_a_dropout_that_keras_made_no_seeds_for_cannot_be_raised():
    model = dataclasses.replace(language_rows.named("lstm-dense"), dropout=0.0).build((3, 3), 30, 2)
    language_rows.set_dropout(model, 0.0)
    with pytest.raises(ValueError, match=r"above 0 from the start\. Received: layer 'dropout1'"):
        language_rows.set_dropout(model, 0.2)


def test_the_curve_of_widths(tmp_path):
    rows = [row for row in language_rows.ROWS if row.network == "rhn"]
    results = [language_rows.Result(row, (9.0, 8.0 + place), (90 - place,), 1, 1) for place, row in enumerate(rows)]
    load("reproduce_language").draw(results, tmp_path / "widths.png")
    assert (tmp_path / "widths.png").stat().st_size > 10_000
