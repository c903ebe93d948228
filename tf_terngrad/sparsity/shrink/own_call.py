"""A class with a `call` and other methods of its own stays that class: its layers become smaller, each where it is.

The methods call the class, so a graph in its place would not do. Its layers take the widths that they have in the
smaller graph, and the call is traced once more: it has to be that graph, operation by operation. A call that would need
another graph (numbers of the old width in it, a gather between two layers) is refused, and the layers are again what
they were.
"""

import keras
import numpy as np
from keras import tree

from tf_terngrad.keras_internals import Resized, all_layers, graph_of, inner_layers, is_graph, nodes
from tf_terngrad.sparsity.graph.alike import are_twins, configuration, without_training
from tf_terngrad.sparsity.graph.composites import is_composite
from tf_terngrad.sparsity.graph.open import opened
from tf_terngrad.sparsity.graph.stand_in import StandIn
from tf_terngrad.sparsity.graph.symbolic import is_array
from tf_terngrad.sparsity.graph.trace import settings
from tf_terngrad.sparsity.graph.values import state_of
from tf_terngrad.sparsity.learn import hooks
from tf_terngrad.sparsity.remove.fates import fate, fates
from tf_terngrad.sparsity.shrink.leaving import one_of_each, smaller


class AnotherCall(ValueError):
    """A model whose call would have to be another one."""


_METHODS = ("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics")


def stays_its_class(model) -> bool:
    """Whether a model has methods of its own around a call of its own, and so has to keep both."""
    return not is_graph(model) and bool(own_methods(model))


def own_methods(model) -> list:
    """The names of the methods of training, testing and predicting that a model's class defines."""
    return [name for name in _METHODS if getattr(type(model), name) is not getattr(keras.Model, name)]


def rehearse(model) -> None:
    """Refuse a model whose call would have to be another one if a member of each of its structures left.

    Those count that `tt.sparsify` is on, if it is on any; the others are not about to leave.

    Raises:
        AnotherCall: the message says why.
    """
    held = [each for owner in hooks.all_owners(model.variables) for each in getattr(owner, "structures", ())]
    members, names = one_of_each(model), {each.name for each in held}
    members = {name: each for name, each in members.items() if name in names} or members
    small, _, became = smaller(model, [members])
    if small is not None:
        shrink_layers(model, small, became, fates(small))[0].undo()


def shrink_layers(model, small, became, found):
    """Make the layers of a model what they are in a smaller graph of it.

    Args:
        model: of a class with a call of its own.
        small: the smaller graph.
        became: a function from a layer of the model to that of the smaller graph; None: it is not there.
        found: the fates of the variables of the model, in the smaller graph.

    Returns:
        An object with `undo()`, and the fates of the variables: those that do not change are not remade.

    Raises:
        AnotherCall: the model's call, with smaller layers, is not the smaller graph. The layers are what they were.
    """
    resized = Resized()
    try:
        return resized, _shrunk(model, small, became, {id(each.old): each for each in found}, resized)
    except (ValueError, TypeError) as reason:  # some are those of Keras, or of the user's call, on other shapes
        resized.undo()
        said = reason if isinstance(reason, AnotherCall) else f"its `call` fails with smaller layers: {reason}"
        raise AnotherCall(
            f"reconfigure: {model.name!r} ({type(model).__name__}) has a `call` of its own and its own "
            f"{own_methods(model)[0]}, so each of its layers has to become smaller where it is. But {said}. Make the "
            "network by keras.Model(inputs, outputs), or by a class derived from keras.Model that is given them: its "
            "methods stay."
        ) from reason


def _shrunk(model, small, became, known, resized):
    """Resize what changes and see that the call is what it should be; gives the fates of all variables."""
    partners, moved = {}, []
    for layer in _whole_layers(model):
        new_layer = became(layer)
        if new_layer is None:
            raise AnotherCall(f"layer {layer.name!r} would leave, or its `call` does not use it")
        partners[id(new_layer)] = layer
        its_fates = [known[id(each)] for each in _state(layer) if id(each) in known]
        if _is_another(layer, new_layer) or not all(map(_is_whole, its_fates)):
            resized.resize(layer, new_layer)
            moved += its_fates
        else:
            moved += [fate(each, each, map(np.arange, each.shape)) for each in _state(layer)]
    _require_same(small, opened(model), partners)
    return moved


