"""TensorFlow Model Optimization beside post-training quantization, on compact models: size, worth and latency of files.

    python -m tools.compare_quantization --output=runs/quantization

A LeNet for the 5,000 digits and an LSTM language model for Python's help texts are trained sparsely and compacted. Then
every row of their tables trains the same compact model further, on the same batches, and writes a TFLite file: float32,
float16, dynamic and int8 by `tt.tflite.convert`; with clustered weights; and with quantization-aware training. What
TensorFlow Model Optimization or the converter refuses has its reason in place of numbers. The tables, in Markdown, are
printed and kept in the output folder as results.md.

It needs TensorFlow Model Optimization and tf_keras; tools/setup.sh installs them, without what they ask for.
"""

import re
from pathlib import Path

import keras
import numpy as np
from absl import app, flags

import tf_terngrad as tt
from models.data import datasets
from models.data.text import load_text
from models.experiments import measures, quantization_rows
from models.lenet import lenet
from models.lstm_lm import lstm_lm
from models.training.language_trainer import LanguageTrainer, at_rest
from models.training.trainer import Trainer

OUTPUT = flags.DEFINE_string("output", "runs/quantization", "Folder for checkpoints, files and tables.")
NETWORK = flags.DEFINE_enum("network", None, ["lenet", "lstm"], "Only this network.")
CLUSTERS = flags.DEFINE_integer("clusters", 16, "Different weights of a clustered kernel.", lower_bound=2)
EPOCHS = flags.DEFINE_integer("epochs", None, "Of the sparse training; 40 for LeNet, 12 for the LSTM.", lower_bound=1)
FURTHER = flags.DEFINE_integer("further_epochs", 10, "Of every row's further training.", lower_bound=1)
STRENGTH = flags.DEFINE_float("strength", None, "Of the penalty; 0.004 for LeNet, 0.03 for the LSTM.", lower_bound=0)
SEED = flags.DEFINE_integer("seed", 0, "Of first weights and orders of examples.", lower_bound=0)

VOCABULARY = 1000
UNITS, EMBEDDING, DROPOUT = 128, 64, 0.2
TEXTS, STEPS = 20, 35


def main(_):
    """Trains the compact models, then goes through the rows of each."""
    folder = Path(OUTPUT.value)
    tables = []
    for network in [NETWORK.value] if NETWORK.value else STUDIES:
        keras.utils.set_random_seed(SEED.value)
        (folder / network).mkdir(parents=True, exist_ok=True)
        study = STUDIES[network](folder / network)
        tables.append(f"{title(network, study.model)}\n\n{compare(study, folder / network)}")
        print(f"\n{tables[-1]}", flush=True)
    (folder / "results.md").write_text("\n\n".join(tables) + "\n", encoding="utf-8")


def compare(study, folder):
    """The table of a study, whose files go into the folder."""
    results = []
    for name in study.ways:
        results.append(quantization_rows.measure(study, name, folder / f"{re.sub('[^a-z0-9]+', '_', name)}.tflite"))
        print(f"{name}: {results[-1].refusal or f'{results[-1].worth:.2f}'}", flush=True)
    return quantization_rows.table(study, results)


def title(network, model):
    """A network's name, the widths of what it consists of and the number of its parameters."""
    widths = "-".join(str(layer.compute_output_spec(layer.input).shape[-1]) for layer in model.layers if layer.weights)
    return f"{network}: {widths}, {model.count_params():,} parameters"


def lenet_study(folder):
    """LeNet on the digits, as the demo trains it; its error on the test images."""
    train, test = datasets.load("digits")
    model = lenet()
    tt.sparsify(model, strength=0.004 if STRENGTH.value is None else STRENGTH.value)
    trainer = Trainer(folder, train, test, 64, SEED.value, lambda rate: keras.optimizers.SGD(rate, momentum=0.9))
    trainer.fit(model, "sparse", EPOCHS.value or 40, 0.05)
    return quantization_rows.Study(
        tt.compact(model),
        *shuffled(train, test),
        measures.error_percent,
        "error %",
        quantization_rows.IMAGE_WAYS,
        clusters=CLUSTERS.value,
        epochs=FURTHER.value,
        seed=SEED.value,
    )


def lstm_study(folder):
    """A language model of one LSTM; its perplexity on pieces of 35 words, each read from states of zeros."""
    text = load_text(vocabulary=VOCABULARY)
    model = lstm_lm(VOCABULARY, (UNITS,), EMBEDDING, DROPOUT, batch_size=TEXTS, stateful=True)
    tt.sparsify(model, strength=0.03 if STRENGTH.value is None else STRENGTH.value, kinds=["hidden"])
    LanguageTrainer(folder, text, TEXTS, STEPS, clip=10.0).fit(model, "sparse", EPOCHS.value or 12, 1.0)
    return quantization_rows.Study(
        at_rest(tt.compact(model, tolerance=1e-4), steps=STEPS),
        *shuffled(pieces(text.train), pieces(text.test)),
        quantization_rows.perplexity,
        "perplexity",
        quantization_rows.LANGUAGE_WAYS,
        clusters=CLUSTERS.value,
        epochs=FURTHER.value,
        batch_size=TEXTS,
        seed=SEED.value,
    )


def pieces(words):
    """A text cut into pieces, and the words that follow those of each."""
    count = (len(words) - 1) // STEPS * STEPS
    return words[:count].reshape(-1, STEPS), words[1 : count + 1].reshape(-1, STEPS)


def shuffled(train, test):
    """The training examples in another order: the first of them calibrate, and digits come sorted by class."""
    order = np.random.default_rng(0).permutation(len(train[0]))
    return tuple(part[order] for part in train), test


STUDIES = {"lenet": lenet_study, "lstm": lstm_study}


if __name__ == "__main__":
    app.run(main)
