"""What a user tells of the cost of a layer is asked, wherever the layer is; what nobody tells is unknown."""

import keras
import pytest
import tensorflow as tf
from cost_models import of_layer, total

import tf_terngrad as tt
from tf_terngrad.sparsity.costs import layer_costs
from tf_terngrad.sparsity.rules import Dense as DenseRule

layers = keras.layers


class Watcher(layers.Wrapper):
    def call(self, inputs):
        return self.layer(inputs)

    def compute_output_shape(self, shape):
        return self.layer.compute_output_shape(shape)


class KnownWatcher(Watcher):
    pass


tt.register_rule(KnownWatcher, tt.rules.Wrapped())


def test_a_wrapper_goes_by_its_own_name_where_a_rule_says_that_its_layer_is_all():
    for kind, path in ((Watcher, "watcher/inner"), (KnownWatcher, "watcher")):
        model = of_layer(kind(layers.Dense(3, name="inner"), name="watcher"), (4,))
        assert {cost.path: cost.multiply_adds for cost in layer_costs(model)}[path] == 12


class Twice(layers.Dense):
    def call(self, inputs):
        return super().call(tf.identity_n([inputs])[0]) * 2


def test_what_nobody_knows_is_not_taken_for_zero():
    unknown = [layers.Lambda(lambda x: tf.identity_n([x])[0], output_shape=(4,)), Twice(3)]
    for layer in unknown:
        (cost,) = [cost for cost in layer_costs(of_layer(layer, (4,))) if cost.layer is layer]
        assert cost.multiply_adds is None


class Taught(Twice):
    pass


def test_a_user_teaches_what_a_layer_costs():
    tt.register_cost(Taught)(lambda layer, output, inputs: 2 * inputs.shape[-1] * output.shape[-1])
    assert total(of_layer(Taught(3), (4,))) == 24
    with pytest.raises(TypeError, match=r"register_cost: .* Received: 'Twice'"):
        tt.register_cost("Twice")
    with pytest.raises(TypeError, match="register_cost: expected at least one class"):
        tt.register_cost()
    with pytest.raises(TypeError, match=r"register_cost: expected a function .* Received: 24"):
        tt.register_cost(Taught)(24)


class Holder(layers.Layer):
    """Calls a layer twice, whatever it is called inside."""

    def __init__(self, attribute, **kwargs):
        super().__init__(**kwargs)
        self.attribute = attribute
        setattr(self, attribute, layers.Dense(4))

    def call(self, inputs):
        layer = getattr(self, self.attribute)
        return layer(layer(inputs))


tt.register_cost(Holder)(lambda layer, output, inputs: 2 * 16)


@pytest.mark.parametrize("attribute", ["layer", "branch", "cell", "inner"])
def test_a_registered_cost_is_asked_for_a_layer_that_holds_another(attribute):
    model = keras.Sequential([keras.Input((4,)), Holder(attribute, name="twice"), layers.Dense(2, name="last")])
    assert {cost.path: cost.multiply_adds for cost in layer_costs(model)} == {"twice": 32, "last": 8}


@pytest.mark.parametrize("attribute", ["layer", "branch"])
def test_what_a_layer_of_unknown_cost_holds_is_not_guessed(attribute):
    class Once(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="once")
            setattr(self, attribute, layers.Dense(4))

        def call(self, inputs):
            return inputs + getattr(self, attribute).kernel[0]

        def build(self, shape):
            getattr(self, attribute).build(shape)

    assert [cost.multiply_adds for cost in layer_costs(of_layer(Once(), (4,)))][-1] is None


def test_a_registered_cost_is_asked_for_wrappers_cells_and_models_too():
    class Watched(KnownWatcher):
        pass

    class Net(keras.Model):
        def __init__(self):
            inputs = keras.Input((4,))
            super().__init__(inputs, layers.Dense(3)(inputs), name="net")

    class Gru(layers.GRUCell):
        pass

    tt.register_cost(Watched, Net)(lambda layer, output, inputs: 7)
    tt.register_cost(Gru)(lambda cell, output, inputs: 11)
    assert total(of_layer(Watched(layers.Dense(3)), (4,))) == 7
    assert total(of_layer(Net(), (4,))) == 7
    assert total(of_layer(layers.RNN(Gru(3)), (5, 4))) == 55


@pytest.mark.parametrize("cost_first", [True, False])
def test_a_cost_and_a_rule_of_one_type_are_registered_in_any_order(cost_first):
    class Own(layers.Dense):
        def call(self, inputs):
            return super().call(inputs)

    steps = [lambda: tt.register_cost(Own)(lambda layer, output, inputs: 5), lambda: tt.register_rule(Own, DenseRule())]
    for step in steps if cost_first else steps[::-1]:
        step()
    model = keras.Sequential([keras.Input((4,)), Own(3, name="own"), layers.Dense(2, name="last")])
    assert {cost.path: cost.multiply_adds for cost in layer_costs(model)} == {"own": 5, "last": 6}
    assert [found.name for found in tt.structures(model) if found.kind != "input"] == ["own"]
