"""What a rule is, and the registry of rules by layer type."""

import keras

from tf_terngrad.keras_internals import Functional, is_graph

_RULES = {}


class Rule:
    """How one family of layers ties its dimensions.

    `follow(call)` sets `call.output.axes[i]`, the channels of each output axis that can shrink, from
    `call.inputs[k].axes[j]`; it labels the layer's weights with the units along their axes and says where channels are
    read. `config(call, kept)` is the configuration of the layer when only the kept units remain.

    Example, a layer that scales each channel by a weight of its own::

        class ScaleRule(tt.Rule):
            def follow(self, call):
                channels = call.inputs[0].axes[-1]
                if channels is not None:
                    call.label(call.layer.scale, 0, channels.units, "scale")
                    call.output.axes[-1] = channels.unknown()

        tt.register_rule(Scale, ScaleRule())
    """

    kind = "unit"
    """What a position of the axis that the layer produces is called."""

    expands = False
    """Whether the layer is a composition: `expand(call)` follows its parts and returns the output edges."""

    def follow(self, call):
        """Tie, label, read or freeze; set the channels of the outputs."""
        raise NotImplementedError(f"{type(self).__name__} must define follow(call).")

    def why_frozen(self, layer):
        """Why nothing is known of the layer's inside; None where the rule follows it."""
        return None

    def config(self, call, kept):
        """The configuration of the smaller layer. `kept.width(channels)` counts what stays."""
        return call.layer.get_config()

    def skippable(self, call, kept):
        """Positions in `call.inputs` that the output does not depend on."""
        return set()

    def bias(self, layer):
        """The variable that takes constants over; None if the layer has no bias."""
        return layer.bias

    def with_bias(self, call, config):
        """The configuration of a layer that had no bias, and must hold a folded constant."""
        return {**config, "use_bias": True}

    def layer(self, builder, call, name=None):
        """The smaller twin of the layer, made once for all its calls."""
        return builder.remake(call, name)

    def rebuild(self, builder, call, args, kwargs):
        """Call the smaller layer on the smaller tensors; inputs that have left are None."""
        return builder.layer(call)(*args, **kwargs)


class Frozen(Rule):
    """What enters and what leaves the layer keeps its width."""

    def __init__(self, reason):
        self.reason = reason

    def follow(self, call):
        call.freeze(call.inputs, self.why_frozen(call.layer))

    def why_frozen(self, layer):
        return f"{self.reason} ({type(layer).__name__})"


_UNKNOWN = Frozen("no rule knows this layer")
_QUANTIZED = Frozen("quantized and LoRA layers are left as they are")


def register_rule(layer_type, rule):
    """Teach the package how a layer type ties its dimensions.

    Args:
        layer_type: a `keras.layers.Layer` or `keras.Operation` class; its subclasses are *not* covered, for they may
            compute anything.
        rule: an instance of `Rule`; ready-made ones are in `tf_terngrad.sparsity.rules`, such as `Elementwise()`.

    Raises:
        TypeError: for anything else.

    Example:

    ```python
    @keras.saving.register_keras_serializable()
    class Swish6(keras.layers.Layer):
        def call(self, x):
            return x * keras.ops.relu6(x + 3) / 6

    tt.register_rule(Swish6, tt.rules.Elementwise())
    ```
    """
    if not (isinstance(layer_type, type) and issubclass(layer_type, keras.Operation)):
        raise TypeError(f"Expected a class of Keras layers or operations. Received: layer_type={layer_type!r}")
    if not isinstance(rule, Rule):
        raise TypeError(f"Expected an instance of Rule for {layer_type.__name__}. Received: rule={rule!r}")
    _RULES[layer_type] = rule


def rule_for(layer):
    """The rule of a layer or operation."""
    if is_graph(layer):
        return _RULES[Functional]
    if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        return _QUANTIZED
    return _RULES.get(type(layer), _UNKNOWN)
