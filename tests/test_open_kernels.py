"""Kernels that a composite computes from its weights are followed, and what their readers keep stays."""

import pytest
from composite_graphs import around
from keras import layers, ops
from laws import check_laws, random_members, random_zeros, zero, zero_members

import tf_terngrad as tt


class Rescaled(layers.Dense):
    """Its kernel is a product, as where a learning rate is equalized."""

    def call(self, x):
        return ops.tanh(ops.matmul(x, self.kernel * 0.5) + self.bias)


class Standardized(layers.Conv2D):
    """Each filter's weights have the mean 0 and the variance 1."""

    def convolution_op(self, inputs, kernel):
        mean = ops.mean(kernel, (0, 1, 2), keepdims=True)
        return super().convolution_op(inputs, (kernel - mean) / (ops.std(kernel, (0, 1, 2), keepdims=True) + 1e-3))


@pytest.mark.parametrize("padding, strides", [("same", 1), ("valid", 2)])
def test_filters_of_a_standardized_kernel_leave_with_what_they_read(padding, strides):
    def standardized(x):
        x = Standardized(9, 3, padding=padding, strides=strides, activation="relu", name="first")(x)
        return Standardized(8, 2, activation="tanh", name="second")(x)

    model = around((6, 6, 6), standardized)
    sizes = {each.name: each.size for each in tt.structures(model)}
    assert sizes == {"front": 6, "first/kernel": 9, "second/kernel": 8}
    zero_members(model, random_members(1))
    small = check_laws(model)
    assert sorted(w.shape[-1] for w in small.weights if w.name == "embeddings") == sorted([6, 6, 6, 6])
    random_zeros(model, 2)
    check_laws(model, must_vary=False)


class Softened(layers.Dense):
    """Its kernel is a distribution over the units."""

    def call(self, x):
        return ops.matmul(x, ops.softmax(self.kernel, axis=-1))


def test_units_of_a_kernel_that_is_computed_leave():
    model = around((6,), Rescaled(9, name="own"))
    (found,) = [each for each in tt.structures(model) if each.size == 9]
    assert (found.name, found.kind) == ("own/kernel", "unit")
    found.zero([0, 4])
    small = check_laws(model)
    assert model.count_params() - small.count_params() == 2 * (6 + 1 + 3)  # a column, a bias, a row of the reader


def test_units_of_a_kernel_that_is_computed_are_said_to_stay():
    model = around(
        (6,), Softened(9, use_bias=False, name="own")
    )  # Keras before 3.14 makes no graph with what nobody reads
    (frozen,) = [each for each in tt.structures(model).frozen if each.size == 9]
    assert frozen.name == "own/kernel" and "Softmax runs across channels" in str(frozen)
    zero_members(model, random_members(1))
    check_laws(model)


class Demodulated(layers.Layer):
    """A convolution over the norm of its kernel, which is read twice."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(3, 3, shape[-1], 8), name="kernel")

    def call(self, x):
        return ops.conv(x, self.kernel) * ops.rsqrt(ops.sum(ops.square(self.kernel[None]), axis=(1, 2, 3)) + 0.1)


def test_an_axis_that_one_reader_of_a_weight_keeps_stays():
    layer = Demodulated()
    model = around((6, 6, 6), layer)
    zero(layer.kernel, 0, [1])  # a row of the window: for the sum alone it could leave
    check_laws(model)
