"""Transformers that lose width, heads and units: a decoder of words, and a vision transformer.

    python -m tools.reproduce_attention --network=decoder --data_dir=DIR --output=runs/attention
    python -m tools.reproduce_attention --network=vit --data_dir=DIR --output=runs/attention

A dense network; a sparse one, which learns its structures in a first stage, is compacted, and trains on; the same sizes
from scratch; and the dense one, from which after the first stage as much has left as from the sparse one, by the least
norms or at random. All train for as many epochs. DIR holds a text in the layout of the Penn Treebank (by default it is
Python's help), or `cifar10_jpeg.npz` (by default CIFAR-10 is downloaded). What the output folder holds already is not
trained again; the table, in Markdown, the TFLite files of the first seed and pictures of the heads are left there.
"""

from pathlib import Path

from absl import app, flags

from models.experiments import attention_rows
from tools.chosen_rows import chosen

NETWORK = flags.DEFINE_enum("network", "decoder", sorted(attention_rows.TASKS), "What to train.")
DATA = flags.DEFINE_string("data_dir", None, "Folder with the text's three files, or with the images.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Trainings of each row.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", "runs/attention", "Folder for checkpoints, models, tables and files.")
ROWS = flags.DEFINE_list("rows", [], "Only these rows; all of the network, if not given.")
WORTH = flags.DEFINE_bool("worth", False, "Print what members are worth after the dense network's first epochs, only.")


def main(_):
    """Train what is not trained yet, seed by seed; then the table."""
    rows = chosen(attention_rows.ROWS[NETWORK.value], ROWS.value, "reproduce_attention")
    task = attention_rows.TASKS[NETWORK.value](DATA.value)
    folder = Path(OUTPUT.value) / NETWORK.value
    if WORTH.value:
        return print(attention_rows.worth_of_dense(0, task, folder))
    for seed in range(SEEDS.value):
        for row in rows:
            print(f"\nseed {seed}: {row}", flush=True)
            attention_rows.train(NETWORK.value, row, seed, task, folder)
    table = attention_rows.table(NETWORK.value, rows, SEEDS.value, task, folder)
    print(f"\n{table}", flush=True)
    (folder / "table.md").write_text(table + "\n", encoding="utf-8")


if __name__ == "__main__":
    app.run(main)
