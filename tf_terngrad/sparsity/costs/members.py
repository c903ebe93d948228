"""What a model costs: the whole, a layer, a member of a structure, and the model with any number of members."""

import functools
from collections.abc import Callable, Mapping, Sequence

import keras

from tf_terngrad import checks
from tf_terngrad.console import plain_table
from tf_terngrad.sparsity.costs import latency
from tf_terngrad.sparsity.costs.file_size import BYTES, BYTES_INT8
from tf_terngrad.sparsity.costs.layers import by_layer
from tf_terngrad.sparsity.costs.multiply_adds import MULTIPLY_ADDS
from tf_terngrad.sparsity.costs.parameters import PARAMETERS
from tf_terngrad.sparsity.costs.sizes import Sizes

RESOURCES = {resource.name: resource for resource in (MULTIPLY_ADDS, PARAMETERS, BYTES, BYTES_INT8, latency.LATENCY)}
"""What a model can cost, by name; a further resource is a file here and its place in this list."""


class Total:
    """What a whole model costs, or a part of it; a resource is worked out when it is asked for.

    Args:
        amount_of: a function of the name of a resource.

    Attributes:
        multiply_adds: for one example; those that nobody knows count zero.
        parameters: numbers in all its variables.
        bytes: of its TFLite file in float32. The first time, this converts the model and smaller ones: some seconds.
        bytes_int8: of the int8 file, likewise.
        latency: milliseconds of the float32 file on one thread of this machine. The first time, this measures the
            operators that are not in the user's cache folder yet: some minutes for a large model.
    """

    def __init__(self, amount_of: Callable):
        self._amount_of, self._amounts = amount_of, {}

    def __getattr__(self, name):
        if name not in RESOURCES:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name not in self._amounts:
            self._amounts[name] = self._amount_of(name)
        return self._amounts[name]

    def in_words(self, names=()) -> str:
        """What it costs of these resources, and of those that are known at once."""
        shown = (each for name, each in RESOURCES.items() if each.at_once or name in names)
        return ", ".join(each.amount(getattr(self, each.name)) for each in shown)

    def __repr__(self):
        amounts = {name: getattr(self, name) for name, each in RESOURCES.items() if each.at_once} | self._amounts
        return f"{type(self).__name__}({', '.join(f'{name}={amount}' for name, amount in amounts.items())})"


class StructureCost(Total):
    """What leaves with the first member of a structure, in all layers that hold a part of it.

    Args:
        name, kind, size: as of the `Structure`.
        amount_of: a function of the name of a resource.
    """

    def __init__(self, name: str, kind: str, size: int, amount_of: Callable):
        super().__init__(amount_of)
        self.name, self.kind, self.size = name, kind, size


class Costs(Total):
    """What a model costs: of it all, of its layers, of the members of its structures; and what a smaller one would.

    Use it when you want to know which structures a budget should take from: `tt.costs` makes one.

    Attributes:
        layers: a `LayerCost` for each layer, in the order of computation.
        structures: a `StructureCost` for each structure of `tt.structures`.
        multiply_adds, parameters, bytes, bytes_int8, latency: of the whole model, as of a `Total`.
        latency_by_layer: milliseconds of the layers of its TFLite file, a dict by name.
    """

    def __init__(self, model, input_shapes=None):
        self._sizes = Sizes(model, input_shapes)
        self._terms = {}
        super().__init__(functools.partial(self._sum, self._sizes.shares({})))

    @functools.cached_property
    def layers(self):
        """A `LayerCost` for each layer."""
        return by_layer(call for call, _ in self._sizes.calls)

    @functools.cached_property
    def latency_by_layer(self):
        """The milliseconds of each layer of the TFLite file, by its name."""
        return latency.by_layer(self._sizes, self.terms("latency"))

    @functools.cached_property
    def structures(self):
        """A `StructureCost` for each structure."""
        return [self._member(structure) for structure in self._sizes.structures]

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
        return Total(functools.partial(self._sum, self._sizes.shares(stay)))

    def terms(self, resource: str) -> list:
        """The summands of a resource: functions of how many members of a few structures stay.

        Use it when you want the cost as a function, such as one that a graph computes.

        Args:
            resource: its name, such as "multiply_adds".

        Returns:
            A list of `Term`: `owners`, the places in `structures` of what it depends on, and `value(shares)`.

        Raises:
            ValueError: there is no such resource.
        """
        checks.one_of(resource, RESOURCES, "resource", "Costs.terms")
        if resource not in self._terms:
            self._terms[resource] = RESOURCES[resource].terms(self._sizes)
        return self._terms[resource]

    def __str__(self):
        rows = [(s.name, s.kind, s.size, f"{s.multiply_adds:,}", f"{s.parameters:,}") for s in self.structures]
        titles = ["structure", "kind", "members", "multiply-adds each", "parameters each"]
        total = f"{self.multiply_adds:,} multiply-adds an example, {self.parameters:,} parameters"
        return "\n".join([total, *plain_table(titles, rows, text=["kind"]).splitlines()])

    def _sum(self, shares, resource):
        return sum(term.value(shares) for term in self.terms(resource))

    def _member(self, structure):
        less = self.of({structure.name: structure.size - 1})
        return StructureCost(
            structure.name, structure.kind, structure.size, lambda name: getattr(self, name) - getattr(less, name)
        )


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
