"""The latency of a model: milliseconds of its TFLite file on one thread of the machine at hand.

Every operator of the file counts. Its time is measured alone, at a few of the sizes that it can have, and interpolated
in between; no operator is measured twice on a machine. What operators cost beside each other, whole files tell.
"""

import numpy as np

from tf_terngrad.keras_internals import all_layers
from tf_terngrad.sparsity.costs.dims import Lengths
from tf_terngrad.sparsity.costs.gates import names_of
from tf_terngrad.sparsity.costs.interpolation import Diagonal, Grid
from tf_terngrad.sparsity.costs.resources import Resource, Term
from tf_terngrad.sparsity.costs.timetable import Timetable
from tf_terngrad.tflite.excerpt import Excerpt
from tf_terngrad.tflite.stopwatch import settled_times

NEAR_ONE = 3.0  # how much the factor between operators alone and in a file is held near one


class OperatorTime:
    """The time of an operator of a file, as a function of how many members stay.

    Args:
        operator: an `Operator` of an `Outline`.
        widths: the `Widths` of the model.
        whole: the `Lengths` of the whole model.
        table: the `Timetable`.
    """

    def __init__(self, operator, widths, whole, table):
        self.operator, self._widths, self._table = operator, widths, table
        self._axes = _free_axes(operator, widths)
        self._whole = [whole.product(axes) for axes in self._axes]
        self._function = Grid(self._whole, [_factor(operator, axes) for axes in self._axes])
        self.factor, self.beside = 1.0, 0.0

    def scan(self):
        """The `Excerpt`s that tell how the time depends on each axis."""
        return list(map(self._excerpt, self._function.scan()))

    def needed(self):
        """The `Excerpt`s of all points, once those of `scan` are measured."""
        points = self._function.points(self._time)
        if points is None:
            self._function = Diagonal(self._whole)
            points = self._function.points(self._time)
        return list(map(self._excerpt, points))

    def settle(self):
        """Take the times of all points, once they are measured."""
        self._function.fill(self._time)

    def term(self, everything):
        """The `Term` of the operator's time; `everything`: the numbers of all structures."""
        owners = self.operator.owners | self.operator.depends_on(everything)
        return Term(tuple(sorted(owners)), self.milliseconds)

    def milliseconds(self, shares):
        """Its time where these shares of the structures stay."""
        if not self.operator.is_there(shares):
            return 0.0
        lengths = self._widths.at(shares)
        point = [lengths.product(axes) for axes in self._axes]
        return self.factor * self._function.at(point) + self.beside if all(point) else 0.0

    def _time(self, point):
        return self._table[self._excerpt(point)]

    def _excerpt(self, point):
        lengths = Lengths(self._widths, dict(zip(self._axes, point, strict=True)))
        tensors = self.operator.tensors.items()
        shapes = {place: [dim.at(lengths) for dim in tensor.shape] for place, tensor in tensors}
        integers = {
            place: [dim.at(lengths) for dim in tensor.integers]
            for place, tensor in tensors
            if tensor.integers is not None
        }
        return Excerpt(self.operator.file, self.operator.number, shapes, integers)


def _free_axes(operator, widths):
    """What an operator's sizes depend on: tuples of axes, of two where only their product is there."""
    seen = {dim.axes for tensor in operator.tensors.values() for dim in (*tensor.shape, *(tensor.integers or ()))}
    free = {axes for axes in seen if len(axes) == 1}
    for axes in sorted(axes for axes in seen if len(axes) == 2):
        parts = {(axis,) for axis in axes}
        free |= parts if parts & free else {axes}
    for axis in sorted(widths.parts.keys() & {axis for axes in free for axis in axes}):
        parts = {(part,) for part in widths.parts[axis]}
        if parts & free:  # as a concatenation, which has the parts and the sum
            free = (free - {(axis,)}) | parts
    return sorted(free)


def _factor(operator, axes):
    """How often axes are in the widest of an operator's sizes that have them alone."""
    dims = [dim for tensor in operator.tensors.values() for dim in tensor.shape if dim.axes == axes]
    return max((dim.factor.numerator for dim in dims), default=1)


def operator_times(sizes) -> list[OperatorTime]:
    """The time of each operator of the model's file, measured where it is not in the table yet."""
    outline, table = sizes.outline(), Timetable.of_this_machine()
    whole = outline.widths.at(np.ones(len(sizes.structures) + 1))
    found = [OperatorTime(operator, outline.widths, whole, table) for operator in outline.operators]
    table.measure([excerpt for each in found for excerpt in each.scan()], "Measuring the operators of TFLite: steps")
    table.measure([excerpt for each in found for excerpt in each.needed()], "Measuring the operators of TFLite: widths")
    for each in found:
        each.settle()
    _fit(found, outline)
    return found


def _fit(times, outline):
    """Bring the operators' times to those of whole files: by a factor, and by so much for each operator.

    Between operators, data has left the caches, and the interpreter changes between its own and faster kernels. The
    factor is near one; the files are few and much alike.
    """
    parts = [
        [each.milliseconds(shares) for each in times if each.operator.is_there(shares)] for shares in outline.shares
    ]
    measured = np.array(settled_times([file.content for file in outline.files]))
    factor, each = fitted(np.array(list(map(sum, parts))), np.array(list(map(len, parts))), measured)
    for time in times:
        time.factor, time.beside = factor, each


def fitted(sums, counts, measured):
    """The factor f and the part of each operator b >= 0 with f sums + b counts near what was measured, f near one.

    It minimizes Σ ((f sums + b counts) / measured - 1)² + `NEAR_ONE` (f - 1)².

    Args:
        sums: of the operators' times in each file, an array.
        counts: of operators in it, likewise.
        measured: milliseconds of it, likewise.
    """
    rows = np.stack([sums / measured, counts / measured], 1)
    rows = np.concatenate([rows, [[NEAR_ONE**0.5, 0.0]]])
    aims = np.append(np.ones(len(measured)), NEAR_ONE**0.5)
    factor, beside = np.linalg.lstsq(rows, aims)[0]
    if beside < 0:
        factor, beside = np.linalg.lstsq(rows[:, :1], aims)[0][0], 0.0
    return float(factor), float(beside)


def terms(sizes):
    """A `Term` for each operator of the model's TFLite file."""
    everything = range(len(sizes.structures))
    return [each.term(everything) for each in operator_times(sizes)]


def by_layer(sizes, terms) -> dict[str, float]:
    """The milliseconds of the whole model by name of the layer that an operator comes from, in the file's order.

    An operator that comes from several layers counts for the first that the file names, one of no layer for itself.

    Args:
        sizes: the `Sizes` of the model.
        terms: its `terms`.
    """
    whole, layers = np.ones(len(sizes.structures) + 1), {layer.name for layer in all_layers(sizes.model)}
    found = {}
    for operator, term in zip(sizes.outline().operators, terms, strict=True):
        names = [name for name in names_of(operator.output, sizes.model.name) if name in layers]
        name = names[-1] if names else operator.kind
        if operator.is_there(whole):
            found[name] = found.get(name, 0.0) + term.value(whole)
    return found


LATENCY = Resource("latency", terms, lambda number: f"{number:.3g} ms", at_once=False)
