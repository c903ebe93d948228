"""Budgets beside other ways to the same cost: at once by norm, by Taylor or at random, or sizes trained from scratch.

    python -m tools.reproduce_budgets --network=mlp --data_dir=DIR --output=runs/budgets

Every row is trained equally long, with one fall of the learning rate; what leaves at once leaves in the middle of the
time in which a budget's members leave. Rows that are there already are read; tables, in Markdown, are printed.
"""

from pathlib import Path

import numpy as np
from absl import app, flags

from models.experiments import budget_rows
from models.experiments.budget_rows import RECIPES, WAYS, Row

DATA = flags.DEFINE_string("data_dir", None, "Folder with mnist.npz, cifar10_jpeg.npz or the files of a text.")
OUTPUT = flags.DEFINE_string("output", "runs/budgets", "Folder for what each row gave.")
NETWORK = flags.DEFINE_enum("network", "mlp", sorted(RECIPES), "The network.")
SHARES = flags.DEFINE_list("shares", ["0.5", "0.2", "0.1"], "Budgets: shares of the dense network's multiply-adds.")
OPTIMIZERS = flags.DEFINE_list("optimizers", ["momentum", "adam"], "Optimizers: momentum, adam.")
KINDS = flags.DEFINE_string("kinds", "", "Kinds of what leaves, with commas: branch for depth. By default widths.")
WAY = flags.DEFINE_list("ways", list(WAYS), "Ways to train.")
SEEDS = flags.DEFINE_integer("seeds", 3, "How many seeds.", lower_bound=1)
EPOCHS = flags.DEFINE_integer("epochs", None, "Epochs; by default the recipe's.", lower_bound=2)
COUNT = flags.DEFINE_integer("examples", None, "Only so many training examples.", lower_bound=128)


def main(_):
    """Train what is not trained yet, then print the table."""
    recipe = RECIPES[NETWORK.value]
    data = budget_rows.Data(recipe.data, DATA.value, COUNT.value)
    epochs, folder = EPOCHS.value or recipe.epochs, Path(OUTPUT.value)
    lines = [
        f"| optimizer | way | multiply-adds | {recipe.measure}, mean (each seed) | layers | sizes |",
        "|---|---|---|---|---|---|",
    ]
    for optimizer in OPTIMIZERS.value:
        for share in [1.0, *map(float, SHARES.value)]:
            for way in [way for way in WAY.value if (way == "dense") == (share == 1)]:
                rows = [Row(NETWORK.value, way, share, optimizer, seed, KINDS.value) for seed in range(SEEDS.value)]
                lines.append(_line(rows[0], [budget_rows.train(row, recipe, data, epochs, folder) for row in rows]))
                print(lines[-1], flush=True)
    print("\n" + "\n".join(lines))


def _line(row, results):
    measures = [result["measure"] for result in results]
    cost = np.mean([result["cost"] for result in results])
    each = ", ".join(f"{measure:.2f}" for measure in measures)
    sizes = "-".join(map(str, results[0]["sizes"]))
    layers = ", ".join(str(result["layers"]) for result in results)
    return f"| {row.optimizer} | {row.way} | {cost:.2%} | {np.mean(measures):.2f} ({each}) | {layers} | {sizes} |"


if __name__ == "__main__":
    app.run(main)
