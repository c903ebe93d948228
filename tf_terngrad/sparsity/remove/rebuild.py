"""Build the smaller model: the same graph of stock Keras layers, with the configurations and weights that stay."""

import copy
import math
import tempfile

import keras
import numpy as np
from keras import tree

from tf_terngrad.keras_internals import (
    SafeModeScope,
    all_layers,
    call_of,
    graph_of,
    history,
    mask_of,
    node_of,
    nodes,
    note_trainable,
    read_once,
    structures_of,
    without_calls,
)
from tf_terngrad.sparsity.graph.channels import Edge
from tf_terngrad.sparsity.graph.own_weights import is_seed
from tf_terngrad.sparsity.graph.replay import replay
from tf_terngrad.sparsity.graph.stand_in import original
from tf_terngrad.sparsity.graph.symbolic import tensors_of
from tf_terngrad.sparsity.graph.trace import free_name
from tf_terngrad.sparsity.graph.values import array_of, state_of
from tf_terngrad.sparsity.remove.blank import blank_weights, fill_again
from tf_terngrad.sparsity.remove.carry import Carrier
from tf_terngrad.sparsity.remove.classes import Classes
from tf_terngrad.sparsity.remove.fates import fate, gone
from tf_terngrad.sparsity.remove.settings import give_settings, is_stock, own_settings, without_settings
from tf_terngrad.sparsity.remove.stock import stock
from tf_terngrad.sparsity.remove.windows import with_border
from tf_terngrad.sparsity.rules import Rule, rule_for, subclasses
from tf_terngrad.sparsity.rules.selection import take


