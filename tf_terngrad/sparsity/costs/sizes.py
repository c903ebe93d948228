"""The sizes of a model's axes, variables and calls with any number of members in its structures.

All members of a structure lie on the same axes equally often, so a size is a function of how many of them stay: of the
*shares*, an array of the share of each structure's members that stays, and of a last number, one, for what is fixed.
"""

import collections
import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from tf_terngrad import checks
from tf_terngrad.sparsity.costs.dims import length_of
from tf_terngrad.sparsity.costs.layers import costly_calls, example_shapes
from tf_terngrad.sparsity.costs.outline import Outline
from tf_terngrad.sparsity.graph.open import opened
from tf_terngrad.sparsity.structures import followed


class Sizes:
    """All sizes of a model.

    Args:
        model: a Keras model.
        input_shapes: as of `layer_costs`.

    Attributes:
        model: the model, opened.
        graph: its `Graph`.
        structures: its list of `Structure`.
        members: for each of them, the units of its members; none of a branch.
        lengths: its `Lengths`.
        input_shapes: the shape of each input for one example.
        variables: the `Axes` of each of its variables.
    """

    def __init__(self, model, input_shapes=None):
        self.model = opened(model)
        self.graph, found, _ = followed(self.model)
        self.structures = [structure for structure, _ in found]
        self.members = [units for _, units in found]
        self.lengths = Lengths(self.graph, self.members)
        self.variables = [Axes.of_variable(variable, self.graph) for variable in self.model.weights]
        self.input_shapes = example_shapes(self.model, input_shapes)
        self._calls = costly_calls(self.model, input_shapes)
        self._branches = _branches(self.structures)
        self._outlines = {}

    @functools.cached_property
    def calls(self):
        """Pairs of each `CostlyCall` and what the graph knows of its tensors: edges of inputs, and of the output."""
        return list(_with_edges(self._calls, self.graph))

    def shares(self, stay: Mapping[str, int]):
        """The shares where so many members stay, by name of the structure; of one that is not there, all."""
        sizes = {structure.name: structure.size for structure in self.structures}
        for name, count in stay.items():
            checks.one_of(name, sizes, "stay", "Costs.of")
            if checks.integer(count, f"stay[{name!r}]", "Costs.of", least=0) > sizes[name]:
                expected = f"at most {sizes[name]}, the members that there are"
                raise ValueError(checks.refusal("Costs.of", f"stay[{name!r}]", expected, count))
        return np.array([*(stay.get(name, size) / size for name, size in sizes.items()), 1.0])

    def outline(self, quantize=None):
        """The `Outline` of its TFLite file, made once; `quantize` as of `tt.tflite.convert`."""
        if quantize not in self._outlines:
            self._outlines[quantize] = Outline(self, quantize)
        return self._outlines[quantize]

    def axes(self):
        """Where units lie, along each axis of each variable and of each tensor between two layers."""
        yield from (units for axes in self.variables for units in axes.units.values())
        for call in self.graph.calls:
            for edge in (*call.inputs, *call.outputs):
                yield from (channels.units for channels in edge.followed)

    def branches(self, variables):
        """The numbers of the branches that one of these variables leaves with."""
        return {number for variable in variables for number in self._branches.get(id(variable), ())}

    def owners(self, axes):
        """The numbers of the structures that the sizes of several `Axes` depend on."""
        units = [units for each in axes for units in each.units.values()]
        return {int(number) for each in units for number in self.lengths.owners(each)} - {len(self.structures)}


class Lengths:
    """How long an axis is when members have left.

    Args:
        graph: a `Graph`.
        members: of each structure, the units of its members.
    """

    def __init__(self, graph, members):
        self._graph, self._fixed, self._known = graph, len(members), {}
        self._owner = np.full(len(graph.units), self._fixed)
        for number, units in enumerate(members):
            self._owner[units] = number

    def length(self, units, shares):
        """How many positions of an axis with these units stay; an axis of a grid stays where all that it needs does."""
        return length_of(self.terms(units), shares)

    def owners(self, units):
        """The structures whose members such an axis needs, by number."""
        return set(self._owner[self._graph.grids.needed(units)].ravel())

    def terms(self, units):
        """How many positions need members of the same structures, and of which: pairs (numbers of those, how many)."""
        if id(units) not in self._known:  # the array is kept too, for its id is the key
            needed = [np.unique(column) for column in self._graph.grids.needed(units).T]
            owners = [tuple(map(int, sorted(self._owner[column]))) for column in needed]
            self._known[id(units)] = units, tuple(sorted(collections.Counter(owners).items()))
        return self._known[id(units)][1]


@dataclasses.dataclass(frozen=True)
class Axes:
    """The shape of a tensor or variable, with the units along its axes.

    Args:
        sizes: its shape now.
        units: by axis, where units lie.
    """

    sizes: tuple
    units: dict

    @classmethod
    def of_variable(cls, variable, graph):
        weight = graph.weights.get(id(variable))
        return cls(tuple(variable.shape), weight.axes if weight else {})

    @classmethod
    def of_tensor(cls, tensor, edge):
        axes = enumerate(edge.axes if edge is not None and len(edge.axes) == len(tensor.shape) else ())
        return cls(tuple(tensor.shape), {axis: channels.units for axis, channels in axes if channels is not None})

    def shape(self, lengths, shares):
        return tuple(
            lengths.length(self.units[axis], shares) if axis in self.units else size
            for axis, size in enumerate(self.sizes)
        )


def _with_edges(calls, graph):
    """Each costly call, with its edges in the graph: those of the inputs, and that of the output."""
    known = collections.defaultdict(collections.deque)
    for call in graph.calls:
        known[id(call.layer)].append((call.inputs, call.outputs[0]))
    for call in calls:
        yield call, (known[id(call.layer)].popleft() if known[id(call.layer)] else ([], None))


def _branches(found):
    """By id of a variable, the numbers of the branches that it leaves with."""
    leaves = collections.defaultdict(list)
    for number, structure in enumerate(found):
        for piece in structure.slices if structure.kind == "branch" else ():
            leaves[id(piece.variable)].append(number)
    return leaves
