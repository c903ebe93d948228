"""The drawings of a report, by matplotlib."""

import io
import re
import textwrap

import numpy as np
from matplotlib.figure import Figure

from tf_terngrad.sparsity.report import wording
from tf_terngrad.sparsity.report.pictures import brightness, matrix_picture

BEFORE, AFTER = "#c3d3e3", "#0c447c"
_BARS = 40
# These read on white and on black.
INK, LINES = "#7a828c", ("#3a7fc1", "#ba753a", "#4f8a6b", "#8a6bb0")


def most_changed(report, count):
    """The weight matrices of a report that lost most, in the network's order, at most `count`."""
    matrices = [matrix for row in report.rows for matrix in row.matrices]
    chosen = sorted(np.argsort([matrix.lost for matrix in matrices], kind="stable")[::-1][:count])
    return [matrices[index] for index in chosen]


def picture_pair(matrix, size):
    """Pictures of a `Matrix` before and after, in the same colours; the second is None if nothing is left."""
    brightest = brightness(matrix.before, size)
    first = matrix_picture(matrix.before, matrix.kept, brightest, size)
    return first, None if matrix.after is None else matrix_picture(matrix.after, None, brightest, size)


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
        style = {"linestyle": "--" if name != partner else "-", "marker": "o" if len(values) == 1 else None}
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
    drawing = Figure(figsize=(4.2, 2.6), layout="constrained")
    draw_curves(drawing.subplots(), title, curves)
    return rendered(drawing, "svg", transparent=True)


def rendered(drawing, kind, **options):
    """The bytes of a figure."""
    stream = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}
    drawing.savefig(stream, format=kind, dpi=150, metadata=metadata, **options)
    return stream.getvalue()


def figure(report):
    """The whole report as one figure: what it comes to, widths, weights and training curves."""
    rows = [row for row in report.rows if row.matrices]
    pictures, curves = most_changed(report, 8), dict(list(curve_groups(report.history).items())[:9])
    heights = [
        0.9 + 0.28 * len(report.metrics),
        0.6 + 0.26 * min(len(rows), _BARS) if rows else 0,
        0.5 + 1.9 * -(-len(pictures) // 2) if pictures else 0,
        0.4 + 2.3 * -(-len(curves) // 3) if curves else 0,
    ]
    shown = [height for height in heights if height]
    drawing = Figure(figsize=(10, sum(shown)), layout="constrained", facecolor="white")
    drawing.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    parts = iter(np.atleast_1d(drawing.subfigures(len(shown), 1, height_ratios=shown)))
    _draw_summary(next(parts), report)
    if rows:
        _draw_widths(next(parts), rows)
    if pictures:
        _draw_pictures(next(parts), pictures)
    if curves:
        _draw_all_curves(next(parts), curves)
    return drawing


def _draw_summary(part, report):
    axes = part.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(len(report.metrics) + 1, -1.2))
    axes.text(0, -0.6, report.title, fontsize=17, fontweight="bold", color=AFTER, va="center")
    for place, metric in enumerate(report.metrics):
        before, after, change = metric.texts
        axes.text(0, place + 0.6, metric.title, color=INK, va="center")
        axes.text(0.2, place + 0.6, f"{before} → {after}", va="center")
        axes.text(0.48, place + 0.6, change, color=AFTER, fontweight="bold", va="center")


def _draw_widths(part, rows):
    title = "Widths" if len(rows) <= _BARS else f"Widths of the first {_BARS} of {len(rows)} layers"
    rows = rows[:_BARS]
    part.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold")
    axes = part.subplots()
    places = np.arange(len(rows))
    left = [row.width[1] / row.width[0] for row in rows]
    axes.barh(places, 1, color=BEFORE, height=0.45)
    axes.barh(places, np.minimum(left, 1), color=AFTER, height=0.45)
    for place, row in enumerate(rows):
        before, after = map(wording.number, row.width)
        axes.text(1.01, place, f"{before} → {row.status or after}", va="center", fontsize=9)
    axes.set(xlim=(0, 1.15), ylim=(len(rows) - 0.4, -0.6))
    axes.set_yticks(places, [textwrap.shorten(row.name, 40) for row in rows], fontsize=9)
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)


def _draw_pictures(part, pictures):
    part.suptitle("Weights, before and after (sand: what left)", x=0.012, ha="left", fontsize=12, fontweight="bold")
    grid = part.subplots(-(-len(pictures) // 2), 2, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, matrix in zip(grid, pictures, strict=False):
        _draw_pair(axes, matrix)


def _draw_pair(axes, matrix):
    """Both pictures on one scale, side by side."""
    before, small = matrix.before, (0, 0) if matrix.after is None else matrix.after.shape
    images = picture_pair(matrix, 400)
    gap = 0.06 * before.shape[1]
    for image, (height, width), start in zip(images, (before.shape, small), (0, before.shape[1] + gap), strict=True):
        if image is not None:
            extent = (start, start + width, height, 0)
            axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest")
            axes.plot(*_outline(extent), color=INK, linewidth=0.6)
    axes.set(xlim=(-gap / 4, 2 * before.shape[1] + 1.5 * gap), ylim=(before.shape[0] * 1.02, -0.02 * before.shape[0]))
    axes.set_title(f"{matrix.title}   {wording.size(before.shape)} → {wording.size(small)}", loc="left", fontsize=9)


def _draw_all_curves(part, groups):
    part.suptitle("Training", x=0.012, ha="left", fontsize=12, fontweight="bold")
    grid = part.subplots(-(-len(groups) // 3), 3, squeeze=False).ravel()
    for axes in grid[len(groups) :]:
        axes.set_axis_off()
    for axes, (title, curves) in zip(grid, groups.items(), strict=False):
        draw_curves(axes, title, curves)


def _outline(extent):
    left, right, bottom, top = extent
    return [left, right, right, left, left], [bottom, bottom, top, top, bottom]


def _label(name, title):
    return name.removeprefix(f"{title}/") if "/" in name else name
