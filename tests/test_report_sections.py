"""The page, the picture and the sections of a report: every file stands alone, and sections may come from outside."""

import importlib
import io
import pkgutil
import re

import keras
import matplotlib.image
import numpy as np
import pytest
from report_models import by_name, chain, lenet_pair

import tf_terngrad as tt
from tf_terngrad.sparsity.report import Section, compare, wording
from tf_terngrad.sparsity.report.drawing import rendered
from tf_terngrad.sparsity.report.figure import figure
from tf_terngrad.sparsity.report.pictures import picture_pair
from tf_terngrad.sparsity.report.sections import SECTIONS

layers = keras.layers


@pytest.fixture
def pair():
    return lenet_pair()


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
    headings = [part.get_suptitle() for part in figure(compare(*pair, history={"loss": [2, 1]})).subfigs]
    assert headings[1:] == ["Widths", "Weights, before and after (sand: what left)", "Training"]
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


def test_all_of_a_layer_that_left_is_sand():
    report = compare(chain(layers.Dense(5, name="gone")), chain(layers.Dense(2, name="new")))
    rows, columns = by_name(report)["gone"].matrices[0].kept
    assert not rows.any() and not columns.any()


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
