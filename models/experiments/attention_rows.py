"""The rows of the results on transformers: what each trains, and how it is measured."""

import dataclasses
import json
import math
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import keras

import tf_terngrad as tt
from models.blocks import sizes_of
from models.data import datasets
from models.data.text import load_text
from models.decoder_lm import decoder_lm
from models.experiments.cached import cached
from models.experiments.cuts import cut, multiply_adds
from models.experiments.worth import worth
from models.training.language_trainer import LanguageTrainer
from models.training.trainer import Trainer
from models.vit import vit
from tf_terngrad.files import save_model
from tf_terngrad.sparsity.report.sections.heads import Attention


class Words:
    """A decoder and the text that it learns: one block in four of the training words, in texts of 64 words.

    Args:
        data_dir: folder with the text's three files; None: Python's help.
    """

    STREAM, EPOCHS, RATE, STEPS = "embedding", (5, 3, 4), 3e-3, 64
    SCORE = "perplexity, test"

    def __init__(self, data_dir):
        self.text = load_text(data_dir, 2500).thinned(4 if data_dir else 1)

    def build(self, **sizes) -> keras.Model:
        """The decoder, of its own sizes or of these."""
        return decoder_lm(len(self.text.words), steps=self.STEPS, dropout=0.05, tied=True, **sizes)

    def fit(self, model, folder, stage, epochs, falls, seed, callbacks=()):
        """Train; at a constant rate, or at one that falls along a cosine."""
        cosine = [0.5 * self.RATE * (1 + math.cos(math.pi * epoch / epochs)) for epoch in range(epochs)]
        self._trainer(folder).fit(model, stage, epochs, cosine if falls else [self.RATE] * epochs, callbacks)

    def strength(self, of_a_word: float) -> float:
        """The strength beside a loss that is summed over the words of a text."""
        return of_a_word * self.STEPS

    def scores(self, model) -> list[float]:
        """Perplexities of the validation text and of the test text."""
        return [self._trainer(Path()).perplexity(model, part) for part in ("valid", "test")]

    def examples(self):
        """120 texts to train on, and the words that follow theirs."""
        shape = (120, self.STEPS)
        return tuple(self.text.train[shift : shift + math.prod(shape)].reshape(shape) for shift in (0, 1))

    def convert(self, model, path: Path) -> list[Path]:
        """The files of a whole text and of one word at a time."""
        files = [path.with_suffix(".tflite"), path.with_suffix(".word.tflite")]
        tt.tflite.convert(model, files[0])
        tt.tflite.convert(cached(model), files[1])
        return files

    def _trainer(self, folder):
        steps = self.STEPS
        return LanguageTrainer(folder, self.text, 10, steps, clip=float(steps), optimizer=_adam)


class Images:
    """A vision transformer and CIFAR-10, whose last 5,000 training images are for validation.

    Args:
        data_dir: folder with the images; None: they are downloaded.
    """

    STREAM, EPOCHS, RATE = "tokens", (4, 3, 5), 2e-3
    SCORE = "error %, test"

    def __init__(self, data_dir):
        (images, labels), self.test = datasets.load("cifar10", data_dir)
        self.train, self.valid = (images[:-5000], labels[:-5000]), (images[-5000:], labels[-5000:])

    def build(self, **sizes) -> keras.Model:
        """The vision transformer, of its own sizes or of these."""
        return vit(**sizes)

    def fit(self, model, folder, stage, epochs, falls, seed, callbacks=()):
        """Train; at a constant rate, or at one that falls along a cosine."""
        optimizer = _adam if falls else lambda schedule: _adam(schedule.initial_learning_rate)
        trainer = Trainer(folder, self.train, self.valid, 128, seed, optimizer)
        trainer.fit(model, stage, epochs, self.RATE, callbacks)

    def strength(self, strength: float) -> float:
        """The strength beside the mean loss of a batch."""
        return strength

    def scores(self, model) -> list[float]:
        """Errors on the validation images and on the test images, percent."""
        return [100 * Trainer(Path(), self.train, part).test_error(model) for part in (self.valid, self.test)]

    def examples(self):
        """1,500 images to train on, and their labels."""
        return tuple(array[:1500] for array in self.train)

    def convert(self, model, path: Path) -> list[Path]:
        """The file of one image."""
        tt.tflite.convert(model, path.with_suffix(".tflite"))
        return [path.with_suffix(".tflite")]


def _adam(rate, **options):
    """Adam with a short memory: the scales of normalizations begin at 1, and sooner come to zero."""
    return keras.optimizers.Adam(rate, beta_2=0.99, **options)


