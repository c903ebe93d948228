"""Subclassed twins of functional models have their structures; tools/check_models.py checks keras_hub's models too."""

from tool_modules import load

tool = load("check_models")


def test_twenty_subclassed_twins_have_the_structures_of_their_functional_models():
    assert len(list(tool.chains())) == 20
    assert list(tool.twins_that_differ()) == []
