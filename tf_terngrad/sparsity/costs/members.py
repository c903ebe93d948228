"""What a model costs with any number of members in its structures, from the shapes that its layers would have then.

All members of a structure lie on the same axes equally often, so they cost the same, and the model's cost is a function
of how many of them stay. Nothing is built for it: the layers' own formulas are asked about layers whose weights are
shapes alone.
"""

import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import tree

from tf_terngrad import checks
from tf_terngrad.console import plain_table
from tf_terngrad.sparsity.costs.layers import CostlyCall, by_layer, costly_calls
from tf_terngrad.sparsity.graph.open import opened
from tf_terngrad.sparsity.structures import followed


@dataclasses.dataclass(frozen=True)
class Total:
    """What a whole model costs.

    Args:
        multiply_adds: for one example; those that nobody knows count zero.
        parameters: numbers in all its variables.
    """

    multiply_adds: int
    parameters: int

    def __sub__(self, other):
        return Total(self.multiply_adds - other.multiply_adds, self.parameters - other.parameters)


@dataclasses.dataclass(frozen=True)
class StructureCost:
    """What leaves with the first member of a structure, in all layers that hold a part of it.

    Args:
        name, kind, size: as of the `Structure`.
        multiply_adds: for one example.
        parameters: numbers in variables.
    """

    name: str
    kind: str
    size: int
    multiply_adds: int
    parameters: int


class Costs:
    """What a model costs: of it all, of its layers, of the members of its structures; and what a smaller one would.

    Use it when you want to know which structures a budget should take from: `tt.costs` makes one.

    Attributes:
        layers: a `LayerCost` for each layer, in the order of computation.
        structures: a `StructureCost` for each structure of `tt.structures`.
        multiply_adds: of the whole model, for one example; layers that nobody knows count zero.
        parameters: numbers in all its variables.
    """

    def __init__(self, model, input_shapes=None):
        model = opened(model)
        graph, found, _ = followed(model)
        self._found = [structure for structure, _ in found]
        self._lengths = _Lengths(graph, [units for _, units in found])
        self._sizes = {structure.name: structure.size for structure in self._found}
        calls = _with_edges(costly_calls(model, input_shapes), graph)
        self._rows = [_Row(call, edges, graph, self._lengths) for call, edges in calls]
        self._variables = [_Axes.of_variable(variable, graph) for variable in model.weights]
        self._branches = _branches(self._found)
        self._whole = self.of({})
        self.multiply_adds, self.parameters = self._whole.multiply_adds, self._whole.parameters

    @functools.cached_property
    def layers(self):
        """A `LayerCost` for each layer."""
        return by_layer(row.call for row in self._rows)

    @functools.cached_property
    def structures(self):
        """A `StructureCost` for each structure."""
        return [self._member(structure) for structure in self._found]

    def of(self, stay: Mapping[str, int]) -> Total:
        """What the model would cost with so many members.

        Args:
            stay: how many members of structures stay, by name; all of one that is not there.

        Raises:
            ValueError: for a name that is none of a structure, or a number that it cannot have.

        >>> model = keras.Sequential(
        ...     [keras.Input((4,), name="x"), keras.layers.Dense(3, name="hidden"), keras.layers.Dense(2)]
        ... )
        >>> costs(model).of({"hidden": 1})
        Total(multiply_adds=6, parameters=9)
        """
        shares = self._shares(stay)
        gone = {key for key, branches in self._branches.items() if not all(shares[branch] for branch in branches)}
        rows = [row for row in self._rows if not row.holds(gone)]
        counts = [row.multiply_adds(shares) or 0 for row in rows]
        variables = [axes.shape(self._lengths, shares) for axes in self._variables if axes.key not in gone]
        return Total(sum(counts), sum(int(np.prod(shape)) for shape in variables))

    def __str__(self):
        rows = [(s.name, s.kind, s.size, f"{s.multiply_adds:,}", f"{s.parameters:,}") for s in self.structures]
        titles = ["structure", "kind", "members", "multiply-adds each", "parameters each"]
        total = f"{self.multiply_adds:,} multiply-adds an example, {self.parameters:,} parameters"
        return "\n".join([total, *plain_table(titles, rows, text=["kind"]).splitlines()])

    def _shares(self, stay):
        """The share of the members that stays, by number of the structure; and behind them one, of what is fixed."""
        for name, count in stay.items():
            checks.one_of(name, self._sizes, "stay", "Costs.of")
            if checks.integer(count, f"stay[{name!r}]", "Costs.of", least=0) > self._sizes[name]:
                expected = f"at most {self._sizes[name]}, the members that there are"
                raise ValueError(checks.refusal("Costs.of", f"stay[{name!r}]", expected, count))
        return np.array([*(stay.get(name, size) / size for name, size in self._sizes.items()), 1.0])

    def _member(self, structure):
        saved = self._whole - self.of({structure.name: structure.size - 1})
        return StructureCost(structure.name, structure.kind, structure.size, saved.multiply_adds, saved.parameters)


