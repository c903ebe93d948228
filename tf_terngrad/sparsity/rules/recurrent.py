"""Recurrent layers: a cell at every step, and two of them from both ends."""

import keras
import numpy as np
from keras import tree

from tf_terngrad.keras_internals import mask_of
from tf_terngrad.sparsity.graph.channels import Channels, Edge
from tf_terngrad.sparsity.rules.base import Part, Rule
from tf_terngrad.sparsity.rules.cells import step_cost, unknown_cell, with_config
from tf_terngrad.sparsity.rules.masks import with_mask
from tf_terngrad.sparsity.rules.registry import register_rule, rule_for


class Recurrent(Rule):
    """A cell at every step of an axis, from states that are zero or given.

    Use it when a layer of your own runs a cell at every step.
    """

    kind = "hidden"

    def held(self, layer):
        return (layer.cell,)

    def why_frozen(self, layer):
        unknown = unknown_cell(layer.cell)
        name = type(unknown).__name__
        said = f"write a tt.rules.Cell with step() and cell_config(), and tt.register_rule({name}, ...)"
        return None if unknown is None else f"no rule knows its cell ({name}): use one of Keras's, or {said}"

    def follow(self, call):
        layer = call.layer
        sequence, given, mask = arguments(call.args, call.kwargs)
        reason = self.why_frozen(layer)
        if reason or not isinstance(sequence, Edge):
            call.freeze(call.inputs, reason or "it runs over several sequences")
            return
        place = self.channel_axis(layer)
        for axis, channels in enumerate(sequence.axes):
            if axis != place % len(sequence.shape):
                call.freeze_axis(channels, "these are the steps it runs over")
        kept = tree.flatten(layer.states or ())
        count = self.state_count(layer)
        at_rest = [self._is_zero(call, start) for start in (given or kept or [None] * count)]
        output, states = rule_for(layer.cell).step(call, layer.cell, sequence.axes[place], at_rest)
        for channels, start in zip(states, given, strict=False):
            self._tie(call, channels, start)
        for variable, channels in zip(kept, states, strict=False):
            call.label(variable, place, channels.units, "statistic")
        if mask is not None or sequence.masked:  # a masked step gives zero or the output before, and keeps the states
            output = output.zero_or_unknown()
            pairs = zip(states, at_rest, strict=True)
            states = [state.with_values(np.where((state.values == 0) & rest, 0.0, np.nan)) for state, rest in pairs]
        call.inside.extend(states)
        for edge, channels in zip(call.outputs, [output, *states], strict=False):
            edge.axes[place] = channels

    def channel_axis(self, layer):
        """The axis of the channels in sequences and states, from the end."""
        return -1

    def state_count(self, layer):
        """How many states the cell has."""
        return len(tree.flatten(layer.state_size))

    def _is_zero(self, call, start):
        """Which units of a state begin with zero: of one that begins anew, is kept between batches, or is given."""
        if start is None:
            return True
        if isinstance(start, keras.Variable):
            array = np.moveaxis(call.graph.value(start), self.channel_axis(call.layer), -1)
            return (array == 0).all(tuple(range(array.ndim - 1)))
        known = start.axes[self.channel_axis(call.layer)] if isinstance(start, Edge) else None
        return False if known is None else known.values == 0

    def _tie(self, call, channels, start):
        """A state is as wide as what it begins with."""
        known = start.axes[self.channel_axis(call.layer)] if isinstance(start, Edge) else None
        if known is None:
            call.freeze_axis(channels, "its initial state cannot shrink")
        else:
            call.graph.units.tie(channels.units, known.units)

    def config(self, call, kept):
        config, cell = call.layer.get_config(), call.layer.cell
        if self.why_frozen(call.layer):
            return config
        smaller = rule_for(cell).cell_config(call, cell, kept)
        if "cell" in config:
            return {**config, "cell": with_config(config["cell"], smaller)}
        return {**config, "units": smaller["units"]}

    def bias(self, layer):
        return layer.cell.bias

    def with_bias(self, call, config):
        if "cell" not in config:
            return {**config, "use_bias": True}
        return {**config, "cell": with_config(config["cell"], {**config["cell"]["config"], "use_bias": True})}

    def layer(self, builder, call, name=None):
        smaller = builder.remake(call, name)
        if isinstance(call.layer, (keras.layers.LSTM, keras.layers.GRU)):
            smaller.use_cudnn = call.layer.use_cudnn  # its configuration does not tell
        return smaller

    def multiply_adds(self, layer, output, sequences, *args, **kwargs):
        batch, steps, *rest = sequences.shape
        once = step_cost(layer.cell, keras.KerasTensor((batch, *rest), sequences.dtype))
        return None if once is None else steps * once


