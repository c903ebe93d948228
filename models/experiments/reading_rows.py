"""The rows of the results on reading: BiDAF with fewer and fewer hidden units, beside the paper's table."""

import dataclasses
from pathlib import Path

import keras

import tf_terngrad as tt
from models.bidaf import SETS, bidaf
from models.data.lexicon import Encoded, Lexicon
from models.data.questions import load_questions
from models.experiments.cuts import multiply_adds
from models.training.reading_trainer import ReadingTrainer
from tf_terngrad.files import save_model

CONTEXT, QUESTION = 64, 16
UNITS, EMBEDDING, DROPOUT = 32, 50, 0.1
BATCH, RATE, AVERAGE = 60, 0.003, 0.99
BASE_EPOCHS, SPARSE_EPOCHS, FURTHER_EPOCHS = 3, 5, 1
PAPER = (
    "paper, baseline | 100, 100 / 100, 100 / 100, 100 | 2.69M | | | 6.20 | | 67.98 / 77.85",
    "paper, ISS | | 2.29M | | | | | 67.36 / 77.16",
    "paper, ISS | | 1.17M | | | | | 66.32 / 76.22",
    "paper, ISS | | 0.95M | | | | | 65.36 / 75.78",
    "paper, ISS | | 0.88M | | | 2.74 | | 64.60 / 74.99",
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: the dense network that all rows begin with, trained on.

    Args:
        name: of the row and of its folder.
        strength: of the group lasso on the six sets of hidden units, until the last epochs; 0: none.
    """

    name: str
    strength: float = 0.0


ROWS = (Row("dense"), *(Row(f"strength-{strength:g}", strength) for strength in (0.002, 0.004, 0.008, 0.012)))


@dataclasses.dataclass(frozen=True)
class Data:
    """Questions, and the numbers of their words."""

    lexicon: Lexicon
    parts: dict[str, Encoded]

    @classmethod
    def load(cls, data_dir: str | Path | None, every: int = 1, vectors: str | Path | None = None) -> "Data":
        """The questions of a folder, as `load_questions` has them; to train on, one of so many."""
        parts = load_questions(data_dir, CONTEXT)
        parts["train"] = parts["train"][::every]
        lexicon = Lexicon.of(parts, vectors=vectors)
        encoded = {part: lexicon.encode(parts[part], CONTEXT, QUESTION, fits=part == "train") for part in parts}
        return cls(lexicon, encoded)

    def trainer(self, folder: Path) -> ReadingTrainer:
        """What trains on them, with checkpoints in a folder."""
        return ReadingTrainer(folder, self.lexicon, self.parts, BATCH, AVERAGE)

    def build(self) -> keras.Model:
        """The dense network, with its initial weights."""
        keras.utils.set_random_seed(0)
        sizes = {"embedding": EMBEDDING} | self.lexicon.sizes
        return bidaf(**sizes, units=UNITS, dropout=DROPOUT, context=CONTEXT, question=QUESTION)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a row's model came to.

    Attributes:
        row: the row.
        units: of each of the six sets.
        weights: of the whole model but for the vectors of the words.
        multiply_adds: of the whole model, for one question.
        valid, test: exact match and F1, in percent.
    """

    row: Row
    units: tuple[int, ...]
    weights: int
    multiply_adds: int
    valid: tuple[float, float]
    test: tuple[float, float]


def base(data: Data, folder: Path) -> keras.Model:
    """The dense network that all rows begin with; trained if it is not in the folder yet."""
    return _kept(folder / "base", lambda: _fitted(data.build(), data.trainer(folder / "base"), "base", BASE_EPOCHS))


def train(row: Row, data: Data, folder: Path) -> keras.Model:
    """The row's final model; trained if it is not in the folder yet."""
    return _kept(folder / row.name, lambda: _trained(row, data, folder))


def _trained(row, data, folder):
    model, trainer = base(data, folder), data.trainer(folder / row.name)
    if row.strength:
        tt.sparsify(model, strength=row.strength, include=SETS)
    _fitted(model, trainer, "sparse", SPARSE_EPOCHS)
    if row.strength:
        model = tt.compact(model)
    return _fitted(model, trainer, "further", FURTHER_EPOCHS)


def _fitted(model, trainer, stage, epochs):
    trainer.fit(model, stage, epochs, RATE)
    return model


def _kept(folder, make):
    """The model of a folder; made if there is none yet."""
    path = folder / "final.keras"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_model(make(), path)
    return keras.models.load_model(path, compile=False)


def measure(row: Row, model: keras.Model, data: Data) -> Result:
    """Sizes and answers of a row's model."""
    trainer = data.trainer(Path())
    return Result(
        row,
        widths(model),
        model.count_params() - model.get_layer("words").count_params(),
        multiply_adds(model),
        trainer.score(model, "valid"),
        trainer.score(model, "test"),
    )


def widths(model: keras.Model) -> tuple[int, ...]:
    """How many hidden units each of the six sets has; none where its layer has left."""
    sizes = {found.name: found.size for found in tt.structures(model)}
    return tuple(sizes.get(name, 0) for name in SETS)


def table(results: list[Result], models: list[keras.Model], folder: Path) -> str:
    """A Markdown table, the dense row first, beside the paper's; all latencies in one run.

    The TFLite files of every row are left in the folder.
    """
    files = [folder / f"{result.row.name}.tflite" for result in results]
    for model, file in zip(models, files, strict=True):
        tt.tflite.convert(model, file)
    latencies = tt.tflite.compare_latency(files).reports
    lines = [
        "| | units of g0 / g1 / g2, forward and backward | weights | multiply-adds | TFLite | ms, one question "
        "| valid, EM / F1 | test, EM / F1 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line in PAPER:
        name, *cells = (cell.strip() for cell in line.split("|"))
        lines.append(f"| *{name}* | {' | '.join(cells)} |")
    for result, latency in zip(results, latencies, strict=True):
        pairs = [f"{one}, {other}" for one, other in zip(result.units[::2], result.units[1::2], strict=True)]
        fewer = results[0].multiply_adds / result.multiply_adds
        faster = latencies[0].median / latency.median
        lines.append(
            f"| {result.row.name} | {' / '.join(pairs)} | {result.weights:,} "
            f"| {result.multiply_adds:,} ({fewer:.2f}x fewer) | {latency.bytes:,} bytes "
            f"| {latency.median:.3g} ({faster:.2f}x) | {_both(result.valid)} | {_both(result.test)} |"
        )
    return "\n".join(lines)


def _both(scores):
    return " / ".join(f"{score:.2f}" for score in scores)
