"""Structured sparsity on full MNIST, beside the tables of the paper: LeNet, the 784-500-300-10 network, and l1.

    python -m tools.reproduce_mnist --data_dir=DIR --output=runs/mnist

Every row trains on the 60,000 images in two stages, for every seed: sparse training, then what is left further, taught
by its dense baseline beside the labels. That goes through the same two stages, untaught, with nothing taken out.
Checkpoints in the output folder are gone on with; the tables, in Markdown, are printed and kept there as results.md.
"""

from pathlib import Path

from absl import app, flags

from models.data import datasets
from models.experiments import mnist_rows

DATA = flags.DEFINE_string("data_dir", None, "Folder with mnist.npz; without it MNIST is downloaded.")
OUTPUT = flags.DEFINE_string("output", "runs/mnist", "Folder for checkpoints and models.")
SEEDS = flags.DEFINE_integer("seeds", 3, "How many seeds.", lower_bound=1)
HELD_OUT = flags.DEFINE_integer(
    "held_out", 0, "Train without the last so many training images and measure on them: to choose strengths.", 0, 59_999
)
NETWORK = flags.DEFINE_enum("network", None, sorted(mnist_rows.RECIPES), "Only this network.")


def main(_):
    """Train what is not trained yet, then print the tables."""
    images = hold_out(datasets.load("mnist", DATA.value), HELD_OUT.value)
    folder = Path(OUTPUT.value)
    tables = []
    for network in [NETWORK.value] if NETWORK.value else mnist_rows.RECIPES:
        results = [
            mnist_rows.measure(
                row, [mnist_rows.train(row, seed, images, folder) for seed in range(SEEDS.value)], images
            )
            for row in mnist_rows.ROWS
            if row.network == network
        ]
        tables.append(mnist_rows.table(network, results, folder))
        print(f"\n{tables[-1]}", flush=True)
    (folder / "results.md").write_text("\n\n".join(tables) + "\n", encoding="utf-8")


def hold_out(data, count):
    """The data with its last training images in the place of the test images; all of it for a count of 0."""
    images, labels = data[0]
    return ((images[:-count], labels[:-count]), (images[-count:], labels[-count:])) if count else data


if __name__ == "__main__":
    app.run(main)
