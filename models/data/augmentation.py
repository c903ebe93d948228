"""Training images seen differently: shifted, cropped, flipped. Nothing here loads them: see `datasets`."""

import numpy as np
import tensorflow as tf


def shift(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Each image of shape (height, width, channels) moved by -1, 0 or 1 pixels along both axes, zeros moving in.

    Args:
        images: of shape (batch, height, width, channels).
        seed: three integers; the same ones give the same moves.
    """
    moved = tf.stack(list(shifts(images)), axis=1)
    chosen = tf.random.stateless_uniform(tf.shape(images)[:1], _of_two(seed), 0, moved.shape[1], tf.int32)
    return tf.gather(moved, chosen, axis=1, batch_dims=1)


def shifts(images):
    """The images, all moved alike, in each of the nine ways."""
    _, height, width, _ = images.shape
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    for top in range(3):
        for left in range(3):
            yield padded[:, top : top + height, left : left + width]


def crop(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A crop of 24 × 24 of each image at a random place, flipped or not, with mean 0 and variance 1.

    Args:
        images: of shape (batch, 32, 32, 3).
        seed: three integers; the same ones give the same crops.
    """
    return tf.image.per_image_standardization(_flipped_crops(images, 24, seed))


def shift_and_flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Each image moved by up to four pixels along both axes, zeros moving in, flipped or not.

    Args:
        images: of shape (batch, side, side, channels).
        seed: three integers; the same ones give the same moves.

    Source: He et al., Deep Residual Learning for Image Recognition, 2016, section 4.2.
    """
    side = images.shape[1]
    return _flipped_crops(tf.pad(images, [[0, 0], [4, 4], [4, 4], [0, 0]]), side, seed)


def centre(images: np.ndarray) -> np.ndarray:
    """The middle 24 × 24 of each image, with mean 0 and variance 1."""
    return tf.image.per_image_standardization(images[:, 4:28, 4:28]).numpy()


def _flipped_crops(images, side, seed):
    """A square of each image at a random place, flipped or not."""
    seed = _of_two(seed)
    count, whole = tf.shape(images)[0], images.shape[1]
    places = tf.random.stateless_uniform((count, 2), seed, 0, whole - side + 1, tf.int32)
    rows, columns = (places[:, axis, None] + tf.range(side) for axis in (0, 1))
    cropped = tf.gather(tf.gather(images, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    flip = tf.random.stateless_uniform((count, 1, 1, 1), seed + 1) < 0.5
    return tf.where(flip, cropped[:, :, ::-1], cropped)


def _of_two(seed):
    """The two integers that TensorFlow's generator wants, of three."""
    return tf.random.experimental.stateless_fold_in(tf.cast(seed[:2], tf.int64), tf.cast(seed[2], tf.int64))
