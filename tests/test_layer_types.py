"""A layer type from outside: one class that says all of it, one line that registers it, and everything takes it."""

import math

import keras
import numpy as np
import pytest
from keras import ops
from laws import check_laws, check_widths, random_members, randomize

import tf_terngrad as tt


@keras.saving.register_keras_serializable("layer_types")
class Gated(keras.layers.Layer):
    """y = (W x + b) * sigmoid(V x), with W and V stored as (units, inputs), as PyTorch does."""

    def __init__(self, units, kernel_regularizer=None, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape):
        shape = (self.units, input_shape[-1])
        self.kernel = self.add_weight(name="kernel", shape=shape, regularizer=self.kernel_regularizer)
        self.gate = self.add_weight(name="gate", shape=shape)
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")

    def call(self, inputs):
        gate = ops.sigmoid(ops.matmul(inputs, ops.transpose(self.gate)))
        return (ops.matmul(inputs, ops.transpose(self.kernel)) + self.bias) * gate

    def get_config(self):
        regularizer = keras.regularizers.serialize(self.kernel_regularizer)
        return {**super().get_config(), "units": self.units, "kernel_regularizer": regularizer}


class GatedRule(tt.Rule):
    """A unit is its row of W, its row of V and its bias; it is silent where W and b are zero."""

    kind = "gated unit"

    def axes(self, layer):
        rows = tt.rules.Axes(outputs=(-2,), inputs=(-1,))
        return {"kernel": rows, "gate": rows, "bias": tt.rules.Axes(outputs=(-1,))}

    def follow(self, call):
        layer, graph, entering = call.layer, call.graph, call.inputs[0].axes[-1]
        units = graph.born(layer.kernel, 0, layer.units)
        call.label(layer.bias, 0, units, "bias")
        for weight, bias in ((layer.gate, None), (layer.kernel, layer.bias)):
            call.label(weight, 0, units, "kernel", produced=True)
            call.label(weight, 1, entering and entering.units, "kernel")
            values = call.read(weight, 1, entering, lambda w=weight: graph.value(w).T[..., None], (units,), False, bias)
        silent = np.where(values == 0, 0.0, np.nan)
        call.output.axes[-1] = tt.rules.Channels.of(units).with_values(silent)

    def config(self, call, kept):
        return {**call.layer.get_config(), "units": kept.width(call.output.axes[-1])}

    def multiply_adds(self, layer, output, inputs):
        return 2 * math.prod(output.shape) * inputs.shape[-1]


tt.register_rule(Gated, GatedRule())


def network(**options):
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, "relu", name="front")(inputs)
    x = Gated(8, name="gated", **options)(x)
    return randomize(keras.Model(inputs, keras.layers.Dense(3, name="reader")(x)))


def test_its_units_are_structures_and_leave():
    model = network()
    found = {structure.name: (structure.kind, structure.size) for structure in tt.structures(model)}
    assert found["gated"] == ("gated unit", 8)
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    assert check_widths(network(), random_members(2)).get_layer("gated").units == 6


def test_it_is_compared_and_costed():
    model = network()
    next(structure for structure in tt.structures(model) if structure.name == "gated").zero([0, 3, 5])
    row = {row.name: row for row in tt.compare(model, tt.compact(model)).rows}["gated"]
    assert row.width == (8, 5)
    assert row.parameters == (2 * 64 + 8, 2 * 40 + 5)
    assert row.multiply_adds == (2 * 8 * 8, 2 * 5 * 8)


def test_a_regularizer_groups_its_outputs():
    layer = network(kernel_regularizer=tt.regularizers.FilterLasso(0.5)).get_layer("gated")
    expected = 0.5 * np.linalg.norm(layer.kernel.numpy(), axis=1).sum()
    assert float(sum(layer.losses)) == pytest.approx(expected, rel=1e-4)
    inputs = network(kernel_regularizer=tt.regularizers.ChannelLasso(0.5)).get_layer("gated")
    expected = 0.5 * np.linalg.norm(inputs.kernel.numpy(), axis=0).sum()
    assert float(sum(inputs.losses)) == pytest.approx(expected, rel=1e-4)


def test_a_wrapper_groups_all_its_weights():
    inputs = keras.Input((6,))
    sparse = tt.layers.GroupSparse(Gated(8), 0.5, name="gated")
    model = randomize(keras.Model(inputs, keras.layers.Dense(3)(sparse(inputs))))
    kernel, gate, bias = (weight.numpy() for weight in sparse.layer.weights)
    expected = 0.5 * np.sqrt((kernel**2).sum(1) + (gate**2).sum(1) + bias**2).sum()
    assert float(sum(sparse.losses)) == pytest.approx(expected, rel=1e-4)
    next(structure for structure in tt.structures(model) if structure.kind == "gated unit").zero([1, 2])
    assert check_laws(model).get_layer("gated").units == 6


def test_training_with_sparsify_removes_units():
    model, x = network(), np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    assert {structure.kind for structure in tt.sparsify(model, strength=0.5).structures} >= {"gated unit"}
    assert "gated: 8 gated units" in str(tt.structures(model))
    model.compile(keras.optimizers.SGD(0.05), "mse")
    model.fit(x, np.zeros((64, 3)), epochs=20, verbose=0)
    with pytest.warns(UserWarning, match="every channel is dead"):
        assert tt.compact(model).get_layer("gated").units < 8


def test_a_subclass_of_it_is_known_too():
    class Mine(Gated):
        pass

    model = keras.Sequential([keras.Input((6,)), Mine(8, name="mine"), keras.layers.Dense(3)])
    assert [found.name for found in tt.structures(model) if found.kind == "gated unit"] == ["mine"]
