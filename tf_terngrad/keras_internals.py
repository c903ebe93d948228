"""Every private name of Keras and TensorFlow that the package touches, each with the reason why; nowhere else is one.

A release that renames something is a change in this file. What an older Keras lacks is left out by name, in `SINCE`.
The methods of Keras's classes that the package changes for all objects are in `CHANGED`.
"""

import collections
import contextlib
import functools
import importlib
import inspect

import keras
import numpy as np
import tensorflow as tf
from keras.src.applications.convnext import LayerScale, StochasticDepth  # keras.applications shows builders only
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer  # likewise
from keras.src.backend.common import global_state  # where Keras counts the names that it makes up
from keras.src.backend.common.stateless_scope import get_stateless_scope as stateless_scope  # the innermost, or None
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell  # keras.layers shows the layers only
from keras.src.models.functional import (
    Functional,  # keras.Model(inputs, outputs) makes one, and has no public name
    functional_like_constructor,  # whether a file makes a subclass of its graph
)
from keras.src.ops.node import Node  # a call in a graph, which is otherwise only made by calling
from keras.src.saving.serialization_lib import SafeModeScope  # lets from_config make Lambdas, without loading a file
from tensorflow.python.ops import control_flow_util  # whether XLA compiles what is being traced

GlobalOpDispatcher = tf.__internal__.dispatch.GlobalOpDispatcher
"""Is asked about each call of a TensorFlow function on what it does not take; the public ways want each one by name."""

__all__ = [
    "ConvLSTMCell",
    "CustomScaleLayer",
    "Functional",
    "GlobalOpDispatcher",
    "LayerScale",
    "SafeModeScope",
    "StochasticDepth",
    "functional_like_constructor",
    "stateless_scope",
]

# The classes of operations, as `Absolute` of `keras.ops.absolute`: a graph's nodes are their instances.
_MODULES = ("numpy", "nn", "core", "math", "image", "linalg", "einops")
_OPERATIONS = [importlib.import_module(f"keras.src.ops.{name}") for name in _MODULES]
# `relu` is an operation of its own, and so is a quantizer's rounding.
_OPERATIONS += map(importlib.import_module, ("keras.src.activations.activations", "keras.src.quantizers.quantizers"))

_NEWER = {
    "3.11": ("Cbrt", "Deg2rad", "Heaviside"),
    "3.12": ("Gcd", "Hypot", "IsIn", "Isneginf", "Isposinf", "Isreal", "Lcm", "Logaddexp2", "ReversibleEmbedding"),
    "3.13": (
        *(f"Adaptive{kind}Pooling{rank}D" for kind in ("Average", "Max") for rank in (1, 2, 3)),
        *("AdaptiveAveragePool", "AdaptiveMaxPool", "ArraySplit", "Ldexp"),
    ),
    "3.14": (
        *("DepthToSpace", "SpaceToDepth", "Dstack", "Hsplit", "Vsplit", "Fliplr", "Flipud", "Fmod", "I0", "Nextafter"),
        *("Nanargmax", "Nanargmin", "Nancumprod", "Nancumsum", "Nanmax", "Nanmean", "Nanmedian", "Nanmin", "Nanprod"),
        *("Nanstd", "Nansum", "Nanvar", "Ptp", "Rad2deg", "Sinc"),
    ),
    "3.15": ("Dsplit", "Erfc", "Fabs", "Fmax", "Fmin"),
}
SINCE = {name: release for release, names in _NEWER.items() for name in names}
"""By name of a layer or an operation that not every supported Keras has: the release it came with."""


def layers(*names) -> list:
    """The classes of layers of these names that this Keras has; a name it should have, and lacks, is an error."""
    return _present([keras.layers], names)


def operations(*names) -> list:
    """The classes of operations of these names that this Keras has; a name it should have, and lacks, is an error."""
    return _present(_OPERATIONS, names)


def operation(name) -> type:
    """The class of one operation that every supported Keras has."""
    (found,) = operations(name)
    return found


def any_layers(*names) -> list:
    """The classes of layers of these names that this Keras has, of whatever release each of them is."""
    return [vars(keras.layers)[name] for name in names if name in vars(keras.layers)]


def any_operations(*names) -> list:
    """The classes of operations of these names that this Keras has, of whatever release each of them is."""
    return [vars(module)[name] for module in _OPERATIONS for name in names if name in vars(module)]