def costs(model: keras.Model, input_shapes: Sequence | None = None) -> Costs:
    """What a model costs, by layer and by member of a structure.

    Use it when you want to know where a model spends its multiply-adds and parameters, and what one filter or unit
    less would save, the slices of all layers that read it included.

    Args:
        model: a built `keras.Model`.
        input_shapes: shapes of one example, without the batch axis, one for each input; needed where the model leaves
            a size open.

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: `model` is not built or not a graph of layers, or an input's size is open or does not fit.

    >>> model = keras.Sequential(
    ...     [keras.Input((4,), name="x"), keras.layers.Dense(3, name="hidden"), keras.layers.Dense(2)]
    ... )
    >>> print(costs(model))
    18 multiply-adds an example, 23 parameters
    structure  kind   members  multiply-adds each  parameters each
    x          input        4                   3                3
    hidden     unit         3                   6                7
    """
    return Costs(model, input_shapes)


class _Lengths:
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
        if id(units) not in self._known:
            self._known[id(units)] = units, self._terms(units)
        return round(sum(count * shares[list(owners)].prod() for owners, count in self._known[id(units)][1]))

    def owners(self, units):
        """The structures whose members such an axis needs, by number."""
        return set(self._owner[self._graph.grids.needed(units)].ravel())

    def _terms(self, units):
        """How many positions need members of the same structures, and of which."""
        needed = [np.unique(column) for column in self._graph.grids.needed(units).T]
        owners = [tuple(sorted(self._owner[column])) for column in needed]
        return list(collections.Counter(owners).items())


@dataclasses.dataclass(frozen=True)
class _Axes:
    """The shape of a tensor or variable, with the units along its axes.

    Args:
        key: the id of the variable, if it is one.
        sizes: its shape now.
        units: by axis, where units lie.
    """

    key: int | None
    sizes: tuple
    units: dict

    @classmethod
    def of_variable(cls, variable, graph):
        weight = graph.weights.get(id(variable))
        return cls(id(variable), tuple(variable.shape), weight.axes if weight else {})

    @classmethod
    def of_tensor(cls, tensor, edge):
        axes = enumerate(edge.axes if edge is not None and len(edge.axes) == len(tensor.shape) else ())
        return cls(None, tuple(tensor.shape), {axis: channels.units for axis, channels in axes if channels is not None})

    def shape(self, lengths, shares):
        return tuple(
            lengths.length(self.units[axis], shares) if axis in self.units else size
            for axis, size in enumerate(self.sizes)
        )


class _Row:
    """A call that costs something, and what it would cost with fewer members.

    Args:
        call: a `CostlyCall`.
        edges: what is known of the call's tensors in a graph: a list for the arguments, and that of the first output.
        graph: the `Graph`.
        lengths: how long axes are.
    """

    def __init__(self, call: CostlyCall, edges, graph, lengths):
        self.call, self._graph, self._lengths, self._known = call, graph, lengths, {}
        inputs, output = edges
        tensors = [value for value in tree.flatten((call.args, call.kwargs)) if isinstance(value, keras.KerasTensor)]
        inputs = inputs if len(inputs) == len(tensors) else [None] * len(tensors)
        pairs = [*zip(tensors, inputs, strict=True), (call.output, output)]
        self._axes = {id(tensor): _Axes.of_tensor(tensor, edge) for tensor, edge in pairs}
        axes = [*self._axes.values(), *(_Axes.of_variable(each, self._graph) for each in self._variables)]
        self._owners = sorted(set().union(*(lengths.owners(units) for each in axes for units in each.units.values())))

    def holds(self, variables):
        """Whether a variable of the layer is one of these, by their ids."""
        return any(id(variable) in variables for variable in self._variables)

    def multiply_adds(self, shares):
        """For one example; None when nobody knows. It is worked out once for the same shares of what it depends on."""
        key = tuple(shares[self._owners])
        if key not in self._known:
            self._known[key] = self._counted(shares)
        return self._known[key]

    @property
    def _variables(self):
        return getattr(self.call.layer, "variables", ())

    def _counted(self, shares):
        def smaller(value):
            if isinstance(value, keras.KerasTensor) and id(value) in self._axes:
                return keras.KerasTensor(self._axes[id(value)].shape(self._lengths, shares), value.dtype)
            return value

        def shape_of(variable):
            return _Axes.of_variable(variable, self._graph).shape(self._lengths, shares)

        args, kwargs, outputs = tree.map_structure(smaller, (self.call.args, self.call.kwargs, self.call.outputs))
        layer = _Shells(shape_of).of(self.call.layer)
        return dataclasses.replace(self.call, layer=layer, outputs=outputs, args=args, kwargs=kwargs).multiply_adds()


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


class _Shells:
    """Layers of the same classes whose variables are symbolic tensors of other shapes; each layer has one.

    Args:
        shape_of: a function of a variable.
    """

    def __init__(self, shape_of):
        self._shape_of, self._made = shape_of, {}

    def of(self, value):
        """What stands for a variable, for a layer with variables, for each value of a list; of the rest, itself."""
        if isinstance(value, keras.Variable):
            return keras.KerasTensor(self._shape_of(value), value.dtype)
        if isinstance(value, list):
            return [self.of(each) for each in value]
        if not isinstance(value, keras.Layer) or not value.variables:
            return value
        if id(value) not in self._made:
            self._made[id(value)] = new = object.__new__(type(value))
            for name, held in vars(value).items():
                new.__dict__[name] = self.of(held)  # as it is: Keras's own way notes what a layer holds
        return self._made[id(value)]
