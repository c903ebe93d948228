"""The report: counts and widths are right, nothing is left out, every file stands alone."""

import importlib
import io
import pkgutil
import re

import keras
import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf

import tf_terngrad as tt
from tf_terngrad.sparsity.report import Section, compare, wording
from tf_terngrad.sparsity.report.drawing import rendered
from tf_terngrad.sparsity.report.figure import figure
from tf_terngrad.sparsity.report.pictures import picture_pair
from tf_terngrad.sparsity.report.sections import SECTIONS

layers = keras.layers
KEPT = ((20, 8), (50, 16), (500, 64))


def lenet(conv1, conv2, dense1, name="lenet"):
    image = keras.Input((28, 28, 1), name="image")
    x = layers.MaxPooling2D(name="pool1")(layers.Conv2D(conv1, 5, name="conv1")(image))
    x = layers.MaxPooling2D(name="pool2")(layers.Conv2D(conv2, 5, name="conv2")(x))
    x = layers.Dense(dense1, activation="relu", name="dense1")(layers.Flatten(name="flatten")(x))
    return keras.Model(image, layers.Dense(10, name="logits")(x), name=name)


@pytest.fixture
def pair():
    """LeNet, and LeNet without the structures that are zero in it."""
    rng = np.random.default_rng(0)
    first, second, third = (np.sort(rng.choice(size, stay, replace=False)) for size, stay in KEPT)
    model, small = lenet(20, 50, 500), lenet(8, 16, 64)
    weights = [rng.standard_normal(weight.shape).astype(np.float32) for weight in model.weights]
    for place, stay in zip((0, 2, 4), (first, second, third), strict=True):
        gone = np.setdiff1d(np.arange(weights[place].shape[-1]), stay)
        weights[place][..., gone], weights[place + 1][gone] = 0, 0
    model.set_weights(weights)
    flat = np.arange(800).reshape(4, 4, 50)[:, :, second].ravel()
    weights[0], weights[1] = weights[0][..., first], weights[1][first]
    weights[2], weights[3] = weights[2][:, :, first][..., second], weights[3][second]
    weights[4], weights[5] = weights[4][flat][:, third], weights[5][third]
    weights[6] = weights[6][third]
    small.set_weights(weights)
    return model, small


def chain(*hidden, width=4, name="chain"):
    """A model of layers one after the other, and an output of three."""
    return keras.Sequential([keras.Input((width,)), *hidden, layers.Dense(3, name="out")], name=name)


def by_name(report):
    return {row.name: row for row in report.rows}


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


def test_the_page_stands_alone_and_names_every_layer(pair, tmp_path):
    notes = {"logits": "the model's <output>"}
    report = compare(
        *pair, metrics={"error": (0.9, 0.9, "%")}, history={"loss": [2, 1], "val_loss": [2, 1]}, notes=notes
    )
    report.to_html(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|<link|<script|url\(|@import", text)
    assert all(source.startswith("data:image/") for source in re.findall(r'src="([^"]*)"', text))
    for layer in pair[0].layers[1:]:
        assert layer.name in text
    assert text.count('class="card pair"') == 4
    assert "logits: the model&#x27;s &lt;output&gt;" in text
    assert "prefers-color-scheme: dark" in text
    assert "loss by epoch" in text


def test_the_picture_is_a_picture(pair, tmp_path):
    compare(*pair, history={"loss": [2, 1]}).plot(tmp_path / "report.png")
    image = matplotlib.image.imread(tmp_path / "report.png")
    assert min(image.shape[:2]) > 500
    assert image[..., :3].std() > 0.05


def test_what_left_is_sand_in_the_picture_before(pair):
    report = compare(pair[0], tt.compact(pair[0]))
    matrix = by_name(report)["conv1"].matrices[0]
    first, second = picture_pair(matrix, 100)
    stays = matrix.before.any(1)
    assert (first[~stays] == [246, 229, 209]).all()
    np.testing.assert_array_equal(first[stays], second)
    assert not any("pictures" in note for note in report.notes)


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


def test_all_of_a_layer_that_left_is_sand():
    report = compare(chain(layers.Dense(5, name="gone")), chain(layers.Dense(2, name="new")))
    rows, columns = by_name(report)["gone"].matrices[0].kept
    assert not rows.any() and not columns.any()


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
    model, small = (chain(layers.Lambda(tf.identity, output_shape=(4,), name="own")) for _ in range(2))
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


def test_models_of_no_weights_and_no_change_are_drawn_too(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.ReLU()])
    for name, each in (("none", model), ("same", chain())):
        report = compare(each, each)
        report.to_html(tmp_path / f"{name}.html")
        report.plot(tmp_path / f"{name}.png")
        assert "unchanged" in str(report)


@pytest.mark.parametrize(
    ("before", "after", "unit", "expected"),
    [
        (100, 10, "", "10.0x fewer"),
        (100, 1, "", "100x fewer"),
        (10, 100, "", "10.0x more"),
        (1.0, 1.5, "ms", "1.5x slower"),
        (3.0, 2.0, "loss", "1.5x lower"),
        (2, 0, "", "-2"),
        (None, 2, "", ""),
        (float("nan"), 2.0, "", ""),
        (2, 2, "bytes", "unchanged"),
        (1.0, 1.04, "ms", "about the same"),
    ],
)
def test_a_change_is_said_in_words(before, after, unit, expected):
    assert wording.change(before, after, unit).replace("\N{MULTIPLICATION SIGN}", "x") == expected


@pytest.mark.parametrize(
    ("small", "message"),
    [
        (lambda: chain(width=5), "inputs of the models do not correspond"),
        (lambda: keras.Sequential([keras.Input((4,)), layers.Dense(2)]), "outputs of the models do not correspond"),
        (lambda: keras.Sequential([keras.Input((4,)), layers.Dense(3, name="other")]), "No layer of .* has the name"),
        (lambda: keras.Sequential([layers.Dense(3)]), "is not built"),
    ],
)
def test_models_that_do_not_belong_together_are_refused(small, message):
    with pytest.raises(ValueError, match=message):
        compare(chain(), small())


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"Expected a Keras model\. Received: None"):
        compare(chain(), None)


