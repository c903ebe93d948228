"""Every operation of Keras between two layers: what can leave leaves, with the same outputs; the rest says why not."""

import inspect

import keras
import numpy as np
import pytest
from hard_graphs import MODELS
from keras import layers, ops
from laws import check_laws, check_widths, difference, fresh_inputs, outputs_of, random_members, randomize, zero_members
from operation_cases import CASES, WIDTH

import tf_terngrad as tt
from tf_terngrad.keras_internals import graph_of, nodes
from tf_terngrad.sparsity.rules import Elementwise, Frozen, frozen
from tf_terngrad.sparsity.rules.registry import _REGISTRY

ABSTRACT = (
    *("Layer", "Wrapper", "InputLayer", "Model", "Sequential", "Merge", "IndexLookup", "FeatureSpace", "DataLayer"),
    *("TFDataLayer", "TFDConcat", "TFDIdentity", "ConvLSTM", "Distiller"),
)
"""Classes that others are made of, or that are no layer of a graph; so is what begins with `Base`."""


def every(kind):
    """All classes of Keras below one."""
    for each in kind.__subclasses__():
        yield from (each, *every(each))


def classes_of_keras():
    """All layers and operations of this Keras, those of models of old files left out."""
    found = [each for each in every(keras.Operation) if each.__module__.startswith("keras.src.")]
    return [each for each in found if ".legacy." not in each.__module__]


def network(name, activation=None):
    """A first layer, the case, and a head."""
    shape, function, _ = CASES[name]
    return between(function, shape, activation)


def between(function, shape, activation=None):
    inputs = keras.Input((*shape, 3))
    first = layers.Conv2D(WIDTH, 3, padding="same", activation=activation, name="first")
    x = function((first if len(shape) == 2 else layers.Dense(WIDTH, activation, name="first"))(inputs))
    y = ops.mean(x, axis=tuple(range(1, len(x.shape) - 1))) if len(x.shape) > 2 else x
    return randomize(keras.Model(inputs, layers.Dense(3, name="head")(y)))


def leaving(model):
    """How many members the first layer's outputs make, and why the others stay."""
    found = tt.structures(model)
    mine = [each for each in found if each.name.partition("[")[0] == "first" and each.kind != "branch"]
    return sum(each.size for each in mine), [entry for entry in found.frozen if entry.name.startswith("first")]


@pytest.mark.parametrize("name", CASES)
def test_what_can_leave_leaves(name):
    model = network(name)
    count, stays = leaving(model)
    assert count == CASES[name][2]
    assert bool(stays) == (count == 0)
    if count:
        check_widths(model, random_members(1))
    else:
        check_laws(model)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][2]])
def test_constants_are_right_where_they_pass(name):
    model = network(name, "sigmoid")
    zero_members(model, random_members(2))
    check_laws(model, must_vary=False)


def test_arguments_may_be_of_numpy():
    def function(x):
        x = ops.repeat(x, np.array([1, 2, 3, 1, 1, 2, 1, 2]), axis=-1)
        x = ops.roll(ops.tile(x, np.array([1, 1, 2])), np.int64(3), axis=-1)
        x = ops.pad(x, np.array([[0, 0], [0, 1], [1, 0]]))
        return ops.reshape(x, (-1, np.int64(6), np.int64(27)))

    model = between(function, (5,))
    dead = sum(map(len, zero_members(model, random_members(1, 0.5)).values()))
    assert leaving(model) == (WIDTH, [])
    small, given = tt.compact(model), fresh_inputs(model)
    assert difference(*outputs_of(model, given), *outputs_of(small, given)) < 1e-4
    assert 0 < small.get_layer("first").units == WIDTH - dead


def broadcast():
    inputs = keras.Input(batch_shape=(4, 5, 3))
    x = layers.Dense(WIDTH, "sigmoid", name="first")(inputs)
    x = ops.broadcast_to(x, (4, 5, WIDTH)) * ops.broadcast_to(layers.Dense(1)(inputs), (4, 5, WIDTH))
    return randomize(keras.Model(inputs, layers.Dense(2)(x)))


def test_what_is_broadcast_to_a_shape():
    check_widths(broadcast(), random_members(0))