def absent() -> list:
    """Names of the layers and operations that the package can work with, and that this Keras is too old for."""
    return [name for name in SINCE if _is_newer(name)]


def named(operation, name):
    """An operation under another name; those of Keras 3.10 take none when they are made."""
    operation.name = name
    return operation


@contextlib.contextmanager
def own_names():
    """Let what is made inside take names that count for nothing: names of the user's layers number on as before."""
    counts = global_state.get_global_attribute("object_name_uids", collections.defaultdict(int), set_to_default=True)
    before = dict(counts)
    try:
        yield
    finally:
        counts.clear()
        counts.update(before)


def _present(modules, names):
    found = {name: next((vars(m)[name] for m in modules if name in vars(m)), None) for name in names}
    absent = [name for name, value in found.items() if value is None and not _is_newer(name)]
    if absent:
        raise AttributeError(f"Keras {keras.__version__} has no {', '.join(absent)}. Name it in keras_internals.SINCE.")
    return [value for value in found.values() if value is not None]


def _is_newer(name):
    return name in SINCE and _release(keras.__version__) < _release(SINCE[name])


def _release(version):
    return tuple(int(part) for part in version.split(".")[:2])


CHANGED = {
    (keras.Layer, "add_weight"): "a structured regularizer is told which weight of which layer it is on",
    (keras.Model, "fit"): "a training in which nothing became zero says so, though it was given no callback",
    (keras.optimizers.Optimizer, "apply"): "hooks on weights ask which update goes on, and Keras tells none of them",
    (keras.optimizers.Optimizer, "save_own_variables"): "momentum of dead groups is not saved: it would revive them",
    (keras.optimizers.LossScaleOptimizer, "apply"): "it scales what the workers have averaged",
    (keras.optimizers.LossScaleOptimizer, "check_finite"): "all workers skip a step, or none of them",
}
"""By class of Keras and name of a public method: why the package puts something around it, once and for all objects."""

_changed = set()


def put_around(kind, name, wrapper) -> None:
    """Put `wrapper(method)` in the place of a method that `CHANGED` lists; a second time, nothing happens."""
    if (kind, name) not in CHANGED:
        raise KeyError(f"{kind.__name__}.{name} is not in keras_internals.CHANGED. Name it there, with the reason.")
    if (kind, name) not in _changed:
        _changed.add((kind, name))
        method = getattr(kind, name)
        setattr(kind, name, functools.wraps(method)(wrapper(method)))


def graph_of(layer):
    """The graph of layers that a Sequential model has inside of it; any other model or layer itself."""
    return getattr(layer, "_functional", None) or layer


def is_graph(layer) -> bool:
    """Whether a layer is a model whose computation is its graph of layers, and nothing else."""
    if "call" in vars(layer) or (isinstance(layer, keras.Layer) and type(layer).__call__ is not keras.Layer.__call__):
        return False
    if isinstance(layer, keras.Sequential):
        return type(layer).call is keras.Sequential.call and layer._functional is not None
    return isinstance(layer, Functional) and type(layer).call is Functional.call


def nodes(functional) -> list:
    """The calls of a graph in an order in which they can be computed, inputs left out; Keras shows no order."""
    depths = functional._nodes_by_depth
    return [node for depth in sorted(depths, reverse=True) for node in depths[depth] if not node.is_input]


# Keras before 3.14 makes no model with an input that no layer reads.
_READS_ALL_INPUTS = _release(keras.__version__) < (3, 14)


def read_once(output, inputs):
    """An output of a graph; one that is an input goes through a layer where this Keras wants its inputs read."""
    refused = any(output is tensor for tensor in inputs) and wants_reader(output)
    return keras.layers.Identity(dtype=output.dtype)(output) if refused else output


def wants_reader(tensor) -> bool:
    """Whether this Keras would refuse a model with this input, for no layer reads it so far."""
    return _READS_ALL_INPUTS and not tensor._keras_history.operation._outbound_nodes


def may_lose_inputs(model) -> bool:
    """Whether inputs may lose their last reader; in old Keras only where each graph has one, which all else reads."""
    graphs = [graph_of(layer) for layer in all_layers(model) if is_graph(layer)]
    return not _READS_ALL_INPUTS or all(len(graph.inputs) == 1 for graph in graphs)


def structures_of(functional) -> tuple:
    """The nested structures of a graph's inputs and outputs; `model.input` flattens what has one tensor."""
    return functional._inputs_struct, functional._outputs_struct


