"""BiDAF that loses hidden units, beside the paper's table: units of the six sets, weights and time against EM and F1.

    python -m tools.reproduce_reading --data_dir=DIR --every=2 --output=runs/reading

DIR holds SQuAD's files, or a text in the layout of the Penn Treebank, of which cloze questions are made: a sentence
with a run of words taken out, the sentences around it as the context. By default the text is that of Python's help.

All rows begin with one dense network; each trains on with another strength, is compacted, and trains further without
one, the dense row as long. Checkpoints in the output folder are gone on with; a line a row, the table, in Markdown, and
the TFLite files are left there.
"""

from pathlib import Path

from absl import app, flags

from models.experiments import reading_rows
from tools.chosen_rows import chosen

DATA = flags.DEFINE_string(
    "data_dir", None, "Folder with SQuAD, or with a text; None: the help that ships with Python."
)
VECTORS = flags.DEFINE_string(
    "vectors", None, "File of trained vectors of words, such as GloVe's; None: they train too."
)
EVERY = flags.DEFINE_integer("every", 1, "Train on one of so many questions.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", "runs/reading", "Folder for checkpoints, models and the table.")
ROWS = flags.DEFINE_list("rows", [], "Only these rows; all, if not given.")


def main(_):
    """Train what is not trained yet; then the table."""
    rows = chosen(reading_rows.ROWS, ROWS.value, "reproduce_reading")
    data, folder = reading_rows.Data.load(DATA.value, EVERY.value, VECTORS.value), Path(OUTPUT.value)
    models, results = [], []
    for row in rows:
        models.append(reading_rows.train(row, data, folder))
        results.append(reading_rows.measure(row, models[-1], data))
        print(f"\n{results[-1]}", flush=True)
    found = reading_rows.table(results, models, folder)
    print(f"\n{found}", flush=True)
    (folder / "reading.md").write_text(found + "\n", encoding="utf-8")


if __name__ == "__main__":
    app.run(main)
