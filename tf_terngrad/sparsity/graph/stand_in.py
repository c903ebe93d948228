"""A graph that stands for a user's model or layer, with the user's own layers and variables in it."""

from keras import tree

from tf_terngrad.keras_internals import Functional, note_trainable


class StandIn(Functional):
    """The graph of a model with its composites opened, or of a composite's call.

    Attributes:
        original: the user's model or layer; nothing of it is copied.
        traced: whether the graph is that of a call, and takes all that the call takes; otherwise it is a model's.
        masks: which of the masks that travel with a call's tensors are inputs, behind its positional arguments.
    """

    def __init__(self, original, inputs, outputs, traced=False, masks=(), name=None):
        super().__init__(inputs, outputs, name=name or original.name)
        note_trainable(self, original.trainable)
        self.supports_masking |= not traced and original.supports_masking
        vars(self)["traced"], vars(self)["masks"] = traced, masks
        vars(self)["original"] = original  # Keras would take what is set for a layer of this graph


def original(layer):
    """The user's own model or layer that a graph stands for; any other is its own."""
    return layer.original if isinstance(layer, StandIn) else layer


def is_traced(layer):
    """Whether a layer is the graph of a call."""
    return isinstance(layer, StandIn) and layer.traced


def entering(layer, args, kwargs, kind):
    """The values of a kind that enter a graph used as a layer: of a model's, without masks; all of a call's."""
    given = (args, kwargs) if is_traced(layer) else (args or tuple(kwargs.values()))[0]
    return [value for value in tree.flatten(given) if isinstance(value, kind)]
