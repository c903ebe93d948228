"""What a layer knows of itself: the layers inside, the parameters of its call, the shapes that it was built for."""

import inspect


def all_layers(layer) -> list:
    """A layer and all layers inside of it, in wrappers too; `model.layers` stops at the first level."""
    return list(layer._flatten_layers())


def inner_layers(layer) -> list:
    """The layers that a layer holds itself, in lists and dictionaries too; not those inside of these."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def parameters_of(layer):
    """The parameters of a layer's call."""
    return inspect.signature(layer.call).parameters


def built_for(model):
    """The shapes of the tensors that a subclassed model was built for, as its call takes them; None: not known."""
    shapes = model._build_shapes_dict or {}
    return next(iter(shapes.values())) if len(shapes) == 1 else None


def statistics_axes(normalization) -> tuple:
    """The axes that a `Normalization` layer has statistics for."""
    return normalization._keep_axis