def history(tensor):
    """The operation that made a symbolic tensor, the number of its call, and which output it is; None: none did."""
    return getattr(tensor, "_keras_history", None)


def node_of(tensor):
    """The call in a graph that made a symbolic tensor."""
    operation, number, _ = tensor._keras_history
    return operation._inbound_nodes[number]


def call_of(operation, number):
    """The arguments of one of the calls of an operation in graphs."""
    return operation._inbound_nodes[number].arguments


# What Keras notes on every layer when it is made, and a copy has to take over.
_TAKEN_OVER = (
    *("_trainable", "_path", "_parent_path", "_input_spec", "_called", "supports_jit", "_supports_masking", "autocast"),
    *("_call_signature", "call_signature_parameters", "_call_has_training_arg", "_call_has_mask_arg"),
    *("_call_context_args", "_call_has_context_arg", "_convert_input_args", "_allow_non_tensor_positional_args"),
    *("_build_shapes_dict", "_auto_config", "activity_regularizer", "rematerialization"),
)


TRAINING = (
    *("_compile_config", "_compiled_trainable_state", "_epoch_iterator", "_eval_epoch_iterator", "optimizer"),
    *("history", "stop_training", "stop_evaluating", "stop_predicting"),
)
"""What `compile`, `fit` and the like note on a model that has nothing of it when it is made."""


def blank_model(kind):
    """A model of a class that has nothing yet, not even a graph."""
    return keras.Layer.__new__(kind)


def blank_layer(layer):
    """A layer of the same class and name that holds nothing yet; its own `__init__` is not called."""
    new = keras.Layer.__new__(type(layer))
    base = keras.Model if isinstance(layer, keras.Model) else keras.Layer
    base.__init__(new, name=layer.name)
    new._dtype_policy = layer._dtype_policy
    return new


def finish_layer(layer, new, copy) -> None:
    """Give a blank layer copies of all that another one holds, in the order in which that one got it."""
    bookkeeping = set(vars(new)) - set(_TAKEN_OVER)
    new._tracker.unlock()  # Keras locks a layer without a `build` when it is made
    for kind, (_, held) in layer._tracker.config.items():
        for each in held:  # a frozen variable among those that train once the layer is thawed
            new._tracker.add_to_store(kind, copy(each))
    for name, value in list(vars(layer).items()):
        if name not in bookkeeping:
            setattr(new, name, copy(value))
    new.built = layer.built
    if layer._tracker.locked:
        new._lock_state()


def variable_like(variable):
    """A new variable with the value, the name and the kind of another one."""
    options = {name: getattr(variable, name) for name in ("trainable", "aggregation", "synchronization")}
    value = keras.ops.convert_to_tensor(variable)  # Keras would take a variable of TensorFlow for its own
    new = keras.Variable(value, dtype=variable.dtype, autocast=variable._autocast, name=variable.name, **options)
    new._path, new.overwrite_with_gradient = variable.path, variable.overwrite_with_gradient
    return new


def traced_anew(function, python_function):
    """A `tf.function` of another Python function, with the options of one that is there."""
    return function._clone(python_function)


def without_calls(operation):
    """Let an operation, a copy of another one, forget the calls of that one in graphs."""
    operation._inbound_nodes, operation._outbound_nodes = [], []
    return operation


def add_call(operation, args, kwargs, outputs):
    """Note in a graph that an operation was called so, without calling it; gives the outputs, symbolic tensors."""
    Node(operation, args, kwargs, outputs)
    return outputs


def note_trainable(layer, trainable) -> None:
    """Say whether a layer trains, and leave the layers and the variables inside of it as they are."""
    layer._trainable = trainable


def with_kernel(layer, variable) -> None:
    """Let a dense layer that was not built hold a variable that is there already as its kernel."""
    layer.bias, layer.built = None, True
    _hold(layer, "_kernel", variable)


def with_bias(layer, variable) -> None:
    """Let such a layer hold a variable as its bias too."""
    layer.use_bias = True
    _hold(layer, "bias", variable)


def _hold(layer, name, variable):
    """Keras lists frozen variables last, unless the layer had them before they were frozen: as one that it made."""
    layer._tracker.add_to_store("trainable_variables", variable)
    setattr(layer, name, variable)


@contextlib.contextmanager
def calls_through(through):
    """Let every layer be called by `through(call, layer, args, kwargs)` meanwhile, where `call` is Keras's own."""
    call = keras.Layer.__call__
    keras.Layer.__call__ = lambda layer, *args, **kwargs: through(call, layer, args, kwargs)
    try:
        yield
    finally:
        keras.Layer.__call__ = call