class Places(layers.Layer):
    """A table of positions, for each example, as keras.io and keras_hub write it."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], initializer="random_normal", name="table")

    def call(self, x):
        return x + ops.broadcast_to(self.table, ops.shape(x))


def test_a_table_that_is_broadcast_to_a_batch_leaves_with_what_it_is_added_to():
    inputs = keras.Input((5, 3))
    x = Places()(layers.Dense(WIDTH, name="first")(inputs))
    model = randomize(keras.Model(inputs, layers.Dense(2)(x)))
    (together,) = [found for found in tt.structures(model) if found.size == WIDTH]
    assert any(piece.variable.name == "table" for piece in together.slices)
    check_widths(model, random_members(0))


def test_a_layer_of_copies_is_as_wide_in_all_its_calls():
    inputs, repeat, turn = keras.Input((5, 3)), layers.RepeatVector(WIDTH), layers.Permute((2, 1))
    first, second = (layers.Dense(WIDTH, name=name)(inputs) for name in ("first", "second"))
    one, other = (turn(repeat(layers.Flatten()(layers.Dense(1)(x)))) * x for x in (first, second))
    model = randomize(keras.Model(inputs, [layers.Dense(2)(one), layers.Dense(2)(other)]))
    (together,) = [found for found in tt.structures(model) if found.size == WIDTH]
    assert set(together.born) == {"first", "second"}
    assert check_widths(model, random_members(0)).get_layer(repeat.name).n == 6


def test_channels_that_are_padded_with_zeros_are_not_read():
    inputs = keras.Input((4,))
    x = ops.pad(layers.Dense(6, name="first")(inputs), ((0, 0), (2, 1)))
    small = check_laws(randomize(keras.Model(inputs, layers.Dense(2, name="head")(x))))
    assert tuple(small.get_layer("head").kernel.shape) == (6, 2)


# Elementwise


def arguments(kind):
    """How many tensors an operation takes, at least."""
    given = inspect.signature(kind.call).parameters.values()
    least = sum(parameter.default is parameter.empty for parameter in given) - 1
    return {"Where": 3, "Digitize": 3, "IsIn": 3, "Select": 3}.get(kind.__name__, least)


def unary(kind):
    """An operation of one tensor of numbers between 0 and 1, or None if the class takes more or wants integers."""
    made = {"Threshold": (0.1, 0.2), "Cast": ("float32",), "SaturateCast": ("float32",), "Clip": (0.2, 0.8)}
    made["ConvertToTensor"] = (None, None)
    if arguments(kind) != 1 or kind.__name__.startswith("Bitwise"):
        return None
    operation = kind(*made.get(kind.__name__, ()))
    return lambda x: ops.nan_to_num(ops.cast(operation(x), "float32"), posinf=9.0, neginf=-9.0)


def binary(kind):
    """An operation of two tensors, or None if the class takes another number."""
    whole = kind.__name__.startswith("Bitwise") or kind.__name__.endswith("Shift") or kind.__name__ in ("Gcd", "Lcm")
    if arguments(kind) != 2:
        return None

    def apply(x, y):
        if whole or kind.__name__ == "Ldexp":
            y = ops.cast(8 * ops.abs(y), "int32")
        if whole:
            x = ops.cast(8 * ops.abs(x), "int32")
        return ops.nan_to_num(ops.cast(kind()(x, y), "float32"), posinf=9.0, neginf=-9.0)

    return apply


def elementwise_operations():
    """The classes of operations that are registered as elementwise."""
    found = [kind for kind in classes_of_keras() if kind in _REGISTRY and not issubclass(kind, layers.Layer)]
    return [kind for kind in found if isinstance(_REGISTRY[kind].rule, Elementwise)]


@pytest.mark.filterwarnings("ignore:.*every channel is dead")  # ones do not depend on what enters
def test_every_elementwise_operation_of_one_tensor():
    inputs, outputs, names = keras.Input((4,)), [], []
    for number, kind in enumerate(elementwise_operations()):
        function = unary(kind)
        if function is not None:
            x = layers.Dense(6, "sigmoid", name=f"first{number}")(inputs)
            outputs.append(layers.Dense(2)(layers.Dense(2, use_bias=False)(function(x))))
            names.append(f"first{number}")
    assert len(outputs) > 70
    model = randomize(keras.Model(inputs, outputs))
    assert set(names) <= {found.name for found in tt.structures(model)}
    zero_members(model, random_members(3))
    small = check_laws(model, must_vary=False)
    assert sum(small.get_layer(name).units == 4 for name in names if small.get_layer(name)) > 60


def test_every_elementwise_operation_of_two_tensors():
    inputs, outputs, names = keras.Input((4,)), [], []
    for number, kind in enumerate(elementwise_operations()):
        function = binary(kind)
        if function is not None:
            x, y = (layers.Dense(6, "sigmoid", name=f"{side}{number}")(inputs) for side in ("first", "second"))
            outputs.append(layers.Dense(2)(function(x, y)))
            names.append({f"first{number}", f"second{number}"})
    assert len(outputs) > 30
    model = randomize(keras.Model(inputs, outputs))
    known = {found.name for found in tt.structures(model)}
    assert all(len(pair & known) == 1 for pair in names), "both leave together"
    zero_members(model, random_members(3))
    check_laws(model, must_vary=False)


# Completeness


def test_every_class_of_keras_has_a_rule_or_a_reason():
    unnamed = [kind for kind in classes_of_keras() if kind not in _REGISTRY]
    unnamed = [kind.__name__ for kind in unnamed if kind.__name__ not in ABSTRACT and kind.__name__[:4] != "Base"]
    assert not unnamed, "write a rule, or a line in tf_terngrad/sparsity/rules/frozen.py with the reason"


def test_every_name_in_the_lists_of_reasons_is_of_some_release():
    known = {kind.__name__ for kind in classes_of_keras()}
    named = [
        n for table in (frozen.LAYERS, frozen.OWN_CODE, frozen.OPERATIONS) for names in table.values() for n in names
    ]
    assert len(named) == len(set(named))
    others = {*("Empty", "Eye", "Full", "Identity", "Ones", "Tri", "Zeros"), "ExtractPatches3D", "Choose"}
    others |= {*("Bartlett", "Blackman", "Hamming", "Hanning", "Kaiser")}
    if keras.__version__.startswith("3.15."):
        assert set(named) - known <= others


def test_every_rule_of_an_operation_is_tried_here():
    models = [*map(network, CASES), *(keras.Model(*build()) for build in MODELS.values()), broadcast()]
    tried = {type(node.operation) for model in models for node in nodes(graph_of(model))}
    kinds = [kind for kind in classes_of_keras() if not issubclass(kind, layers.Layer) and kind in _REGISTRY]
    followed = [kind for kind in kinds if not isinstance(_REGISTRY[kind].rule, (Elementwise, Frozen))]
    rules = {type(_REGISTRY[kind].rule) for kind in tried if kind in _REGISTRY}
    too_new = set() if "slice_of_steps" in CASES else {"Slice"}
    assert {kind.__name__ for kind in followed if type(_REGISTRY[kind].rule) not in rules} == too_new
