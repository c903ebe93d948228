"""Operations and layers between two layers, by name: what takes a tensor whose channels should be able to leave."""

import keras
import numpy as np
from keras import layers, ops

WIDTH = 8
"""Of what enters each case."""

CASES = {}


def case(shape, leave=WIDTH, since="3.10"):
    """Register a function of a tensor; of the channels of its last axis, `leave` can leave by themselves."""

    def register(function):
        if tuple(map(int, keras.__version__.split(".")[:2])) >= tuple(map(int, since.split("."))):
            CASES[function.__name__] = shape, function, leave
        return function

    return register


SPACE, STEPS, FLAT = (6, 6), (5,), ()


# Space


@case(SPACE)
def resizing(x):
    return layers.Resizing(9, 4)(x)


@case(SPACE)
def resizing_with_a_border(x):
    return layers.Resizing(4, 8, pad_to_aspect_ratio=True, fill_value=0.5)(x)


@case(SPACE)
def image_resize(x):
    return ops.image.resize(x, (4, 9), interpolation="nearest")


@case(SPACE)
def center_crop(x):
    return layers.CenterCrop(4, 3)(x)


@case(SPACE)
def crop_images(x):
    return ops.image.crop_images(x, top_cropping=1, left_cropping=2, target_height=3, target_width=4)


@case(SPACE)
def pad_images(x):
    return ops.image.pad_images(x, top_padding=1, left_padding=0, target_height=9, target_width=8)


@case(SPACE)
def gaussian_blur(x):
    return ops.image.gaussian_blur(x)


@case(SPACE)
def pad_space(x):
    return ops.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)))


@case(SPACE)
def pad_space_with_a_number(x):
    return ops.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)), constant_values=0.5)


@case(SPACE)
def pad_space_with_a_mirror(x):
    return ops.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)), mode="reflect")


@case(SPACE)
def pad_channels_as_a_shortcut(x):
    wide = layers.Conv2D(WIDTH + 6, 3, padding="same", name="wide")(x)
    return wide + ops.pad(x, ((0, 0), (0, 0), (0, 0), (2, 4)))


@case(SPACE, 0)
def pad_channels_with_a_mirror(x):
    return ops.pad(x, ((0, 0), (0, 0), (0, 0), (1, 1)), mode="symmetric")


@case(SPACE, 2, since="3.14")
def depth_to_space(x):
    return ops.depth_to_space(x, 2)


@case(SPACE, since="3.14")
def space_to_depth(x):
    return ops.space_to_depth(x, 3)


@case(SPACE, 2, since="3.14")
def there_and_back(x):
    return ops.space_to_depth(ops.relu(ops.depth_to_space(x, 2)), 2)


@case(SPACE)
def turned(x):
    return ops.rot90(x, axes=(1, 2))


# New and other axes


@case(SPACE)
def stack(x):
    return ops.mean(ops.stack([x, ops.relu(x), layers.Conv2D(WIDTH, 1)(x)], axis=-1), axis=-1)


@case(STEPS)
def unstack(x):
    first, *_, last = ops.unstack(x, axis=1)
    return first - 2 * last


@case(STEPS, 0)
def unstack_channels(x):
    first, *_, last = ops.unstack(x, axis=-1)
    return first - 2 * last


@case(FLAT)
def stacks_of_every_letter(x):
    return ops.hstack([x, ops.relu(x)])


@case(STEPS, since="3.14")
def dstack(x):
    return ops.dstack([x, ops.relu(x)])


@case(STEPS, since="3.15")
def dsplit(x):
    one, other = ops.dsplit(x, [3])
    return ops.concatenate([other, one], axis=-1)


@case(STEPS, 0, since="3.13")
def array_split(x):
    one, *_, last = ops.array_split(x, 3, axis=-1)
    return ops.concatenate([last, ops.relu(last), one], axis=-1)


@case(STEPS)
def tile_steps(x):
    return ops.tile(x, (1, 2, 1))


@case(STEPS)
def tile_channels(x):
    return ops.tile(x, (1, 1, 3))


@case(STEPS)
def repeat_steps(x):
    return ops.repeat(x, 2, axis=1)


@case(STEPS)
def repeat_channels(x):
    return ops.repeat(x, 2, axis=-1)


@case(STEPS)
def repeat_channels_by_numbers(x):
    return ops.repeat(x, [1, 2, 3, 1, 1, 2, 1, 2], axis=-1)


@case(STEPS)
def roll_steps(x):
    return ops.roll(x, 2, axis=1)


@case(STEPS)
def roll_channels(x):
    return ops.roll(x, (3, 1, -1), axis=(-1, 1, 2))


@case(FLAT, 0)
def roll_examples(x):
    return ops.roll(x, 3)


@case(STEPS)
def attention_by_copies(x):
    weights = layers.Softmax()(layers.Flatten()(layers.Dense(1, "tanh")(x)))
    return ops.sum(layers.Multiply()([x, layers.Permute((2, 1))(layers.RepeatVector(WIDTH)(weights))]), axis=1)


@case(STEPS)
def attention_by_repeat(x):
    return x * ops.repeat(layers.Dense(1, "sigmoid")(x), WIDTH, axis=-1)


@case(STEPS)
def attention_by_tile(x):
    return x * ops.tile(layers.Dense(1, "sigmoid")(x), (1, 1, WIDTH))


@case(FLAT)
def decoder_of_steps(x):
    return layers.LSTM(4)(layers.RepeatVector(3)(x))


