"""The rows of the results on language models: what each trains, and how it is measured."""

import dataclasses
from pathlib import Path

import keras

import tf_terngrad as tt
from models.data.text import Text
from models.lstm_lm import lstm_lm
from models.rhn import rhn
from models.training.language_trainer import LanguageTrainer, at_rest
from tf_terngrad.files import save_model
from tf_terngrad.sparsity.costs import layer_costs

STEPS = 35
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the rows of one network share.

    Args:
        units: of each recurrent layer of the dense network.
        rates: the learning rate of each epoch.
        sparse_epochs: how many of a sparse row's first epochs have the penalty; then what is silent leaves.
        paper: lines of the paper's table.
    """

    units: tuple[int, ...]
    rates: tuple[float, ...]
    sparse_epochs: int
    paper: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
        name: of the row and of its folder.
        network: "lstm", "gru" or "rhn".
        strength: of the group lasso on hidden units in the first epochs; 0: none.
        dropout: of the model.
        compact_dropout: of a sparse row's compact model; None: the same. Units leave where it is weak.
        compact_strength: of the group lasso in the further epochs; more units may leave.
        sizes_of: the name of a row whose sizes this one has from the start.
        teacher: the name of a row whose answers this one learns from too, a sparse one once it is compact.
    """

    name: str
    network: str
    strength: float = 0.0
    dropout: float = 0.2
    compact_dropout: float | None = None
    compact_strength: float = 0.0
    sizes_of: str | None = None
    teacher: str | None = None

    @property
    def recipe(self) -> Recipe:
        """What it shares with the other rows of its network."""
        return RECIPES[self.network]

    def build(self, units: tuple[int, ...], vocabulary: int, batch_size: int) -> keras.Model:
        """The network with so many hidden units, whose states are kept."""
        options = {"dropout": self.dropout, "batch_size": batch_size, "stateful": True}
        if self.network == "rhn":
            return rhn(vocabulary, *units, RHN_DEPTH, **options)
        layer = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[self.network]
        return lstm_lm(vocabulary, units, self.recipe.units[0], layer=layer, **options)


RHN_DEPTH = 3
RATES = (1.0,) * 18 + (0.1,) * 7 + (0.01,) * 2
RECIPES = {
    "lstm": Recipe(
        (450, 450),
        RATES,
        12,
        (
            "paper, baseline | 82.57 / 78.57 | 1500, 1500 | | 66.0M",
            "paper, ISS | 82.59 / 78.65 | 373, 315 | 7.48x fewer | 21.8M",
            "paper, direct design | 90.31 / 85.66 | 373, 315 | 7.48x fewer | 21.8M",
        ),
    ),
    "gru": Recipe((300, 300), tuple(rate / 2 for rate in RATES), 12),
    "rhn": Recipe(
        (200,),
        tuple(rate / 2 for rate in RATES),
        12,
        (
            "paper, baseline | - / 65.4 | 830 | |",
            "paper, strength 0.004 | - / 65.0 | 726 | |",
            "paper, strength 0.005 | - / 65.4 | 517 | |",
            "paper, strength 0.006 | - / 67.7 | 403 | |",
            "paper, strength 0.007 | - / 71.2 | 328 | |",
        ),
    ),
}
ROWS = (
    Row("lstm-dense", "lstm", dropout=0.6),
    Row("lstm-sparse", "lstm", 0.0052, dropout=0.3, compact_dropout=0.5, compact_strength=0.003),
    Row("lstm-direct", "lstm", dropout=0.5, sizes_of="lstm-sparse"),
    Row("lstm-direct-lasso", "lstm", dropout=0.5, compact_strength=0.003, sizes_of="lstm-sparse"),
    Row("lstm-sparser", "lstm", 0.008, dropout=0.3, compact_dropout=0.45),
    Row("lstm-sparser-direct", "lstm", dropout=0.45, sizes_of="lstm-sparser"),
    Row("lstm-teacher", "lstm", dropout=0.55),
    Row("lstm-sparser-taught", "lstm", 0.008, dropout=0.3, teacher="lstm-teacher"),
    Row("lstm-sparser-direct-taught", "lstm", dropout=0.3, sizes_of="lstm-sparser", teacher="lstm-teacher"),
    Row("gru-dense", "gru", dropout=0.5),
    Row("gru-sparse", "gru", 0.009, dropout=0.3, teacher="gru-dense"),
    Row("rhn-dense", "rhn", dropout=0.4),
    *(Row(f"rhn-{strength:g}", "rhn", strength, 0.2, teacher="rhn-dense") for strength in (0.008, 0.01, 0.012, 0.016)),
)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a row's model came to.

    Attributes:
        row: the row.
        perplexity: of the validation text and of the test text.
        units: of each recurrent layer.
        multiply_adds: of the recurrent layers, a word.
        weights: of the whole model.
    """

    row: Row
    perplexity: tuple[float, float]
    units: tuple[int, ...]
    multiply_adds: int
    weights: int


def train(row: Row, text: Text, folder: Path) -> keras.Model:
    """The row's final model, which keeps its states; trained if it is not in the folder yet.

    A sparse row leaves a picture of its weights there too, with what left them.
    """
    final = folder / row.name / "final.keras"
    if final.exists():
        return keras.models.load_model(final, compile=False)
    recipe = row.recipe
    units = recipe.units if row.sizes_of is None else hidden(train(named(row.sizes_of), text, folder))
    (folder / row.name).mkdir(parents=True, exist_ok=True)
    trainer = LanguageTrainer(folder / row.name, text, steps=STEPS)
    keras.utils.set_random_seed(0)
    model = row.build(units, len(text.words), trainer.rows)
    rates = recipe.rates
    if row.strength or row.compact_strength:
        model = _made_sparse(model, row, trainer, folder)
        rates = rates[recipe.sparse_epochs :]
    teacher = None if row.teacher is None else train(named(row.teacher), text, folder)
    trainer.fit(model, "further", len(rates), rates, teacher=teacher)
    if row.compact_strength:
        model = tt.compact(model, tolerance=TOLERANCE)
    save_model(model, final)
    return keras.models.load_model(final, compile=False)


def _made_sparse(model, row, trainer, folder):
    """The compact model that the first epochs leave, ready to train on."""
    epochs = row.recipe.sparse_epochs
    if row.strength:
        tt.sparsify(model, strength=row.strength, kinds=["hidden"])
    curves = trainer.fit(model, "sparse", epochs, row.recipe.rates[:epochs], (tt.callbacks.SparsityMonitor(),))
    small = tt.compact(model, tolerance=TOLERANCE)
    report = tt.compare(at_rest(model, 1, STEPS), at_rest(small, 1, STEPS), history=curves, title=row.name)
    report.plot(folder / f"{row.name}.png")
    if row.compact_dropout is not None:
        set_dropout(small, row.compact_dropout)
    if row.compact_strength:
        tt.sparsify(small, strength=row.compact_strength, kinds=["hidden"])
    return small


def measure(row: Row, model: keras.Model, text: Text) -> Result:
    """Perplexities and sizes of a row's model."""
    trainer = LanguageTrainer(Path(), text, steps=STEPS)
    costs = layer_costs(at_rest(model, 1, STEPS))
    recurrent = {layer.name for layer in _recurrent(model)}
    return Result(
        row,
        (trainer.perplexity(model, "valid"), trainer.perplexity(model, "test")),
        hidden(model),
        sum(cost.multiply_adds for cost in costs if cost.path.split("/")[0] in recurrent) // STEPS,
        model.count_params(),
    )