TASKS = {"decoder": Words, "vit": Images}


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table; all have as many epochs.

    Every row begins with the dense network's first epochs, or has the same number of its own, at a constant rate. Those
    with strengths go on with them at that rate, and lose what is zero. The last epochs are at a rate that falls.

    Args:
        name: of the row and of its folder.
        strengths: by kind, "width" for the residual stream.
        like: the name of a row at whose cost, or at whose sizes, this one is.
        scores: "norm" or "random": what leaves the dense network after its first epochs, down to the cost of `like`.
            None: the sizes of `like` from scratch, or the dense ones.
    """

    name: str
    strengths: Mapping[str, float] = dataclasses.field(default_factory=dict)
    like: str | None = None
    scores: str | None = None

    def penalize(self, model: keras.Model, task) -> None:
        """Put the strengths of the row on a new model."""
        for kind, strength in self.strengths.items():
            chosen = {"include": [task.STREAM]} if kind == "width" else {"kinds": [kind], "exclude": [task.STREAM]}
            tt.sparsify(model, task.strength(strength), **chosen)


def _rows(strengths, **alone):
    """The rows of a network: those that every one has, and those of some kinds alone, by name."""
    return (
        Row("dense"),
        Row("sparse", strengths),
        Row("scratch", like="sparse"),
        Row("norm", like="sparse", scores="norm"),
        Row("random", like="sparse", scores="random"),
        *(Row(name, kinds) for name, kinds in alone.items()),
    )


ROWS = {
    "decoder": _rows({"width": 0.0045, "unit": 0.00015, "head": 0.0008, "key": 0.00015, "value": 0.0002}),
    "vit": _rows(
        {"width": 0.014, "unit": 0.00005, "head": 0.0003, "key": 0.0001, "value": 0.0001},
        width={"width": 0.014},
        heads={"head": 0.003, "key": 0.001, "value": 0.001},
        units={"unit": 0.001},
    ),
}


def named(network: str, name: str) -> Row:
    """The row of a name."""
    return next(row for row in ROWS[network] if row.name == name)


def train(network: str, row: Row, seed: int, task, folder: Path) -> keras.Model:
    """The row's final model for a seed, kept in the folder with what it came to; trained if it is not there yet."""
    mine = folder / row.name / f"seed{seed}"
    if not (mine / "result.json").exists():
        mine.mkdir(parents=True, exist_ok=True)
        like = row.like and train(network, named(network, row.like), seed, task, folder)
        begin = time.monotonic()
        model = _begun(row, like, seed, task, folder)
        rest = sum(task.EPOCHS[1:])
        if row.strengths:
            model, rest = _made_sparse(model, row, seed, task, mine), task.EPOCHS[2]
        task.fit(model, mine, "further", rest, True, seed)
        save_model(model, mine / "final.keras")
        _write_result(model, task, mine, time.monotonic() - begin)
    return keras.models.load_model(mine / "final.keras", compile=False)


def _begun(row, like, seed, task, folder):
    """The row's model after the first epochs: its own, or what it takes over of the dense network."""
    if row.scores or row.strengths:
        model = _begun(Row("dense"), None, seed, task, folder)
        scores = tt.importance.Random(seed) if row.scores == "random" else row.scores
        return cut(model, multiply_adds(like), scores) if scores else model
    first = folder / row.name / f"seed{seed}" / "first.keras"
    if not first.exists():
        first.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.set_random_seed(seed)
        model = task.build(**(sizes_of(like) if like else {}))
        task.fit(model, first.parent, "first", task.EPOCHS[0], False, seed)
        save_model(model, first)
    return keras.models.load_model(first, compile=False)


def _made_sparse(model, row, seed, task, folder):
    """The compact model that the epochs with the strengths leave; and a picture of its heads."""
    row.penalize(model, task)
    task.fit(model, folder, "sparse", task.EPOCHS[1], False, seed, (tt.callbacks.SparsityMonitor(),))
    small = tt.compact(model)
    report = tt.compare(model, small, examples=task.examples()[0])
    report.sections = [section for section in report.sections if isinstance(section, Attention)]
    report.plot(folder / "heads.png")
    return small


def _write_result(model, task, folder, seconds):
    result = {
        "scores": task.scores(model),
        "sizes": sizes_of(model),
        "multiply_adds": multiply_adds(model),
        "weights": model.count_params(),
        "seconds": round(seconds),
    }
    print(f"{folder}: {result}", flush=True)
    (folder / "result.json").write_text(json.dumps(result) + "\n", encoding="utf-8")


def worth_of_dense(seed: int, task, folder: Path) -> str:
    """What members are worth after the dense network's first epochs, a Markdown table."""
    return worth(_begun(Row("dense"), None, seed, task, folder), task.examples())


def table(network: str, rows: list[Row], seeds: int, task, folder: Path) -> str:
    """A Markdown table of rows that are trained; all latencies are measured in one run, of the first seed's files."""
    results = {row.name: _results(folder / row.name, seeds) for row in rows}
    models = {
        row.name: keras.models.load_model(folder / row.name / "seed0" / "final.keras", compile=False) for row in rows
    }
    files = [task.convert(models[row.name], folder / row.name) for row in rows]
    latencies = [tt.tflite.compare_latency(column).reports for column in zip(*files, strict=True)]
    what = ["TFLite, ms", "a word, ms"][: len(latencies)]
    lines = [
        f"| | {task.SCORE}, mean (each seed) | validation | multiply-adds | weights | sizes, first seed | bytes "
        f"| {' | '.join(what)} |",
        "|---" * (7 + len(what)) + "|",
    ]
    dense = _mean(results[rows[0].name], "multiply_adds")
    for number, row in enumerate(rows):
        found = results[row.name]
        valid, test = ([result["scores"][part] for result in found] for part in (0, 1))
        each = ", ".join(f"{score:.2f}" for score in test)
        cost = _mean(found, "multiply_adds")
        times = [
            f"{reports[number].median:.3g} ({reports[0].median / reports[number].median:.2f}x)" for reports in latencies
        ]
        lines.append(
            f"| {row.name} | {statistics.mean(test):.2f} ({each}) | {statistics.mean(valid):.2f} "
            f"| {cost:,.0f} ({dense / cost:.2f}x) | {_mean(found, 'weights'):,.0f} | {_sizes(found[0]['sizes'])} "
            f"| {latencies[0][number].bytes:,} | {' | '.join(times)} |"
        )
    return "\n".join(lines)


def _results(folder, seeds):
    return [json.loads((folder / f"seed{seed}" / "result.json").read_text(encoding="utf-8")) for seed in range(seeds)]


def _mean(results, name):
    return statistics.mean(result[name] for result in results)


def _sizes(sizes):
    return "; ".join(
        f"{name} {size if isinstance(size, int) else '-'.join(map(str, size))}" for name, size in sizes.items()
    )
