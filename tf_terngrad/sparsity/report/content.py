"""What compaction left: widths, parameters and multiply-adds before and after, as text, page and picture."""

import dataclasses

import numpy as np

from tf_terngrad import files
from tf_terngrad.sparsity.report import wording
from tf_terngrad.sparsity.report.drawing import rendered
from tf_terngrad.sparsity.report.figure import figure
from tf_terngrad.sparsity.report.page import page
from tf_terngrad.sparsity.report.sections import SECTIONS


@dataclasses.dataclass(frozen=True)
class Matrix:
    """A weight as a matrix with one row an output, before and after.

    Args:
        title: the layer, and the weight's name if it has several.
        before: (rows, columns).
        after: what is there now; None if the layer left.
        kept: Boolean masks of the rows and of the columns that stay; None where it is not known what left.
    """

    title: str
    before: np.ndarray
    after: np.ndarray | None = None
    kept: tuple | None = None

    @property
    def lost(self):
        """How many numbers left."""
        return self.before.size - (0 if self.after is None else self.after.size)


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer before and after; every pair is (before, after), 0 where the layer is not there.

    Args:
        name: the layer's path in the model; in the smaller model, if it is only there.
        type: the layer's class.
        width: how many units, filters or channels it gives.
        parameters: how many numbers its weights hold.
        multiply_adds: for one example; None when the layer's type has no cost rule.
        matrices: a `Matrix` for each of its weights of two axes or more.
    """

    name: str
    type: str
    width: tuple
    parameters: tuple
    multiply_adds: tuple
    matrices: tuple = ()

    @property
    def matters(self):
        """Whether the layer computes with weights or multiplies."""
        return any(self.parameters) or self.multiply_adds != (0, 0)

    @property
    def status(self):
        """removed, added, or nothing to say."""
        return "removed" if self.width[1] == 0 else "added" if self.width[0] == 0 else ""


@dataclasses.dataclass(frozen=True)
class Metric:
    """One number before and after, such as the test error; None where it is not known."""

    title: str
    before: float | None
    after: float | None
    unit: str = ""

    def __post_init__(self):
        for value in (self.before, self.after):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float, np.number))):
                raise TypeError(f"Metric '{self.title}': expected numbers before and after. Received: {value!r}")

    @property
    def texts(self):
        """Before, after, and how it changed."""
        pair = tuple(wording.number(value, self.unit) for value in (self.before, self.after))
        return (*pair, wording.change(self.before, self.after, self.unit))


@dataclasses.dataclass
class Report:
    """A model and what compaction made of it. `str(report)` is a table.

    Args:
        title: the name of the model.
        rows: one `Row` a layer.
        metrics: list of `Metric`; the totals come first.
        history: training curves by name, arrays with one value an epoch.
        notes: sentences worth reading, such as what could not shrink and why.
        heads: the `Heads` of each attention layer.
        sections: what the text, the page and the picture show, each a `Section`, in this order; add your own.
    """

    title: str
    rows: list
    metrics: list
    history: dict = dataclasses.field(default_factory=dict)
    notes: list = dataclasses.field(default_factory=list)
    heads: list = dataclasses.field(default_factory=list)
    sections: list = dataclasses.field(default_factory=lambda: list(SECTIONS))

    def add(self, title, before, after, unit=""):
        """Add a number measured on both models.

        Args:
            title: what was measured, such as "test error".
            before: of the model; None if not measured.
            after: of the smaller model; None if not measured.
            unit: "%", "bytes", "ms" and "s" are understood, any other is shown; none for plain counts.

        Raises:
            TypeError: `before` or `after` is no number.
        """
        self.metrics.append(Metric(title, before, after, unit))

    def __str__(self):
        parts = [section.text(self) for section in self.sections]
        return "\n\n".join(part for part in parts if part)

    def to_html(self, path):
        """Save the report as one HTML file that needs no other.

        Args:
            path: the file to write; an old one is replaced in one step.

        Raises:
            OSError: the file cannot be written.
        """
        files.write(path, page(self).encode())

    def plot(self, path):
        """Save widths, weights and training curves as one PNG picture.

        Args:
            path: the file to write; an old one is replaced in one step.

        Raises:
            OSError: the file cannot be written.
            ValueError: none of the sections is drawn.
        """
        files.write(path, rendered(figure(self), "png"))
