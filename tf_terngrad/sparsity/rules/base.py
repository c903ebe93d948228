"""What a rule is, and the rules of layers of which nothing is known."""

import dataclasses
import inspect
import typing
import weakref

import keras


@dataclasses.dataclass(frozen=True)
class Part:
    """A layer inside another one, and how that one calls it.

    Use it when the rule of a layer that holds others tells what they cost: its `parts` gives a list of these.

    Args:
        layer: the inner layer.
        args, kwargs: of one call, with symbolic tensors.
        times: how many such calls one call of the outer layer makes.
        stands_in: whether it is all there is to the outer layer, and goes by that one's name.
    """

    layer: keras.Layer
    args: tuple
    kwargs: dict = dataclasses.field(default_factory=dict)
    times: int = 1
    stands_in: bool = False


class Rule:
    """All that is known of one family of layers: the axes of its weights, how it is followed, what it costs.

    Use it when you want the package to know a layer of your own: write one subclass, and register it.

    - `axes(layer)` names the axes of its weights that count its outputs and inputs. Regularizers, `GroupSparse` and
      reports use it.
    - `follow(call)` sets `call.output.axes[i]`, the channels of each output axis that can shrink, from
      `call.inputs[k].axes[j]`; it labels the layer's weights with the units along their axes and says where channels
      are read.
    - `config(call, kept)` is the configuration of the layer when only the kept units remain.
    - `multiply_adds(layer, output, *args, **kwargs)` is what one call costs.
    - `window(layer)` is the kernel of a layer that slides one, if taps that are zero may leave.

    Example, a layer that scales each channel by a weight of its own::

        class ScaleRule(tt.Rule):
            def axes(self, layer):
                return {"scale": tt.rules.Axes(outputs=(-1,), inputs=(-1,))}

            def follow(self, call):
                channels = call.inputs[0].axes[-1]
                if channels is not None:
                    call.label(call.layer.scale, 0, channels.units, "scale")
                    call.output.axes[-1] = channels.unknown()

            def multiply_adds(self, layer, output, inputs):
                return 0  # no product of matrices

        tt.register_rule(Scale, ScaleRule())
    """

    kind = "unit"
    """What a position of the axis that the layer produces is called."""

    elementwise = False
    """Whether every element is computed alone: then the rule may be a function's, which is given as an activation."""

    loses_masks = False
    """Whether operations may stand for the smaller layer, which hand no mask of the steps on."""

    adds = False
    """Whether it adds tensors element by element, as a residual sum does."""

    expands = False
    """Whether the layer is a composition: `expand(call)` follows its parts and returns the output edges."""

    def axes(self, layer):
        """The `Axes` of the layer's weights, by name of the weight; what is not named is not known."""
        return {}

    def follow(self, call):
        """Tie, label, read or freeze; set the channels of the outputs."""
        raise NotImplementedError(f"{type(self).__name__} must define follow(call).")

    def why_frozen(self, layer):
        """Why nothing is known of the layer's inside; None where the rule follows it."""
        return None

    def config(self, call, kept):
        """The configuration of the smaller layer. `kept.width(channels)` counts what stays."""
        return config_of(call.layer)

    def multiply_adds(self, layer, output, *args, **kwargs):
        """The multiply-adds of one call, an integer; None: nobody knows. Without weights there are none.

        Args:
            layer: the layer.
            output: its first output, a symbolic tensor; its shape begins with a batch of one.
            *args: what the layer is called with, symbolic tensors too.
            **kwargs: likewise.
        """
        return None if getattr(layer, "weights", ()) else 0

    def parts(self, layer, args, kwargs):
        """The `Part`s that one call of a composition calls; None: the layer is none, or nobody knows them."""
        return None

    def learned(self, layer):
        """The weights that only training needs, and that have no place in the smaller layer."""
        return ()

    def window(self, layer):
        """The weight whose first axes are the taps of a window that slides over the first input; None: it has none.

        Taps that are zero can leave then: `kept.window(layer)` gives the configuration what changes.
        """
        return None

    def stock_type(self, layer):
        """The class of the smaller layer."""
        return type(layer)

    def held(self, layer):
        """The layers inside of this one whose weights have rules of their own."""
        return ()

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
        """The smaller layer, made once for all its calls."""
        return builder.remake(call, name)

    def rebuild(self, builder, call, args, kwargs):
        """Call the smaller layer on the smaller tensors; inputs that have left are None."""
        layer = builder.layer(call)
        # Not layer(...): what a `__call__` of its own does besides stands in the graph already, as calls of its own.
        kind = keras.Layer if isinstance(layer, keras.Layer) else keras.Operation
        return kind.__call__(layer, *args, **kwargs)


def config_of(operation):
    """The configuration of an operation; of one with arguments that Keras cannot write down, such as arrays, these."""
    try:
        return operation.get_config()
    except NotImplementedError:
        if isinstance(operation, keras.layers.Identity):  # Keras writes down no policy that it was given as an object
            return {"name": operation.name, "dtype": operation.dtype_policy.name}
        if isinstance(operation, keras.layers.Layer):
            raise
        own = vars(operation)
        return {name: own[name] for name in inspect.signature(type(operation).__init__).parameters if name in own}


class Frozen(Rule):
    """What enters and what leaves the layer keeps its width.

    Use it when nothing may leave at a layer of your own, and reports should say why.

    Args:
        reason: what reports say, such as "its kernel is made elsewhere".
    """

    def __init__(self, reason):
        self.reason = reason

    def follow(self, call):
        call.freeze(call.inputs, self.why_frozen(call.layer))

    def why_frozen(self, layer):
        return f"{self.reason} ({type(layer).__name__})"


class Unknown(Frozen):
    """A layer that nobody has told anything of; one of Keras's own without weights multiplies no matrices."""

    why_closed: typing.ClassVar = weakref.WeakKeyDictionary()
    """By layer, what stood in the way when its call was to be followed."""

    def __init__(self, reason="no rule knows this layer"):
        super().__init__(reason)

    def why_frozen(self, layer):
        closed = self.why_closed.get(layer)
        return f"{super().why_frozen(layer)}, and {closed}" if closed else super().why_frozen(layer)

    def multiply_adds(self, layer, output, *args, **kwargs):
        return super().multiply_adds(layer, output) if type(layer).__module__.startswith("keras.") else None


class Quantized(Frozen):
    """A quantized or LoRA layer: frozen, with the axes that it had before."""

    def __init__(self, rule):
        super().__init__("quantized and LoRA layers are left as they are")
        self.axes = rule.axes
