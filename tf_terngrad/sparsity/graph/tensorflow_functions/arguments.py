"""Arguments of TensorFlow's as Keras takes them."""

import numpy as np


def whole(numbers):
    """Sizes, axes or positions as the whole numbers that Keras takes, however they are given; None as it is."""
    if numbers is None:
        return None
    if isinstance(numbers, (list, tuple)):
        return [whole(number) for number in numbers]
    return np.asarray(numbers).astype(int).tolist()


def along_space(given):
    """Strides or sizes of a convolution or pooling along its two dimensions; TensorFlow takes one, two or four."""
    given = whole(given)
    if isinstance(given, int):
        return (given, given)
    return tuple(given[1:3] if len(given) == 4 else given * 2 if len(given) == 1 else given)


def channels_last(data_format):
    """The option by which Keras takes channels as the last axis; nothing else can be followed."""
    if data_format not in (None, "NHWC", "NWC"):
        raise ValueError(f"channels stand last in what can be followed. Received: data_format={data_format!r}")
    return {"data_format": "channels_last"}