@contextlib.contextmanager
def as_in_tensorflow():
    """Let symbolic tensors be used as TensorFlow's meanwhile.

    They take any keys, know `x.shape.rank` and `x.dtype.base_dtype`, and NumPy's numbers on either side, which become
    numbers of the tensor's type.
    """
    tensor = keras.KerasTensor
    own = dict(vars(tensor))
    init, get, shape, dtype = own["__init__"], own["__getitem__"], own["shape"], own["dtype"]
    new = {
        "__init__": lambda self, shape, *args, **options: init(self, _plain(shape), *args, **options),
        "__getitem__": lambda self, key: get(self, key if isinstance(key, (tuple, list)) else (key,)),
        "shape": property(lambda self: _Shape(shape.fget(self)), shape.fset),
        "dtype": property(lambda self: _Dtype(dtype.fget(self)), dtype.fset),
        "get_shape": lambda self: self.shape,
        "set_shape": lambda self, shape: None,
        "__array_priority__": 100,  # as tensors have: NumPy leaves the operation to them
        **{name: _of_one_type(own[name]) for name in _OPERATORS if name in own},
    }
    for name, value in new.items():
        setattr(tensor, name, value)
    try:
        yield
    finally:
        for name in new:
            setattr(tensor, name, own[name]) if name in own else delattr(tensor, name)


