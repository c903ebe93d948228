"""The bytes of a model's TFLite file: what is stored of each tensor, and what the file needs around it."""

import functools
import math

import numpy as np

from tf_terngrad.sparsity.costs.resources import Resource, Term
from tf_terngrad.tflite.opened import table_bytes

ALIGNED = 16  # bytes, a multiple of which the place of each tensor in a file is
SCALE = 12  # bytes of a channel's scale (float32) and zero point (int64), where a tensor has them by channel


def terms(sizes, quantize=None):
    """A `Term` for each tensor that is stored, each operator, and the rest of the file.

    What a file needs around what is stored is known of the whole model's; each operator, with the names and shapes of
    its tensors, has the same share of what leaves with all of them.
    """
    outline, everything = sizes.outline(quantize), range(len(sizes.structures))
    whole = np.ones(len(sizes.structures) + 1)
    stored = [_stored(outline, *found, everything) for found in _readers(outline).values()]
    around = outline.bytes - sum(term.value(whole) for term in stored)
    share = table_bytes(outline.files[0]) // len(outline.files[0].graphs[0].operators)
    operators = [_around(operator, share, everything) for operator in outline.operators]
    rest = around - sum(term.value(whole) for term in operators)
    return [*stored, *operators, Term((), lambda shares: rest)]


def _readers(outline):
    """Each `Tensor` that is stored, once, with the operators that read it."""
    found = {}
    for operator in outline.operators:
        for tensor in operator.tensors.values():
            if tensor.stored:
                found.setdefault(tensor.key, (tensor, []))[1].append(operator)
    return found


def _stored(outline, tensor, readers, everything):
    axes = {axis for dim in tensor.dims for axis in dim.axes}
    owners = {owner for axis in axes for owner in outline.widths.owners(axis)}
    owners |= {owner for reader in readers for owner in reader.depends_on(everything)}

    def worked_out(shares):
        if not any(reader.is_there(shares) for reader in readers):
            return 0
        lengths = outline.widths.at(shares)
        bytes_ = tensor.stored * math.prod(dim.at(lengths) for dim in tensor.shape)
        return ALIGNED * math.ceil(bytes_ / ALIGNED) + SCALE * tensor.scales.at(lengths)

    return Term(tuple(sorted(owners)), worked_out)


def _around(operator, share, everything):
    owners = tuple(sorted(operator.depends_on(everything)))
    return Term(owners, lambda shares: share if operator.is_there(shares) else 0)


BYTES = Resource("bytes", terms, lambda number: f"{number:,.0f} bytes", at_once=False)
BYTES_INT8 = Resource(
    "bytes_int8",
    functools.partial(terms, quantize="int8"),
    lambda number: f"{number:,.0f} bytes as int8",
    at_once=False,
)
