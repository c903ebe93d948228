"""Models, layers and variables that are made like others, without their constructors, and what they then hold."""

import keras

# What Keras notes on every layer when it is made, and a copy has to take over.
_TAKEN_OVER = (
    *("_trainable", "_path", "_parent_path", "_input_spec", "_called", "supports_jit", "_supports_masking", "autocast"),
    *("_call_signature", "call_signature_parameters", "_call_has_training_arg", "_call_has_mask_arg"),
    *("_call_context_args", "_call_has_context_arg", "_convert_input_args", "_allow_non_tensor_positional_args"),
    *("_build_shapes_dict", "_auto_config", "activity_regularizer", "rematerialization"),
)

TRAINING = (
    *("_compile_config", "_compiled_trainable_state", "_epoch_iterator", "_eval_epoch_iterator", "optimizer"),
    *("history", "stop_training", "stop_evaluating", "stop_predicting"),
)
"""What `compile`, `fit` and the like note on a model that has nothing of it when it is made."""


def blank_model(kind):
    """A model of a class that has nothing yet, not even a graph."""
    return keras.Layer.__new__(kind)


def blank_layer(layer):
    """A layer of the same class and name that holds nothing yet; its own `__init__` is not called."""
    new = keras.Layer.__new__(type(layer))
    base = keras.Model if isinstance(layer, keras.Model) else keras.Layer
    base.__init__(new, name=layer.name)
    new._dtype_policy = layer._dtype_policy
    return new


def finish_layer(layer, new, copy) -> None:
    """Give a blank layer copies of all that another one holds, in the order in which that one got it."""
    bookkeeping = set(vars(new)) - set(_TAKEN_OVER)
    new._tracker.unlock()  # Keras locks a layer without a `build` when it is made
    for kind, (_, held) in layer._tracker.config.items():
        for each in held:  # a frozen variable among those that train once the layer is thawed
            new._tracker.add_to_store(kind, copy(each))
    for name, value in list(vars(layer).items()):
        if name not in bookkeeping:
            setattr(new, name, copy(value))
    new.built = layer.built
    if layer._tracker.locked:
        new._lock_state()


def variable_like(variable):
    """A new variable with the value, the name and the kind of another one."""
    options = {name: getattr(variable, name) for name in ("trainable", "aggregation", "synchronization")}
    value = keras.ops.convert_to_tensor(variable)  # Keras would take a variable of TensorFlow for its own
    new = keras.Variable(value, dtype=variable.dtype, autocast=variable._autocast, name=variable.name, **options)
    new._path, new.overwrite_with_gradient = variable.path, variable.overwrite_with_gradient
    return new


def note_path(variable, path) -> None:
    """Say where a variable is; users know it by its path, and optimizers and files name what they keep of it."""
    variable._path = path


def note_trainable(layer, trainable) -> None:
    """Say whether a layer trains, and leave the layers and the variables inside of it as they are."""
    layer._trainable = trainable


def with_kernel(layer, variable) -> None:
    """Let a dense layer that was not built hold a variable that is there already as its kernel."""
    layer.bias, layer.built = None, True
    _hold(layer, "_kernel", variable)


def with_bias(layer, variable) -> None:
    """Let such a layer hold a variable as its bias too."""
    layer.use_bias = True
    _hold(layer, "bias", variable)


def _hold(layer, name, variable):
    """Keras lists frozen variables last, unless the layer had them before they were frozen: as one that it made."""
    layer._tracker.add_to_store("trainable_variables", variable)
    setattr(layer, name, variable)
