"""Compacts models as people bring them, a third of their structures zero, and checks the outputs.

python -m tools.check_models                     # all of them, some minutes
python -m tools.check_models Llama twins

The models are transformers of stock layers, those of keras_hub and keras-tcn, small and of random weights, and
subclassed twins of functional models. What a backbone gives out, a dense layer reads, as a user's task would. What
needs a package that is not there (`pip install keras-hub keras-tcn`) is named and skipped. Prints a line for each, with
the share of the weights that lie in structures; ends with an error if outputs or widths are wrong, if the model
itself was changed, if less can leave than `AT_LEAST` says, or if a twin has other structures than its functional model.
"""

import importlib.util
import sys

import keras
import numpy as np
from absl import app, flags
from keras import layers

import tf_terngrad as tt
from tf_terngrad.console import growing_table
from tools import transformers
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
    "EfficientNet": {
        **{"stackwise_kernel_sizes": [3] * 4, "stackwise_num_repeats": [1, 2, 2, 2], "num_features": 64},
        **{"stackwise_input_filters": [8, 8, 16, 24], "stackwise_output_filters": [8, 16, 24, 32]},
        **{"stackwise_expansion_ratios": [1, 4, 4, 6], "stackwise_squeeze_and_excite_ratios": [0, 0, 0.25, 0.25]},
        **{"stackwise_strides": [1, 2, 2, 1], "stackwise_block_types": ["fused", "fused", "unfused", "unfused"]},
        **{"width_coefficient": 1.0, "depth_coefficient": 1.0, "input_shape": (32, 32, 3)},
    },
    "MobileNet": {
        **{"stackwise_expansion": [[40, 56], [64, 144]], "stackwise_num_blocks": [2, 2]},
        **{"stackwise_num_filters": [[16, 16], [24, 24]], "stackwise_kernel_size": [[3, 3], [5, 5]]},
        **{"stackwise_num_strides": [[1, 1], [2, 1]], "stackwise_se_ratio": [[None, None], [0.25, 0.25]]},
        **{"stackwise_activation": [["relu"] * 2, ["hard_swish"] * 2], "stackwise_padding": [[1, 1], [2, 2]]},
        **{"output_num_filters": 64, "depthwise_filters": 8, "depthwise_stride": 2, "depthwise_residual": False},
        **{"last_layer_filter": 32, "squeeze_and_excite": 0.5, "image_shape": (32, 32, 3)},
    },
    "HGNetV2": {
        **{"depths": [1, 2], "embedding_size": 16, "hidden_sizes": [32, 48], "stem_channels": [3, 8, 16]},
        **{"hidden_act": "relu", "use_learnable_affine_block": True, "apply_downsample": [False, True]},
        **{"use_lightweight_conv_block": [False, True], "image_shape": (32, 32, 3)},
        **{"stackwise_stage_filters": [(16, 8, 32, 1, 2, 3), (32, 16, 48, 2, 2, 3)]},
    },
    "SegFormer": {"projection_filters": 16},
}
"""By the first part of the class's name: what makes a small one of keras_hub."""

AT_LEAST = dict.fromkeys((*transformers.BUILDERS, *BACKBONES, "TCN"), 0.99)
"""The share of the weights that must lie in structures; EfficientNet's blocks are those of V2, MobileNet's of V3."""

NEEDS = {**dict.fromkeys(transformers.BUILDERS, "keras"), **dict.fromkeys(BACKBONES, "keras_hub"), "TCN": "tcn"}
"""The package that each model comes from."""


def model_of(name):
    """A model of a name of the table, with random biases and scales; sequences have a fixed length."""
    keras.utils.set_random_seed(0)
    builders = {**transformers.BUILDERS, "TCN": temporal}
    made = builders[name]() if name in builders else read(backbone(name))
    rng = np.random.default_rng(0)
    for weight in made.trainable_weights:
        if len(weight.shape) == 1:
            weight.assign_add(rng.uniform(-0.2, 0.2, weight.shape))
        elif name == "MobileNet":
            weight.assign(2 * weight)  # what enters would fade on its way
    return made


def read(made):
    """A backbone on inputs of a fixed length, and a dense layer that reads each of its outputs."""
    inputs = made.input
    if isinstance(inputs, dict):
        inputs = {
            key: keras.Input([size or LENGTH for size in tensor.shape[1:]], dtype=tensor.dtype, name=key)
            for key, tensor in inputs.items()
        }
    outputs = made(inputs) if inputs is not made.input else made.output
    return keras.Model(inputs, [layers.Dense(3)(tensor) for tensor in keras.tree.flatten(outputs)])


def backbone(name):
    """A backbone of keras_hub."""
    import keras_hub

    parts = {"image_encoder": backbone("MiT")} if name == "SegFormer" else {}
    return getattr(keras_hub.models, f"{name}Backbone")(**BACKBONES[name], **parts)


def temporal():
    """A temporal convolutional network of keras-tcn."""
    import tcn

    inputs = keras.Input((20, 4))
    return keras.Model(inputs, layers.Dense(2)(tcn.TCN(16, dilations=(1, 2, 4))(inputs)))


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
    """Reads the command line: names of models, or `twins`; all by default."""
    known = [*NEEDS, "twins"]
    unknown = sorted(set(argv[1:]) - set(known))
    if unknown:
        raise app.UsageError(f"check_models knows no {', '.join(unknown)}. Known: {', '.join(known)}")
    names = argv[1:] or known
    broken = broken_twins() if "twins" in names else []
    broken += broken_models(there(name for name in names if name != "twins"))
    if broken:
        sys.exit(f"check_models: {', '.join(broken)} break a law")


def broken_twins():
    """Says how many twins have other structures; gives their names."""
    differ = list(twins_that_differ())
    said = f"other structures: {', '.join(differ)}" if differ else "the same structures"
    print(f"{len(list(chains()))} subclassed twins: {said}")
    return differ


def there(names):
    """The models whose package is installed; the others are said."""
    names = list(names)
    found = [name for name in names if importlib.util.find_spec(NEEDS[name])]
    for package in sorted({NEEDS[name] for name in names} - {NEEDS[name] for name in found}):
        print(f"skipped, for {package} is not installed: {', '.join(n for n in names if NEEDS[n] == package)}")
    return found


def broken_models(names):
    """Prints the table of some models; gives the names of those that break a law."""
    broken = []
    with growing_table(TITLES, text=["result", "frozen"]) as add:
        for name in names:
            model = model_of(name)
            result = check_model(name, model, inputs_of(model))
            if result.reach < AT_LEAST.get(name, 0):
                result.broken.append(f"less than {AT_LEAST[name]:.0%} can leave")
            add(*result.row())
            broken += [name] if result.broken else []
    return broken


if __name__ == "__main__":
    app.run(main)
