"""Models that are hard to follow, each small, by name."""

import keras
import numpy as np
from keras import layers, ops

from tf_terngrad.sparsity.learn.wrappers import GroupSparse, SkippableBranch

MODELS = {}


def model(build):
    """Register a function that gives inputs and outputs."""
    MODELS[build.__name__] = build
    return build


def image(size=8, width=3):
    return keras.Input((size, size, width))


def conv(x, width=8, kernel=3, **options):
    return layers.Conv2D(width, kernel, padding=options.pop("padding", "same"), **options)(x)


def normalized(x):
    return layers.ReLU()(layers.BatchNormalization()(x))


def head(x, width=3):
    return layers.Dense(width)(layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x)


@model
def residual_sums_of_sums():
    inputs = image()
    x = conv(inputs)
    for _ in range(3):
        x = layers.Add()([x, normalized(conv(x)), normalized(conv(normalized(conv(x))))])
    return inputs, head(x)


@model
def residual_with_projection():
    inputs = image()
    x = normalized(conv(inputs))
    y = normalized(conv(normalized(conv(x, 16, strides=2)), 16))
    return inputs, head(ops.relu(y + conv(x, 16, 1, strides=2)))


@model
def squeeze_and_excite():
    inputs = image()
    x = conv(inputs, activation="swish")
    s = ops.mean(x, axis=(1, 2), keepdims=True)
    s = conv(conv(s, 4, 1, activation="relu"), 8, 1, activation="sigmoid")
    return inputs, head(conv(x * s))


@model
def u_net():
    inputs = image()
    a = normalized(conv(inputs, 4))
    b = normalized(conv(layers.MaxPooling2D()(a), 8))
    c = normalized(conv(layers.MaxPooling2D()(b), 8))
    b = normalized(conv(layers.Concatenate()([layers.UpSampling2D()(c), b]), 8))
    a = layers.Concatenate()([layers.Conv2DTranspose(4, 2, strides=2)(b), a])
    return inputs, conv(normalized(conv(a)), 2, 1)


@model
def siamese():
    tower = keras.Sequential([image(), layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D()])
    tower.add(layers.Dense(8, activation="sigmoid"))
    a, b = image(), image()
    return [a, b], layers.Dense(2)(ops.abs(tower(a) - tower(b)))


@model
def shared_layers_at_different_depths():
    inputs = image(width=4)
    shared, norm = layers.Conv2D(4, 3, padding="same", activation="softplus"), layers.BatchNormalization()
    x = conv(inputs, 4)
    for _ in range(3):
        x = norm(shared(x))
    dense = layers.Dense(4, activation="sigmoid")
    return inputs, layers.Dense(2)(dense(dense(layers.GlobalMaxPooling2D()(x))))


@model
def shared_head_on_a_pyramid():
    inputs = image()
    a = conv(inputs, 8)
    b = conv(a, 8, strides=2)
    shared = keras.Sequential(
        [keras.Input((None, None, 8)), layers.Conv2D(8, 3, activation="relu"), layers.Conv2D(2, 1)]
    )
    return inputs, [shared(a), shared(b)]


@model
def shared_reshape():
    inputs = keras.Input((8,))
    fold = layers.Reshape((-1, 2))
    a, b = fold(layers.Dense(12)(inputs)), fold(layers.Dense(12, "relu")(inputs))
    return inputs, [layers.Dense(2)(layers.Flatten()(a)), layers.Dense(2)(layers.Flatten()(b))]


@model
def splits_that_meet_again():
    inputs = image()
    x = conv(inputs, 16)
    a, b = ops.split(x, 2, axis=-1)
    y = ops.concatenate([b, conv(a, 8, activation="relu")], axis=-1)
    z = conv(y, 16)
    return inputs, head(z[..., :8] + z[..., 8:])


@model
def slices_of_slices():
    inputs = keras.Input((16,))
    x = layers.Dense(16, "softplus")(inputs)
    return inputs, layers.Dense(2)(ops.concatenate([x[:, 2:10][:, ::2], x[:, ::-1][:, :5]], axis=1))


@model
def channel_shuffle():
    inputs = image()
    x = layers.Conv2D(8, 3, groups=2, padding="same")(conv(inputs))
    x = layers.Reshape((8, 8, 2, 4))(x)
    x = layers.Reshape((8, 8, 8))(layers.Permute((1, 2, 4, 3))(x))
    return inputs, head(layers.Conv2D(8, 3, groups=2)(x))


@model
def grouped_and_depthwise():
    inputs = image()
    x = layers.Conv2D(16, 3, groups=4, activation="relu")(conv(inputs, 8))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x)
    return inputs, head(layers.GroupNormalization(4)(layers.SeparableConv2D(8, 3, depth_multiplier=2)(x)))


@model
def group_normalization_after_groups():
    inputs = image()
    x = layers.GroupNormalization(2)(layers.Conv2D(8, 3, groups=2)(conv(inputs)))
    return inputs, head(ops.relu(layers.GroupNormalization(8)(conv(x, 8))))


