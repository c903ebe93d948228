"""The section of the layers: widths, parameters and multiply-adds of each."""

from html import escape

import numpy as np

from tf_terngrad.console import plain_table
from tf_terngrad.sparsity.report import wording
from tf_terngrad.sparsity.report.drawing import AFTER, BEFORE, heading
from tf_terngrad.sparsity.report.sections.section import Section

BARS = 40  # at most, in the picture


class Layers(Section):
    """Every layer that computes, before and after: a table, and bars of the widths in the picture."""

    def text(self, report):
        head = ["layer", "type", "width", "parameters", "multiply-adds", "kept"]
        return plain_table(head, [_cells(row) for row in report.rows if row.matters], text=head)

    def html(self, report):
        rows = [_line(row) for row in report.rows if row.matters]
        idle = [escape(row.name) for row in report.rows if not row.matters]
        others = (
            f"<details><summary>{len(idle)} layers without weights</summary>{', '.join(idle)}</details>" if idle else ""
        )
        head = "<th>layer</th><th>width</th>"
        head += "".join(f'<th class="n">{title}</th>' for title in ("parameters", "multiply-adds", "kept"))
        return (
            f'<h2>Layers</h2><div class="card scroll"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>{others}"
        )

    def height(self, report):
        rows = _drawn(report)
        return 0.6 + 0.26 * min(len(rows), BARS) if rows else 0

    def draw(self, report, part):
        rows = _drawn(report)
        title = "Widths" if len(rows) <= BARS else f"Widths of the first {BARS} of {len(rows)} layers"
        rows = rows[:BARS]
        heading(part, title)
        axes = part.subplots()
        places = np.arange(len(rows))
        left = [row.width[1] / row.width[0] for row in rows]
        axes.barh(places, 1, color=BEFORE, height=0.45)
        axes.barh(places, np.minimum(left, 1), color=AFTER, height=0.45)
        for place, row in enumerate(rows):
            before, after = map(wording.number, row.width)
            axes.text(1.01, place, f"{before} → {row.status or after}", va="center", fontsize=9)
        axes.set(xlim=(0, 1.15), ylim=(len(rows) - 0.4, -0.6))
        axes.set_yticks(places, [wording.end(row.name, 40) for row in rows], fontsize=9)
        axes.tick_params(length=0)
        axes.set_xticks([])
        axes.spines[:].set_visible(False)


def _drawn(report):
    """The rows with a bar: those with weights that are matrices."""
    return [row for row in report.rows if row.matrices]


def _cells(row):
    """A row of the table in text."""
    counts = [tuple(map(wording.number, pair)) for pair in (row.width, row.parameters, row.multiply_adds)]
    return [row.name, row.type, *counts, row.status or _kept(row)]


def _kept(row):
    """The share of a layer that is left."""
    return wording.share(*(row.multiply_adds if any(row.multiply_adds) else row.parameters))


def _line(row):
    """A row of the table in HTML."""
    before, after = row.width
    filled = min(1, after / before) if before else 1
    width = f'<span class="gone">{row.status}</span>' if row.status else f"{before:,} → {after:,}"
    return (
        f"<tr><td>{escape(row.name)}<small>{escape(row.type)}</small></td>"
        f'<td class="w">{width}<span class="bar"><i style="width:{100 * filled:.1f}%"></i></span></td>'
        f"{_numbers('parameters', row.parameters)}{_numbers('multiply-adds', row.multiply_adds)}"
        f'<td class="n" data-title="kept">{_kept(row)}</td></tr>'
    )


def _numbers(title, pair):
    before, after = map(wording.number, pair)
    return f'<td class="n" data-title="{title}"><small>{before} →</small> {after}</td>'
