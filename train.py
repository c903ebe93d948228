"""One training run: from data to a sparse model, the smaller ordinary model, a TFLite file and a report.

    python train.py --model=lenet --dataset=digits --strength=0.008 --learning_rate=0.05 --output=runs/lenet

On several workers, with gradients that travel as ternary digits:

    horovodrun --gloo -np 2 python train.py --compression=terngrad --strength=8e-3 --learning_rate=0.05 --output=runs/2

A language model, of a folder with three files as those of the Penn Treebank, or of the help texts of Python:

    python train.py --model=lstm_lm --units=200,200 --dropout=0.3 --strength=0.003 --data_dir=ptb --output=runs/ptb

A network that reads, on SQuAD or on cloze questions that are made of a text:

    python train.py --model=bidaf --dropout=0.1 --strength=0.001 --data_dir=squad --output=runs/squad

With neither --strength nor --ratio the training is dense. The output folder gets config.json, checkpoints/ with the
curves beside them, model.keras and model.tflite. A sparse run also leaves compact.keras and report.html; its
model.tflite is the compact model, and before.tflite what it is compared with.
"""

import dataclasses
import datetime
import math
import platform
import sys
from pathlib import Path

import keras
import tensorflow as tf
from absl import app, flags

import tf_terngrad as tt
from models import IMAGES, NETWORKS, QUESTIONS, networks_of
from models.data import datasets
from models.training.run_folder import CONFIG, open_run
from models.training.tasks import OPTIMIZERS, defaults_of, task_of
from models.training.workers import COMPRESSIONS, this_worker
from tf_terngrad.files import save_model

# What defines a run; kept in its config.json.
RUN = [
    flags.DEFINE_enum("model", "lenet", sorted(NETWORKS), "Network to train."),
    flags.DEFINE_enum("dataset", None, sorted(datasets.DATASETS), "Images to train on; the digits, if none are named."),
    flags.DEFINE_string(
        "data_dir",
        None,
        "Folder with mnist.npz or cifar10_jpeg.npz, without which they are downloaded; of a language model, with three "
        "files that end in train.txt, valid.txt and test.txt, without which it learns the help texts of Python; of "
        "bidaf, with SQuAD's train and dev files, or with such a text, of which cloze questions are made.",
    ),
    flags.DEFINE_string("vectors", None, "File of trained vectors of words for bidaf, such as GloVe's."),
    flags.DEFINE_list(
        "units",
        None,
        "Of a language model's layers: 200,200; 200 for rhn, which has one; 256,256 for the blocks of decoder_lm; 32 "
        "for all layers of bidaf.",
    ),
    flags.DEFINE_integer(
        "vocabulary", None, "Different words of a language model, or of bidaf; without it, all.", lower_bound=2
    ),
    flags.DEFINE_float("dropout", 0.0, "Of a language model, or of bidaf.", 0, 1),
    flags.DEFINE_integer("context", None, "Words of a context that bidaf reads; 80.", lower_bound=1),
    flags.DEFINE_integer("question", None, "Words of a question that bidaf reads; 24.", lower_bound=1),
    flags.DEFINE_bool("tied", False, "A language model's logits are products with its embedding."),
    flags.DEFINE_integer("steps", 35, "Words through which a language model's gradients flow back.", lower_bound=1),
    flags.DEFINE_float(
        "clip", 5.0, "Largest norm of all gradients of a language model together; 0: any.", lower_bound=0
    ),
    flags.DEFINE_float("strength", None, "Strength of the group lasso on every structure.", lower_bound=0),
    flags.DEFINE_float("ratio", None, "Share of the group lasso in the loss of the first batch; sets the strength."),
    flags.DEFINE_enum("method", "proximal", ["proximal", "subgradient"], "How structures are shrunk."),
    flags.DEFINE_float("tolerance", 0.0, "Weights up to this magnitude count as zero.", lower_bound=0),
    flags.DEFINE_bool("baseline", False, "Train a dense model for as many epochs, and compare with it."),
    flags.DEFINE_bool(
        "distill", False, "The dense model teaches the compact model in further training; needs --baseline."
    ),
    flags.DEFINE_enum(
        "optimizer",
        None,
        sorted(OPTIMIZERS),
        "Optimizer; momentum, which is 0.9, for images, sgd for texts, adam for questions.",
    ),
    flags.DEFINE_float(
        "learning_rate",
        None,
        "Initial learning rate: 0.01 for images, from where it falls to 0 along a cosine; 1 for texts, a tenth of it "
        "in the second third of the epochs, a hundredth in the last; 0.001 for questions, where it stays.",
        lower_bound=0,
    ),
    flags.DEFINE_integer(
        "epochs", None, "Epochs of training; 30 for images, 12 for texts and questions.", lower_bound=1
    ),
    flags.DEFINE_integer(
        "finetune_epochs",
        None,
        "Epochs of training the compact model further; 10 for images, 0 for texts, 4 for questions.",
        lower_bound=0,
    ),
    flags.DEFINE_integer(
        "batch_size",
        None,
        "Examples in a batch, of all workers together; 64 images, 20 texts, 60 questions.",
        lower_bound=1,
    ),
    flags.DEFINE_enum("compression", "none", sorted(COMPRESSIONS), "How gradients travel between workers."),
    flags.DEFINE_integer("seed", 0, "Of the initial weights and the order of the examples.", 0, 2**32 - 1),
]
OUTPUT = flags.DEFINE_string("output", None, "Folder of the run: new or empty; with --resume, its own.", required=True)
RESUME = flags.DEFINE_bool(
    "resume", False, "Go on after the last finished epoch of the run in the folder, if there is one."
)

