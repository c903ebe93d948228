"""Language models that lose hidden units: LSTMs, GRUs and recurrent highway networks, beside the paper's tables.

    python -m tools.reproduce_language --data_dir=DIR --network=lstm --output=runs/language

A dense network; sparse ones, which learn their structures in the first epochs, are compacted, and train on, some with
the dense one as their teacher; and for the LSTM "direct designs", their sizes from scratch, trained alike: same epochs,
same learning rates. DIR holds a text in the layout of the Penn Treebank; by default it is that of Python's help.
Checkpoints in the output folder are gone on with; the table, in Markdown, pictures of the weights, the TFLite files and
a curve of widths are left there.
"""

from pathlib import Path

from absl import app, flags
from matplotlib.figure import Figure

from models.data.text import load_text
from models.experiments import language_rows
from tf_terngrad.cli.plot_style import INK, apply_style
from tools.chosen_rows import chosen

NETWORK = flags.DEFINE_enum("network", "lstm", sorted(language_rows.RECIPES), "What to train.")
DATA = flags.DEFINE_string("data_dir", None, "Folder with a text's three files; None: the help that ships with Python.")
VOCABULARY = flags.DEFINE_integer("vocabulary", 2500, "The most frequent words that are told apart.", lower_bound=2)
EVERY = flags.DEFINE_integer(
    "every", 1, "Train on one of so many blocks of 2,000 words, for a short text.", lower_bound=1
)
OUTPUT = flags.DEFINE_string("output", "runs/language", "Folder for checkpoints, models, tables and pictures.")
ROWS = flags.DEFINE_list("rows", [], "Only these rows; all of the network, if not given.")


def main(_):
    """Train what is not trained yet; then the table and the pictures."""
    of_network = [row for row in language_rows.ROWS if row.network == NETWORK.value]
    rows = chosen(of_network, ROWS.value, "reproduce_language")
    text = load_text(DATA.value, VOCABULARY.value).thinned(EVERY.value)
    folder = Path(OUTPUT.value)
    models, results = [], []
    for row in rows:
        print(f"\n{row}", flush=True)
        models.append(language_rows.train(row, text, folder))
        results.append(language_rows.measure(row, models[-1], text))
    table = language_rows.table(results, models, folder)
    print(f"\n{table}", flush=True)
    (folder / f"{NETWORK.value}.md").write_text(table + "\n", encoding="utf-8")
    if NETWORK.value == "rhn":
        draw(results, folder / "rhn-widths.png")


def draw(results, path) -> None:
    """A PNG: test perplexities over widths, one point for each strength."""
    figure = Figure(figsize=(5.6, 3.8), layout="constrained", facecolor="white")
    axes = figure.subplots()
    points = sorted((result.units[0], result.perplexity[1], result.row.strength) for result in results)
    axes.plot([width for width, _, _ in points], [perplexity for _, perplexity, _ in points], color=INK, marker="o")
    for width, perplexity, strength in points:
        axes.annotate(f"strength {strength:g}", (width, perplexity), (6, 6), textcoords="offset points", color=INK)
    axes.set_xlabel("hidden units")
    axes.set_ylabel("test perplexity")
    axes.margins(x=0.12, y=0.12)
    apply_style(axes)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    app.run(main)
