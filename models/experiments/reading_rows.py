"""The rows of the results on reading: BiDAF with fewer and fewer hidden units, beside the paper's table."""

import dataclasses
from pathlib import Path

import keras

import tf_terngrad as tt
from models.bidaf import SETS, bidaf
from models.data.lexicon import Lexicon
from models.data.questions import load_questions
from models.training.reading_trainer import ReadingTrainer
from tf_terngrad.costs import layer_costs
from tf_terngrad.files import save_model

CONTEXT, QUESTION = 80, 24
UNITS, DROPOUT, EMBEDDING = 32, 0.1, 50
BATCH, RATE, AVERAGE = 60, 0.002, 0.99
PAPER = (
    "paper, baseline | 100, 100, 100, 100, 100, 100 | 2.69M | | 6.20 | 67.98 / 77.85",
    "paper, ISS | | 2.29M | | | 67.36 / 77.16",
    "paper, ISS | | 1.17M | | | 66.32 / 76.22",
    "paper, ISS | | 0.95M | | | 65.36 / 75.78",
    "paper, ISS | | 0.88M | | 2.74 | 64.60 / 74.99",
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: the dense network, trained on in some way.

    Args:
        name: of the row and of its folder.
        strength: of the group lasso on the six sets of hidden units, in the first epochs; 0: none.
        sizes_of: the name of a row whose sizes this one has from the start, with as many epochs in all.
    """

    name: str
    strength: float = 0.0
    sizes_of: str | None = None


DENSE_EPOCHS, SPARSE_EPOCHS, FURTHER_EPOCHS = 6, 3, 2
ROWS = (Row("dense"), *(Row(f"strength-{strength:g}", strength) for strength in (0.001, 0.002, 0.004, 0.008)))


@dataclasses.dataclass(frozen=True)
class Data:
    """Questions and the numbers of their words."""

    lexicon: Lexicon
    parts: dict

    @classmethod
    def load(cls, data_dir: str | Path | None, vectors: str | Path | None = None) -> "Data":
        """SQuAD of a folder, or cloze questions of its text."""
        parts = load_questions(data_dir, CONTEXT)
        lexicon = Lexicon.of(parts, vectors=vectors)
        encoded = {
            part: lexicon.encode(questions, CONTEXT, QUESTION, fits=part == "train")
            for part, questions in parts.items()
        }
        return cls(lexicon, encoded)

    def trainer(self, folder: Path) -> ReadingTrainer:
        """What trains on them, with checkpoints in a folder."""
        return ReadingTrainer(folder, self.lexicon, self.parts, BATCH, AVERAGE)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a row's model came to.

    Attributes:
        row: the row.
        units: of each of the six sets.
        weights: of the whole model, without the vectors of the words.
        multiply_adds: of the whole model, for one context and question.
        scores: exact match and F1 of the validation questions, then of the test questions.
    """

    row: Row
    units: tuple[int, ...]
    weights: int
    multiply_adds: int
    scores: tuple[tuple[float, float], tuple[float, float]]
