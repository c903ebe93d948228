"""The report as one picture: its sections, one below the other."""

import numpy as np

from tf_terngrad import checks
from tf_terngrad.sparsity.report.drawing import blank

WIDTH = 10  # inches


def figure(report):
    """The whole report as one figure: all sections that are drawn, each as high as it asks for."""
    shown = [(section, height) for section in report.sections if (height := section.height(report))]
    if not shown:
        expected = "at least one section that has a height"
        raise ValueError(checks.refusal("Report.plot", "sections", expected, report.sections))
    heights = [height for _, height in shown]
    drawing = blank(WIDTH, sum(heights), facecolor="white")
    drawing.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    parts = np.atleast_1d(drawing.subfigures(len(shown), 1, height_ratios=heights))
    for (section, _), part in zip(shown, parts, strict=True):
        section.draw(report, part)
    return drawing
