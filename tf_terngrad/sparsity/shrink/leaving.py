"""What leaves a model in the middle of its training: members whose trained weights are all zero, and nothing else.

`compact` also takes out what is idle by chance, such as a branch whose last scale begins at zero, and adds constants to
biases. Training goes on here, so neither may happen: the scale is about to move, and in training a normalization gives
other constants than its stored statistics say. These differ between workers, too, and all of them must decide alike.

So the graph is followed without the model's numbers: what is dead is zero, all else is some number that is not.
"""

import functools
import zlib

import keras
import numpy as np

from tf_terngrad.sparsity.graph.follow import Graph
from tf_terngrad.sparsity.graph.open import opened
from tf_terngrad.sparsity.remove.fates import composed, remember
from tf_terngrad.sparsity.remove.plan import make_plan
from tf_terngrad.sparsity.remove.rebuild import Builder
from tf_terngrad.sparsity.structure import LEARNED, NO_WIDTH
from tf_terngrad.sparsity.structures import followed


def dead_members(found, widths_only=False) -> dict:
    """The members whose trained weights are all zero, a list of integers by name of each structure that has some."""
    dead = {each.name: np.flatnonzero(each.norms(trainable=True) == 0).tolist() for each in found if _may_leave(each)}
    if widths_only:  # the last member stays, for a layer without any would leave
        sizes = {each.name: each.size for each in found if each.kind not in NO_WIDTH}
        dead = {name: members[len(members) == sizes[name] :] for name, members in dead.items() if name in sizes}
    return {name: members for name, members in dead.items() if members}


def one_of_each(model) -> dict:
    """The first member of each structure of widths that may leave, as `dead_members` gives them."""
    found = [structure for structure, _ in followed(opened(model))[1]]
    return {each.name: [0] for each in found if _may_leave(each) and each.kind not in NO_WIDTH and each.size > 1}


def smaller(model, told=None, widths_only=False):
    """A model without its dead members, and which these were.

    It is made in passes: where a branch has left, more can leave than before.

    Args:
        model: that trains.
        told: what an earlier call gave as the second value, to take out the same members; None: those that are zero.
        widths_only: whether no layer and no feature of the input may leave.

    Returns:
        The smaller model (None: nothing leaves); for each pass the members, as `dead_members` gives them; and a
        function from a layer of the model to that of the smaller one (None: it has left).

    Raises:
        ValueError: `told` names structures or members that the model does not have.
    """
    small, fates, gone, builders = opened(model), [], [], []
    while told is None or len(gone) < len(told):
        found = [structure for structure, _ in followed(small)[1]]
        dead = dead_members(found, widths_only) if told is None else _checked(told[len(gone)], found)
        graph = _graph(small, found, dead)
        plan = make_plan(graph)
        if not plan.changes:
            break
        builder = Builder(graph, plan)
        small = builder.build()
        fates = composed(fates, builder.fates) if fates else builder.fates
        gone.append(dead)
        builders.append(builder)
    if not gone:
        return None, [], None
    remember(small, fates)
    return small, gone, lambda layer: functools.reduce(lambda layer, each: each.became(layer), builders, layer)


def _may_leave(structure):
    return structure.kind not in LEARNED and not structure.fixed


def _graph(model, found, dead):
    """The model, followed with the trained weights of dead members as the only zeros."""
    zero = {}
    for structure in found:
        members = dead.get(structure.name, [])
        for piece in structure.penalized if members else ():
            if piece.variable.trainable:
                zero.setdefault(id(piece.variable), []).append((piece.axis, piece.indices[members].ravel()))

    def seen(variable):
        if not keras.backend.is_float_dtype(variable.dtype):
            return variable.numpy()
        rng = np.random.default_rng(zlib.crc32(variable.path.encode()))  # equal ones could cancel in a sum
        array = rng.uniform(0.5, 1.5, variable.shape)
        for axis, positions in zero.get(id(variable), ()):
            np.moveaxis(array, axis, 0)[positions] = 0
        return array

    graph = Graph(model, tolerance=0.0, seen=seen)
    for reading in graph.readings.values():
        reading.foldable = False
    return graph


def _checked(told, found):
    """Members that are told, for structures that are there."""
    sizes = {structure.name: structure.size for structure in found}
    for name, members in told.items():
        if name not in sizes or not all(0 <= member < sizes[name] for member in members):
            known = ", ".join(f"{name} ({size})" for name, size in sizes.items())
            raise ValueError(
                f"reconfigure: expected members of the model's structures, as it was built before anything left. "
                f"Received: {len(members)} members of {name!r}. Structures and their sizes: {known}."
            )
    return told
