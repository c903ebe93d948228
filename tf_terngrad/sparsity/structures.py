"""The structures of a model, found by following its dimensions."""

import numpy as np

from tf_terngrad.sparsity.graph.branches import find_branches
from tf_terngrad.sparsity.graph.follow import Graph
from tf_terngrad.sparsity.graph.members import find_members
from tf_terngrad.sparsity.graph.open import opened
from tf_terngrad.sparsity.rules import rule_for
from tf_terngrad.sparsity.rules.activation import shown_by_numbers
from tf_terngrad.sparsity.structure import WITHIN, Frozen, Slice, Structure, Structures, noun


def structures(model):
    """Find what can leave a model: follow its dimensions through every layer.

    Use it when you want to know what can leave a model, and why the rest cannot, before you train.

    Args:
        model: a built `keras.Model`: Functional, Sequential, or a subclass that was called once; nested and shared
            layers, many inputs and outputs are fine.

    Returns:
        A list of `Structure`, in the order of the model; its attribute `frozen` tells what cannot shrink and why, and
        `notes` which activations are known to act on each element from numbers alone.

    Raises:
        TypeError: if `model` is not a Keras model.
        ValueError: if it is not built, or is a subclass whose `call` cannot be followed.

    >>> model = keras.Sequential(
    ...     [keras.Input((4,), name="pixels"), keras.layers.Dense(3, name="hidden"), keras.layers.Dense(2)]
    ... )
    >>> [(s.kind, s.name, s.size) for s in structures(model)]
    [('input', 'pixels', 4), ('unit', 'hidden', 3)]
    """
    graph, found, frozen = followed(opened(model))
    notes = shown_by_numbers((call.path, call.layer) for call in graph.calls)
    return Structures([structure for structure, _ in found], frozen, notes)


def followed(model):
    """An opened model as a `Graph`, its structures with the units of their members (none of branches), and `Frozen`."""
    graph = Graph(model)
    _freeze_sums_of_constants(model, graph)
    found, frozen = from_graph(graph)
    nothing = np.zeros(0, np.int64)
    return graph, [*found, *((branch, nothing) for branch in _branch_structures(model, graph))], frozen


def from_graph(graph):
    """The structures of a followed model with the units of their members, and the list of `Frozen`."""
    found, frozen = [], []
    summed = _summed(graph)
    for members in find_members(graph):
        slices = tuple(
            Slice((w := graph.weights[key]).variable, axis, indices, w.holder, w.role, (key, axis) in graph.readings)
            for key, axis, indices in members.lies
        )
        born = [piece for piece in slices if piece.axis in graph.weights[id(piece.variable)].produced]
        kind, name = _born_as(graph, members, born) if born else _entered_as(members)
        if not (born or name):
            kind, name = _held_as(graph, slices)
        if name and members.reasons and kind != "input":
            frozen.append(Frozen(name, len(members.units), members.reasons))
        elif name and not members.reasons:
            paths = tuple(dict.fromkeys(graph.weights[id(piece.variable)].path for piece in born))
            is_summed = bool(np.isin(members.units, summed).any())
            found.append((Structure(name, kind, len(members.units), slices, paths, is_summed), members.units))
    opaque = {call.path: Frozen(call.path, 0, (rule_for(call.layer).why_frozen(call.layer),)) for call in graph.opaque}
    return found, [*frozen, *opaque.values()]


def _summed(graph):
    """The units that a layer sums without weights."""
    units = [reading.channels.units for reading in graph.readings.values() if reading.kernel is None]
    return np.unique(graph.grids.needed(np.concatenate([np.zeros(0, np.int64), *units])))


def _freeze_sums_of_constants(model, graph):
    """Freeze what an unweighed sum still adds when all its weights are zero, such as sigmoid(0) in a dot product."""
    if all(reading.kernel is not None for reading in graph.readings.values()):
        return
    blank = frozenset(key for key, weight in graph.weights.items() if weight.role != "statistic")
    for key, reading in Graph(model, tolerance=0.0, blank=blank).readings.items():
        if reading.kernel is None:
            reason = f"{graph.sites[key[0]].path}: it sums what is not zero even if all weights are"
            graph.freeze(graph.readings[key].channels.units[~reading.constant], reason)


def _branch_structures(model, graph):
    """Each residual branch whose weights, all zero, make it add nothing: one structure of one member."""
    branches = find_branches(model, graph)
    for branch in branches:
        slices = tuple(
            Slice(weight.variable, 0, np.arange(weight.variable.shape[0])[None], weight.path, weight.role)
            for weight in branch.weights
        )
        alone = sum(other.index == branch.index for other in branches) == 1
        name = f"{branch.path} branch" if alone else f"{branch.path} branch {branch.position}"
        yield Structure(name, "branch", 1, slices)


def _born_as(graph, members, born):
    """The kind and the name of members that a layer makes."""
    first = born[0]
    weight = graph.weights[id(first.variable)]
    kinds = [graph.weights[id(piece.variable)].produced[piece.axis] for piece in born]
    kind = "hidden" if "hidden" in kinds else kinds[0]
    is_part = first.indices.shape[1] > 1 or len(weight.produced) > 1
    if kind == "unit" and is_part and members.units[0] in graph.grids.heads:
        kind = "head"
    elif kind != "hidden" and "unit" in kinds and np.isin(members.units, graph.added).any():
        kind = "width"
    several = f" axis {first.axis}" if len(weight.produced) > 1 else ""
    name = weight.path + (f" {noun(kind, 2)}" if kind in WITHIN else several)
    return kind, _part(name, first.indices.ravel(), first.variable.shape[first.axis])


def _held_as(graph, slices):
    """The kind and the name of members that only lie in weights, as in `matmul(x, self.kernel * 2)`.

    No name for what is neither along the last axis of one, nor in a matrix.
    """
    last = [piece for piece in slices if piece.axis == len(piece.variable.shape) - 1 > 0]
    if not last:
        return "unit", None
    path = graph.weights[id(last[0].variable)].path
    return "unit", _part(path, last[0].indices.ravel(), last[0].variable.shape[-1])


def _entered_as(members):
    """The kind and the name of members that are features of the model's input; no name for what is neither."""
    edge = members.entered
    return "input", edge and _part(edge.name, members.positions, edge.shape[1])


def _part(name, positions, size):
    return name if len(positions) == size else f"{name}[{_ranges(np.sort(positions))}]"


def _ranges(positions):
    runs = np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1)
    shown = [f"{run[0]}:{run[-1] + 1}" if len(run) > 1 else f"{run[0]}" for run in runs[:3]]
    return ", ".join(shown) + (", …" if len(runs) > 3 else "")