class Bidirectional(Rule):
    """Two recurrent layers, one from the front and one from the back, and what joins their outputs.

    Of a `Bidirectional` layer Keras takes both directions to be equally wide: where they are not any more, they become
    a small model of two layers side by side, which takes the mask, too. A mask that the graph does not show cannot be
    given to it: there both directions leave together.
    """

    expands = True

    def held(self, layer):
        return layer.forward_layer, layer.backward_layer

    def parts(self, layer, args, kwargs):
        sequence, *_ = arguments(args, kwargs)
        return [Part(inner, (sequence,)) for inner in self.held(layer)]

    def expand(self, call):
        graph, layer = call.graph, call.layer
        sequence, given, mask = arguments(call.args, call.kwargs)
        half = len(given) // 2
        results = []
        for inner, states in ((layer.forward_layer, given[:half]), (layer.backward_layer, given[half:])):
            kwargs = ({"initial_state": states} if states else {}) | ({} if mask is None else {"mask": mask})
            results.append(graph.apply(inner, (id(layer), inner.name), f"{call.path}/", (sequence,), kwargs))
        for edge in (edge for edges in results for edge in edges):
            for channels in edge.axes[:-1]:
                call.freeze_axis(channels, "both directions are joined along another axis")
        if not self._may_differ(call):
            for one, other in zip(*results, strict=True):
                self._join(call, one.axes[-1], other.axes[-1])
        (one, *its_states), (other, *others_states) = results
        if layer.merge_mode is None:
            return [one, other, *its_states, *others_states]
        double = 2 if layer.merge_mode == "concat" else 1
        merged = Edge((*one.shape[:-1], one.shape[-1] * double), one.dtype, layer.name)
        merged.masked = one.masked
        merged.axes[-1] = self._merge(call, one.axes[-1], other.axes[-1])
        graph.alias(call, one, merged)
        graph.alias(call, other, merged)
        return [merged, *its_states, *others_states]

    def _may_differ(self, call):
        """Whether the two directions can be a model of their own, which takes the same tensors in every call."""
        sequence, given, mask = arguments(call.args, call.kwargs)
        shown = mask is not None or not sequence.masked
        followed = all(isinstance(each, Edge) for each in _tensors(sequence, given, mask))
        return shown and followed and self._alike(call)

    def _alike(self, call):
        """Whether all calls so far are given as many states, and a mask or none."""
        given = [arguments(other.args, other.kwargs) for other in _calls(call.graph, call.layer.forward_layer)]
        return len({(len(states), mask is None) for _, states, mask in given}) == 1

    def _join(self, call, one, other):
        """Channels of both directions that leave together."""
        if one is not None and other is not None:
            call.graph.units.tie(one.units, other.units)
        else:
            call.freeze_axis(one, "the other direction cannot shrink")
            call.freeze_axis(other, "the other direction cannot shrink")

    def _merge(self, call, one, other):
        mode = call.layer.merge_mode
        if mode != "concat" or one is None or other is None:
            self._join(call, one, other)
        if one is None or other is None:
            return None
        return {
            "concat": lambda: Channels.concatenate([one, other]),
            "mul": lambda: one.with_values(
                np.where((one.values == 0) | (other.values == 0), 0.0, one.values * other.values)
            ),
            "sum": lambda: one.with_values(one.values + other.values),
            "ave": lambda: one.with_values((one.values + other.values) / 2),
        }[mode]()

    def layer(self, builder, call, name=None):
        layer, name = call.layer, name or call.layer.name
        parts = [builder.call_at((id(layer), inner.name)) for inner in (layer.forward_layer, layer.backward_layer)]
        forward, backward = map(builder.layer, parts)
        if not _equally_wide(builder.kept, *parts):
            return self._model(builder, call, forward, backward, name)
        config = {key: value for key, value in keras.layers.Layer.get_config(layer).items() if key != "name"}
        smaller = keras.layers.Bidirectional(
            forward, merge_mode=layer.merge_mode, backward_layer=backward, name=name, **config
        )
        builder.follow(layer.forward_layer, smaller.forward_layer)  # it makes a copy of the layer that it is given
        return smaller

    def _model(self, builder, call, forward, backward, name):
        """The two directions side by side, of a sequence, the states they begin with and the mask, if there are any."""
        layer, (sequence, given, mask) = call.layer, arguments(call.args, call.kwargs)
        entering = _tensors(sequence, given, mask)
        inputs = [builder.input(edge, f"{name}_{i}") for i, edge in enumerate(entering)]
        if len({other.inputs[0].shape for other in _calls(call.graph, layer.forward_layer)}) > 1:
            inputs = [
                _any_length(tensor) if edge in (sequence, mask) else tensor
                for edge, tensor in zip(entering, inputs, strict=True)
            ]
        states, half = inputs[1 : 1 + len(given)], len(given) // 2
        masked = {} if mask is None else {"mask": inputs[-1]}
        starts = [{"initial_state": part} if part else {} for part in (states[:half], states[half:])]
        one, *its_states = tree.flatten(forward(inputs[0], **starts[0], **masked))
        other, *others_states = tree.flatten(backward(inputs[0], **starts[1], **masked))
        outputs = [one, keras.ops.flip(other, axis=1) if layer.return_sequences else other]
        if layer.merge_mode == "concat":
            outputs = [keras.layers.Concatenate(name=f"{name}_both", dtype=layer.dtype_policy)(outputs)]
        if masked and layer.return_sequences and _mask_is_asked_for(call):  # a flipped sequence has none
            outputs = [with_mask(output, inputs[-1], f"{name}_mask{i}") for i, output in enumerate(outputs)]
        outputs += [*its_states, *others_states]
        return keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0], name=name)

    def rebuild(self, builder, call, args, kwargs):
        smaller = builder.layer(call)
        if isinstance(smaller, keras.layers.Bidirectional):
            return smaller(*args, **kwargs)
        sequence, *others = _tensors(*arguments(args, kwargs))
        if mask_of(sequence) is not None:  # it is given the mask itself; Keras would warn of one that comes with it
            sequence = keras.ops.copy(sequence)
        return smaller([sequence, *others] if others else sequence)