flags.mark_flags_as_mutual_exclusive(["strength", "ratio"])
for flag in ("strength", "tolerance", "learning_rate"):
    flags.register_validator(flag, lambda value: value is None or math.isfinite(value), "expected a finite number")
flags.register_multi_flags_validator(
    ["distill", "baseline"], lambda given: given["baseline"] or not given["distill"], "--distill needs --baseline"
)
flags.register_validator(
    "units",
    lambda value: value is None or (value and all(part.isdigit() and int(part) > 0 for part in value)),
    "expected sizes, such as 200,200",
)
flags.register_multi_flags_validator(
    ["units", "model"],
    lambda given: not NETWORKS[given["model"]].one_layer or given["units"] is None or len(given["units"]) == 1,
    "--model=rhn and --model=bidaf have one size: expected --units=200, for example",
)
flags.register_multi_flags_validator(
    ["ratio", "model"],
    lambda given: not given["ratio"] or given["model"] in networks_of(IMAGES),
    "--ratio is for images",
)
flags.register_multi_flags_validator(
    ["distill", "model"],
    lambda given: not given["distill"] or given["model"] not in networks_of(QUESTIONS),
    "--distill is for images and texts",
)
flags.register_validator("ratio", lambda value: value is None or 0 < value < 1, "expected a share between 0 and 1")
GOES_ON = "With --resume this run goes on after its last whole epoch."
OTHERS = (
    "This worker ends for another one, which does not answer: it failed, was killed or stopped, or the network fails. "
    "The launcher names the worker that ended first, which need not be that one."
)


def main(argv):
    """Train, compact, convert, measure."""
    sys.stdout.reconfigure(errors="replace")  # a terminal that can show no arrow must not end a run of hours
    if len(argv) > 1:
        raise app.UsageError(f"Expected flags only, such as --epochs=10. Received: {argv[1:]}")
    config = {flag.name: flag.value for flag in RUN}
    kind = task_of(config["model"])
    config |= {name: value for name, value in defaults_of(config["model"]).items() if config[name] is None}
    worker = this_worker(config["compression"])
    try:
        task = kind(config)
        trainer = task.trainer(Path(), worker)  # complains before anything is written
        folder = worker.lead(open_folder, config)
        trainer = dataclasses.replace(trainer, folder=folder / "checkpoints")
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"train.py: {error}" if worker.leads else 1)
    train = dense if config["strength"] is None and config["ratio"] is None else sparse
    try:
        train(config, folder, task, trainer)
    except OSError as error:  # such as a disk that fills
        sys.exit(f"train.py: {error}. {GOES_ON}")
    except Exception as error:
        note_what_to_do(error, worker)
        raise


def note_what_to_do(error: Exception, worker) -> None:
    """Let the last lines of an error be what its reader needs: whose it is, and how to go on."""
    if worker.is_left_alone(error):
        error.add_note(OTHERS)
    error.add_note(GOES_ON)


def open_folder(config: dict) -> Path:
    """The folder of the run; says so when --resume has found no run there."""
    found = Path(OUTPUT.value, CONFIG).exists()
    folder = open_run(OUTPUT.value, config, RESUME.value)
    if RESUME.value and not found:
        print(f"--resume found no run in {folder}: a new one begins.", flush=True)
    return folder


def build(config: dict, task, trainer) -> keras.Model:
    """The network for the data, with the seed's initial weights."""
    keras.utils.set_random_seed(config["seed"])
    return task.build(trainer)


