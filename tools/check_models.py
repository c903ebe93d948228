"""Compacts models as people bring them, a third of their structures zero, and checks the outputs.

python -m tools.check_models                     # all of them, some minutes
python -m tools.check_models Llama twins

The models are the transformers of keras_hub, small, of random weights, and subclassed twins of functional models. What
needs a package that is not there (`pip install keras-hub`) is named and skipped. Prints a line for each, with the share
of the weights that lie in structures; ends with an error if outputs or widths are wrong, if the model itself was
changed, or if a twin has other structures than its functional model.
"""

import importlib.util
import sys

import keras
import numpy as np
from absl import app, flags
from keras import layers

import tf_terngrad as tt
from tf_terngrad.console import growing_table
from tools.checked_model import TITLES, check_model

FLAGS = flags.FLAGS
LENGTH = 12
_TEXT = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 32, "intermediate_dim": 128}
_HEADS = {"num_heads": 2}
_QUERIES = {"num_query_heads": 4, "num_key_value_heads": 2}
_IMAGE = {"image_shape": (32, 32, 3), "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 32}
BACKBONES = {
    "ViT": {**_IMAGE, "mlp_dim": 128},
    "DeiT": {**_IMAGE, "intermediate_dim": 128},
    "MiT": {
        **{"image_shape": (32, 32, 3), "num_layers": 2, "layerwise_depths": [1, 1], "hidden_dims": [16, 32]},
        **{"layerwise_num_heads": [1, 2], "layerwise_sr_ratios": [2, 1], "max_drop_path_rate": 0.0},
        **{"layerwise_patch_sizes": [7, 3], "layerwise_strides": [4, 2]},
    },
    "Bert": {**_TEXT, **_HEADS, "max_sequence_length": LENGTH},
    "DistilBert": {**_TEXT, **_HEADS, "max_sequence_length": LENGTH},
    "Roberta": {**_TEXT, **_HEADS, "max_sequence_length": LENGTH},
    "GPT2": {**_TEXT, **_HEADS, "max_sequence_length": LENGTH},
    "Bart": {**_TEXT, **_HEADS, "max_sequence_length": LENGTH},
    "Whisper": {
        **{**_TEXT, **_HEADS, "num_mels": 8},
        **{"max_encoder_sequence_length": LENGTH, "max_decoder_sequence_length": LENGTH},
    },
    "Llama": {**_TEXT, **_QUERIES},
    "Gemma": {**_TEXT, **_QUERIES, "head_dim": 8},
    "Mistral": {**_TEXT, **_QUERIES},
    "T5": {**_TEXT, **_HEADS},
}
"""By the first part of the class's name: what makes a small one."""


def backbone(name):
    """A backbone of keras_hub for sequences of a fixed length, with random biases and scales."""
    import keras_hub

    keras.utils.set_random_seed(0)
    made = getattr(keras_hub.models, f"{name}Backbone")(**BACKBONES[name])
    rng = np.random.default_rng(0)
    for weight in made.trainable_weights:
        if len(weight.shape) == 1:
            weight.assign_add(rng.uniform(-0.2, 0.2, weight.shape))
    if not isinstance(made.input, dict):
        return made
    inputs = {
        key: keras.Input([size or LENGTH for size in tensor.shape[1:]], dtype=tensor.dtype, name=key)
        for key, tensor in made.input.items()
    }
    return keras.Model(inputs, made(inputs))


def inputs_of(model):
    """Random inputs, in which no step is masked."""
    rng = np.random.default_rng(0)

    def draw(tensor):
        shape = (3, *tensor.shape[1:])
        if "mask" in tensor.name:
            return np.ones(shape, "int32")
        most = 2 if "segment" in tensor.name else 40
        return rng.integers(0, most, shape) if "int" in tensor.dtype else rng.normal(size=shape).astype("float32")

    return keras.tree.map_structure(draw, model.input)


class Twin(keras.Model):
    """The layers of a functional chain, called one after the other."""

    def __init__(self, chain):
        super().__init__(name=chain.name)
        self.steps = [layer for layer in chain.layers if not isinstance(layer, layers.InputLayer)]

    def call(self, x, training=None):
        for step in self.steps:
            takes_training = isinstance(step, (layers.Dropout, layers.BatchNormalization))
            x = step(x, training=training) if takes_training else step(x)
        return x


def chains():
    """Functional models of the layers that networks are made of."""
    for units in (8, 16):
        for activation in ("relu", "gelu", "tanh"):
            dense = [layers.Dense(units, activation), layers.Dropout(0.2), layers.Dense(units), layers.Dense(3)]
            yield keras.Sequential([keras.Input((6,)), *dense], name=f"dense_{units}_{activation}")
            normal = [layers.Conv2D(units, 3), layers.BatchNormalization(), layers.Activation(activation)]
            deep = [*normal, layers.MaxPooling2D(), layers.DepthwiseConv2D(3), layers.Conv2D(units, 1)]
            head = [layers.GlobalAveragePooling2D(), layers.Dense(3)]
            yield keras.Sequential([keras.Input((12, 12, 3)), *deep, *head], name=f"image_{units}_{activation}")
        for kind in (layers.LSTM, layers.GRU):
            steps = [layers.Dense(units, "tanh"), kind(units, return_sequences=True), layers.Conv1D(units, 3)]
            steps += [layers.GlobalMaxPooling1D(), layers.Dense(3)]
            yield keras.Sequential([keras.Input((8, 5)), *steps], name=f"steps_{units}_{kind.__name__.lower()}")
            words = [layers.Embedding(30, units), kind(units), layers.Flatten(), layers.Dense(3)]
            yield keras.Sequential(
                [keras.Input((8,), dtype="int32"), *words], name=f"words_{units}_{kind.__name__.lower()}"
            )


def twins_that_differ():
    """Names of chains whose subclassed twin has other structures."""
    for chain in chains():
        twin = Twin(chain)
        twin(np.zeros((2, *chain.input_shape[1:]), chain.inputs[0].dtype))
        found = [[_said(each) for each in tt.structures(model) if each.kind != "input"] for model in (chain, twin)]
        if found[0] != found[1]:
            yield chain.name


def _said(structure):
    return (
        structure.kind,
        structure.size,
        [(id(piece.variable), piece.axis, piece.indices.tolist()) for piece in structure.slices],
    )


def main(argv):
    """Reads the command line: names of backbones, or `twins`; all by default."""
    known = [*BACKBONES, "twins"]
    unknown = sorted(set(argv[1:]) - set(known))
    if unknown:
        raise app.UsageError(f"check_models knows no {', '.join(unknown)}. Known: {', '.join(known)}")
    names, broken = argv[1:] or known, []
    if "twins" in names:
        differ = list(twins_that_differ())
        said = f"other structures: {', '.join(differ)}" if differ else "the same structures"
        print(f"{len(list(chains()))} subclassed twins: {said}")
        broken += differ
    backbones = [name for name in names if name != "twins"]
    if backbones and importlib.util.find_spec("keras_hub") is None:
        print(f"skipped, for keras_hub is not installed: {', '.join(backbones)}")
        backbones = []
    with growing_table(TITLES, text=["result", "frozen"]) as add:
        for name in backbones:
            model = backbone(name)
            result = check_model(name, model, inputs_of(model))
            add(*result.row())
            broken += [name] if result.broken else []
    if broken:
        sys.exit(f"check_models: {', '.join(broken)} break a law")


if __name__ == "__main__":
    app.run(main)
