"""What a training of a model has when it begins: optimizers, random numbers, an epoch, metrics."""

import keras
import tensorflow as tf
from keras.src.random.seed_generator import global_seed_generator  # where keras.random has no seed of its own

from tf_terngrad.keras_internals.in_place import inside_of, leaves


def optimizers_of(model, given=None) -> list:
    """The optimizers that move a model: those given, one or a list; None: what `compile` or the user has put on it.

    A class that trains its parts apart keeps an optimizer for each as an attribute of its own.
    """
    if given is not None:
        return list(given) if isinstance(given, (list, tuple)) else [given]
    held = {id(each): each for each in leaves(vars(model)) if isinstance(each, keras.optimizers.Optimizer)}
    inside = {id(part) for each in held.values() for inner in inside_of(each) for part in (inner, *inside_of(inner))}
    return [each for each in held.values() if id(each) not in inside]


def begin_at(model, epoch) -> None:
    """Have the `fit` that is about to begin start at an epoch; 0: at the one that it was told."""
    model._initial_epoch = epoch


def seed_states(model) -> list:
    """The states of a model's generators of random numbers, and of the one that serves all that have none."""
    own = [variable for variable in model.variables if variable.name.startswith("seed_generator_state")]
    return [*own, global_seed_generator().state]


def build_metrics(model, batch) -> None:
    """Make the variables of a model's loss and metrics, as its first training step would, from a batch of data."""
    data = keras.tree.map_structure(lambda part: None if isinstance(part, tf.experimental.Optional) else part, batch)
    model._symbolic_build(data_batch=data)
