"""The time of a whole training that loses structures on its way, beside the dense one and one that keeps them.

Seconds are those of `fit`, with validation, penalty and retracing, and without building and loading; beside them what
they were of the processor. Multiply-adds are those of one example. Bytes are what all workers on this machine sent
through its loopback device, if there are several. A training whose curve is in the folder already is read from there.

python -m tools.benchmark_reconfigure --network=resnet20 --epochs=12 --every=1 --budget=0.5 --output=runs/resnet20
python -m tools.benchmark_reconfigure --network=resnet20 --epochs=12 --every=1 --budget=0.68 --kinds=branch
python -m tools.benchmark_reconfigure --network=lstm_lm --epochs=12 --every=1 --strength=5e-3 --output=runs/lstm
horovodrun --gloo -np 2 python -m tools.benchmark_reconfigure --compression=terngrad --output=runs/two
"""

import csv
import io
import tempfile
import time
from pathlib import Path

import keras
from absl import app, flags

import tf_terngrad as tt
from models.data.augmentation import shift_and_flip
from models.data.datasets import load
from models.data.text import load_text
from models.lstm_lm import lstm_lm
from models.resnet20 import resnet20
from models.training.language_trainer import LanguageTrainer
from models.training.trainer import Trainer
from models.training.workers import COMPRESSIONS, this_worker
from tf_terngrad import files
from tf_terngrad.console import growing_table
from tools.network_lab import own_traffic

NETWORK = flags.DEFINE_enum("network", "resnet20", ["resnet20", "lstm_lm"], "What trains.")
DATASET = flags.DEFINE_string("dataset", "cifar10", "Images for resnet20, as `train.py` takes them.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where images and texts lie.")
EXAMPLES = flags.DEFINE_integer("examples", None, "Train on about so many of the images; None: all.")
THIN = flags.DEFINE_integer("thin", 1, "Train on one of so many blocks of the text.", lower_bound=1)
VOCABULARY = flags.DEFINE_integer("vocabulary", None, "The most frequent words of the text, for lstm_lm.")
UNITS = flags.DEFINE_multi_integer("units", [200, 200], "Widths of the LSTMs.")
EPOCHS = flags.DEFINE_integer("epochs", 30, "Epochs of each training.", lower_bound=1)
EVERY = flags.DEFINE_integer("every", 2, "Epochs from one reconfiguration to the next.", lower_bound=1)
STRENGTH = flags.DEFINE_float("strength", 2e-3, "Of the penalty, for both sparse trainings.", lower_bound=0)
BUDGET = flags.DEFINE_float("budget", None, "In place of a strength: the share of the multiply-adds.", lower_bound=0)
END = flags.DEFINE_float("end", 0.6, "The share of the training after which the budget is met.")
KINDS = flags.DEFINE_list("kinds", None, "Kinds of what leaves; None: widths, of the language model its hidden units.")
RELEASE = flags.DEFINE_integer("release", None, "After so many epochs the penalty is taken off; None: never.")
RATE = flags.DEFINE_float("learning_rate", None, "At the start; None: 0.05 for images, 1.0 for words.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Of all workers together; None: 128 images, 20 texts.")
SEED = flags.DEFINE_integer("seed", 0, "Of the weights and of the order of the images.")
COMPRESSION = flags.DEFINE_enum("compression", "none", list(COMPRESSIONS), "How gradients travel among workers.")
CHOSEN = flags.DEFINE_multi_enum(
    "way",
    ["reconfigured"],
    ["sparse", "reconfigured"],
    "Beside the dense one: what is dead stays in the model, or it leaves on the way.",
)
OUTPUT = flags.DEFINE_string("output", "runs/reconfigure", "Folder for the curves and the picture.")


class Clock(keras.callbacks.Callback):
    """Notes after each epoch the seconds so far, the bytes of the epoch, and what the model cost in it.

    Args:
        workers: how many there are; of one, what the loopback device sends is of other programs.

    Attributes:
        rows: a dictionary an epoch, with the logs.
    """

    def __init__(self, workers):
        super().__init__()
        self.rows, self._workers = [], workers
        self._cost = self._sent = 0

    def on_train_begin(self, logs=None):
        """Starts it."""
        self._start, self._worked = time.perf_counter(), time.process_time()

    def on_train_batch_begin(self, batch, logs=None):
        """Notes what the network of this epoch costs; it has shrunk already if it does."""
        if batch == 0:
            asked, worked = time.perf_counter(), time.process_time()
            self._cost = cost_of(self.model)
            self._start += time.perf_counter() - asked
            self._worked += time.process_time() - worked
            self._sent = own_traffic("lo").sent

    def on_train_batch_end(self, batch, logs=None):
        """Notes what was sent since the epoch began."""
        self._bytes = own_traffic("lo").sent - self._sent if self._workers > 1 else 0

    def on_epoch_end(self, epoch, logs=None):
        """Adds a row."""
        seconds, processor = time.perf_counter() - self._start, time.process_time() - self._worked
        row = {"epoch": epoch + 1, "seconds": seconds, "processor_seconds": processor, "multiply_adds": self._cost}
        self.rows.append({**row, "bytes": self._bytes, **{name: float(value) for name, value in logs.items()}})


