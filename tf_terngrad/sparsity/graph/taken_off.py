"""Masks that attention takes off the tensors that it is given.

Keras's attention layers do so when they compute: what reads such a tensor afterwards finds no mask on it. A symbolic
tensor keeps its mask, and so the graph of a call says another thing than the call does.
"""

import keras

from tf_terngrad.keras_internals import (
    all_layers,
    graph_of,
    history,
    is_graph,
    mask_of,
    node_of,
    nodes,
    regards_masks,
    set_mask,
    takes_masks_off,
)
from tf_terngrad.sparsity.rules.elementwise import Passing
from tf_terngrad.sparsity.rules.registry import rule_for


def taken_off(layer, tensors):
    """The symbolic tensors that a call on some of them takes the masks off, each with whether it surely does.

    Those that are the same ones at inference are among them: what dropout is given comes out of it.
    """
    for tensor, surely in zip(tensors, _of_each(layer, tensors), strict=True):
        for same in _same_tensors(tensor) if surely is not None else ():
            yield same, surely


def _of_each(layer, tensors):
    """For each tensor that a layer is given whether it surely takes the mask off it, or may; None: it does not."""
    if takes_masks_off(layer):
        return [True] * len(tensors)
    if is_graph(layer) and len(graph_of(layer).inputs) == len(tensors):
        return _by_graph(graph_of(layer))
    inside = isinstance(layer, keras.layers.Layer) and any(map(takes_masks_off, all_layers(layer)))
    return [False if inside else None] * len(tensors)


def _by_graph(graph):
    found = {}
    for node in nodes(graph):
        for tensor, surely in taken_off(node.operation, node.arguments.keras_tensors):
            found[id(tensor)] = surely or found.get(id(tensor), False)
    return [found.get(id(tensor)) for tensor in graph.inputs]


def _same_tensors(tensor):
    found = [tensor]
    while history(found[-1]) and not node_of(found[-1]).is_input and _passes(history(found[-1]).operation):
        found.append(node_of(found[-1]).arguments.keras_tensors[0])
    return found


def _passes(operation):
    return isinstance(rule_for(operation), Passing)


class TakenOff:
    """The masks that are taken off in a trace, in the order of its calls.

    The calls of its graph may be made in another order. So nothing else may make something of such a mask, but for what
    is computed from the attention that takes it off.
    """

    def __init__(self):
        self._taken = {}  # by id of a tensor: it, its mask, and what came of the call that took it off (None: perhaps)
        self._readers = {}  # by id of a tensor, what came of each call that made something of its mask

    def note(self, layer, tensors, outputs) -> bool:
        """Take off the masks that a call takes off; returns whether what comes of them is the same in any order."""
        if all(mask_of(tensor) is None and id(tensor) not in self._taken for tensor in tensors):
            return True
        reads = isinstance(layer, keras.layers.Layer) and any(map(regards_masks, all_layers(layer)))
        known = not reads or all(self._is_known(tensor, tensors) for tensor in tensors)
        for tensor, surely in taken_off(layer, tensors):
            if mask_of(tensor) is not None:
                known &= all(depends(outputs[0], read) for read in self._readers.get(id(tensor), ()))
                self._taken[id(tensor)] = tensor, mask_of(tensor), outputs if surely else None
                set_mask(tensor, None)
        for tensor in tensors if reads else ():
            self._readers.setdefault(id(tensor), []).append(outputs)
        return known

    def _is_known(self, tensor, tensors):
        """Whether a tensor's mask is the same in any order of the calls."""
        if id(tensor) not in self._taken:
            return True
        _, _, taker = self._taken[id(tensor)]
        return taker is not None and any(depends(other, taker) for other in tensors)

    def restore(self):
        """Hang the masks again on what had them."""
        for tensor, mask, _ in self._taken.values():
            set_mask(tensor, mask)


def depends(tensor, others) -> bool:
    """Whether a symbolic tensor is computed from one of several others, or is one of them."""
    wanted, seen, waiting = {id(other) for other in others}, set(), [tensor]
    while waiting:
        last = waiting.pop()
        if id(last) in wanted:
            return True
        if id(last) not in seen and history(last):
            seen.add(id(last))
            waiting += node_of(last).arguments.keras_tensors
    return False
