"""What train.py can train on: images, a text to foresee, or questions about one. The networks are in `models/`."""

import types
from pathlib import Path

import keras

from models import IMAGES, NETWORKS, QUESTIONS, WORDS
from models.data import datasets
from models.data.lexicon import Lexicon
from models.data.questions import load_questions
from models.data.text import load_text
from models.training.language_trainer import LanguageTrainer, at_rest
from models.training.reading_trainer import ReadingTrainer
from models.training.trainer import Trainer

OPTIMIZERS = {
    "sgd": keras.optimizers.SGD,
    "momentum": lambda rate, **options: keras.optimizers.SGD(rate, momentum=0.9, **options),
    "adam": keras.optimizers.Adam,
}


class Images:
    """Images of a data set, and their labels.

    Args:
        config: the run's.

    Raises:
        ValueError, OSError, ModuleNotFoundError: there is no such data.
    """

    DEFAULTS = types.MappingProxyType(
        {
            "dataset": "digits",
            "optimizer": "momentum",
            "learning_rate": 0.01,
            "epochs": 30,
            "finetune_epochs": 10,
            "batch_size": 64,
        }
    )
    KINDS, MEASURE, UNIT = None, "test error", "%"

    def __init__(self, config):
        self._config = config
        self._data = datasets.load(config["dataset"], config["data_dir"])

    def trainer(self, folder: Path, worker) -> Trainer:
        """What trains, with checkpoints in a folder."""
        optimizer = OPTIMIZERS[self._config["optimizer"]]
        return Trainer(folder, *self._data, self._config["batch_size"], self._config["seed"], optimizer, worker)

    def build(self, trainer) -> keras.Model:
        """The network for the data."""
        return NETWORKS[self._config["model"]](trainer.image_shape, trainer.classes)

    def score(self, trainer, model) -> float:
        """Percent of the test images that a model gets wrong."""
        return 100 * trainer.test_error(model)

    def shipped(self, model) -> keras.Model:
        """The model for files."""
        return model

    def __str__(self):
        (images, _), (tested, _) = self._data
        return f"{self._config['dataset']}, {len(images):,} images, and tested on {len(tested):,}"


class Words:
    """A text, and the words that follow its words.

    Args:
        config: the run's.

    Raises:
        ValueError, OSError: there is no such text.
    """

    DEFAULTS = types.MappingProxyType(
        {"optimizer": "sgd", "learning_rate": 1.0, "epochs": 12, "finetune_epochs": 0, "batch_size": 20}
    )
    MEASURE, UNIT = "test perplexity", ""

    def __init__(self, config):
        self._config = config
        self.KINDS = ("hidden",) if NETWORKS[config["model"]].recurrent else None
        self._text = load_text(config["data_dir"], config["vocabulary"])

    def trainer(self, folder: Path, worker) -> LanguageTrainer:
        """What trains, with checkpoints in a folder."""
        optimizer = OPTIMIZERS[self._config["optimizer"]]
        options = {name: self._config[name] for name in ("batch_size", "steps", "clip")}
        return LanguageTrainer(folder, self._text, **options, optimizer=optimizer, worker=worker)

    def build(self, trainer) -> keras.Model:
        """The network; if it has states, they are kept from batch to batch."""
        config = self._config
        units = tuple(map(int, config["units"]))
        network = NETWORKS[config["model"]]
        options = {"dropout": config["dropout"], "tied": config["tied"], "batch_size": trainer.rows}
        options |= {"stateful": True} if network.recurrent else {"steps": config["steps"]}
        return network(len(self._text.words), units[0] if network.one_layer else units, **options)

    def score(self, trainer, model) -> float:
        """The perplexity of the test text."""
        return trainer.perplexity(model)

    def shipped(self, model) -> keras.Model:
        """The model for files: of texts that stand for themselves, so many words long."""
        return at_rest(model, steps=self._config["steps"])

    def __str__(self):
        counts = [len(part) for part in (self._text.train, self._text.test)]
        return f"a text of {counts[0]:,} words, {len(self._text.words):,} different ones, and tested on {counts[1]:,}"


class Questions:
    """Questions about a context, whose answers are words of it.

    Args:
        config: the run's.

    Raises:
        ValueError, OSError: there are no such questions.
    """

    DEFAULTS = types.MappingProxyType(
        {
            "optimizer": "adam",
            "learning_rate": 0.001,
            "epochs": 12,
            "finetune_epochs": 4,
            "batch_size": 60,
            "context": 80,
            "question": 24,
        }
    )
    KINDS, MEASURE, UNIT = ("hidden",), "test F1", "%"

    def __init__(self, config):
        self._config = config
        parts = load_questions(config["data_dir"], config["context"], config["seed"])
        self._lexicon = Lexicon.of(parts, vocabulary=config["vocabulary"], vectors=config["vectors"])
        self._sizes = {"context": config["context"], "question": config["question"]}
        self._parts = {
            part: self._lexicon.encode(questions, **self._sizes, fits=part == "train")
            for part, questions in parts.items()
        }

    def trainer(self, folder: Path, worker) -> ReadingTrainer:
        """What trains, with checkpoints in a folder."""
        options = {name: self._config[name] for name in ("batch_size", "seed")}
        optimizer = OPTIMIZERS[self._config["optimizer"]]
        return ReadingTrainer(folder, self._lexicon, self._parts, **options, optimizer=optimizer, worker=worker)

    def build(self, trainer) -> keras.Model:
        """The network for the words and characters of the lexicon."""
        (units,) = map(int, self._config["units"])
        network = NETWORKS[self._config["model"]]
        return network(**self._lexicon.sizes, units=units, dropout=self._config["dropout"], **self._sizes)

    def score(self, trainer, model) -> float:
        """F1 of the test questions."""
        exact, f1 = trainer.score(model)
        print(f"{exact:.2f} % of the answers match exactly")
        return f1

    def shipped(self, model) -> keras.Model:
        """The model for files."""
        return model

    def __str__(self):
        counts = [len(self._parts[part].source) for part in ("train", "test")]
        return f"{counts[0]:,} questions, {self._lexicon.vocabulary:,} words, and tested on {counts[1]:,}"


TASKS = {IMAGES: Images, WORDS: Words, QUESTIONS: Questions}


def task_of(model: str) -> type:
    """The task that a network is for."""
    return TASKS[NETWORKS[model].task]


def defaults_of(model: str) -> dict:
    """What a run has where nobody says otherwise: the network's recipe, and behind it the task's."""
    return {**task_of(model).DEFAULTS, **NETWORKS[model].recipe}
