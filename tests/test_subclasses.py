"""A user's subclass of a known layer that may compute another thing is unknown to everything."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from laws import around, check_laws, random_members, zero_members

import tf_terngrad as tt
from tf_terngrad.sparsity.costs import layer_costs
from tf_terngrad.sparsity.rules import rule_for


class Called(layers.Conv2D):
    def call(self, inputs):
        return ops.tanh(super().call(inputs))


class CalledAgain(Called):
    """The `call` is in a class between."""


class Standardized(layers.Conv2D):
    """Weight standardization, as it is often written for Keras 3."""

    def convolution_op(self, inputs, kernel):
        mean, variance = ops.moments(kernel, axes=[0, 1, 2], keepdims=True)
        return super().convolution_op(inputs, (kernel - mean) / ops.sqrt(variance + 1e-5))


class ScaledKernel(layers.Conv2D):
    """Equalized learning rate: the kernel that computes is not the one that is stored."""

    @property
    def kernel(self):
        return self._kernel * 2.0


class Reparametrized(layers.DepthwiseConv2D):
    """A property in place of what the parent sets on itself."""

    @property
    def kernel(self):
        return self.raw / ops.max(ops.abs(self.raw))

    @kernel.setter
    def kernel(self, value):
        self.raw = value


class Gained(layers.Conv2D):
    """A weight more, made in build."""

    def build(self, input_shape):
        super().build(input_shape)
        self.gain = self.add_weight(name="gain", shape=(self.filters,), initializer="ones")


class GainedEarly(layers.Conv2D):
    """A weight more, made in __init__, that an activation reads."""

    def __init__(self, filters, kernel_size, **kwargs):
        super().__init__(filters, kernel_size, **kwargs)
        self.gain = self.add_weight(name="gain", shape=(filters,), initializer="ones")


class Shaped(layers.Conv2D):
    """A shape that its width is written into."""

    def compute_output_shape(self, input_shape):
        return (*super().compute_output_shape(input_shape)[:-1], 8)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), self.compute_dtype)


class Logging:
    """A mixin that steps in where Keras calls a layer."""

    def __call__(self, *args, **kwargs):
        return 2 * super().__call__(*args, **kwargs)


class Logged(Logging, layers.Conv2D):
    pass


class LoggedBehind(layers.Conv2D, Logging):
    """The mixin stands behind the layer, whose own parent `Operation` has the method that it overrides."""


class Secret(layers.Conv2D):
    """It answers for what the layer does not have."""

    def __getattr__(self, name):
        raise AttributeError(name)


class Renamed(layers.Conv2D):
    """Arguments with other names: the configuration with a smaller `filters` would not make it."""

    def __init__(self, width, size, **kwargs):
        super().__init__(width, size, **kwargs)

    def get_config(self):
        config = super().get_config()
        return {"width": config.pop("filters"), "size": config.pop("kernel_size"), **config}


class RenamedToo(Renamed):
    """It writes both names down, and reads one."""

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "kernel_size": self.kernel_size}

    @classmethod
    def from_config(cls, config):
        return cls(**{name: value for name, value in config.items() if name not in ("filters", "kernel_size")})


class Fixed(layers.Conv2D):
    """A width that only looks like an argument."""

    def __init__(self, filters, kernel_size, **kwargs):
        super().__init__(4, kernel_size, **kwargs)


class Broken(layers.Conv2D):
    def get_config(self):
        raise NotImplementedError("later")


class Doubled(layers.Conv2D):
    """What it is given is not what it writes down."""

    def __init__(self, filters, kernel_size, **kwargs):
        super().__init__(2 * filters, kernel_size, **kwargs)


OTHER = {
    Called: "unlike Conv2D, it has its own call",
    CalledAgain: "unlike Conv2D, it has its own call",
    Standardized: "unlike Conv2D, it has its own convolution_op",
    ScaledKernel: "unlike Conv2D, it has its own kernel",
    Reparametrized: "unlike DepthwiseConv2D, it has its own kernel",
    Gained: "unlike Conv2D, it has its own build",
    GainedEarly: "the rule of Conv2D does not know its weights gain",
    Shaped: "unlike Conv2D, it has its own compute_output_shape, compute_output_spec",
    Logged: "unlike Conv2D, it has its own __call__",
    LoggedBehind: "unlike Conv2D, it has its own __call__",
    Secret: "unlike Conv2D, it has its own __getattr__",
    Renamed: "from_config(get_config()) does not make it again as a Conv2D",
    RenamedToo: "from_config(get_config()) does not make it again as a Conv2D",
    Fixed: "from_config(get_config()) does not make it again as a Conv2D",
    Broken: "from_config(get_config()) does not make it again as a Conv2D",
    Doubled: "from_config(get_config()) does not make it again as a Conv2D",
}


@pytest.mark.parametrize("kind", OTHER, ids=lambda kind: kind.__name__)
def test_a_subclass_that_may_compute_another_thing_is_unknown_to_all(kind):
    layer = kind(3) if kind is Reparametrized else kind(4, 3)
    around(layer, (6, 6, 3))
    assert rule_for(layer).why_frozen(layer) == f"{OTHER[kind]} ({kind.__name__})"
    assert rule_for(layer).axes(layer) == {}
    assert rule_for(layer).multiply_adds(layer, keras.KerasTensor((1, 4, 4, 4))) is None
    with pytest.raises(ValueError, match="GroupSparse: expected `layer`"):
        tt.layers.GroupSparse(layer, 1e-3)


@pytest.mark.parametrize("kind", [Called, Standardized, ScaledKernel, Reparametrized, Gained, Logged, LoggedBehind])
def test_the_outputs_of_what_is_unknown_stay(kind):
    model = around(kind(3) if kind is Reparametrized else kind(4, 3), (6, 6, 3))
    for name in ("front", "reader"):
        weight = model.get_layer(name).kernel
        weight.assign(np.where(np.arange(weight.shape[-1]) == 1, 0, weight.numpy()))
    check_laws(model)
    zero_members(model, random_members(1))
    check_laws(model)


def test_a_method_that_is_put_on_a_layer_makes_it_unknown():
    layer = layers.Dense(8, name="own")
    model = around(layer, (6,))
    layer.call = lambda inputs, training=None: ops.abs(layers.Dense.call(layer, inputs))
    assert rule_for(layer).why_frozen(layer) == "unlike Dense, it has its own call (Dense)"
    zero_members(model, random_members(1))
    check_laws(model)


def test_a_model_with_a_call_of_its_own_is_followed_through_it():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6)], name="own")
    model = around(inner, (6,))
    call = inner.call
    inner.call = lambda *args, **kwargs: 2 * call(*args, **kwargs)
    zero_members(model, random_members(1))
    check_laws(model)


def test_a_whole_model_with_a_call_of_its_own_is_refused():
    class Twice(keras.Sequential):
        def __call__(self, *args, **kwargs):
            return 2 * super().__call__(*args, **kwargs)

    with pytest.raises(ValueError, match=r"is a subclass .Twice. whose call cannot be followed: it is wrapped"):
        tt.compact(Twice([keras.Input((6,)), layers.Dense(6)]))


def test_a_cell_with_a_call_of_its_own_is_unknown():
    class Leaky(layers.GRUCell):
        def call(self, *args, **kwargs):
            return super().call(*args, **kwargs)

    model = around(layers.RNN(Leaky(8), name="rnn"), (5, 6))
    assert "no rule knows its cell (Leaky)" in str(tt.structures(model))
    assert next(cost for cost in layer_costs(model) if cost.path == "rnn").multiply_adds is None
    with pytest.raises(ValueError, match="IntrinsicSparse: `layer` must be"):
        tt.layers.IntrinsicSparse(layers.RNN(Leaky(8)), 1e-3)


def test_a_subclass_of_a_frozen_layer_is_frozen_for_the_same_reason():
    class Steps(layers.Masking):
        pass

    inputs = keras.Input((5, 6))
    layer = Steps()
    model = keras.Model(inputs, layers.Dense(2)(layer(layers.Dense(6)(inputs))))
    assert "any feature may mask a step (Steps)" in str(tt.structures(model))
    expected = layer_costs(keras.Model(inputs, layers.Masking()(inputs)))[-1].multiply_adds
    assert next(cost for cost in layer_costs(model) if cost.layer is layer).multiply_adds == expected


def test_a_layer_on_its_way_up_is_known_by_the_nearest_type_that_is_registered():
    class Own(Called):
        pass

    class Below(Own):
        pass

    layer = Below(4, 3)
    assert "Conv2D" in rule_for(layer).why_frozen(layer)
    tt.register_rule(Own, tt.rules.Convolution())
    assert rule_for(layer).why_frozen(layer) is None