@case(SPACE)
def flip(x):
    return ops.flip(x, axis=-1)


@case(SPACE, since="3.14")
def flips_of_two_kinds(x):
    return ops.fliplr(x[..., ::-1])


# Sums


@case(SPACE)
def variances(x):
    return ops.concatenate([ops.var(x, axis=(1, 2)), ops.std(x, axis=(1, 2)), ops.mean(x, axis=(1, 2))], axis=-1)


@case(STEPS)
def variance_of_channels(x):
    return x / (1 + ops.var(x, axis=-1, keepdims=True))


@case(STEPS)
def mean_of_channels(x):
    return x / (1 + ops.mean(ops.square(x), axis=-1, keepdims=True))


@case(STEPS)
def moments_of_channels(x):
    mean, variance = ops.moments(x, axes=[-1], keepdims=True)
    return x * ops.rsqrt(1 + mean * mean + variance)


@case(STEPS)
def deviation_of_channels(x):
    return x / (1 + ops.std(x, axis=-1, keepdims=True))


@case(STEPS)
def attention(x):
    x = ops.expand_dims(x, 2)
    return ops.dot_product_attention(x, x, x)[:, :, 0]


@case(STEPS)
def moments(x):
    mean, variance = ops.moments(x, axes=[1])
    return ops.concatenate([mean, ops.rsqrt(1 + variance)], axis=-1)


@case(STEPS)
def norms(x):
    return ops.norm(x, axis=1) + ops.norm(x, ord=1, axis=1) + ops.logsumexp(x, axis=(1,)) + ops.prod(x, axis=1)


@case(STEPS)
def norm_of_channels(x):
    return x[:, 0] / (1 + ops.norm(x, axis=-1)[:, :1])


@case(STEPS)
def counts(x):
    return ops.cast(ops.count_nonzero(x > 0, axis=1), "float32") + ops.cast(ops.argmax(x, axis=1), "float32")


@case(STEPS)
def median_and_average(x):
    return ops.median(x, axis=1) + ops.average(x, axis=1)


@case(STEPS, 0)
def weighed_average(x):
    return ops.average(x, axis=1, weights=np.arange(1.0, 6.0, dtype="float32"))


@case(STEPS)
def running_sums(x):
    return ops.concatenate([ops.cumsum(x, axis=1), ops.sort(x, axis=1)], axis=1)


@case(SPACE)
def triangles(x):
    return ops.transpose(ops.tril(ops.transpose(x, (0, 3, 1, 2))), (0, 2, 3, 1))


@case(STEPS, 0)
def running_sum_of_channels(x):
    return ops.cumsum(x, axis=-1)


@case(STEPS)
def normalize(x):
    return ops.normalize(x, axis=-1)


@case(STEPS)
def normalize_by_another_order(x):
    return ops.normalize(x, axis=-1, order=3)


@case(STEPS)
def unit_normalization(x):
    return layers.UnitNormalization()(x)


@case(STEPS)
def einsum_that_moves(x):
    return ops.transpose(ops.einsum("bsd->bds", x), (0, 2, 1))


@case(STEPS)
def einsum_of_two(x):
    scores = ops.einsum("btd,bsd->bts", x, layers.Dense(WIDTH, name="key")(x))
    return ops.einsum("bts,bsd->btd", ops.softmax(scores), x)


@case(STEPS)
def einsum_that_multiplies(x):
    return ops.einsum("bsd,bd,bs->bsd", x, ops.mean(x, axis=1), layers.Dense(1)(x)[:, :, 0])


@case(STEPS, 0)
def einsum_with_an_array(x):
    return ops.einsum("bsd,de->bse", x, np.ones((WIDTH, 3), "float32"))


@case(STEPS)
def sum_over_neighbours(x):
    return ops.matmul(np.arange(15, dtype="float32").reshape(3, 5) / 15, x)


@case(STEPS, 0)
def product_with_a_constant_matrix(x):
    return ops.matmul(x, np.ones((WIDTH, 3), "float32"))


# Arrays


def table(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@case(STEPS)
def position_table(x):
    return x + table(5, WIDTH)


@case(STEPS)
def position_table_as_a_tensor(x):
    return x * ops.convert_to_tensor(table(1, 5, WIDTH))


@case(FLAT)
def list_of_numbers(x):
    return ops.where([True, False, True, True, False, False, True, False], x, [-x, x, 2.0][2])


@case(SPACE)
def table_of_places(x):
    return ops.maximum(x, table(6, 1, 1)) - table(WIDTH)


@case(FLAT)
def chosen_by_a_mask(x):
    return ops.where(np.arange(WIDTH) % 2 == 0, x, ops.zeros_like(x))


@case(STEPS, since="3.14")
def slice_of_steps(x):
    return ops.slice(x, (0, 1, 0), (-1, 3, WIDTH))


@case(STEPS, since="3.14")
def slice_of_channels(x):
    return ops.concatenate([ops.slice(ops.convert_to_tensor(x), [0, 2, 1], [-1, 2, 6]), x[:, :2]], -1)


@case(FLAT, 0)
def clipped_by_an_array(x):
    return ops.clip(x, [0.0, 0.1] * (WIDTH // 2), 1.0)


@case(FLAT)
def digitized(x):
    return ops.cast(ops.digitize(x, np.array([-0.5, 0.0, 0.5])), "float32") * 0.1 + x