class Builder:
    """Rebuilds a followed model by its plan; rules call it to make their layers.

    Attributes:
        kept: which units stay.
        sites: which places of the model's graphs stay.
        fates: what became of every variable, once the model is built.
    """

    def __init__(self, graph, plan):
        self.kept = plan.kept
        self.sites = plan.sites
        self.fates = []
        self._graph = graph
        self._layers = {}
        self._carrier = Carrier(graph.model)
        self._classes = Classes(self._carrier)
        self._copies = {}
        self._factors = {}
        self._blank = []  # the stock layers whose weights begin as zeros, until the model stands
        self._folds = self._constants_to_fold()
        self._taps = {id(window.kernel): window.taps for window in plan.kept.windows.values()}
        self._names = {call.layer.name for call in graph.calls}

    def build(self):
        """The smaller model, with its weights."""
        model = self.model(self._graph.model, self._graph.inputs, gather=True)
        for layer in self._blank:
            fill_again(layer)
        for old, new in self._copies.values():
            self._copy_state(old, new)
        for old, new in self._carrier.variables:
            self.fates.append(fate(old, new, list(map(np.arange, old.shape))))
        copied = {id(fate.old) for fate in self.fates}
        left = {id(v): v for layer in all_layers(self._graph.model) for v in state_of(layer) if id(v) not in copied}
        self.fates += map(gone, left.values())
        return model

    def leave(self, variable, stay):
        """Note of a variable that leaves for which positions along its first axis the model still computes."""
        if not any(each.old is variable for each in self.fates):
            self.fates.append(fate(variable, None, [np.flatnonzero(stay)]))

    def became(self, layer):
        """What stands for a layer of the model in the smaller one; None: it has left."""
        return self._carrier.made(layer)

    @property
    def sentences(self):
        """What does not work any more of the classes of the user's models."""
        return self._classes.sentences

    @property
    def graph(self):
        """The `Graph` of the model that is rebuilt."""
        return self._graph

    def units_along(self, variable, axis):
        """The units along an axis of a variable."""
        return self._graph.weights[id(variable)].axes[axis]

    def call_at(self, site):
        """What was seen at a place of the model's graphs."""
        return self._graph.sites[site]

    def is_gathered(self, edge):
        """Whether a tensor holds features of the model's input and keeps its width, for only `take` reads it."""
        return any(edge is flat for flat in self._graph.features) and self._graph.is_gathered(edge)

    def _keeps_widths(self, call):
        """Whether a layer stays as it is: its weights, what it is given and what it gives."""
        if _has_no_width(call.layer):
            return True
        followed = [channels for edge in (*call.inputs, *call.outputs) for channels in edge.followed]
        whole = all(self.kept.mask(channels).all() for channels in followed) and not self.kept.window(call.layer)
        return whole and id(call.layer) not in self._folds and all(map(self._is_whole, call.layer.weights))

    def _is_whole(self, variable):
        weight = self._graph.weights.get(id(variable))
        return weight is None or all(self.kept.stays(units).all() for units in weight.axes.values())

    def layer(self, call, name=None):
        """The smaller layer for the call's, the same in all its calls; `name` if not the layer's own."""
        old = call.layer
        if id(old) not in self._layers:
            self._layers[id(old)] = self._carrier.made(old) or rule_for(old).layer(self, call, name)
            self._carrier.note(old, self._layers[id(old)])
            self._carrier.note(original(old), self._layers[id(old)])
        return self._layers[id(old)]

    def remake(self, call, name=None):
        """A layer made from its smaller configuration; its weights follow when the model stands."""
        old, settings = call.layer, own_settings(call.layer)
        kind = rule_for(old).stock_type(old)
        if kind is type(old) and (settings or not is_stock(old)) and self._keeps_widths(call):
            return self.carried(old, name)
        if own := subclasses.put_on(old):
            raise ValueError(
                f"Layer {old.name!r} ({type(old).__name__}) cannot be made smaller: its {', '.join(own)} was put on "
                "the object, and no configuration has it. Write it as a method of a subclass."
            )
        try:
            with without_settings(old, settings):
                config = self._config(call, name)
            with SafeModeScope(safe_mode=False):
                new = kind.from_config(config)
            self._blank += blank_weights(new)
        except (TypeError, ValueError, NotImplementedError) as error:
            if not isinstance(old, keras.layers.Layer):
                return _copy_operation(old)
            raise ValueError(
                f"Layer {old.name!r} ({type(old).__name__}) cannot be made again from its configuration: {error} "
                "Define get_config() so that from_config(get_config()) gives the same layer."
            ) from error
        give_settings(new, settings, self._carrier.copy)
        self.follow(old, new)
        return new

    def _config(self, call, name):
        old, rule = call.layer, rule_for(call.layer)
        config = stock(rule.config(call, self.kept))
        if name:
            config["name"] = name
        return rule.with_bias(call, config) if id(old) in self._folds and rule.bias(old) is None else config

    def carried(self, old, name):
        """A copy of what keeps its widths, with its functions and ties."""
        new = self._carrier.copy(old)
        if name:
            new.name = name
        return new

    def follow(self, old, new):
        """The weights of a layer, or what stays of them, are another one's when the model stands."""
        self._copies[id(old)] = old, new
        self._carrier.note_remade(old, new)

    def scale(self, variable, factor):
        """Multiply what stays of a variable by a number, or an array that broadcasts to it (None: nothing to say)."""
        if variable is not None:
            self._factors[id(variable)] = factor

    def gather(self, tensor, edge):
        """Pick the features of the model's input that somebody reads; any other tensor stays as it is."""
        if any(edge is flat for flat in self._graph.features) and not self._graph.is_gathered(edge):
            mask = self.kept.mask(edge.axes[1])
            if not mask.all():
                tensor = take(tensor, np.flatnonzero(mask).tolist(), 1, f"{edge.name}_features")
        return tensor

    def with_border(self, call, tensor):
        """What a convolution reads when taps at the ends of its kernel have left."""
        window = self.kept.windows.get(id(call.layer))
        border = window.borders.get(call.site) if window else None
        return tensor if border is None else with_border(tensor, border, call.layer, self._free_name(call.layer.name))

    def _free_name(self, name):
        name = free_name(f"{name}_border", self._names)
        self._names.add(name)
        return name

    def alone(self, call, tensor):
        """The only term that is left of a sum; a name stays where it is the model's output."""
        if any(edge is output for edge in call.outputs for output in self._graph.outputs):
            return keras.layers.Identity(name=call.layer.name, dtype=tensor.dtype)(tensor)
        return tensor

    def input(self, edge, name, **options):
        """An input with the shape that stays of an edge."""
        shape = [size if c is None else self.kept.width(c) for size, c in zip(edge.shape, edge.axes, strict=True)]
        return keras.Input(batch_shape=shape, dtype=edge.dtype, name=name, **options)

    def model(self, model, edges, name=None, gather=False):
        """The smaller model of one with these edges as inputs; `gather`: the inputs themselves keep their width."""
        functional = graph_of(model)
        pairs = list(zip(functional.inputs, edges, strict=True))
        inputs = [self._model_input(tensor, edge, keep_shape=gather) for tensor, edge in pairs]
        entering = [self.gather(t, edge) for t, edge in zip(inputs, edges, strict=True)] if gather else inputs

        def rebuild(node, args, kwargs):
            if id(node) not in self.sites:
                return [None] * len(tree.flatten(node.output_tensors))
            call = self.call_at(id(node))
            args, kwargs = tree.map_structure(self._own_variable, (args, kwargs))
            outputs = tree.flatten(rule_for(call.layer).rebuild(self, call, args, kwargs))
            for tensor, new in zip(tree.flatten(node.output_tensors), outputs, strict=True):
                self._carrier.note(tensor, new)
            return outputs

        outputs = [read_once(tensor, inputs) for tensor in replay(functional, entering, rebuild)]
        structures = structures_of(functional)
        chain = _chain(inputs[0], outputs[0]) if isinstance(model, keras.Sequential) else None
        left = [original(node.operation) for node in nodes(functional) if id(node.operation) not in self._layers]
        if chain:
            smaller = self._classes.sequence(model, [inputs[0], *chain], name or model.name, left)
        else:
            ports = map(tree.pack_sequence_as, structures, (inputs, outputs))
            smaller = self._classes.model(model, *ports, name or model.name, left)
        note_trainable(smaller, model.trainable)
        smaller.supports_masking |= model.supports_masking
        return smaller

    def _own_variable(self, value):
        """A weight that an operation is given as it is: that of the layer that holds it, in the smaller model."""
        return self._carrier.copy(value) if isinstance(value, keras.Variable) else value

    def _model_input(self, tensor, edge, keep_shape):
        layer, own = history(tensor).operation, Edge.like(tensor)
        if not keep_shape and len(edge.axes) == len(own.axes):
            own.axes = edge.axes
        return self.input(own, layer.name, sparse=tensor.sparse, optional=layer.optional)

    def _constants_to_fold(self):
        """For each layer, what the constants that leave its input add to its bias."""
        folds = {}
        for reading in self._graph.readings.values():
            if reading.kernel is None or not reading.foldable or not reading.sites & self.sites:
                continue
            leaving = ~self.kept.all_stay(reading.units) & reading.constant & (reading.channels.values != 0)
            added = reading.constant_sum(leaving) if leaving.any() else np.zeros(1)
            if added.any():
                folds[id(self.call_at(next(iter(reading.sites))).layer)] = added, reading.columns[0]
        return folds

    def _copy_state(self, old, new):
        learned = set(map(id, rule_for(old).learned(old)))
        sources, targets = [variable for variable in state_of(old) if id(variable) not in learned], state_of(new)
        if id(old) in self._folds:
            before, after = (rule_for(old).bias(layer) for layer in (old, new))
            self._fold(old, before, after)
            sources = [variable for variable in sources if variable is not before]
            targets = [variable for variable in targets if variable is not after]
        if len(sources) != len(targets):
            raise RuntimeError(
                f"Layer {old.name!r} ({type(old).__name__}) has {len(sources)} weights, but made again from its "
                f"configuration it has {len(targets)}. Create all weights in build()."
            )
        for source, target in zip(sources, targets, strict=True):
            self._assign(old, source, target)
        _go_on_drawing(old, new)
        if hasattr(old, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                old.save_assets(folder)
                new.load_assets(folder)
        for layer in all_layers(new) if isinstance(new, keras.layers.Layer) else ():
            if isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()

    def _fold(self, layer, before, after):
        """Add constants to a bias (None: there was none); of a bias in rows, such as a GRU's, to the first."""
        added, columns = self._folds[id(layer)]
        stay = self.kept.stays(columns)
        bias = np.zeros((math.prod(after.shape) // stay.sum(), len(added)))
        bias += 0.0 if before is None else self._graph.value(before).reshape(bias.shape)
        bias[0] += added
        after.assign(bias[:, stay].reshape(after.shape))
        after.trainable = any(weight.trainable for weight in (layer.weights if before is None else [before]))
        whole = map(np.arange, after.shape[:-1])
        self.fates.append(fate(before, after, [*whole, np.flatnonzero(stay)], folded=True))

    def _assign(self, layer, source, target):
        kept = self.kept.along(self._graph.weights.get(id(source)), source.shape)
        kept[: len(self._taps.get(id(source), ()))] = self._taps.get(id(source), ())
        factor = self._factors.get(id(source), 1.0)
        array = _cut(array_of(source), kept)
        if np.any(factor != 1):
            array = (array * _cut(np.broadcast_to(factor, source.shape), kept)).astype(array.dtype)
        if array.size == math.prod(target.shape) and array.shape[-1:] in (target.shape[-1:], ()):
            array = array.reshape(target.shape)  # a table has rows, whatever the axes of a bare weight before its last
        if tuple(target.shape) != array.shape:
            raise RuntimeError(
                f"Layer {layer.name!r}: weight {target.name!r} should have shape {tuple(target.shape)} after "
                f"compaction, but {array.shape} stays. The rule of {type(layer).__name__} contradicts itself."
            )
        target.assign(array)
        target.trainable = source.trainable  # it may be frozen by itself
        self.fates.append(fate(source, target, kept, factor=factor))


def _cut(array, kept):
    """What stays of an array; the first axis first, for it is cut fastest."""
    for axis, positions in enumerate(kept):
        if len(positions) < array.shape[axis]:
            array = array.take(positions, axis)
    return array


def _go_on_drawing(old, new):
    """Let a layer draw the random numbers that come next; made from a configuration, it would begin anew."""
    before, after = ([each for each in getattr(layer, "variables", ()) if is_seed(each)] for layer in (old, new))
    if len(before) == len(after):
        for state, goes_on in zip(before, after, strict=True):
            goes_on.assign(state)


def _has_no_width(layer):
    """Whether a layer is the same for every width: it acts on each element, and nothing in it is of one size."""
    rule = rule_for(layer)
    return rule.elementwise and type(rule).config is Rule.config and not getattr(layer, "weights", ())


def _copy_operation(operation):
    """An operation without weights whose arguments cannot be written down: the same, in another graph."""
    return without_calls(copy.copy(operation))


def _is_mask_of(tensor, mask):
    """Whether a call is given no mask, or that which comes with its tensor, if computed once more."""
    own, given = mask_of(tensor), next(iter(tree.flatten(mask)), None)
    if given is None or given is own:
        return True
    return own is not None and _is_computed_alike(node_of(own), node_of(given))


def _is_computed_alike(one, other):
    """Whether two calls are of operations of one type, on the same tensors and equal values."""
    ours, theirs = (tree.flatten((node.arguments.args, node.arguments.kwargs)) for node in (one, other))
    same = type(one.operation) is type(other.operation) and len(ours) == len(theirs) > 0
    return same and all(a is b or not (tensors_of((a, b)) or np.any(a != b)) for a, b in zip(ours, theirs, strict=True))


def _chain(first, last):
    """The layers from one tensor to another, if each takes just the one before, and its mask if it comes with one."""
    layers, tensor = [], last
    while tensor is not first:
        layer, index, _ = history(tensor)
        arguments = call_of(layer, index)
        given = [value for name, value in arguments.kwargs.items() if name not in ("training", "mask")]
        plain = [*map(type, arguments.args)] == [keras.KerasTensor] and all(value is None for value in given)
        plain = plain and _is_mask_of(arguments.args[0], arguments.kwargs.get("mask"))
        if not plain or not isinstance(layer, keras.layers.Layer) or layer in layers:
            return None
        layers.insert(0, layer)
        (tensor,) = arguments.args
    return layers
