"""The models of keras.applications keep the laws; tools/check_applications.py checks all of them."""

import pytest
from tool_modules import load

tool = load("check_applications")

QUICK = ["MobileNetV2", "MobileNetV3Small", "ResNet50V2", "VGG16", "EfficientNetV2B0"]


@pytest.mark.parametrize("name", QUICK)
def test_a_third_of_the_structures_leaves(name):
    result = tool.check(name)
    assert result.broken == []
    assert result.zeroed > result.members / 4
    assert result.row()[-2:] == ("ok", "nothing")


def test_blocks_that_scale_their_branches():
    result = tool.check("ConvNeXtTiny")
    assert result.broken == []
    assert result.row()[-2:] == ("ok", "nothing")


def test_every_application_is_listed():
    assert {*QUICK, "ConvNeXtXLarge", "NASNetLarge", "DenseNet201", "Xception"} <= set(tool.model_names())
