"""Random inputs that a model can take: lookup tables have their rows, and free sizes suit the layers."""

import contextlib
import functools
import itertools

import keras
import numpy as np

from tf_terngrad.keras_internals import all_layers, is_graph
from tf_terngrad.sparsity.graph.replay import replay
from tf_terngrad.tflite.check import keras_outputs
from tf_terngrad.tflite.ports import FREE_SIZE, ports, random_arrays, structures_of

SIZES = (FREE_SIZE, 16, 8, 4, 2, 1, 64, 128, 256)  # of free dimensions, as they are tried


def draw(model, inputs, examples):
    """Draws random inputs of a model, and runs the model on them where it may not take all.

    Floats are normal numbers. Integers, and floats that reach a lookup table, are whole numbers below a limit: the rows
    of the largest table, and less until no table is asked for a row that it lacks.

    Args:
        model: A Keras model.
        inputs: A list of `Port`, the model's inputs, perhaps with fewer free dimensions.
        examples: How many.

    Returns:
        A list of arrays.

    Raises:
        ValueError: The model takes none of the inputs that were tried.
    """
    tokens = _readers_of_tables(model)
    free = any(size is None for port in inputs for size in port.shape[1:])
    sizes, limits = SIZES if free else SIZES[:1], _limits(model)
    first = None
    for size, limit in itertools.product(sizes, limits):
        arrays = random_arrays(inputs, examples, limit, size, tokens)
        if not free and not tokens and all(array.dtype.kind == "f" for array in arrays):
            return arrays
        try:
            if _takes(model, arrays):
                return arrays
        except Exception as error:  # layers raise what they like
            first = first or error
    reason = " ".join(str(first).split()) if first else "NaN, infinity, or rows that its lookup tables lack"
    raise ValueError(
        f"Model '{model.name}' takes none of the random inputs that were tried. Give inputs that it can take,"
        f" calibration=. Received: {reason}."
    ) from first


def _limits(model):
    """Limits of whole numbers to try, None for those of the input's type."""
    rows = sorted({layer.input_dim for layer in _tables(model)}, reverse=True)
    halves = itertools.takewhile(bool, (rows[-1] >> times for times in itertools.count(1))) if rows else [2, 1]
    return [*(rows or [None]), *halves]


def _tables(layer):
    return [inner for inner in all_layers(layer) if isinstance(inner, keras.layers.Embedding)]


def _takes(model, arrays):
    """Whether every lookup of the model's tables finds its row, and all outputs are finite."""
    tensors = keras.tree.flatten(structures_of(model)[0])
    if is_graph(model) and any(None in tensor.shape[1:] for tensor in tensors):
        given = [
            keras.KerasTensor((tensor.shape[0] or len(array), *array.shape[1:]), tensor.dtype)
            for tensor, array in zip(tensors, arrays, strict=True)
        ]
        _check_sizes(model, given)
    with _lookups(model) as found:
        outputs = keras_outputs(model, arrays)
    return all(found) and all(np.isfinite(output).all() for output in outputs)


def _check_sizes(model, tensors):
    """Raises where strides leave nothing of an image: what Keras and LiteRT compute of that is not defined."""

    def call(node, args, kwargs):
        if is_graph(node.operation):
            return _check_sizes(node.operation, keras.tree.flatten(args[0]))
        outputs = node.operation.compute_output_spec(*args, **kwargs)
        if any(0 in tensor.shape for tensor in keras.tree.flatten(outputs)):
            raise ValueError(f"layer '{node.operation.name}' leaves nothing of its input")
        return outputs

    return replay(model, tensors, call)


@contextlib.contextmanager
def _lookups(model):
    """Yields a list that tells, of each time that a table is read meanwhile, whether all rows were there."""
    tables, found = _tables(model), []
    for table in tables:
        table.call = functools.partial(_noting, table, found, table.call)
    try:
        yield found
    finally:
        for table in tables:
            del table.call


def _noting(table, found, call, inputs, *args, **kwargs):
    if not (kwargs.get("reverse") or any(args)):  # a ReversibleEmbedding that is a matrix
        rows = keras.ops.convert_to_numpy(inputs).astype("int64")
        found.append(not rows.size or 0 <= rows.min() <= rows.max() < table.input_dim)
    return call(inputs, *args, **kwargs)


def _readers_of_tables(model):
    """Names of the inputs whose values reach a lookup table without passing any weights."""
    if not is_graph(model):
        return set()
    names, found = [port.name for port in ports(structures_of(model)[0])], set()

    def call(node, args, kwargs):
        sources = frozenset().union(*(s for s in keras.tree.flatten((args, kwargs)) if isinstance(s, frozenset)))
        layer = node.operation if isinstance(node.operation, keras.Layer) else None
        if layer is not None and _tables(layer):
            found.update(sources)
        passed = frozenset() if layer is not None and layer.weights else sources
        return [passed] * len(keras.tree.flatten(node.output_tensors))

    replay(model, [frozenset([name]) for name in names], call)
    return found