def table(results: list[Result], models: list[keras.Model], folder: Path) -> str:
    """A Markdown table of the rows of one network, the dense one first, beside the paper's; all latencies in one run.

    The TFLite files of every row, of a text and of one word at a time, are left in the folder.
    """
    texts, streams = ([folder / f"{result.row.name}{end}.tflite" for result in results] for end in ("", "-stream"))
    for model, a_text, stream in zip(models, texts, streams, strict=True):
        shipped = at_rest(model, 1, STEPS)
        tt.tflite.convert(shipped, a_text)
        tt.tflite.convert(shipped, stream, streaming=1)
    latencies = [tt.tflite.compare_latency(files).reports for files in (texts, streams)]
    lines = [
        f"| | perplexity valid / test | hidden units | multiply-adds of recurrent layers | weights | TFLite "
        f"| ms, {STEPS} words | ms a word, streaming |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line in results[0].row.recipe.paper:
        name, *cells = (cell.strip() for cell in line.split("|"))
        lines.append(f"| *{name}* | {' | '.join(cells)} | | | |")
    dense = results[0]
    first = [reports[0].median for reports in latencies]
    for number, result in enumerate(results):
        times = [reports[number].median for reports in latencies]
        ratios = [f"{time:.3g} ({whole / time:.2f}x)" for time, whole in zip(times, first, strict=True)]
        lines.append(
            f"| {result.row.name} | {result.perplexity[0]:.2f} / {result.perplexity[1]:.2f} "
            f"| {', '.join(map(str, result.units))} "
            f"| {result.multiply_adds:,} ({dense.multiply_adds / result.multiply_adds:.2f}x fewer) "
            f"| {result.weights:,} | {latencies[0][number].bytes:,} bytes | {' | '.join(ratios)} |"
        )
    return "\n".join(lines)


def named(name: str) -> Row:
    """The row of a name."""
    return next(row for row in ROWS if row.name == name)


def set_dropout(model: keras.Model, rate: float) -> None:
    """Set the rate of a model's dropouts.

    Raises:
        ValueError: they were built with the rate 0, for which Keras makes no seeds.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            if layer.rate == 0 and rate:
                raise ValueError(f"Expected dropouts of a rate above 0 from the start. Received: layer {layer.name!r}")
            layer.rate = rate


def hidden(model: keras.Model) -> tuple[int, ...]:
    """The units of a model's recurrent layers."""
    return tuple(layer.cell.units for layer in _recurrent(model))


def _recurrent(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.RNN)]
