"""The words of a conversion's report."""

import math

import pytest

from tf_terngrad.tflite.report import ConversionReport, OutputCheck


def report(**changes):
    fields = {
        "path": "m.tflite",
        "quantize": None,
        "bytes": 12345,
        "operators": {"CONV_2D": 2, "SOFTMAX": 1},
        "custom": (),
        "inputs": {"image": (1, 28, 28, 1)},
        "checked_on": "8 random inputs",
        "outputs": (OutputCheck("digit", 2.0, 0.5),),
    }
    return ConversionReport(**(fields | changes))


def rows(of):
    """The table as a dictionary; columns are two spaces apart, at least."""
    return dict(line.split("  ", 1) for line in str(of).splitlines())


def test_a_report_says_what_was_written_and_how_it_compares():
    shown = {name: value.strip() for name, value in rows(report()).items()}
    assert shown == {
        "file": "m.tflite",
        "weights": "float32",
        "bytes": "12,345",
        "operators": "CONV_2D 2, SOFTMAX 1 (all stock)",
        "input 'image'": "(1, 28, 28, 1)",
        "shapes": "static",
        "checked on": "8 random inputs",
        "output 'digit'": "max difference 0.5 = 0.25 of scale 2",
    }


def test_what_only_some_files_have_is_named_where_it_is():
    measured = {"loop": (1.25, 2000), "fused": (0.5, 3000)}
    changes = {"quantize": "int8", "custom": ("FlexMod",), "recurrent": {"a": "loop (its batch is free)"}}
    shown = rows(report(**changes, routes=measured))
    assert shown["weights"].strip() == "int8"
    assert shown["operators"].strip().endswith("(not stock: FlexMod)")
    assert shown["layer 'a'"].strip() == "loop (its batch is free)"
    assert shown["routes"].strip() == "loop 1.25 ms 2,000 bytes, fused 0.5 ms 3,000 bytes"


def test_what_accelerators_refuse_is_named():
    refusals = {"GPU": ("SOFTMAX",), "NPU": (), "Core ML": ("CONV_2D", "SOFTMAX")}
    shown = rows(report(refused=refusals, static=False, input_types={"image": "int8"}))
    assert shown["input 'image'"].strip() == "(1, 28, 28, 1) int8"
    assert shown["shapes"].strip() == "free in part: GPU and NPU delegates need static ones"
    assert shown["GPU"].strip() == "refuses SOFTMAX"
    assert shown["NPU"].strip() == "refuses no operator, as far as is known"
    assert shown["Core ML"].strip() == "refuses all operators"


def test_a_report_sums_up_its_worst_output():
    outputs = (OutputCheck("a", 2.0, 0.5, 0.9, 0.8), OutputCheck("b", 10.0, 1.0), OutputCheck("c", 1.0, 0.0, 0.5, 0.6))
    of = report(outputs=outputs)
    assert (of.max_difference, of.relative_difference) == (1.0, 0.25)
    assert of.accuracy_lost == pytest.approx(0.1)
    assert report().accuracy_lost is None
    assert "accuracy 90.00 % -> 80.00 % (10.00 points lost)" in str(outputs[0])
    assert "accuracy" not in str(outputs[1])


def test_a_difference_from_an_output_of_zeros_has_no_scale():
    assert OutputCheck("a", 0.0, 0.0).relative_difference == 0.0
    assert OutputCheck("a", 0.0, 1e-9).relative_difference == math.inf
