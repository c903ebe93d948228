"""The section of the weights: the matrices that lost most, as pictures."""

from html import escape

import numpy as np

from tf_terngrad.sparsity.report import wording
from tf_terngrad.sparsity.report.drawing import INK, grid, heading, inline, png, rows_of
from tf_terngrad.sparsity.report.pictures import picture_pair
from tf_terngrad.sparsity.report.sections.section import Section

ON_PAGE, IN_PICTURE = 16, 8  # so many matrices, at most
COLUMNS = 2
TITLE = 66  # letters of a title in the picture: longer ones would run into the next column
PIXELS = 320  # of the longer side, on the page


class Weights(Section):
    """The matrices that lost most before and after, in the same colours; sand where something left."""

    def html(self, report):
        pairs = most_changed(report, ON_PAGE)
        if not pairs:
            return ""
        total = sum(len(row.matrices) for row in report.rows)
        which = f" The {len(pairs)} of {total} matrices that lost most." if len(pairs) < total else ""
        key = "".join(
            f'<span class="key"><i style="background:{color}"></i>{text}</span> &ensp;'
            for color, text in (("#fff", "zero"), ("#0c447c", "large weight"), ("#f0d3b3", "left the model"))
        )
        return (
            '<h2>Weights</h2><p class="soft">One row an output, one column an input; before and after at one scale.'
            f'{which}</p><p class="soft keys">{key}</p><div class="pairs">{"".join(map(_card, pairs))}</div>'
        )

    def height(self, report):
        shown = most_changed(report, IN_PICTURE)
        return 0.5 + 1.9 * rows_of(shown, COLUMNS) if shown else 0

    def draw(self, report, part):
        heading(part, "Weights, before and after (sand: what left)")
        shown = most_changed(report, IN_PICTURE)
        for axes, matrix in zip(grid(part, shown, COLUMNS), shown, strict=True):
            _draw_pair(axes, matrix)


def most_changed(report, count):
    """The weight matrices of a report that lost most, in the network's order, at most `count`."""
    matrices = [matrix for row in report.rows for matrix in row.matrices]
    chosen = sorted(np.argsort([matrix.lost for matrix in matrices], kind="stable")[::-1][:count])
    return [matrices[index] for index in chosen]


def _card(pair):
    """A `Matrix` in HTML."""
    title, before, after = escape(pair.title), pair.before, pair.after
    sizes = " → ".join(wording.size(shape) for shape in (before.shape, (0, 0) if after is None else after.shape))
    # Both images share one scale; flat and tall matrices are stretched to be seen.
    ratio = min(max(before.shape[0] / before.shape[1], 0.45), 0.8)
    images = []
    for image, matrix, name in zip(picture_pair(pair, PIXELS), (before, after), ("before", "after"), strict=True):
        if image is None:
            continue
        across, down = (matrix.shape[axis] / before.shape[axis] for axis in (1, 0))
        style = f"width:{100 * across:.2f}%;aspect-ratio:{across:.5f}/{ratio * down:.5f}"
        images.append(f'<img style="{style}" alt="{title} {name}" src="{inline(png(_enlarged(image)), "png")}">')
    return f'<div class="card pair"><h3>{title} <small>{sizes}</small></h3><div>{"".join(images)}</div></div>'


def _enlarged(image):
    """Whole pixels a weight, so that browsers do not blur few rows or columns into one another."""
    down, across = (max(1, PIXELS // length) for length in image.shape[:2])
    return image.repeat(down, 0).repeat(across, 1)


def _draw_pair(axes, matrix):
    """Both pictures on one scale, side by side."""
    axes.set_axis_off()
    before, small = matrix.before, (0, 0) if matrix.after is None else matrix.after.shape
    images = picture_pair(matrix, 400)
    gap = 0.06 * before.shape[1]
    for image, (height, width), start in zip(images, (before.shape, small), (0, before.shape[1] + gap), strict=True):
        if image is not None:
            extent = (start, start + width, height, 0)
            axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest")
            axes.plot(*_outline(extent), color=INK, linewidth=0.6)
    axes.set(xlim=(-gap / 4, 2 * before.shape[1] + 1.5 * gap), ylim=(before.shape[0] * 1.02, -0.02 * before.shape[0]))
    sizes = f"   {wording.size(before.shape)} → {wording.size(small)}"
    axes.set_title(wording.end(matrix.title, TITLE - len(sizes)) + sizes, loc="left", fontsize=9)


def _outline(extent):
    left, right, bottom, top = extent
    return [left, right, right, left, left], [bottom, bottom, top, top, bottom]
