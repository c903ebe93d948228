"""The equations of EinsumDense that people write, those with an ellipsis too, and those of which Keras tells a lie."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from laws import check_widths, outputs_of, random_members, randomize

import tf_terngrad as tt


def between(shape, *arguments, bias_axes=None, turned=False):
    """A model with an EinsumDense between two dense layers."""
    inputs = keras.Input(shape)
    x = layers.Dense(shape[-1], "relu", name="front")(inputs)
    x = layers.Permute((2, *range(3, len(shape) + 1), 1))(x) if turned else x
    x = layers.EinsumDense(*arguments, bias_axes=bias_axes, name="einsum")(x)
    return randomize(keras.Model(inputs, layers.Dense(3, name="reader")(x)))


@pytest.mark.parametrize(
    ("shape", "arguments", "bias_axes"),
    [
        ((4, 6), ("abc,cde->abde", (None, 3, 6)), "de"),
        ((4, 6), ("abc,cde->abde", (4, 3, 6)), "e"),
        ((4, 6), ("btd,ndh->btnh", (None, 3, 6)), None),
        ((4, 3, 6), ("btnh,nhd->btd", (None, 5)), "d"),
        ((4, 6), ("...x,xy->...y", 5), "y"),
        ((6,), ("...x,xy->...y", 5), "y"),
        ((4, 5, 6), ("...x,xy->...y", 5), None),
        ((4, 6), ("...b,bcd->...cd", (2, 6)), "cd"),
        ((6, 4, 5), ("ab...,bc->ac...", 7), "c"),
    ],
)
def test_legal_equations_are_followed(shape, arguments, bias_axes):
    model = between(shape, *arguments, bias_axes=bias_axes)
    assert not any("einsum" in reason for frozen in tt.structures(model).frozen for reason in frozen.reasons)
    check_widths(model, random_members(0))


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [((6, 6), ("...d,dh->...h", (6, 6))), ((6,), ("...b,bcd->...cd", (3, 3, 3))), ((6,), ("ab,bc->ac", (6, 6)))],
)
def test_sizes_that_have_no_letter_keep_the_width(shape, arguments):
    """Keras puts such sizes behind the ellipsis's own, and takes the output for a tensor with one axis more."""
    inputs = keras.Input(shape)
    front = layers.Dense(6, "relu", name="front")
    einsum = layers.EinsumDense(*arguments, name="einsum")
    model = randomize(keras.Model(inputs, einsum(front(inputs))))
    assert "leave out those of the ellipsis" in str(tt.structures(model))
    small = tt.compact(model)
    x = np.random.default_rng(0).normal(size=(2, *shape))
    np.testing.assert_array_equal(*outputs_of(model, x), *outputs_of(small, x))


def test_axes_that_keras_swaps_behind_an_ellipsis_keep_their_width():
    model = between((4, 5, 6), "...x,xy->...y", 7, turned=True)
    assert model.get_layer("einsum").output.shape[1:3] == (6, 5)  # of (5, 6)
    assert "of another shape" in str(tt.structures(model))
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 6))
    np.testing.assert_array_equal(*outputs_of(model, x), *outputs_of(tt.compact(model), x))


class Equation(layers.Layer):
    """A product with a weight, by an equation."""

    def __init__(self, equation, shape):
        super().__init__()
        self.equation, self.shape = equation, shape

    def build(self, shape):
        self.kernel = self.add_weight(shape=self.shape, name="kernel")

    def call(self, x):
        return ops.einsum(self.equation, x, self.kernel)


@pytest.mark.parametrize(
    ("equation", "shape"),
    [
        ("...d,dh->...h", (6, 5)),
        ("b...d,dh->b...h", (6, 5)),
        ("btd,nhd->bnth", (3, 5, 6)),
        ("b...,...->b...", (4, 6)),
        ("btd,tdh->bth", (4, 6, 5)),
        ("btd,th->bhd", (4, 5)),
    ],
)
def test_equations_of_weights_of_ones_own_are_followed(equation, shape):
    check_followed(Equation(equation, shape))


def check_followed(layer):
    """Assert that a layer between others lets what is in front of it leave."""
    inputs = keras.Input((4, 6))
    x = layer(layers.Dense(6, "relu", name="front")(inputs))
    model = randomize(keras.Model(inputs, layers.Dense(3, name="reader")(x)))
    assert "front" in {found.name for found in tt.structures(model)}
    check_widths(model, random_members(0))


class ByAxes(Equation):
    """The same by the axes that are summed."""

    def call(self, x):
        return ops.tensordot(x, self.kernel, self.equation)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [(1, (6, 5)), (2, (4, 6, 5)), ([[1, 2], [0, 1]], (4, 6, 5)), ([[2, 1], [0, 2]], (6, 5, 4)), ([[-1], [1]], (5, 6))],
)
def test_sums_over_axes_that_are_named_are_followed(axes, shape):
    check_followed(ByAxes(axes, shape))


@pytest.mark.parametrize(
    ("equation", "shape"), [("btd,sd->btd", (1, 6)), ("b...t,td->...bd", (6, 5)), ("btd,dd->bt", (6, 6))]
)
def test_equations_that_no_dense_layer_takes_compute_what_they_did(equation, shape):
    inputs = keras.Input((4, 6))
    x = Equation(equation, shape)(layers.Dense(6, "relu", name="front")(inputs))
    model = randomize(keras.Model(inputs, x))
    small = tt.compact(model)
    x = np.random.default_rng(0).normal(size=(2, 4, 6))
    np.testing.assert_allclose(*outputs_of(model, x), *outputs_of(small, x), rtol=1e-5)


class Residual(layers.Layer):
    """A sum with what Keras takes for a tensor of another shape."""

    def __init__(self):
        super().__init__()
        self.einsum = layers.EinsumDense("...x,xy->...y", 6)

    def call(self, x):
        return x + self.einsum(x)


@pytest.mark.parametrize("shape", [(4, 5, 6), (None, 5, 6)])
def test_a_layer_in_which_keras_swaps_axes_stays_closed(shape):
    inputs = keras.Input(shape)
    model = randomize(keras.Model(inputs, layers.Dense(3, name="reader")(Residual()(layers.Dense(6)(inputs)))))
    assert "no rule knows this layer (Residual)" in str(tt.structures(model))
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 6))
    np.testing.assert_array_equal(*outputs_of(model, x), *outputs_of(tt.compact(model), x))


def test_axes_of_open_size_are_not_swapped():
    inputs = keras.Input((None, None, 6))
    x = Residual()(layers.Dense(6, name="front")(inputs))
    model = randomize(keras.Model(inputs, layers.Dense(3, name="reader")(x)))
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    check_widths(model, random_members(0))
