"""Build the smaller model: the same graph of stock Keras layers, with the configurations and weights that stay."""

import keras
import numpy as np
from keras import tree
from keras.src.saving.serialization_lib import SafeModeScope

from tf_terngrad.sparsity.graph import run_nodes
from tf_terngrad.sparsity.rules import is_graph, rule_for


class Builder:
    """Rebuilds a followed model by its plan; rules call it to make their layers.

    Attributes:
        kept: which units stay.
    """

    def __init__(self, graph, plan):
        self.kept = plan.kept
        self._graph = graph
        self._sites = plan.sites
        self._layers = {}
        self._copies = []
        self._folds = self._constants_to_fold()

    def build(self):
        """The smaller model, with its weights."""
        model = self._model(self._graph.model, self._graph.inputs, gather=True)
        for old, new in self._copies:
            self._copy_weights(old, new)
        return model

    def call_at(self, site):
        """What was seen at a place of the model's graphs."""
        return self._graph.sites[site]

    def rebuild(self, site, args, kwargs):
        """The smaller layer of a place, called; None where it has left."""
        call = self.call_at(site)
        return rule_for(call.layer).rebuild(self, call, args, kwargs) if site in self._sites else None

    def layer(self, call):
        """The smaller twin of the call's layer, the same in all its calls."""
        old = call.layer
        if id(old) in self._layers:
            return self._layers[id(old)]
        if is_graph(old):
            self._layers[id(old)] = self._model(old, call.inputs)
            return self._layers[id(old)]
        return self.adopt(old, type(old).from_config, _stock(rule_for(old).config(call, self.kept)))

    def adopt(self, old, make, config):
        """make(config), remembered as the twin of a layer."""
        if id(old) in self._layers:
            return self._layers[id(old)]
        if id(old) in self._folds and old.bias is None:
            config = {**config, "use_bias": True}
        try:
            with SafeModeScope(safe_mode=False):
                new = make(config)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise ValueError(
                f"Layer {old.name!r} ({type(old).__name__}) cannot be made again from its configuration: {error} "
                "Define get_config() so that from_config(get_config()) gives the same layer."
            ) from error
        self._layers[id(old)] = new
        self._copies.append((old, new))
        return new

    def _model(self, model, edges, gather=False):
        """The smaller twin of a model whose inputs are these edges; `gather`: the inputs themselves keep their width."""
        functional = getattr(model, "_functional", None) or model
        inputs = [self._input(tensor, None if gather else edge) for tensor, edge in zip(functional.inputs, edges, strict=True)]
        entering = [self._gather(t, edge) if gather else t for t, edge in zip(inputs, edges, strict=True)]

        def rebuild(node, args, kwargs):
            tensors = tree.flatten(node.output_tensors)
            if id(node) not in self._sites:
                return [None] * len(tensors)
            return tree.flatten(self.rebuild(id(node), args, kwargs))

        outputs = run_nodes(functional, entering, rebuild)
        if isinstance(model, keras.Sequential):
            chain = self._chain(inputs[0], outputs[0])
            if chain is not None:
                return keras.Sequential([inputs[0], *chain], name=model.name, trainable=model.trainable)
        return keras.Model(
            tree.pack_sequence_as(functional._inputs_struct, inputs),
            tree.pack_sequence_as(functional._outputs_struct, outputs),
            name=model.name,
        )

    def _input(self, tensor, edge):
        shape = list(tensor.shape)
        for axis, channels in enumerate(edge.axes if edge else ()):
            if channels is not None:
                shape[axis] = self.kept.width(channels)
        layer = tensor._keras_history.operation
        return keras.Input(
            batch_shape=shape, dtype=tensor.dtype, sparse=tensor.sparse, name=layer.name, optional=layer.optional
        )

    def _gather(self, tensor, edge):
        """Pick the features of the model's input that somebody reads."""
        for axis, channels in enumerate(edge.axes):
            if channels is not None and self.kept.width(channels) < len(channels) and not self._graph.is_gathered(edge):
                tensor = keras.ops.take(tensor, np.flatnonzero(self.kept.mask(channels)).tolist(), axis=axis)
        return tensor

    def _chain(self, first, last):
        """The layers from one tensor to another, if each takes just the one before."""
        layers, tensor = [], last
        while tensor is not first:
            layer, index, _ = tensor._keras_history
            arguments = layer._inbound_nodes[index].arguments
            plain = len(arguments.args) == 1 and not arguments.kwargs and isinstance(arguments.args[0], keras.KerasTensor)
            if not plain or not isinstance(layer, keras.layers.Layer) or layer in layers:
                return None
            layers.insert(0, layer)
            tensor = arguments.args[0]
        return layers

    def _constants_to_fold(self):
        """For each layer, what the constants that leave its input add to its bias."""
        folds = {}
        for reading in self._graph.readings.values():
            if reading.kernel is None or not reading.foldable or not reading.sites & self._sites:
                continue
            leaving = ~self.kept.mask(reading.channels) & reading.constant & (reading.channels.values != 0)
            added = reading.constant_sum(leaving) if leaving.any() else np.zeros(1)
            if added.any():
                folds[id(self.call_at(next(iter(reading.sites))).layer)] = added, reading.columns[0]
        return folds

    def _copy_weights(self, old, new):
        for source, target in zip(getattr(old, "weights", ()), getattr(new, "weights", ()), strict=False):
            array = keras.ops.convert_to_numpy(source.value)
            self._assign(old, source, target, array)
        if id(old) in self._folds:
            added, columns = self._folds[id(old)]
            bias = added + (0.0 if old.bias is None else self._graph.value(old.bias))
            new.bias.assign(bias[self.kept.stays(columns)])
        if hasattr(new, "finalize_state"):
            new.finalize_state()

    def _assign(self, layer, source, target, array):
        weight = self._graph.weights.get(id(source))
        array = self.kept.shrink(weight, array)
        if tuple(target.shape) != array.shape:
            raise RuntimeError(
                f"Layer {layer.name!r}: weight {target.name!r} should have shape {tuple(target.shape)} after "
                f"compaction, but {array.shape} stays. The rule of {type(layer).__name__} contradicts itself."
            )
        target.assign(array)


def _stock(config):
    """A configuration without this package's regularizers and constraints: a smaller model is stock Keras."""
    if isinstance(config, dict):
        if str(config.get("registered_name", "")).startswith("tf_terngrad>"):
            return None
        return {key: _stock(value) for key, value in config.items()}
    return [_stock(value) for value in config] if isinstance(config, list) else config
