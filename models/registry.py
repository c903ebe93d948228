"""The register of networks, with what each of them trains on and how. It holds no network itself."""

import dataclasses
from collections.abc import Callable, Mapping

import keras

IMAGES, WORDS, QUESTIONS = "images", "words", "questions"


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and its recipe. Called, it builds the model.

    Args:
        build: of images, a function of `input_shape` and `classes`; of words, of `vocabulary`, `units` and further
            options, as `models.lstm_lm` has them; of questions, as `models.bidaf`. All give logits.
        task: `IMAGES`, `WORDS` or `QUESTIONS`, what it trains on.
        recipe: values of train.py's flags where nobody gives any; the others are those of the task.
        one_layer: whether the `units` of a network with recurrent layers are one number.
        recurrent: whether a network of words has recurrent layers, whose states are kept; else it takes `steps`.
    """

    build: Callable[..., keras.Model]
    task: str
    recipe: Mapping = dataclasses.field(default_factory=dict)
    one_layer: bool = False
    recurrent: bool = True

    def __call__(self, *args, **kwargs) -> keras.Model:
        return self.build(*args, **kwargs)


NETWORKS: dict[str, Network] = {}


def network(task: str, **options) -> Callable:
    """Register the function behind this decorator under its name; use it for each network in `models/`.

    Args:
        task: `IMAGES`, `WORDS` or `QUESTIONS`.
        **options: further arguments of `Network`.

    >>> @network(IMAGES, recipe={"epochs": 3})
    ... def perceptron(input_shape=(28, 28, 1), classes=10):
    ...     return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(classes)])
    >>> NETWORKS.pop("perceptron")(classes=7).output_shape
    (None, 7)
    """

    def register(build):
        NETWORKS[build.__name__] = Network(build, task, **options)
        return build

    return register


def networks_of(task: str) -> dict[str, Network]:
    """Those that train on images, on words or on questions, by name."""
    return {name: found for name, found in NETWORKS.items() if found.task == task}