def arguments(args, kwargs):
    """The sequence, the list of initial states (empty: none are given) and the mask (or None) of a call."""
    named = dict(zip(("sequences", "initial_state", "mask"), args, strict=False)) | kwargs
    given = tree.flatten(named.get("initial_state"))
    return named["sequences"], [] if given == [None] else given, named.get("mask")


def _tensors(sequence, given, mask):
    """What a model of two directions takes, in order."""
    return [sequence, *given, *([] if mask is None else [mask])]


def _mask_is_asked_for(call):
    """Whether something reads masks where no call shows it: what trains the model, a model around, an unknown layer."""
    given = any(mask_of(tensor) is not None for tensor in call.graph.model.outputs)
    return given or call.path != call.layer.name or bool(call.graph.opaque)


def _any_length(tensor):
    """An input like another one, with any number of steps."""
    batch, _, *rest = tensor.shape
    return keras.Input(batch_shape=(batch, None, *rest), dtype=tensor.dtype, name=tensor.name)


def _calls(graph, layer):
    return [call for call in graph.calls if call.layer is layer]


def _equally_wide(kept, *calls):
    widths = [[channels and kept.width(channels) for edge in call.outputs for channels in edge.axes] for call in calls]
    return widths[0] == widths[1]


for _type in (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN, keras.layers.RNN):
    register_rule(_type, Recurrent())
register_rule(keras.layers.Bidirectional, Bidirectional())
