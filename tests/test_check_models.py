"""Subclassed twins of functional models have their structures; tools/check_models.py checks keras_hub's models too."""

import pytest
from tool_modules import load

tool = load("check_models")


@pytest.mark.parametrize("name", tool.transformers.BUILDERS)
def test_stock_transformers_keep_the_laws_and_can_lose_what_they_must(name):
    model = tool.model_of(name)
    found = tool.check_model(name, model, tool.inputs_of(model))
    assert found.broken == []
    assert found.reach >= tool.AT_LEAST[name]


def test_twenty_subclassed_twins_have_the_structures_of_their_functional_models():
    assert len(list(tool.chains())) == 20
    assert list(tool.twins_that_differ()) == []


def test_what_needs_an_absent_package_is_named_and_skipped(monkeypatch, capsys):
    monkeypatch.setattr(tool.importlib.util, "find_spec", lambda package: None if package == "tcn" else package)
    assert tool.there(["TCN", "ViT"]) == ["ViT"]
    assert capsys.readouterr().out == "skipped, for tcn is not installed: TCN\n"


def test_every_bar_is_a_models():
    assert tool.AT_LEAST.keys() <= tool.NEEDS.keys()
