"""Units that lie at the same places of the weights: what become the members of a structure. Nothing is named here."""

import dataclasses
import itertools

import numpy as np


@dataclasses.dataclass
class Members:
    """Units that lie on the same axes of the same weights, equally often on each, and are frozen for the same reasons.

    Attributes:
        units: the units, increasing, shape (size,).
        reasons: why they are frozen; empty if they can leave.
        lies: list of (id of a variable, axis, indices). Row i of indices, shape (size, multiplicity), holds the
            positions of unit i along that axis.
        entered: the `Edge` of the model's flat features where the first of them enters, or None.
        positions: where all of them lie among the features.
    """

    units: np.ndarray
    reasons: tuple
    lies: list = dataclasses.field(default_factory=list)
    entered: object = None
    positions: np.ndarray = None


def find_members(graph) -> list:
    """All `Members` of a followed model, in the order of their first units."""
    axes = [
        ((key, axis), *graph.grids.lying(units))
        for key, weight in graph.weights.items()
        for axis, units in weight.axes.items()
    ]
    frozen, reasons = _frozen(graph)
    number = _numbered(_places([units for _, _, units in axes], len(graph.units)), frozen)
    everything = np.arange(len(number))
    members = [Members(units, reasons[frozen[units[0]]]) for _, units in _split(everything, everything, number)]
    for (key, axis), positions, units in axes:
        for index, places in _split(positions, units, number):
            members[index].lies.append((key, axis, places.reshape(len(members[index].units), -1)))
    _enter(graph, members, number)
    return members


def _places(axes, count):
    """For each unit a number, the same for units that lie on the same axes equally often; 0 lies nowhere."""
    places, following = np.zeros(count, np.int64), 1
    for units in axes:
        unique, counts = np.unique(units, return_counts=True)
        alike = places[unique] * (counts.max(initial=0) + 1) + counts
        kinds, which = np.unique(alike, return_inverse=True)
        places[unique] = following + which
        following += len(kinds)
    return places


def _frozen(graph):
    """For each unit the number of its reasons, and the reasons by number: sentences in the order of their discovery."""
    frozen, reasons, numbers = np.zeros(len(graph.units), np.int64), [()], {(): 0}
    for units, reason in graph.frozen:
        unique = np.unique(graph.grids.needed(units))
        for old in np.unique(frozen[unique]):
            known = reasons[old] if reason in reasons[old] else (*reasons[old], reason)
            if known not in numbers:
                numbers[known] = len(reasons)
                reasons.append(known)
            unique, changed = unique[frozen[unique] != old], unique[frozen[unique] == old]
            frozen[changed] = numbers[known]
    return frozen, reasons


def _numbered(places, frozen):
    """For each unit which `Members` it is one of, counted by their first units; -1 for a unit that lies nowhere."""
    number = np.full(len(places), -1)
    lying = np.flatnonzero(places)
    alike = places[lying] * (frozen.max(initial=0) + 1) + frozen[lying]
    _, first, which = np.unique(alike, return_index=True, return_inverse=True)
    number[lying] = np.argsort(np.argsort(first))[which]
    return number


def _split(positions, units, number):
    """By number, the positions of these units; those of one unit stand together, the least unit first."""
    order = np.lexsort((units, number[units]))
    numbers = number[units[order]]
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))  # what lies nowhere comes first, with -1
    return [(numbers[start], positions[order[start:end]]) for start, end in itertools.pairwise([*starts, len(order)])]


def _enter(graph, members, number):
    """Note where members enter as features of the model's input."""
    entries = [(edge, channels) for edge in graph.features for channels in edge.followed]
    if not entries:
        return
    units = graph.units.find(np.concatenate([channels.units for _, channels in entries]))
    edges = np.repeat(np.arange(len(entries)), [len(channels) for _, channels in entries])
    positions = np.concatenate([np.arange(len(channels)) for _, channels in entries])
    for index, places in _split(np.arange(len(units)), units, number):
        members[index].entered = entries[edges[places[0]]][0]
        members[index].positions = positions[places]