_OPERATORS = (
    *(f"__{name}__" for name in ("lt", "le", "gt", "ge")),
    *(f"__{side}{name}__" for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow") for side in ("", "r")),
)


def _plain(shape):
    """A shape as Keras before 3.12 keeps it: as it is given."""
    return tuple(shape) if isinstance(shape, _Shape) else shape


def _of_one_type(operator):
    return lambda self, other: operator(self, number_like(self, other))


def number_like(tensor, value):
    """NumPy's numbers as numbers of a tensor's type, as TensorFlow takes them; any other value as it is."""
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    numbers = np.asarray(value).astype(tf.as_dtype(str(tensor.dtype)).as_numpy_dtype)
    return numbers if numbers.ndim else numbers.item()


class _Shape(tuple):
    """A shape that knows of itself what TensorFlow's does, such as `rank` and `as_list()`."""

    def __getattr__(self, name):
        return _known(tf.TensorShape(tuple(self)), name)


class _Dtype(str):
    """A type of numbers that knows of itself what TensorFlow's does, such as `base_dtype` and `is_floating`."""

    def __getattr__(self, name):
        return _known(tf.as_dtype(str(self)), name)


def _known(value, name):
    if name.startswith("_"):
        raise AttributeError(name)
    return getattr(value, name)


def like(tensor, shape=None):
    """A symbolic tensor that no operation has made yet, of the same kind and shape, or another one, and mask."""
    options = {name: getattr(tensor, name) for name in ("sparse", "ragged") if hasattr(tensor, name)}
    same = keras.KerasTensor(tensor.shape if shape is None else shape, tensor.dtype, name=tensor.name, **options)
    if mask_of(tensor) is not None:
        same._keras_mask = mask_of(tensor)
    return same


def set_shape(tensor, shape) -> None:
    """Tell a symbolic tensor sizes that Keras did not work out."""
    tensor._shape = tuple(shape)


def input_like(tensor, given=None):
    """A new input with the name of an input's; of the shape and dtype of another tensor, if there is one."""
    layer, given = history(tensor).operation, tensor if given is None else given
    options = {"sparse": tensor.sparse, "optional": layer.optional}
    return keras.Input(batch_shape=given.shape, dtype=given.dtype, name=layer.name, **options)


@contextlib.contextmanager
def calls_forgotten(layer):
    """Let a layer, and all inside of it, forget the calls that are made meanwhile; graphs of them keep theirs."""
    inside = [operation for each in all_layers(layer) for operation in (each, *getattr(each, "operations", ()))]
    counts = [(each, len(each._inbound_nodes), len(each._outbound_nodes)) for each in inside]
    try:
        yield
    finally:
        for each, inbound, outbound in counts:
            del each._inbound_nodes[inbound:], each._outbound_nodes[outbound:]


def built_for(model):
    """The shapes of the tensors that a subclassed model was built for, as its call takes them; None: not known."""
    shapes = model._build_shapes_dict or {}
    return next(iter(shapes.values())) if len(shapes) == 1 else None


def mask_of(tensor):
    """The mask that travels with a tensor; None: none does."""
    return getattr(tensor, "_keras_mask", None)


def set_mask(tensor, mask):
    """A symbolic tensor, with a mask that travels with it from now on; None: none does."""
    if mask is not None or mask_of(tensor) is not None:
        tensor._keras_mask = mask
    return tensor


def is_read(tensor) -> bool:
    """Whether an operation was called on a symbolic tensor that is an input."""
    return bool(tensor._keras_history.operation._outbound_nodes)


def computes_mask(layer) -> bool:
    """Whether a layer's class computes the mask of its results itself; Keras's gives them that of the first input."""
    return type(layer).compute_mask is not keras.Layer.compute_mask


def parameters_of(layer):
    """The parameters of a layer's call."""
    return inspect.signature(layer.call).parameters


def takes_mask(layer) -> bool:
    """Whether a layer's call takes a mask; that of a graph's is for the layers inside."""
    return not is_graph(layer) and any(name.endswith("mask") for name in parameters_of(layer))


def regards_masks(layer) -> bool:
    """Whether a layer makes something of a mask: its call takes one, or the layer hands one on."""
    return layer.supports_masking or takes_mask(layer)


def takes_masks_off(layer) -> bool:
    """Whether a layer takes the masks off the tensors that it is given: attention does, in most releases of Keras."""
    return isinstance(layer, _ATTENTION) and _takes_off(next(kind for kind in _ATTENTION if isinstance(layer, kind)))


_ATTENTION = keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention


@functools.cache
def _takes_off(kind):
    # Read, not tried: where a call is traced, no layer can be made.
    return any(line in inspect.getsource(kind.call) for line in ("_mask(query, None)", "query._keras_mask = None"))


def all_layers(layer) -> list:
    """A layer and all layers inside of it, in wrappers too; `model.layers` stops at the first level."""
    return list(layer._flatten_layers())


def statistics_axes(normalization) -> tuple:
    """The axes that a `Normalization` layer has statistics for."""
    return normalization._keep_axis


def attention_parts(layer) -> dict:
    """The projections of an attention layer by name ("query", "key", "value", "output", "gate" if it has one)."""
    parts = {name: getattr(layer, f"_{name}_dense", None) for name in ("query", "key", "value", "output", "gate")}
    return {name: part for name, part in parts.items() if part is not None}


def attention_axes(layer) -> tuple:
    """The axes of the values that an attention layer attends over."""
    return getattr(layer, "_attention_axes", None) or (1,)


class NarrowedAttention(keras.layers.MultiHeadAttention):
    """Keras's attention, whose mask takes another one, whose heads take a factor each, and whose weights can learn.

    `_compute_attention` is what Keras has for attention of other kinds. What is computed is what Keras computes.
    """

    def narrowed(self, mask, steps):
        """The mask of the scores, given that of the call, each a tensor of the rank of scores; None: there is none."""
        return mask

    def shares(self, scores, mask, training):
        """The weights of a call, given the scores and their mask; None: as Keras computes them, of a narrowed mask."""
        return None

    def weighed(self, heads):
        """What each head gives, (batch, steps, heads, size), times its factor."""
        return heads

    def refuse_masks(self):
        """Raise, if masks of steps that travel with tensors cannot be taken."""

    def compute_output_spec(self, query, value, key=None, **options):
        """What Keras says; where a graph is made, this is all that Keras calls."""
        if any(mask_of(tensor) is not None for tensor in (query, value, key)):
            self.refuse_masks()
        return super().compute_output_spec(query, value, key, **options)

    def _compute_attention_mask(self, query, value, query_mask=None, value_mask=None, key_mask=None, **options):
        if any(mask is not None for mask in (query_mask, value_mask, key_mask)):
            self.refuse_masks()
        masks = {"query_mask": query_mask, "value_mask": value_mask, "key_mask": key_mask}
        return super()._compute_attention_mask(query, value, **masks, **options)

    def _compute_attention(self, query, key, value, mask=None, training=None, return_attention_scores=False):
        if mask is not None:
            for _ in range(len(query.shape) + len(attention_axes(self)) - 1 - len(mask.shape)):
                mask = keras.ops.expand_dims(mask, -2 * len(attention_axes(self)) - 1)
            mask = keras.ops.cast(mask, "bool")
        scores = keras.ops.einsum(self._dot_product_equation, key, query * self._inverse_sqrt_key_dim)
        shares = self.shares(scores, mask, training)
        if shares is None:
            mask = self.narrowed(mask, query.shape[1])
            found, shares = super()._compute_attention(query, key, value, mask, training, return_attention_scores)
        else:
            dropped = self._dropout_layer(shares, training=training)
            found = keras.ops.einsum(self._combine_equation, dropped, value)
        return self.weighed(found), shares


def note_compute_loss(model, takes_training: bool) -> None:
    """Tell a model whether its `compute_loss` takes `training`; Keras reads that when the model is made."""
    model._compute_loss_has_training_arg = takes_training


def batches_seen(optimizer):
    """The variable that counts batches; the public `iterations` counts updates where gradients accumulate."""
    return optimizer._iterations


def trainable_variables(optimizer) -> list:
    """The variables that an optimizer was built for; it shows only its own."""
    return optimizer._trainable_variables


class Slots:
    """What an optimizer keeps for one variable.

    Keras keeps it in lists that have other private names in each class; their own names are made from the variable's.

    Args:
        optimizer: a built optimizer.
        position: of the variable among those that it was built for.
    """

    def __init__(self, optimizer, position):
        stems = [_stem(variable) for variable in trainable_variables(optimizer)[: position + 1]]
        self.variable = trainable_variables(optimizer)[position]
        self._stem = stems[-1]
        self._before = stems.count(self._stem) - 1  # layers of nested models may have one path
        self._optimizer = optimizer

    def __call__(self, name=None):
        """The value that `add_optimizer_variables(variables, name)` made for the variable; None: the variable's own."""
        found = self.variable if name is None else self.find(name)
        return keras.ops.cast(keras.ops.convert_to_tensor(found), "float32")

    def find(self, name):
        """The optimizer's variable of this name; None: there is none."""
        found = [slot for slot in self._optimizer.variables if slot.name == f"{self._stem}_{name}"]
        return found[self._before] if found else None


def _stem(variable):
    return (getattr(variable, "path", None) or variable.name.replace(":", "_")).replace("/", "_")


def slots(optimizer, variables) -> list:
    """Pairs of those of some variables that an optimizer was built for, and their `Slots`."""
    known = optimizer._trainable_variables_indices
    keys = [(variable, optimizer._var_key(variable)) for variable in variables]
    return [(variable, Slots(optimizer, known[key])) for variable, key in keys if key in known]


def muon_step(optimizer, rate, momentum):
    """How Muon moves a matrix that has this momentum."""
    step = rate * optimizer.zeropower_via_newtonschulz5(momentum, optimizer.ns_steps)
    if hasattr(optimizer, "lr_adjust"):
        return optimizer.lr_adjust(step)
    return step * max(1, momentum.shape[0] / momentum.shape[1]) ** 0.5  # before Keras 3.12


def public_name(function) -> str:
    """The name that users know a function of TensorFlow by, such as "tf.nn.relu"."""
    names = getattr(inspect.unwrap(function), "_tf_api_names", None)
    return f"tf.{(names or [function.__name__])[0]}"


def in_xla(graph) -> bool:
    """Whether XLA compiles what is traced in this graph of TensorFlow."""
    return control_flow_util.GraphOrParentsInXlaContext(graph)


def set_constant(operation, array):
    """Give an operation that is a constant another number, while its graph is traced."""
    operation._set_attr("value", tf.compat.v1.AttrValue(tensor=tf.make_tensor_proto(array)))


def keep_scales_before_matmuls(converter) -> None:
    """Keep TFLite's converter from moving a product into the weights of the matrix product behind it."""
    converter._experimental_disable_fuse_mul_and_fc = True


def between_accumulation_and_clipping(optimizer, note, change) -> None:
    """Have an optimizer clip and apply `change(gradients)` in place of what it has accumulated.

    `apply` sees a batch's own gradients; between accumulation and clipping Keras calls no public method. The first of
    these two methods is told the variables, which `note(variables)` gets; the second the accumulated gradients.
    """
    overwrite, clip = optimizer._overwrite_variables_directly_with_gradients, optimizer._clip_gradients

    def noting(gradients, variables):
        note(variables)
        return overwrite(gradients, variables)

    optimizer._overwrite_variables_directly_with_gradients = noting
    optimizer._clip_gradients = lambda gradients: clip(change(gradients))