class Release(keras.callbacks.Callback):
    """Takes a penalty off after so many epochs."""

    def __init__(self, sparsity, epoch):
        super().__init__()
        self._sparsity, self._epoch = sparsity, epoch

    def on_epoch_begin(self, epoch, logs=None):
        """Takes it off."""
        if epoch == self._epoch:
            self._sparsity.release()


def cost_of(model):
    """Multiply-adds of one image, or of one word."""
    return tt.costs(model, None if NETWORK.value == "resnet20" else [(1,)]).multiply_adds


def images(worker, folder):
    """A function that builds the network, and its trainer."""
    train, test = load(DATASET.value, DATA_DIR.value)
    train = [part[:: len(part) // EXAMPLES.value] for part in train] if EXAMPLES.value else train
    momentum = lambda schedule: keras.optimizers.SGD(schedule, momentum=0.9)  # noqa: E731
    options = {"jit_compile": False, "prepare": shift_and_flip}
    trainer = Trainer(folder, train, test, BATCH_SIZE.value or 128, SEED.value, momentum, worker, **options)
    return lambda: resnet20(trainer.image_shape, trainer.classes), trainer


def words(worker, folder):
    """The same of the language model."""
    text = load_text(DATA_DIR.value, VOCABULARY.value).thinned(THIN.value)
    trainer = LanguageTrainer(folder, text, BATCH_SIZE.value or 20, worker=worker)
    options = {"batch_size": trainer.rows, "stateful": True}
    return lambda: lstm_lm(len(text.words), tuple(UNITS.value), **options), trainer


def trained(way, build, trainer):
    """The rows of a training."""
    keras.utils.set_random_seed(SEED.value)
    model, clock, callbacks = build(), Clock(trainer.worker.size), []
    if way != "dense":
        kinds = KINDS.value or (None if NETWORK.value == "resnet20" else ["hidden"])
        wanted = {"strength": STRENGTH.value}
        if BUDGET.value:
            schedule = tt.BudgetSchedule(end=END.value)
            wanted = {"budget": tt.Budget(multiply_adds=BUDGET.value), "schedule": schedule}
        sparsity = tt.sparsify(model, kinds=kinds, **wanted)
        callbacks += [Release(sparsity, RELEASE.value)] if RELEASE.value else []
    callbacks += [tt.callbacks.Reconfigure(EVERY.value)] if way == "reconfigured" else []
    rate = RATE.value or (0.05 if NETWORK.value == "resnet20" else 1.0)
    trainer.fit(model, way, EPOCHS.value, rate, (*callbacks, clock))
    return clock.rows


def summary(way, rows, dense):
    """What a line of the table says of a training."""
    last = rows[-1]
    measures = [name for name in ("val_accuracy", "val_perplexity") if name in last]
    sent = sum(row["bytes"] for row in rows)
    return [
        way,
        f"{last['seconds']:.1f}",
        f"{100 * (1 - last['seconds'] / dense[-1]['seconds']):.0f} %",
        f"{100 * (1 - last['processor_seconds'] / dense[-1]['processor_seconds']):.0f} %",
        f"{last['multiply_adds']:,.0f}",
        f"{sent / 1e6:,.1f}",
        *(f"{last[name]:.4g}" for name in measures),
    ]


def draw(found, path):
    """A picture: multiply-adds over the seconds of each training, and over its epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained", facecolor="white")
    for axes, unit in zip(figure.subplots(1, 2, sharey=True), ("seconds", "epoch"), strict=True):
        for way, rows in found.items():
            times = [0, *(row[unit] for row in rows)]
            axes.stairs([row["multiply_adds"] for row in rows], times, baseline=None, label=way, linewidth=2)
        axes.set_xlabel({"seconds": "seconds of training", "epoch": "epochs"}[unit])
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("multiply-adds of an example")
    figure.axes[1].legend(frameon=False)
    with files.replacing(path) as draft:
        figure.savefig(draft, dpi=120)


def named(way):
    """What a training is called in the table, and its file of curves."""
    return "-".join([way, *([f"{BUDGET.value:g}"] if BUDGET.value else []), *(KINDS.value or [])])


def write(rows, path):
    """Write a training's curves."""
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0])
    table.writeheader()
    table.writerows(rows)
    files.write(path, text.getvalue().encode())


def read(path):
    """The curves of a file."""
    with path.open(encoding="utf-8", newline="") as lines:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)]


def main(_):
    """Train what is not in the folder yet, then print a line for each training there, and draw them."""
    worker = this_worker(COMPRESSION.value)
    folder = Path(OUTPUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as checkpoints:  # of this run alone: it never resumes another one
        build, trainer = (images if NETWORK.value == "resnet20" else words)(worker, Path(checkpoints))
        for way in ("dense", *CHOSEN.value):
            path = folder / f"{way if way == 'dense' else named(way)}.csv"
            if not path.exists():
                rows = trained(way, build, trainer)
                if worker.leads:
                    write(rows, path)
    if not worker.leads:
        return
    found = {path.stem: read(path) for path in sorted(folder.glob("*.csv"))}
    measures = [name for name in ("val_accuracy", "val_perplexity") if name in found["dense"][-1]]
    titles = ["training", "seconds", "less", "of the processor", "multiply-adds", "MB sent", *measures]
    with growing_table(titles) as add:
        for way, rows in found.items():
            add(*summary(way, rows, found["dense"]))
    draw(found, folder / "multiply-adds.png")


if __name__ == "__main__":
    app.run(main)