@model
def groups_of_one_channel():
    inputs = image()
    return inputs, head(conv(layers.Conv2D(16, 3, groups=8, activation="sigmoid")(conv(inputs))))


@model
def product_of_towers():
    inputs = keras.Input((8,))
    a, b = layers.Dense(8, "tanh")(inputs), layers.Dense(8, "sigmoid")(inputs)
    return inputs, layers.Dense(2)(layers.Multiply()([a, b]))


@model
def dot_products():
    inputs = keras.Input((8,))
    a, b = layers.Dense(8)(inputs), layers.Dense(8, "relu")(inputs)
    c, d = layers.Dense(8)(inputs), layers.Dense(8, "sigmoid")(inputs)
    return inputs, [layers.Dot(1)([a, b]), layers.Dot(1, normalize=True)([a, c]), layers.Dot(1)([d, d])]


@model
def matrix_products():
    inputs = keras.Input((5, 8))
    q, k, v = layers.Dense(8)(inputs), layers.Dense(8)(inputs), layers.Dense(8, "relu")(inputs)
    weights = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1))), axis=-1)
    return inputs, layers.Dense(2)(ops.matmul(weights, v))


@model
def merges_of_every_kind():
    inputs = keras.Input((8,))
    towers = [layers.Dense(8, kind)(inputs) for kind in ("relu", "sigmoid", "softplus", "tanh")]
    merged = [kind()(towers[:2]) for kind in (layers.Subtract, layers.Maximum, layers.Minimum, layers.Average)]
    return inputs, [layers.Dense(2)(x) for x in [*merged, layers.Average()(towers), ops.maximum(towers[0], towers[3])]]


@model
def concatenations_along_space():
    inputs = image()
    a, b = conv(inputs, activation="sigmoid"), conv(inputs)
    return inputs, head(layers.Concatenate(axis=1)([a, b, layers.Concatenate(axis=-3)([a, a])]))


@model
def time_distributed():
    inputs = keras.Input((3, 6, 6, 3))
    tower = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(8, 3, activation="sigmoid"), layers.Flatten()])
    x = layers.TimeDistributed(layers.Conv2D(4, 3, padding="same"))(inputs)
    x = layers.TimeDistributed(layers.Conv2D(3, 1, use_bias=False))(
        layers.TimeDistributed(layers.BatchNormalization())(x)
    )
    x = layers.TimeDistributed(layers.Dense(8, "relu"))(layers.TimeDistributed(tower)(x))
    return inputs, head(ops.mean(x, axis=1))


@model
def nested_in_nested():
    leaf = keras.Sequential([keras.Input((8,)), layers.Dense(8, "sigmoid"), layers.Dense(8)])
    entry = keras.Input((8,))
    middle = keras.Model(entry, layers.Add()([entry, leaf(entry)]))
    inputs = keras.Input((6,))
    x = middle(layers.Dense(8, "relu")(inputs))
    return inputs, layers.Dense(2)(middle(x) + leaf(x))


@model
def nested_with_many_ports():
    a, b = keras.Input((8,), name="a"), keras.Input((4,), name="b")
    c = layers.Dense(4, "relu")(a)
    nested = keras.Model({"a": a, "b": b}, {"sum": c + b, "both": layers.Concatenate()([c, b])})
    first, second = keras.Input((6,), name="first"), keras.Input((5,), name="second")
    made = nested({"a": layers.Dense(8, "tanh")(first), "b": layers.Dense(4)(second)})
    outputs = {"x": layers.Dense(2)(made["sum"]), "y": layers.Dense(3)(made["both"])}
    return {"first": first, "second": second}, outputs


@model
def outputs_inside():
    inputs = keras.Input((8,))
    x = layers.Dense(6, "relu")(inputs)
    y = layers.Dense(4)(layers.Dense(8, "relu")(x))
    return inputs, [x, y, y, layers.Dense(2)(y)]


@model
def input_as_output():
    inputs, other = keras.Input((8,)), keras.Input((4,))
    return [inputs, other], [inputs, layers.Dense(2)(layers.Dense(8)(ops.concatenate([inputs, other], axis=1)))]


@model
def learnt_slopes():
    inputs = image()
    x = layers.PReLU(shared_axes=[1, 2])(conv(inputs))
    x = layers.PReLU(shared_axes=[1, 2, 3])(conv(x))
    return inputs, layers.Dense(2)(layers.PReLU()(layers.Dense(8)(layers.Flatten()(layers.PReLU()(conv(x, 4))))))


@model
def text():
    inputs = keras.Input((10,), dtype="int32")
    x = layers.Conv1D(8, 3, activation="relu")(layers.Embedding(20, 8)(inputs))
    return inputs, layers.Dense(2)(layers.GlobalMaxPooling1D()(x))


