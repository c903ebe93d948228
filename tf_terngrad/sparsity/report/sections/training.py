"""The section of the training curves."""

import re
from html import escape

import numpy as np

from tf_terngrad.sparsity.report.drawing import INK, blank, grid, heading, inline, rendered, rows_of
from tf_terngrad.sparsity.report.sections.section import Section

LINES = "#3a7fc1", "#ba753a", "#4f8a6b", "#8a6bb0"  # these read on white and on black
DRAWINGS = 9  # at most, in the picture
COLUMNS = 3


class Training(Section):
    """The report's history: a drawing for each curve and its validation, or for curves of one prefix."""

    def html(self, report):
        groups = curve_groups(report.history)
        if not groups:
            return ""
        images = [
            f'<div class="card"><img alt="{escape(title)} by epoch" '
            f'src="{inline(curve_image(title, curves), "svg+xml")}"></div>'
            for title, curves in groups.items()
        ]
        return f'<h2>Training</h2><div class="curves">{"".join(images)}</div>'

    def height(self, report):
        groups = _drawn(report)
        return 0.4 + 2.3 * rows_of(groups, COLUMNS) if groups else 0

    def draw(self, report, part):
        heading(part, "Training")
        groups = _drawn(report)
        for axes, (title, curves) in zip(grid(part, groups, COLUMNS), groups.items(), strict=True):
            draw_curves(axes, title, curves)


def _drawn(report):
    """The groups in the picture."""
    return dict(list(curve_groups(report.history).items())[:DRAWINGS])


def curve_groups(history):
    """Curves that belong in one drawing, by its title: loss and val_loss, or all that share a prefix before a slash."""
    groups = {}
    for name, values in history.items():
        title = re.sub(r"^val_", "", name)
        groups.setdefault(title.split("/")[0], {})[name] = values
    return groups


def draw_curves(axes, title, curves):
    """Training curves over epochs: validation dashed."""
    plain = [name for name in curves if not name.startswith("val_")]
    for name, values in curves.items():
        partner = name.removeprefix("val_")
        place = plain.index(partner) if partner in plain else 0
        place += name != partner and len(plain) < 2
        epochs = np.arange(1, len(values) + 1)
        style = {
            "linestyle": "--" if name != partner else "-",
            "marker": "o" if np.isfinite(values).sum() == 1 else None,
        }
        axes.plot(
            epochs,
            values,
            color=LINES[place % len(LINES)],
            linewidth=1.6,
            markersize=4,
            label=_label(name, title),
            **style,
        )
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
    axes.set_xlabel("epoch", fontsize=8, color=INK)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(colors=INK, labelsize=8, length=0)
    axes.grid(axis="y", color=INK, alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(INK)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)


def curve_image(title, curves):
    """One drawing of curves as SVG, without background."""
    drawing = blank(4.2, 2.6)
    draw_curves(drawing.subplots(), title, curves)
    return rendered(drawing, "svg", transparent=True)


def _label(name, title):
    return name.removeprefix(f"{title}/") if "/" in name else name
