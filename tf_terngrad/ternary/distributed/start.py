"""How a training begins: optimizers that are told the same, and are built alike, on all workers."""

import numbers

import keras

from tf_terngrad.keras_internals import inside_of, seed_states, trainable_variables
from tf_terngrad.ternary.distributed.optimizer import is_distributed
from tf_terngrad.ternary.distributed.state import exchange_state
from tf_terngrad.ternary.transport import Transport


def settings_of(optimizers) -> list[str]:
    """A line for each setting of some optimizers that is no variable, such as momentum, or a schedule's steps."""
    return [line for optimizer in optimizers for part in _parts(optimizer) for line in _settings(part)]


def state_of(optimizers) -> list:
    """All variables of some optimizers, and how far the random bits of their exchanges are."""
    own = [variable for optimizer in optimizers for variable in optimizer.variables]
    exchanges = [exchange_state(optimizer).variables for optimizer in optimizers if is_distributed(optimizer)]
    return own + [variable for variables in exchanges for variable in variables]


def shared_of(model, optimizers) -> list:
    """What all workers have alike: all of a model but for its streams of random numbers, and `state_of` optimizers."""
    own = set(map(id, seed_states(model)))
    return [variable for variable in model.variables if id(variable) not in own] + state_of(optimizers)


def built_for(optimizers, model) -> list:
    """For each optimizer, the places among the model's variables of those that it is built for; None: it is not."""
    places = {id(variable): place for place, variable in enumerate(model.variables)}
    return [_places(optimizer, places) for optimizer in optimizers]


def build_alike(optimizers, model, root_rank: int, network: Transport) -> None:
    """Build the optimizers that are built on one worker, such as one that has loaded a state, on all of them.

    Those that nobody has built stay so: in the first step they become alike.
    """
    everyones = network.everyones(built_for(optimizers, model), "tf_terngrad.built")
    first = everyones[network.ranks().index(root_rank)]
    build(optimizers, model, [next(filter(None, each), None) for each in zip(first, *everyones, strict=True)])


def build(optimizers, model, places) -> None:
    """Build optimizers that are not built for the variables at these places, as `built_for` gives them."""
    variables = model.variables
    for optimizer, chosen in zip(optimizers, places, strict=True):
        if chosen and not optimizer.built:
            optimizer.build([variables[place] for place in chosen])


def _places(optimizer, places):
    found = [places.get(id(variable)) for variable in trainable_variables(optimizer)] if optimizer.built else []
    return None if not found or None in found else found


def _parts(optimizer):
    return [optimizer, *(part for inner in inside_of(optimizer) for part in _parts(inner))]


def _settings(optimizer):
    kind = type(optimizer).__name__
    try:
        config = optimizer.get_config()
    except Exception:  # whatever a function or a schedule of the user's raises where it cannot be written down
        return [f"{kind}: settings that cannot be told"]
    inner = {"name", *(name for name, value in vars(optimizer).items() if _holds_optimizers(value))}
    return [
        f"{kind}: {name}={_plain(value)}"
        for name, value in sorted(config.items())
        if name not in inner and not (name == "learning_rate" and isinstance(value, numbers.Number))
    ]


def _holds_optimizers(value):
    values = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(each, keras.optimizers.Optimizer) for each in values)


def _plain(value):
    """A setting as text that is the same in another process: without addresses, and the code of functions."""
    if isinstance(value, dict):
        if value.get("class_name") == "__lambda__":
            return "a function"
        left_out = ("name", "registered_name", "build_config")
        return {name: _plain(each) for name, each in value.items() if name not in left_out}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, (bool, numbers.Number, str)):
        return value
    return getattr(value, "__name__", type(value).__name__)