def dense(config: dict, folder: Path, task, trainer) -> None:
    """Train as usual and convert."""
    model = build(config, task, trainer)
    trainer.fit(model, "model", config["epochs"], config["learning_rate"])
    if not trainer.worker.leads:
        return
    shipped = task.shipped(model)
    save_model(shipped, folder / "model.keras")
    print(f"\n{tt.tflite.convert(shipped, folder / 'model.tflite')}")
    print(tt.tflite.benchmark(folder / "model.tflite"))
    print(f"{task.MEASURE} {task.score(trainer, model):.2f} {task.UNIT}")


def sparse(config: dict, folder: Path, task, trainer) -> None:
    """Train with structured sparsity, take out what is dead, train the rest further, compare before and after."""
    dense = dense_baseline(config, task, trainer) if config["baseline"] else None
    model = build(config, task, trainer)
    how = {name: config[name] for name in ("strength", "ratio", "method")}
    sparsity = tt.sparsify(model, kinds=task.KINDS, **how)
    if config["ratio"] is not None:
        sparsity.calibrate(trainer.first_loss(model))  # from the initial weights: a resumed run finds the same strength
    monitor = tt.callbacks.SparsityMonitor(log_dir=folder / "tensorboard" if trainer.worker.leads else None)
    curves = [trainer.fit(model, "model", config["epochs"], config["learning_rate"], (monitor,))]
    sparsity.release()
    if trainer.worker.leads:
        save_model(task.shipped(model), folder / "model.keras")
    small = tt.compact(model, tolerance=config["tolerance"])
    if config["finetune_epochs"]:
        options = {"teacher": dense} if config["distill"] else {}
        rate = config["learning_rate"] / 10
        curves += [trainer.fit(small, "compact", config["finetune_epochs"], rate, **options)]
    if not trainer.worker.leads:
        return
    save_model(task.shipped(small), folder / "compact.keras")
    metrics = measure(folder, task, trainer, dense or model, small)
    remarks = notes(config, task, model, small)
    report = tt.compare(task.shipped(model), task.shipped(small), metrics=metrics, history=curves, notes=remarks)
    report.to_html(folder / "report.html")
    print(f"\n{report}\n\nThe whole report: {folder / 'report.html'}")


def dense_baseline(config: dict, task, trainer) -> keras.Model:
    """The same network trained as usual, for as many epochs in all."""
    model = build(config, task, trainer)
    trainer.fit(model, "baseline", config["epochs"] + config["finetune_epochs"], config["learning_rate"])
    return model


def notes(config: dict, task, model: keras.Model, small: keras.Model) -> list[str]:
    """What a reader of the report should know: what was trained, what could not shrink, what was tested."""
    strength = f"ratio {config['ratio']:g}" if config["strength"] is None else f"strength {config['strength']:g}"
    found = [
        f"Trained on {task}: "
        f"{config['epochs']} epochs with {strength}, {config['finetune_epochs']} on what was left, "
        f"{config['optimizer']} from a learning rate of {config['learning_rate']:g}, batches of "
        f"{config['batch_size']}, seed {config['seed']}; TensorFlow {tf.__version__}, Keras {keras.__version__}, "
        f"{platform.machine()}, {datetime.date.today()}.",
        *map(str, tt.structures(model).frozen),
    ]
    if small.count_params() == model.count_params():
        found += [
            "Nothing left the model, as no structure became zero: a larger --strength (or --ratio), --learning_rate, "
            "--epochs or --tolerance is needed."
        ]
    if config["baseline"]:
        found += [f"The {task.MEASURE} before is that of a dense model, trained for as many epochs with the same seed."]
    elif config["finetune_epochs"]:
        found += [
            f"The {task.MEASURE} before is that of the sparse model as trained; after is that of the compact model, "
            f"trained {config['finetune_epochs']} epochs more."
        ]
    if config["distill"]:
        found += ["The dense model taught the compact model, beside the targets."]
    return found


def measure(folder: Path, task, trainer, before: keras.Model, after: keras.Model) -> dict[str, tuple]:
    """The test's results, and bytes and latency as TFLite files, of the model before and after."""
    files = [folder / "before.tflite", folder / "model.tflite"]
    for model, file in zip((before, after), files, strict=True):
        tt.tflite.convert(task.shipped(model), file)
    latency = tt.tflite.compare_latency(files).reports
    return {
        task.MEASURE: (*(task.score(trainer, model) for model in (before, after)), task.UNIT),
        "TFLite file": (*(report.bytes for report in latency), "bytes"),
        "TFLite latency, 1 thread": (*(report.median for report in latency), "ms"),
    }


if __name__ == "__main__":
    app.run(main)
