"""Accuracy with ternary gradients, as in the paper: LeNet on MNIST with up to 64 workers, a small network on CIFAR-10.

    python -m tools.reproduce_terngrad --recipe=lenet --data_dir=DIR --output=runs/terngrad
    python -m tools.reproduce_terngrad --recipe=cifarnet --iterations=2000 --seeds=1 --data_dir=DIR

The workers are simulated in one process, with the codec that travels between real ones. Curves in the output folder
are not trained again; the table, in Markdown, the picture of the curves, and histograms of ternary gradients are left
there.
"""

import statistics
from pathlib import Path

from absl import app, flags
from matplotlib.figure import Figure

from models.data import datasets
from models.experiments import terngrad_rows
from tf_terngrad.cli.plot_style import INK, apply_style
from tools.chosen_rows import chosen

RECIPE = flags.DEFINE_enum("recipe", "lenet", sorted(terngrad_rows.RECIPES), "What to train.")
DATA = flags.DEFINE_string("data_dir", None, "Folder with mnist.npz or cifar10_jpeg.npz; without it, a download.")
OUTPUT = flags.DEFINE_string("output", "runs/terngrad", "Folder for the curves.")
SEEDS = flags.DEFINE_integer("seeds", 3, "How many seeds.", lower_bound=1)
ITERATIONS = flags.DEFINE_integer("iterations", None, "Steps of training, if not the paper's.", lower_bound=1)
ROWS = flags.DEFINE_list("rows", [], "Only these rows; all, if not given.")


def main(_):
    """Train what is not trained yet; then the table and the picture."""
    of_recipe = [row for row in terngrad_rows.ROWS if row.recipe == RECIPE.value]
    rows = chosen(of_recipe, ROWS.value, "reproduce_terngrad")
    data = datasets.load(terngrad_rows.RECIPES[RECIPE.value].dataset, DATA.value)
    folder = Path(OUTPUT.value)
    curves = {row: [] for row in rows}
    for seed in range(SEEDS.value):
        for row in rows:
            print(f"\n{row.name}, seed {seed}", flush=True)
            curves[row].append(terngrad_rows.train(row, seed, data, folder, ITERATIONS.value))
    text = table(curves)
    print(f"\n{text}", flush=True)
    (folder / f"{RECIPE.value}.md").write_text(text + "\n", encoding="utf-8")
    draw(curves, folder / f"{RECIPE.value}.png")


def table(curves) -> str:
    """A Markdown table of the last errors, beside those of the float row of the same optimizer and batch."""
    lines = ["| | workers | steps | error %, mean (each seed) | less float's |", "|---|---|---|---|---|"]
    for row, runs in curves.items():
        errors = [run[-1][1] for run in runs]
        uncompressed = [other for other in curves if other.compression is None and same_training(row, other)]
        less = ""
        if uncompressed and row.compression is not None:
            less = f"{statistics.mean(errors) - statistics.mean(run[-1][1] for run in curves[uncompressed[0]]):+.2f}"
        each = ", ".join(f"{error:.2f}" for error in errors)
        lines.append(
            f"| {row.optimizer}, {row.what} | {row.workers} | {runs[0][-1][0]:,} "
            f"| {statistics.mean(errors):.2f} ({each}) | {less} |"
        )
    return "\n".join(lines)


def same_training(row, other) -> bool:
    """Whether two rows differ in how gradients travel alone."""
    return (row.recipe, row.optimizer, row.batches) == (other.recipe, other.optimizer, other.batches)


def draw(curves, path) -> None:
    """A PNG with a panel for each optimizer and batch: test errors over steps, the seeds' mean."""
    panels = {}
    for row, runs in curves.items():
        panels.setdefault((row.optimizer, row.batches), {})[row] = runs
    figure = Figure(figsize=(5.2 * len(panels), 3.6), layout="constrained", facecolor="white")
    for axes, (title, rows) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for row, runs in rows.items():
            steps = [step for step, _ in runs[0]]
            means = [statistics.mean(run[point][1] for run in runs) for point in range(len(steps))]
            style = {"color": "#222222", "linewidth": 2.2} if row.compression is None else {"linewidth": 1.4}
            axes.plot(
                steps, means, label=f"{row.what}, {row.workers} workers" if row.workers > 1 else row.what, **style
            )
        axes.set_title(title[0] if title[1] == 1 else f"{title[0]}, batches {title[1]} times as large")
        axes.set_xlabel("steps")
        axes.set_ylabel("test error %")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        apply_style(axes)
        axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    app.run(main)