@model
def masked_text():
    inputs = keras.Input((10,), dtype="int32")
    x = layers.Dense(8, "sigmoid")(layers.Embedding(20, 8, mask_zero=True)(inputs))
    return inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x))


@model
def einsums():
    inputs = keras.Input((5, 6))
    heads = layers.EinsumDense("abc,cde->abde", (5, 2, 4), bias_axes="de")(inputs)
    turned = layers.EinsumDense("abde,de->aebd", (4, 5, 2), activation="relu")(heads)
    x = layers.EinsumDense("aebd,edf->abf", (5, 8), bias_axes="f", activation="sigmoid")(turned)
    x = layers.EinsumDense("...x,xy->...y", 8, bias_axes="y", activation="softplus")(x)
    return inputs, layers.EinsumDense("abc,cd->ad", 3)(layers.EinsumDense("ab...,bc->ac...", 4)(x))


@model
def stock_regularizers_and_constraints():
    inputs = keras.Input((8,))
    options = {"kernel_regularizer": "l2", "bias_constraint": keras.constraints.NonNeg(), "activity_regularizer": "l1"}
    return inputs, layers.Dense(2)(layers.Dense(8, "relu", **options)(inputs))


@model
def fixed_noise_shape():
    inputs = keras.Input((5, 4))
    x = layers.Dropout(0.5, noise_shape=(None, 1, 8))(layers.Dense(8)(inputs))
    return inputs, layers.Dense(2)(layers.Dropout(0.5, noise_shape=(None, 1, None))(layers.Dense(8, "relu")(x)))


@model
def arguments_by_name():
    inputs = image()
    x = ops.transpose(conv(inputs), axes=(0, 1, 2, 3))
    x = ops.reshape(x, newshape=(-1, 64, 8))
    x = ops.squeeze(ops.mean(x, axis=1, keepdims=True) + ops.max(x, axis=(1,), keepdims=True), axis=1)
    x = ops.take(ops.concatenate([x, ops.expand_dims(x[:, 0], axis=-1)], axis=-1), indices=[0, 5, 5, -1], axis=-1)
    return inputs, layers.Dense(2)(layers.Activation(activation="relu")(inputs=x))


@model
def lists_of_numbers():
    inputs = keras.Input((4,))
    x = layers.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 3.0, 4.0])(inputs)
    x = layers.Rescaling([1.0, 2.0, 3.0, 4.0], [0.5, 0.0, 0.5, 0.0])(x)
    y = layers.Rescaling(np.linspace(1, 2, 8), 0.5)(layers.Dense(8, "relu")(x))
    return inputs, layers.Dense(2)(layers.Normalization(axis=None)(layers.Normalization()(y)))


@model
def wrapped():
    inputs = keras.Input((8,))
    branch = [layers.Dense(6, "relu"), layers.BatchNormalization(), layers.Dense(8)]
    x = GroupSparse(layers.Dense(8, "relu"), 1e-3)(inputs)
    x = SkippableBranch(branch, 1e-3)(x)
    shared = SkippableBranch(layers.Dense(8), 1e-3)
    return inputs, GroupSparse(layers.Dense(2), 1e-3, name="answer")(shared(shared(x)))


@model
def wrapped_inside():
    inputs = keras.Input((3, 8))
    x = layers.TimeDistributed(GroupSparse(layers.Dense(8, "relu"), 1e-3))(inputs)
    x = layers.TimeDistributed(SkippableBranch([layers.Dense(4, "relu"), layers.Dense(8)], 1e-3))(x)
    return inputs, layers.Dense(2)(layers.Flatten()(x))


@model
def batch_moved_aside():
    inputs = keras.Input((5, 8))
    x = ops.transpose(layers.Dense(8)(inputs), (2, 0, 1))
    return inputs, layers.Dense(2)(ops.transpose(ops.relu(x) + 1.0, (1, 2, 0)))


@model
def cropped_and_padded_sequences():
    inputs = keras.Input((8, 3))
    x = layers.Conv1D(8, 3, padding="causal", activation="sigmoid")(inputs)
    x = layers.ZeroPadding1D(1)(layers.UpSampling1D(2)(layers.Cropping1D(1)(x)))
    return inputs, layers.Dense(2)(layers.Flatten()(layers.Conv1DTranspose(8, 3)(layers.AveragePooling1D(2)(x))))


@model
def volumes():
    inputs = keras.Input((6, 6, 6, 2))
    x = layers.MaxPooling3D()(layers.Conv3D(8, 3, padding="same", activation="sigmoid")(inputs))
    return inputs, head(ops.mean(layers.Conv3DTranspose(8, 2)(x), axis=(1, 2, 3)))


@model
def channels_of_a_matrix():
    inputs = keras.Input((6, 4))
    x = layers.Permute((2, 1))(layers.Dense(8, "relu")(inputs))
    return inputs, layers.Dense(2)(layers.Flatten()(layers.Dense(4)(x)))
