"""The class of a user's model stays over the smaller graph: its methods, and what its object holds besides."""

import inspect

import keras

from tf_terngrad.keras_internals import TRAINING, Functional, blank_model, functional_like_constructor, is_graph
from tf_terngrad.sparsity.graph.stand_in import original
from tf_terngrad.sparsity.remove.carry import Left
from tf_terngrad.sparsity.remove.needs import is_registered


class Classes:
    """Gives smaller graphs the classes of the models that they were made of.

    Args:
        carrier: copies what the objects of models hold.

    Attributes:
        sentences: what does not work any more, for the user.
    """

    def __init__(self, carrier):
        self.sentences = []
        self._carrier = carrier

    def model(self, model, inputs, outputs, name, left):
        """A model of the same class over a graph of symbolic tensors; `left`: the layers that have left it."""
        old = original(model)
        new = _blank(old, Functional)
        Functional.__init__(new, inputs, outputs, name=name)
        return self._finished(old, new, left)

    def sequence(self, model, layers, name, left):
        """A `Sequential` of the same class over a chain of layers; `left`: the layers that have left it."""
        old = original(model)
        new = _blank(old, keras.Sequential)
        keras.Sequential.__init__(new, layers, name=name)
        return self._finished(old, new, left)

    def _finished(self, old, new, left):
        kind = type(old).__name__
        if _is_plain(old):
            return new
        if not isinstance(new, type(old)):
            self.sentences.append(f"{old.name} is no {kind} any more: it is no chain of layers.")
            return new
        with self._carrier.without(left):
            lost = [name for name, value in _held(old, new) if not self._give(new, name, value)]
        if lost:
            self.sentences.append(f"{old.name} ({kind}) has lost {', '.join(lost)}: layers of it have left.")
        if type(new) is not type(old):
            self.sentences.append(f"A file of {old.name} loads as a plain model, without the methods of {kind}.")
        return new

    def _give(self, new, name, value):
        """Give a model a copy of what another one holds; whether that is there still."""
        try:
            setattr(new, name, self._carrier.copy(value))
        except Left:
            return False
        return True


def _blank(old, base):
    """An object of a model's class, or where a file would not make it again as it is, of one that a file can."""
    kind = type(old) if isinstance(old, base) and is_graph(old) else base
    return blank_model(kind if _is_made_of_graph(kind, base) else _written_as(kind, base))


def _is_made_of_graph(kind, base):
    """Whether a file makes a model of this class of its graph, and not of other arguments, once its owner is there."""
    own = any(inspect.getattr_static(kind, way) is not inspect.getattr_static(base, way) for way in _WAYS)
    alike = kind.__init__ is base.__init__ or (base is Functional and functional_like_constructor(kind))
    written_so = (kind.__module__, kind.__name__) == (base.__module__, base.__name__)
    return alike and not own and (written_so or is_registered(kind))


def _written_as(kind, base):
    """A class with all methods of a model's, that is written to files as what its graph is.

    A constructor of the user's makes the layers of the full width: none of its arguments say what the graph is now.
    """
    ways = {way: inspect.getattr_static(base, way) for way in ("__init__", *_WAYS)}
    return type(base.__name__, (kind,), {**ways, "__module__": base.__module__, "__doc__": kind.__doc__})


def _held(old, new):
    """What the object of a model holds besides its graph and what training has put there, by name."""
    for name, value in list(vars(old).items()):
        training = name in TRAINING or type(value).__module__.startswith("tf_terngrad.")
        if name not in vars(new) and not training:
            yield name, value


def _is_plain(old):
    return type(old) in (Functional, keras.Sequential) or not is_graph(old)


_WAYS = ("get_config", "from_config")
