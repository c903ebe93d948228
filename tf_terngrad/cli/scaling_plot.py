"""The picture of `tf-terngrad worth-it`: how training scales, a panel for each network and link."""

import numpy as np
from matplotlib.figure import Figure

from tf_terngrad.cli.plot_style import INK, apply_style
from tf_terngrad.files import replacing
from tf_terngrad.ternary.schedules import SCHEDULES

STYLES = {
    "float32": {"color": "#8a94a3", "linewidth": 1.8},
    "float16": {"color": "#d08a3e", "linewidth": 1.8},
    "words": {"color": "#2a9d8f", "linewidth": 1.4, "linestyle": (0, (4, 1.5))},
    "bytes": {"color": "#b05fb8", "linewidth": 1.4, "linestyle": (0, (1, 1))},
    "shards": {"color": "#14539a", "linewidth": 2.4},
}
LOWEST = 1 / 32
OTHER = {"linewidth": 1.4, "linestyle": "-."}  # of schedules that somebody has registered


def plot(path, workers, panels):
    """Writes a PNG.

    Args:
        path: Of the file.
        workers: A list of numbers of workers, from 1 on.
        panels: Dict (network, link) -> dict method -> the steps a second of all workers, for each number of them.
    """
    networks, links = (list(dict.fromkeys(names)) for names in zip(*panels, strict=True))
    width, height = 3.0 * len(networks) + 0.6, 2.5 * len(links) + 0.9
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    grid = figure.subplots(len(links), len(networks), sharex=True, sharey=True, squeeze=False)
    for (network, link), speeds in panels.items():
        axes = grid[links.index(link)][networks.index(network)]
        _draw(axes, workers, speeds)
        if link == links[0]:
            axes.set_title(network, fontsize=11, fontweight="bold")
        if network == networks[0]:
            axes.set_ylabel(f"{link}\n\ntimes one worker", fontsize=9)
        if link == links[-1]:
            axes.set_xlabel("workers", fontsize=9)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, labelcolor=INK)
    with replacing(path) as draft:
        figure.savefig(draft, dpi=150, format="png")


def label(method):
    """The name of a method in a legend."""
    return f"TernGrad, {method}" if method in SCHEDULES else method


def _draw(axes, workers, speeds):
    axes.plot(workers, workers, color=INK, linewidth=0.8, linestyle=":", label="ideal")
    for method, steps in speeds.items():
        relative = [speed / steps[0] for speed in steps]
        axes.plot(workers, relative, label=label(method), **STYLES.get(method, OTHER))
    _mark_gain(axes, workers, speeds)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_ylim(LOWEST, max(workers))
    axes.set_xticks(workers[::2])
    axes.set_yticks([1 / 16, 1 / 4, *workers[::2]])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}")
    axes.tick_params(labelsize=8)
    apply_style(axes)


def _mark_gain(axes, workers, speeds):
    """How many times faster than float32 the best ternary schedule is, with the most workers."""
    ours = np.nanmax([steps[-1] for method, steps in speeds.items() if method in SCHEDULES])
    gain = ours / speeds["float32"][-1]
    axes.text(0.04, 0.93, f"{gain:.1f} times float32", transform=axes.transAxes, fontsize=9, color=INK, va="top")
    axes.text(0.04, 0.83, f"with {workers[-1]} workers", transform=axes.transAxes, fontsize=7, color=INK, va="top")
