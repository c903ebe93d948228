"""The report: counts and widths are right, and nothing is left out."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from laws import zero_members
from report_models import KEPT, by_name, chain, lenet_pair

import tf_terngrad as tt
from tf_terngrad.sparsity.report import compare
from tf_terngrad.sparsity.report.pictures import picture_pair

layers = keras.layers


@pytest.fixture
def pair():
    return lenet_pair()


def test_lenet_is_counted_before_and_after(pair):
    report = compare(*pair)
    rows = by_name(report)
    assert [rows[name].width for name in ("conv1", "conv2", "dense1", "logits")] == [*KEPT, (10, 10)]
    assert rows["conv2"].parameters == (25 * 20 * 50 + 50, 25 * 8 * 16 + 16)
    assert rows["conv2"].multiply_adds == (1_600_000, 64 * 25 * 8 * 16)
    totals = {metric.title: (metric.before, metric.after) for metric in report.metrics}
    assert totals["parameters"] == tuple(model.count_params() for model in pair)
    assert totals["multiply-adds"] == (2_293_000, sum(row.multiply_adds[1] for row in report.rows))


def test_the_table_is_aligned_and_says_everything(pair):
    report = compare(*pair, metrics={"test error": (0.9, 0.95, "%"), "file": (1_732_032, 98_232, "bytes")})
    report.add("latency", 0.8, 0.1, "ms")
    text = str(report).replace("\N{MULTIPLICATION SIGN}", "x")
    for expected in ("conv1", "20 →  8", "1,600,000 → 204,800", "+0.05 points", "17.6x smaller", "8.0x faster"):
        assert expected in text
    table = text.split("\n\n")[1].splitlines()
    assert len({line.index("Conv2D") for line in table if "Conv2D" in line} | {table[0].index("type")}) == 1
    arrows = [[match.start() for match in re.finditer("→", line)] for line in table[2:]]
    assert all(places == arrows[0] and len(places) == 3 for places in arrows)


@pytest.mark.parametrize("name", ["conv1", "conv2", "dense1", "logits"])
def test_the_rows_and_columns_that_stay_are_told_even_when_training_went_on(pair, name):
    small = tt.compact(pair[0])
    matrix = by_name(compare(pair[0], small))[name].matrices[0]
    np.testing.assert_array_equal(matrix.before[np.ix_(*matrix.kept)], matrix.after)
    for weight in small.weights:
        weight.assign(keras.ops.ones_like(weight))
    again = by_name(compare(pair[0], small))[name].matrices[0]
    for before, after in zip(matrix.kept, again.kept, strict=True):
        np.testing.assert_array_equal(before, after)


def test_what_left_is_not_guessed_for_a_model_from_a_file(pair, tmp_path):
    small = tt.compact(pair[0])
    small.save(tmp_path / "small.keras")
    report = compare(pair[0], keras.models.load_model(tmp_path / "small.keras"))
    matrices = [matrix for row in report.rows for matrix in row.matrices]
    assert matrices
    assert all(matrix.kept is None for matrix in matrices)
    assert not (picture_pair(matrices[0], 100)[0] == [246, 229, 209]).all(-1).any()
    assert any("do not mark what left" in note for note in report.notes)
    assert not any("do not mark" in note for note in compare(pair[0], pair[0]).notes)


def test_the_report_keeps_what_it_saw(pair):
    report = compare(*pair)
    seen = by_name(report)["conv1"].matrices[0].before.copy()
    pair[0].layers[1].kernel.assign_add(keras.ops.ones_like(pair[0].layers[1].kernel))
    np.testing.assert_array_equal(by_name(report)["conv1"].matrices[0].before, seen)


def test_layers_may_leave_and_come():
    report = compare(chain(layers.Dense(5, name="gone")), chain(layers.Dense(2, name="new")))
    rows = by_name(report)
    assert (rows["gone"].status, rows["gone"].parameters) == ("removed", (25, 0))
    assert (rows["new"].status, rows["new"].parameters) == ("added", (0, 10))
    assert re.search(r"gone .* removed", str(report))


def test_a_layer_is_found_where_the_model_around_it_was():
    nested = chain(keras.Sequential([keras.Input((4,)), layers.Dense(5, name="hidden")], name="tower"))
    report = compare(nested, chain(layers.Dense(2, name="hidden")))
    assert by_name(report)["tower/hidden"].width == (5, 2)


def test_a_normalization_of_a_smaller_width_is_found_in_its_operations():
    model = chain(layers.Dense(6, name="wide"), layers.LayerNormalization(name="norm"))
    zero_members(model, lambda found: [0] if "wide" in found.born else [])
    report = compare(model, tt.compact(model))
    norm = by_name(report)["norm"]
    assert (norm.type, norm.width, norm.parameters) == ("LayerNormalization → EinsumDense", (6, 5), (12, 10))
    assert not any(row.status for row in report.rows)
    assert any(note.startswith("norm: what stays of the LayerNormalization is") for note in report.notes)


def test_a_layer_is_found_under_the_name_of_the_wrapper_that_left():
    model = chain(tt.layers.GroupSparse(layers.Dense(5, name="inside"), 0.1, name="hidden"))
    rows = by_name(compare(model, tt.compact(model)))
    assert rows["hidden"].width == (5, 5)
    assert not any(row.status for row in rows.values())


def test_widths_do_not_depend_on_where_channels_are():
    def net(width):
        image = keras.Input((3, 8, 8))
        x = layers.Conv2D(width, 3, data_format="channels_first", name="conv")(image)
        x = layers.BatchNormalization(axis=1, name="norm")(x)
        x = layers.GlobalAveragePooling2D(data_format="channels_first")(x)
        x = layers.EinsumDense("ab,bcd->acd", (width, 6), name="einsum")(x)
        return keras.Model(image, layers.Dense(2, name="out")(layers.Flatten()(x)))

    rows = by_name(compare(net(5), net(4)))
    assert [rows[name].width for name in ("conv", "norm", "einsum")] == [(5, 4), (5, 4), (30, 24)]


def test_layers_of_unknown_cost_are_noted():
    model, small = (
        chain(layers.Lambda(lambda x: tf.identity_n([x])[0], output_shape=(4,), name="own")) for _ in range(2)
    )
    report = compare(model, small)
    assert by_name(report)["own"].multiply_adds == (None, None)
    assert "Multiply-adds do not count layers of type Lambda" in str(report)


def test_runs_in_a_row_make_one_curve():
    history = keras.callbacks.History()
    history.history = {"loss": [1.0], "live/conv": [3]}
    report = compare(chain(), chain(), history=[{"loss": [3, 2]}, history])
    np.testing.assert_array_equal(report.history["loss"], [3, 2, 1])
    np.testing.assert_array_equal(report.history["live/conv"], [np.nan, np.nan, 3])


def test_notes_of_one_reason_become_one():
    assert compare(chain(), chain(), notes={"a": "why", "b": "why", "c": "else"}).notes == ["a, b: why", "c: else"]
    assert compare(chain(), chain(), notes="one").notes == ["one"]
