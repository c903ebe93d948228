"""Rows and columns that are learned, as in the paper: three convolutions on CIFAR-10, with groups and with l1.

    python -m tools.reproduce_convnet --data_dir=DIR --output=runs/convnet
    python -m tools.reproduce_convnet --epochs=3 --rows=dense,ssl --data_dir=DIR

Every row trains in three stages: dense, then with its penalty, then further with zeros held; the dense one as long with
no penalty. Checkpoints in the output folder are gone on with; the table, in Markdown, is printed and kept there as
results.md.
"""

from pathlib import Path

from absl import app, flags

from models.data import datasets
from models.experiments import convnet_rows
from tools.chosen_rows import chosen

DATA = flags.DEFINE_string("data_dir", None, "Folder with cifar10_jpeg.npz; without it, a download.")
OUTPUT = flags.DEFINE_string("output", "runs/convnet", "Folder for checkpoints, models and files.")
EPOCHS = flags.DEFINE_integer("epochs", 65, "Of all stages together.", lower_bound=3)
SEEDS = flags.DEFINE_integer("seeds", 1, "How many seeds.", lower_bound=1)
EXAMPLES = flags.DEFINE_integer("examples", None, "Train on so many images; all, if not given.", lower_bound=1)
ROWS = flags.DEFINE_list("rows", [], "Only these rows; all, if not given.")


def main(_):
    """Train what is not trained yet, then print the table."""
    rows = chosen(convnet_rows.ROWS, ROWS.value, "reproduce_convnet")
    (images, labels), test = datasets.load("cifar10", DATA.value)
    data, folder = ((images[: EXAMPLES.value], labels[: EXAMPLES.value]), test), Path(OUTPUT.value)
    results = {
        row: [convnet_rows.train(row, seed, data, folder, EPOCHS.value) for seed in range(SEEDS.value)] for row in rows
    }
    text = convnet_rows.table(results, data, folder)
    print(f"\n{text}", flush=True)
    (folder / "results.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    app.run(main)