def test_weights_that_are_no_numbers_are_refused():
    model = chain()
    model.layers[0].kernel.assign(np.full((4, 3), np.nan))
    with pytest.raises(ValueError, match="Layer 'out': expected finite weights"):
        compare(model, chain())


@pytest.mark.parametrize("metrics", [{"error": ("low", 1)}, {"error": (True, 1)}])
def test_a_metric_that_is_no_number_is_refused(metrics):
    with pytest.raises(TypeError, match="Metric 'error': expected numbers"):
        compare(chain(), chain(), metrics=metrics)


def test_a_history_that_is_none_is_refused():
    with pytest.raises(TypeError, match="Expected history as `fit` returns it"):
        compare(chain(), chain(), history=[1, 2])


@pytest.mark.parametrize("method", ["to_html", "plot"])
def test_a_path_that_cannot_be_written_is_named_and_nothing_is_left(method, tmp_path):
    report = compare(chain(), chain())
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "report", tmp_path / "folder"):
        with pytest.raises(OSError, match=f"Cannot write {re.escape(str(path))}: "):
            getattr(report, method)(path)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_drawing_leaves_matplotlib_as_it_was(pair):
    before = dict(matplotlib.rcParams)
    assert matplotlib.image.imread(io.BytesIO(rendered(figure(compare(*pair)), "png"))).ndim == 3
    assert dict(matplotlib.rcParams) == before


class Energy(Section):
    """A section from outside, in every form."""

    def text(self, report):
        return f"Energy of {len(report.rows)} layers"

    def html(self, report):
        return "<h2>Energy</h2>"

    def height(self, report):
        return 1.5

    def draw(self, report, part):
        part.subplots().set_facecolor((1, 0, 1))


def drawn(report):
    """The picture of a report, as pixels."""
    return matplotlib.image.imread(io.BytesIO(rendered(figure(report), "png")))[..., :3]


def test_a_section_from_outside_is_in_the_text_the_page_and_the_picture(pair, tmp_path):
    report = compare(*pair, history={"loss": [2, 1]}, notes="a note")
    before = drawn(report)
    report.sections.insert(1, Energy())
    assert str(report).split("\n\n")[1] == f"Energy of {len(report.rows)} layers"
    report.to_html(tmp_path / "report.html")
    titles = re.findall("<h2>(.*?)</h2>", (tmp_path / "report.html").read_text(encoding="utf-8"))
    assert titles == ["Energy", "Layers", "Weights", "Training", "Notes"]
    report.plot(tmp_path / "report.png")
    after = matplotlib.image.imread(tmp_path / "report.png")[..., :3]
    assert len(after) == pytest.approx(len(before) + 1.5 * 150, abs=2)
    own = (after == [1, 0, 1]).all(-1).any(1).nonzero()[0]
    assert len(own) > 100
    assert not (before == [1, 0, 1]).all(-1).any()
    head = SECTIONS[0].height(report) * 150
    assert head < own[0] and own[-1] < head + 1.5 * 150


def test_a_section_need_not_have_every_form(pair, tmp_path):
    report = compare(*pair)
    report.to_html(tmp_path / "before.html")
    before = drawn(report)
    report.sections.append(type("Words", (Section,), {"text": lambda self, report: "only words"})())
    report.to_html(tmp_path / "after.html")
    assert (tmp_path / "before.html").read_bytes() == (tmp_path / "after.html").read_bytes()
    np.testing.assert_array_equal(drawn(report), before)
    assert str(report).endswith("\n\nonly words")


def test_sections_of_one_report_are_not_those_of_another():
    first, second = compare(chain(), chain()), compare(chain(), chain())
    first.sections.append(Energy())
    assert second.sections == list(SECTIONS)
    assert first.sections == [*SECTIONS, first.sections[-1]]


def test_every_section_of_the_package_is_in_the_list():
    package = SECTIONS[0].__module__.rpartition(".")[0]
    files = {each.name for each in pkgutil.iter_modules(importlib.import_module(package).__path__)} - {"section"}
    assert {type(section).__module__.rpartition(".")[2] for section in SECTIONS} == files


def test_a_report_of_which_nothing_is_drawn_has_no_picture(tmp_path):
    report = compare(chain(), chain())
    report.sections = [Section()]
    with pytest.raises(ValueError, match="expected `sections` to be at least one section that has a height"):
        report.plot(tmp_path / "report.png")
    assert not list(tmp_path.iterdir())
