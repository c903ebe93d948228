"""Every private name of Keras and TensorFlow that the package touches, each with the reason why; nowhere else is one.

A release that renames something is a change in this folder. What an older Keras lacks is left out by name, in
`versions.SINCE`. The methods of Keras's classes that the package changes for all objects are in `changed.CHANGED`.
"""

from keras.src.applications.convnext import LayerScale, StochasticDepth  # keras.applications shows builders only
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer  # likewise
from keras.src.backend.common.stateless_scope import get_stateless_scope as stateless_scope  # the innermost, or None
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell  # keras.layers shows the layers only
from keras.src.models.functional import functional_like_constructor  # whether a file makes a subclass of its graph
from keras.src.saving.serialization_lib import SafeModeScope  # lets from_config make Lambdas, without loading a file

from tf_terngrad.keras_internals.attention import NarrowedAttention, attention_axes, attention_parts
from tf_terngrad.keras_internals.changed import CHANGED, calls_through, put_around
from tf_terngrad.keras_internals.copies import (
    TRAINING,
    blank_layer,
    blank_model,
    finish_layer,
    note_path,
    note_trainable,
    variable_like,
    with_bias,
    with_kernel,
)
from tf_terngrad.keras_internals.graphs import (
    Functional,
    add_call,
    call_of,
    calls_forgotten,
    graph_of,
    history,
    is_graph,
    node_of,
    nodes,
    structures_of,
    without_calls,
)
from tf_terngrad.keras_internals.in_place import (
    Rebuilt,
    Resized,
    become,
    factor_anew,
    inside_of,
    leaves,
    not_by_weight,
    unknown_inside,
)
from tf_terngrad.keras_internals.layer_facts import all_layers, built_for, inner_layers, parameters_of, statistics_axes
from tf_terngrad.keras_internals.masks import (
    computes_mask,
    mask_of,
    regards_masks,
    set_mask,
    takes_mask,
    takes_masks_off,
)
from tf_terngrad.keras_internals.names import named, own_names, public_name
from tf_terngrad.keras_internals.optimizers import begin_at, build_metrics, optimizers_of, seed_states
from tf_terngrad.keras_internals.symbolic_tensors import input_like, like, set_shape
from tf_terngrad.keras_internals.tensorflow_tensors import as_in_tensorflow, number_like
from tf_terngrad.keras_internals.tensorflow_traces import (
    GlobalOpDispatcher,
    in_xla,
    keep_scales_before_matmuls,
    set_constant,
    traced_anew,
)
from tf_terngrad.keras_internals.training import (
    Slots,
    batches_seen,
    between_accumulation_and_clipping,
    muon_step,
    note_compute_loss,
    slots,
    trainable_variables,
)
from tf_terngrad.keras_internals.unread_inputs import is_read, may_lose_inputs, read_once, wants_reader
from tf_terngrad.keras_internals.versions import (
    SINCE,
    absent,
    any_layers,
    any_operations,
    layers,
    operation,
    operations,
)

__all__ = [
    "CHANGED",
    "SINCE",
    "TRAINING",
    "ConvLSTMCell",
    "CustomScaleLayer",
    "Functional",
    "GlobalOpDispatcher",
    "LayerScale",
    "NarrowedAttention",
    "Rebuilt",
    "Resized",
    "SafeModeScope",
    "Slots",
    "StochasticDepth",
    "absent",
    "add_call",
    "all_layers",
    "any_layers",
    "any_operations",
    "as_in_tensorflow",
    "attention_axes",
    "attention_parts",
    "batches_seen",
    "become",
    "begin_at",
    "between_accumulation_and_clipping",
    "blank_layer",
    "blank_model",
    "build_metrics",
    "built_for",
    "call_of",
    "calls_forgotten",
    "calls_through",
    "computes_mask",
    "factor_anew",
    "finish_layer",
    "functional_like_constructor",
    "graph_of",
    "history",
    "in_xla",
    "inner_layers",
    "input_like",
    "inside_of",
    "is_graph",
    "is_read",
    "keep_scales_before_matmuls",
    "layers",
    "leaves",
    "like",
    "mask_of",
    "may_lose_inputs",
    "muon_step",
    "named",
    "node_of",
    "nodes",
    "not_by_weight",
    "note_compute_loss",
    "note_path",
    "note_trainable",
    "number_like",
    "operation",
    "operations",
    "optimizers_of",
    "own_names",
    "parameters_of",
    "public_name",
    "put_around",
    "read_once",
    "regards_masks",
    "seed_states",
    "set_constant",
    "set_mask",
    "set_shape",
    "slots",
    "stateless_scope",
    "statistics_axes",
    "structures_of",
    "takes_mask",
    "takes_masks_off",
    "traced_anew",
    "trainable_variables",
    "unknown_inside",
    "variable_like",
    "wants_reader",
    "with_bias",
    "with_kernel",
    "without_calls",
]