def _whole_layers(layer):
    """The layers inside of a layer that become smaller as a whole: not the user's own, which call other layers."""
    for inner in inner_layers(layer):
        if is_graph(inner) or not is_composite(inner):
            yield inner
        elif any(each.trainable or not each.name.startswith("seed") for each in _own_variables(inner)):
            raise AnotherCall(f"layer {inner.name!r} ({type(inner).__name__}) holds weights of its own")
        else:
            yield from _whole_layers(inner)


def _own_variables(layer):
    inside = {id(each) for inner in inner_layers(layer) for each in inner.variables}
    return [each for each in layer.variables if id(each) not in inside]


def _state(layer):
    return list({id(each): each for inner in all_layers(layer) for each in state_of(inner)}.values())


def _is_whole(fate):
    """Whether a variable is the same as before."""
    shape = tuple(fate.old.shape)
    whole = fate.new is not None and tuple(fate.new.shape) == shape == tuple(map(len, fate.kept))
    return whole and not fate.folded and not np.any(np.asarray(fate.factor) != 1)


def _is_another(layer, smaller):
    """Whether a layer computes something else with the same weights."""
    if type(layer) is not type(smaller):
        raise AnotherCall(f"layer {layer.name!r} would not be a {type(layer).__name__} any more")
    return not is_graph(layer) and configuration(layer) != configuration(smaller)


def _require_same(small, traced, partners):
    """Refuse a trace that is not a graph, where `partners` tells by id of a graph's layer which one it stands for."""
    ours, theirs = nodes(graph_of(small)), nodes(graph_of(traced))
    if len(ours) != len(theirs):
        raise AnotherCall("the smaller network has other operations than its `call`")
    pairs = dict(zip(map(id, graph_of(small).inputs), graph_of(traced).inputs, strict=True))
    for node, other in zip(ours, theirs, strict=True):
        _require_same_operation(node.operation, other.operation, partners)
        given, its = map(_given, (node, other))
        outputs = [tree.flatten(each.output_tensors) for each in (node, other)]
        same = len(given) == len(its) and all(_same(*pair, pairs) for pair in zip(given, its, strict=True))
        same = same and [tuple(t.shape) for t in outputs[0]] == [tuple(t.shape) for t in outputs[1]]
        if not same:
            raise AnotherCall(
                f"its `call` gives {other.operation.name!r} something else than the smaller network would"
            )
        pairs.update(zip(map(id, outputs[0]), outputs[1], strict=True))
    if not all(_same(*pair, pairs) for pair in zip(graph_of(small).outputs, graph_of(traced).outputs, strict=True)):
        raise AnotherCall("the smaller network has other outputs")


def _given(node):
    """The arguments of a call, flat; one of no value counts as none, as the `mask` that a graph may name."""
    named = {name: value for name, value in without_training(node).items() if value is not None}
    return tree.flatten((node.arguments.args, named))


def _require_same_operation(ours, theirs, partners):
    if isinstance(theirs, StandIn) and theirs.traced:
        _require_same(ours, theirs, partners)
        return
    stands_for = partners.get(id(ours))
    its = theirs.original if isinstance(theirs, StandIn) else theirs
    if stands_for is not None or isinstance(its, keras.Layer):
        if stands_for is not its and (stands_for is not None or not are_twins(ours, its)):
            raise AnotherCall(f"its `call` uses {its.name!r} where the smaller network has {ours.name!r}")
        return
    if type(ours) is not type(its) or not _equal(settings(ours), settings(its)):
        raise AnotherCall(f"its `call` computes {its.name!r} otherwise than the smaller network, as for the old widths")


def _same(ours, theirs, pairs):
    if isinstance(ours, keras.KerasTensor):
        return pairs.get(id(ours)) is theirs
    return not isinstance(theirs, keras.KerasTensor) and _equal(ours, theirs)


def _equal(ours, theirs):
    if is_array(ours) and is_array(theirs):
        ours, theirs = map(keras.ops.convert_to_numpy, (ours, theirs))
        return ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
    return repr(ours) == repr(theirs)
