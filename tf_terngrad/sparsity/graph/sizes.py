"""Numbers for sizes that are open: a call is traced with some, and again with others, to see what follows them.

What Keras says of an open size is None, and a call that computes with None says nothing true of its sizes:
`table[:, :None]` is the whole table.
"""

import itertools

import keras
from keras import tree

from tf_terngrad.keras_internals import history, node_of, set_shape
from tf_terngrad.sparsity.graph.symbolic import tensors_of
from tf_terngrad.sparsity.rules.equation import Equation

INFERENCE, TRAINING, ODD, APART = range(4)
"""The traces of a call: as at inference and as in training, where networks can halve the sizes several times; and two
in training with odd sizes, for calls that do something else then, the last with other ones for each input."""

SIZES = (11, 64, 96, 128, 160), (7, 32, 160, 224, 96), (7, 13, 19, 17, 23), (7, 25, 31, 29, 35)
"""For each trace the numbers for open sizes, by the axis of an input of the model; the first are for batches."""

_inputs = itertools.count()


def shape_in(tensor, trace) -> tuple:
    """The shape that a symbolic tensor has in a trace, worked out from the inputs of the model."""
    waiting = [tensor]
    while waiting:
        last = waiting[-1]
        missing = [each for each in _sources(last) if trace not in _known(each)]
        if not missing and trace not in _known(last):
            _known(last)[trace] = _shape(last, trace)
        waiting = waiting + missing if missing else waiting[:-1]
    return _known(tensor)[trace]


def let_stand_for(tensor, outside) -> None:
    """Let an input of a graph have the sizes of the tensor outside that the graph is called on."""
    if len(tensor.shape) == len(outside.shape):
        vars(tensor)["outside"] = outside


def output_shapes(operation, args, kwargs) -> list:
    """The shapes of what an operation gives for symbolic tensors.

    Raises:
        Exception: whatever Keras or a stranger's layer raises where it cannot say.
    """
    specs = tree.flatten(operation.compute_output_spec(*args, **kwargs))
    return [_true_shape(operation, tensors_of((args, kwargs)), spec.shape) for spec in specs]


def tell_sizes(operation, args, kwargs, outputs) -> None:
    """Tell the outputs of a call the sizes that Keras did not work out."""
    for tensor in tensors_of(outputs):
        set_shape(tensor, _true_shape(operation, tensors_of((args, kwargs)), tensor.shape))


def _true_shape(operation, tensors, shape):
    """A shape by EinsumDense's equation: Keras leaves sizes open, and swaps those that an ellipsis stands for."""
    if not isinstance(operation, keras.layers.EinsumDense):
        return shape
    known = tensors[0].shape, operation.kernel.shape
    equation = Equation.parse(operation.equation).spelled(map(len, known), len(shape))
    sizes = dict(zip("".join(equation.operands), (*known[0], *known[1]), strict=True))
    right = len(equation.result) == len(shape) and {*equation.result} <= {*sizes}
    return tuple(sizes[letter] for letter in equation.result) if right else shape


def has_open_sizes(tensor) -> bool:
    """Whether a size is open, apart from the batch's."""
    return None in tensor.shape[1:]


def is_in_parts(tensor) -> bool:
    """Whether the batch is not the model's: examples that were cut into parts, such as the windows of an image."""
    return tensor.shape[:1] == (None,) and shape_in(tensor, INFERENCE)[0] != SIZES[INFERENCE][0]


def _known(tensor):
    return vars(tensor).setdefault("shapes_in_traces", {})


def _sources(tensor):
    """The tensors from which an open size of a tensor comes."""
    if None not in tensor.shape or not history(tensor):
        return ()
    if node_of(tensor).is_input:
        return [vars(tensor)["outside"]] if "outside" in vars(tensor) else ()
    return node_of(tensor).arguments.keras_tensors


def _shape(tensor, trace):
    shape = _worked_out(tensor, trace) if _sources(tensor) else tensor.shape
    apart = 12 * (next(_inputs) % 8) if trace == APART and None in shape else 0
    return tuple(_number(trace, axis, apart) if size is None else size for axis, size in enumerate(shape))


def _number(trace, axis, apart):
    return SIZES[trace][min(axis, 4)] + (apart if axis else 0)


def _worked_out(tensor, trace):
    """What Keras says of the shape, with those of the tensors from which it comes."""
    node = node_of(tensor)
    if node.is_input:
        return _known(vars(tensor)["outside"])[trace]

    def sized(value):
        known = isinstance(value, keras.KerasTensor)
        return keras.KerasTensor(_known(value)[trace], value.dtype) if known else value

    args, kwargs = node.arguments.convert(sized)
    try:
        return output_shapes(node.operation, args, kwargs)[history(tensor).tensor_index]
    except Exception:  # of a stranger's layer, or for an image that cannot be halved so often
        return tensor.shape
