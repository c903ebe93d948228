"""Calls of TensorFlow's own functions in a layer: operations of Keras give the same, or the layer stays closed."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.tree import flatten

import tf_terngrad as tt
from tf_terngrad.sparsity.graph.tensorflow_functions import FUNCTIONS, PAIRS, SAME, equal_of

RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(0.1, 2, (2, 4, 6, 8)).astype(np.float32)
STEPS = RNG.normal(size=(2, 6, 8)).astype(np.float32)
FLAT = RNG.normal(size=(3, 8)).astype(np.float32)
IDS = np.array([[1, 0, 5], [2, 2, 7]], np.int32)
KERNEL = RNG.normal(size=(8, 5)).astype(np.float32)
LOGICAL = (tf.logical_and, tf.logical_not, tf.logical_or)


def overlapping_patches():
    """A call that Keras before 3.14 cannot make."""
    try:
        keras.ops.image.extract_patches(keras.Input((4, 4, 1)), 3, strides=1)
    except UnboundLocalError:
        return []
    return [(tf.image.extract_patches, (IMAGE, [1, 3, 2, 1], [1, 1, 1, 1], [1, 1, 2, 1], "SAME"), {})]


CASES = [
    (tf.shape, (STEPS,), {}),
    (tf.shape, (STEPS,), {"out_type": tf.int64}),
    (tf.convert_to_tensor, (STEPS,), {}),
    (tf.ensure_shape, (STEPS, (None, 6, 8)), {}),
    (tf.cast, (STEPS, tf.int32), {}),
    (tf.cast, (STEPS,), {"dtype": "float16", "name": "half"}),
    (tf.reshape, (STEPS, [2, -1]), {}),
    (tf.reshape, (STEPS, np.array([-1, 4])), {"name": "flat"}),
    (tf.transpose, (STEPS,), {}),
    (tf.transpose, (STEPS,), {"perm": [0, 2, 1]}),
    (tf.linalg.matrix_transpose, (IMAGE,), {}),
    (tf.expand_dims, (STEPS, -1), {}),
    (tf.expand_dims, (STEPS,), {"axis": 1}),
    (tf.squeeze, (STEPS[:, :1],), {}),
    (tf.squeeze, (STEPS[:, :1], [1]), {}),
    (tf.concat, ([STEPS, STEPS], -1), {}),
    (tf.concat, (), {"values": [STEPS, STEPS], "axis": 1}),
    (tf.stack, ([STEPS, STEPS],), {}),
    (tf.stack, ([STEPS, STEPS],), {"axis": -1}),
    (tf.unstack, (STEPS,), {"axis": 1}),
    (tf.unstack, (STEPS, 2), {}),
    (tf.split, (STEPS, 2), {"axis": -1}),
    (tf.split, (STEPS, [1, 5, 2], -1), {}),
    (tf.tile, (STEPS, [1, 2, 1]), {}),
    (tf.repeat, (STEPS, 3), {"axis": 1}),
    (tf.broadcast_to, (STEPS[:, :1], (2, 6, 8)), {}),
    (tf.pad, (STEPS, [[0, 0], [1, 2], [0, 0]]), {}),
    (tf.pad, (STEPS, tf.constant([[0, 0], [1, 2], [0, 0]]), "REFLECT"), {}),
    (tf.pad, (STEPS, [[0, 0], [1, 2], [0, 0]]), {"constant_values": 2.5}),
    (tf.reverse, (STEPS, [1]), {}),
    (tf.roll, (STEPS, 2, 1), {}),
    (tf.roll, (STEPS, [1, 2], [1, 2]), {}),
    (tf.slice, (STEPS, [0, 1, 2], [-1, 3, -1]), {}),
    (tf.image.resize, (IMAGE, (8, 3)), {}),
    (tf.image.resize, (IMAGE, [2, 3]), {"method": "nearest"}),
    (tf.image.resize, (IMAGE, [3, 3], "bicubic"), {"antialias": True}),
    (tf.gather, (STEPS, [5, 0]), {"axis": 1}),
    (tf.gather, (STEPS, 1), {}),
    (tf.nn.embedding_lookup, (FLAT, IDS % 3), {}),
    (tf.where, (IMAGE > 1, IMAGE, 0.0), {}),
    (tf.clip_by_value, (STEPS, -0.5, 1), {}),
    (tf.one_hot, (IDS, 9), {}),
    (tf.one_hot, (IDS,), {"depth": 9, "axis": 1, "dtype": "int32"}),
    (tf.argmax, (STEPS, -1), {}),
    (tf.argmax, (STEPS,), {"output_type": tf.int32}),
    (tf.add_n, ([STEPS, STEPS, STEPS],), {}),
    (tf.reduce_all, (IMAGE > 1, -1), {}),
    (tf.reduce_any, (IMAGE > 1,), {"axis": [1, 2]}),
    (tf.reduce_logsumexp, (STEPS, -1), {"keepdims": True}),
    (tf.reduce_max, (STEPS,), {}),
    (tf.reduce_mean, (IMAGE, [1, 2]), {}),
    (tf.reduce_min, (IMAGE,), {"axis": tf.constant([1, 2]), "keepdims": True}),
    (tf.reduce_prod, (STEPS, 1), {}),
    (tf.math.reduce_std, (STEPS, 1), {}),
    (tf.reduce_sum, (STEPS, 1, True), {}),
    (tf.math.reduce_variance, (STEPS, (1, 2)), {}),
    (tf.nn.moments, (IMAGE, [1, 2]), {}),
    (tf.nn.l2_normalize, (STEPS, -1), {}),
    (tf.nn.l2_normalize, (STEPS * 1e-3,), {"axis": [1], "epsilon": 0.1}),
    (tf.norm, (STEPS,), {"axis": -1}),
    (tf.nn.gelu, (STEPS,), {}),
    (tf.nn.gelu, (STEPS, True), {}),
    (tf.nn.leaky_relu, (STEPS,), {}),
    (tf.nn.leaky_relu, (STEPS,), {"alpha": 0.01}),
    (tf.nn.silu, (STEPS,), {}),
    (tf.nn.silu, (STEPS, 1.7), {}),
    (tf.nn.softmax, (STEPS,), {}),
    (tf.nn.softmax, (STEPS, 1), {}),
    (tf.nn.log_softmax, (STEPS,), {}),
    (tf.matmul, (STEPS, KERNEL), {}),
    (tf.matmul, (STEPS, STEPS), {"transpose_b": True}),
    (tf.matmul, (STEPS, STEPS, True), {}),
    (tf.einsum, ("bij,jk->bik", STEPS, KERNEL), {}),
    (tf.einsum, ("bij, jk -> bik", STEPS, KERNEL), {}),
    (tf.tensordot, (STEPS, KERNEL, 1), {}),
    (tf.tensordot, (STEPS, KERNEL), {"axes": [[2], [0]]}),
    (tf.tensordot, (STEPS, KERNEL), {"axes": [2, 0]}),
    (tf.tensordot, (IMAGE, IMAGE[0]), {"axes": [[1, 3], [0, 2]]}),
    (tf.image.extract_patches, (IMAGE, [1, 2, 2, 1], [1, 2, 2, 1], [1, 1, 1, 1], "VALID"), {}),
    *overlapping_patches(),
    (tf.nn.bias_add, (STEPS, FLAT[0]), {}),
    (tf.nn.conv1d, (STEPS, RNG.normal(size=(3, 8, 4)).astype("float32"), 2, "SAME"), {}),
    (tf.nn.conv2d, (IMAGE, RNG.normal(size=(3, 3, 8, 4)).astype("float32"), 1, "SAME"), {}),
    (tf.nn.conv2d, (IMAGE, RNG.normal(size=(1, 2, 8, 4)).astype("float32"), [1, 2, 2, 1], "VALID"), {}),
    (tf.nn.depthwise_conv2d, (IMAGE, RNG.normal(size=(3, 3, 8, 2)).astype("float32"), [1, 1, 1, 1], "SAME"), {}),
    (tf.nn.max_pool2d, (IMAGE, 2, 2, "VALID"), {}),
    (tf.nn.avg_pool2d, (IMAGE, [2, 3], [1, 2], "SAME"), {}),
    (tf.nn.depth_to_space, (IMAGE, 2), {}),
    (tf.nn.space_to_depth, (IMAGE, 2), {}),
    *((function, (IMAGE > 1,) if function in LOGICAL else (IMAGE,), {}) for function in SAME),
    *((function, (IMAGE > 1, IMAGE > 0.5) if function in LOGICAL else (IMAGE, IMAGE[:1]), {}) for function in PAIRS),
]
NEWER = (tf.nn.depth_to_space, tf.nn.space_to_depth)


def symbolic(value):
    """A symbolic tensor for a float array with a batch; anything else stays."""
    given = isinstance(value, np.ndarray) and value.ndim > 1
    return keras.Input(batch_shape=value.shape, dtype=value.dtype) if given else value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_the_equal_of_a_function_gives_the_same_numbers(case):
    function, args, kwargs = case
    if function in NEWER and not hasattr(keras.ops, "depth_to_space"):
        pytest.skip("this Keras has no such operation")
    given = flatten((args, kwargs))
    tensors = [symbolic(value) for value in given]
    args_, kwargs_ = keras.tree.pack_sequence_as((args, kwargs), tensors)
    arrays = [value for value, tensor in zip(given, tensors, strict=True) if value is not tensor]
    inputs = [tensor for value, tensor in zip(given, tensors, strict=True) if value is not tensor]
    result = equal_of(function, args_, kwargs_)
    if any(result is tensor for tensor in inputs):
        assert len(inputs) == 1
        ours = arrays
    else:
        ours = [result] if isinstance(result, np.ndarray) else flatten(keras.Function(inputs, result)(arrays))
    theirs = flatten(function(*args, **kwargs))
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert tf.as_dtype(one.dtype) == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_every_function_has_a_case():
    assert {case[0] for case in CASES} == {*SAME, *PAIRS, *FUNCTIONS}


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (tf.gather, (STEPS, IDS), {"axis": 1, "batch_dims": 1}),
        (tf.nn.conv2d, (IMAGE, KERNEL[None, None], 1, "SAME", "NCHW"), {}),
        (tf.image.resize, (IMAGE, (8, 8)), {"preserve_aspect_ratio": True}),
        (tf.norm, (STEPS, 1), {}),
        (tf.one_hot, (IDS, 9, 2.0), {}),
        (tf.where, (STEPS > 0,), {}),
        (tf.nn.embedding_lookup, (FLAT, IDS), {"max_norm": 1.0}),
    ],
)
def test_what_would_not_be_the_same_is_refused(function, args, kwargs):
    with pytest.raises(ValueError, match=r"followed|shape"):
        equal_of(function, args, kwargs)


def test_a_function_without_an_equal_is_not_known():
    assert equal_of(tf.nn.erosion2d, (IMAGE,), {}) is NotImplemented


# In layers


class Own(layers.Layer):
    """A layer whose call is a function of it and of its tensor, with a weight of some shape."""

    def __init__(self, function, shape=None):
        super().__init__()
        self.function = function
        self.weight = None if shape is None else self.add_weight(shape=shape, name="kernel")

    def call(self, x):
        return self.function(self, x)


def model_with(function, shape=None, steps=6):
    x = keras.Input((steps, 5))
    hidden = layers.Dense(12, activation="relu")(x)
    return keras.Model(x, layers.Dense(3)(Own(function, shape)(hidden)))


def check(model, leave=4):
    """Four of twelve channels leave through the layer, and the outputs stay."""
    (structure,) = [each for each in tt.structures(model) if each.size == 12]
    structure.zero(range(leave))
    small = tt.compact(model)
    x = RNG.normal(size=(2, *model.input_shape[1:])).astype(np.float32)
    np.testing.assert_allclose(small(x), model(x), rtol=1e-5, atol=1e-5)
    assert small.layers[1].units == 12 - leave
    assert not any(isinstance(layer, Own) for layer in small.layers)


def gated(layer, x):
    return tf.multiply(tf.nn.sigmoid(x), x)


def with_sizes(layer, x):
    batch, steps, width = tf.shape(x)[0], tf.shape(x)[1], x.shape[-1]
    return tf.reshape(tf.reshape(x, [batch, steps * width]), tf.stack([batch, steps, width]))


def halves(layer, x):
    first, second = tf.split(x, 2, axis=1)
    return tf.concat([tf.nn.relu(first), second], axis=1)


def normalized(layer, x):
    mean, variance = tf.nn.moments(x, axes=[1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3)


@pytest.mark.parametrize("function", [gated, with_sizes, halves, normalized])
def test_channels_leave_through_functions_of_tensorflow(function):
    check(model_with(function))


def test_weights_in_products_of_tensorflow_are_layers():
    model = model_with(lambda layer, x: tf.nn.tanh(tf.matmul(x, layer.weight)), (12, 9))
    assert [each.size for each in tt.structures(model)] == [12, 9]
    check(model)


def test_a_function_without_an_equal_leaves_the_layer_closed_and_is_named():
    model = model_with(lambda layer, x: tf.math.top_k(x, 12).values)
    (frozen,) = [each for each in tt.structures(model).frozen if each.size == 12]
    assert any("its call uses `tf.math.top_k`, for which no operation of Keras" in each for each in frozen.reasons)


def test_a_variable_of_tensorflow_alone_leaves_the_layer_closed():
    scale = tf.Variable(tf.ones(12))
    model = model_with(lambda layer, x: tf.multiply(x, scale))
    assert any("`tf.math.multiply`" in reason for frozen in tt.structures(model).frozen for reason in frozen.reasons)


def test_what_tensors_of_tensorflow_say_of_themselves_can_be_asked_for():
    def function(layer, x):
        rank, steps, width = x.shape.rank, x.get_shape()[1], x.shape.as_list()[-1]
        y = tf.reshape(x, [-1, steps * width]) if rank == 3 and x.dtype.is_floating else x
        y = tf.reshape(tf.cast(y, x.dtype.base_dtype), (-1, steps, width))
        y.set_shape((None, steps, width))
        return y

    check(model_with(function))


@pytest.mark.parametrize(
    "function",
    [
        lambda layer, x: x / np.sqrt(8.0) + np.linspace(0, 1, 12),
        lambda layer, x: np.sqrt(8.0) * x,
        lambda layer, x: 1 - np.linspace(0, 1, 12) * x,
        lambda layer, x: x * tf.cast(np.float64(0.1) < x, tf.float32),
        lambda layer, x: tf.multiply(x, np.sqrt(8.0)),
    ],
)
def test_numbers_of_numpy_become_numbers_of_the_tensors_type(function):
    model = model_with(function)
    check(model)
    small = tt.compact(model)
    assert {tensor.dtype for layer in small.layers for tensor in flatten(layer.output)} <= {"float32", "bool"}


def test_functions_of_the_old_backend_are_followed():
    backend = tf.keras.backend

    def function(layer, x):
        x = backend.switch(backend.greater(x, 0.5), x, 0.1 * x)
        return x - backend.mean(x, axis=1, keepdims=True) / (1 + backend.std(x, axis=1, keepdims=True))

    check(model_with(function))


def test_outside_of_a_trace_a_symbolic_tensor_is_refused_as_ever():
    with pytest.raises(ValueError, match="KerasTensor cannot be used as input to a TensorFlow function"):
        tf.nn.relu(keras.Input((3,)))


class Block(keras.Model):
    """As TensorFlow's guide writes it, its name left empty."""

    def __init__(self, filters):
        super().__init__(name="")
        self.first = layers.Conv2D(filters, 1)
        self.normalization = layers.BatchNormalization()
        self.last = layers.Conv2D(8, 1)

    def call(self, inputs, training=False):
        x = tf.nn.relu(self.normalization(self.first(inputs), training=training))
        return tf.nn.relu(self.last(x) + inputs)


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.stem = layers.Conv2D(8, 3, name="conv")
        self.blocks = [Block(6), Block(9)]
        self.head = layers.Conv2D(5, 1, name="conv")

    def call(self, x, training=False):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, training=training)
        return tf.reduce_mean(self.head(x), axis=[1, 2])


def test_parts_of_one_name_are_told_apart():
    model = Net()
    x = RNG.normal(size=(2, 5, 5, 3)).astype(np.float32)
    expected = model(x)
    found = tt.structures(model)
    assert sorted(each.size for each in found if each.kind == "filter") == [6, 8, 9]
    for structure in found:
        if structure.kind == "filter":
            structure.zero([0, 1])
    expected = model(x)
    small = tt.compact(model)
    np.testing.assert_allclose(small(x), expected, rtol=1e-5, atol=1e-5)
    assert model.stem.name == model.head.name == "conv"
    assert sorted(w.shape[-1] for w in small.trainable_weights if w.name == "kernel") == [4, 5, 6, 6, 6, 7]
