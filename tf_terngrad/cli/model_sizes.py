"""What an exchange and a step of known networks depend on: their parameters and operations."""

import dataclasses

import keras


@dataclasses.dataclass(frozen=True)
class Size:
    """A network in numbers.

    Attributes:
        name: of the network.
        parameters: that are trained.
        dense: how many of them are in fully connected or recurrent layers.
        operations: to infer one example, multiplications and additions apart; None: not known.
        batch: examples of a step, as the papers have it.
    """

    name: str
    parameters: int
    dense: int
    operations: float | None = None
    batch: int = 128


SIZES = {
    # Krizhevsky et al., 2012, with the convolutions in two groups; 224 x 224 images.
    "alexnet": Size("AlexNet", 60_965_224, 58_631_144, 1.45e9),
    # Simonyan and Zisserman, 2014, the eleven-layer network.
    "vgg_a": Size("VGG-A", 132_863_336, 123_642_856, 15.2e9),
    # Szegedy et al., 2014, without the auxiliary classifiers.
    "googlenet": Size("GoogLeNet", 6_998_552, 1_025_000, 3.2e9),
    # Zaremba et al., 2014: 10,000 words as 1,500 numbers, two layers of 1,500 units, 35 words an example.
    "lstm": Size("LSTM, 2 x 1500", 66_022_000, 51_022_000, 3.6e9, batch=20),
}


def size_of(model):
    """The `Size` of a Keras model, whose operations are not known."""
    kinds = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.RNN, keras.layers.Bidirectional)
    dense = {
        id(weight): weight
        for layer in _layers(model)
        if isinstance(layer, kinds)
        for weight in layer.trainable_variables
    }
    return Size(model.name, elements(model.trainable_variables), elements(dense.values()))


def elements(variables):
    """How many numbers some variables hold."""
    return sum(variable.shape.num_elements() for variable in variables)


def _layers(model):
    """The layers of a model, and of the models in it."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)
