"""A graph that stands for a user's model or layer, with the user's own layers and variables in it."""

from keras import tree

from tf_terngrad.keras_internals import Functional, is_graph, note_trainable


class StandIn(Functional):
    """The graph of a model with its composites opened, or of a composite's call.

    Attributes:
        original: the user's model or layer; nothing of it is copied.
        masks: which of the masks that travel with a composite's tensors are inputs, behind its positional arguments.
    """

    def __init__(self, original, inputs, outputs, masks=()):
        super().__init__(inputs, outputs, name=original.name)
        note_trainable(self, original.trainable)
        vars(self)["masks"] = masks
        vars(self)["original"] = original  # Keras would take what is set for a layer of this graph


def original(layer):
    """The user's own model or layer that a graph stands for; any other is its own."""
    return layer.original if isinstance(layer, StandIn) else layer


def entering(layer, args, kwargs, kind):
    """The values of a kind that enter a graph used as a layer: of a model's, without masks; all of a composite's."""
    model = is_graph(original(layer))
    given = (args or tuple(kwargs.values()))[0] if model else (args, kwargs)
    return [value for value in tree.flatten(given) if isinstance(value, kind)]
