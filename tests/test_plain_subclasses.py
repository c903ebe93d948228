"""A user's subclass of a known layer that computes the same is its parent everywhere."""

import keras
import numpy as np
import pytest
from keras import layers
from laws import around, check_laws, random_members, zero_members

import tf_terngrad as tt
from tf_terngrad.sparsity.costs import layer_costs

register = keras.saving.register_keras_serializable("subclasses")


@register
class Plain(layers.Dense):
    """Nothing but a name of its own."""


@register
class Documented(Plain):
    """A subclass of a subclass, with an attribute, a method and a property that Dense has no use for."""

    team: str = "vision"

    def describe(self):
        return f"{self.title} {self.units}"

    @property
    def title(self):
        return self.team.title()


@register
class Tagged(layers.Conv2D):
    """An argument more, written down."""

    def __init__(self, filters, kernel_size, tag="a", **kwargs):
        super().__init__(filters, kernel_size, **kwargs)
        self.tag = tag

    def get_config(self):
        return {**super().get_config(), "tag": self.tag}


@register
class Square(layers.Conv2D):
    """Other defaults, by name."""

    def __init__(self, filters, kernel_size=3, padding="same", **kwargs):
        super().__init__(filters, kernel_size, padding=padding, **kwargs)


@register
class Transposed(layers.Conv2DTranspose):
    pass


@register
class Norm(layers.BatchNormalization):
    pass


@register
class Encoder(layers.LSTM):
    pass


@register
class Both(layers.Bidirectional):
    pass


@register
class Steps(layers.TimeDistributed):
    pass


@register
class Cell(layers.GRUCell):
    pass


class Mixin:
    """Only what is called by name."""

    def freeze(self):
        self.trainable = False


@register
class Mixed(Mixin, layers.Dense):
    pass


SAME = {
    "Plain": (lambda: Plain(8, "relu"), (6,)),
    "Documented": (lambda: Documented(8, "relu"), (6,)),
    "Mixed": (lambda: Mixed(8), (6,)),
    "Tagged": (lambda: Tagged(8, 3, tag="b"), (6, 6, 3)),
    "Square": (lambda: Square(8), (6, 6, 3)),
    "Transposed": (lambda: Transposed(8, 3), (6, 6, 3)),
    "Norm": (lambda: Norm(), (6,)),
    "Encoder": (lambda: Encoder(8), (5, 6)),
    "Both": (lambda: Both(Encoder(8)), (5, 6)),
    "Steps": (lambda: Steps(Plain(8)), (5, 6)),
    "RNN": (lambda: layers.RNN([Cell(8), layers.LSTMCell(6)]), (5, 6)),
}


@pytest.mark.parametrize("name", SAME)
def test_a_subclass_that_changes_nothing_is_its_parent(name):
    make, shape = SAME[name]
    model = around(make(), shape)
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    zero_members(model, random_members(1))
    small = check_laws(model)
    assert small.count_params() < model.count_params()
    assert None not in [cost.multiply_adds for cost in layer_costs(model)]


def test_the_smaller_layer_is_of_the_subclass_with_its_own_arguments():
    model = around(Tagged(8, 3, tag="b"), (6, 6, 3))
    zero_members(model, random_members(1))
    small = tt.compact(model).get_layer("tagged")
    assert (type(small), small.tag, small.filters) == (Tagged, "b", 6)


def test_a_regularizer_and_a_wrapper_take_a_subclass_for_its_parent():
    layer = tt.layers.GroupSparse(Transposed(5, 2, use_bias=False), 1.0)
    layer.build((None, 4, 4, 3))
    layer.layer.kernel.assign(np.ones((2, 2, 5, 3)))
    assert float(sum(layer.losses)) == pytest.approx(5 * np.sqrt(12), rel=1e-5)
    assert tt.layers.IntrinsicSparse(Encoder(3), 1e-3)
