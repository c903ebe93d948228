"""Small Keras models, one for each way in which a graph can differ, and inputs for them."""

import keras
import numpy as np
from keras import layers


def takes_functions_as_regularizers():
    """Whether this Keras takes any function where it asks for a regularizer or a constraint."""
    try:
        layers.Dense(1, kernel_regularizer=lambda weight: 0.0).build((None, 1))
    except ValueError:
        return False
    return True


def randomized(model, seed=0):
    """Every weight that starts at zero or one matters to the outputs."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if len(weight.shape) == 1 and "seed" not in weight.path:
            positive = "variance" in weight.path or "gamma" in weight.path
            weight.assign(random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(0, 0.3, weight.shape))
    return model


def sequential(shape, *stack, dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype, name="image"), *stack])


def convolution():
    return sequential(
        (12, 12, 2),
        layers.Conv2D(6, 3, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling2D(),
        layers.Conv2D(4, 3, activation="relu", padding="same", strides=2),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(8, activation="relu"),
        layers.Dense(3, activation="softmax", name="digit"),
    )


def mobile():
    return sequential(
        (12, 12, 2),
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
        layers.BatchNormalization(),
        layers.ReLU(6.0),
        layers.SeparableConv2D(6, 3, activation="hard_silu"),
        layers.Conv2DTranspose(4, 3, strides=2),
        layers.UpSampling2D(2),
        layers.Conv2D(4, 3, groups=2),
        layers.PReLU(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3),
    )


def residual():
    image = keras.Input((8, 8, 3), name="image")
    start = layers.Conv2D(4, 3, padding="same")(image)
    branch = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", activation="swish")(start))
    scale = layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(branch))
    merged = layers.Concatenate()([start + branch * scale, layers.ZeroPadding2D(1)(start[:, 1:-1, 1:-1])])
    return keras.Model(image, layers.Dense(5)(layers.Flatten()(merged)))


def many():
    image, tokens = keras.Input((6, 6, 1), name="image"), keras.Input((5,), dtype="int32", name="tokens")
    seen = layers.Dense(8)(layers.Flatten()(layers.Conv2D(3, 3)(image)))
    read = layers.GlobalMaxPooling1D()(layers.Conv1D(8, 3)(layers.Embedding(11, 4)(tokens)))
    both = layers.Add()([seen, read])
    outputs = {"score": layers.Dense(1, activation="sigmoid")(both), "kind": layers.Dense(4)(both)}
    return keras.Model({"tokens": tokens, "image": image}, outputs)


def nested():
    shared = sequential((4,), layers.Dense(5, activation="relu"), layers.Dense(3))
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    return keras.Model([left, right], [shared(left) - shared(right), shared(right)])


def recurrent():
    return sequential((6, 3), layers.Bidirectional(layers.LSTM(4, return_sequences=True)), layers.GRU(3))


def free_size():
    return sequential((None, None, 3), layers.Conv2D(4, 3, activation="gelu"), layers.GlobalMaxPooling2D())


def bytes_in():
    return sequential((8, 8, 3), layers.Rescaling(1 / 255), layers.Conv2D(4, 3), dtype="uint8")


def volume():
    return sequential((5, 6, 6, 2), layers.Conv3D(4, 3, activation="relu"), layers.LayerNormalization())


def fixed_batch():
    pixels = keras.Input(batch_shape=(3, 6), name="pixels")
    return keras.Model(pixels, layers.Dense(2)(pixels))


ALL = [convolution, mobile, residual, many, nested, recurrent, free_size, bytes_in, volume, fixed_batch]


def example_inputs(model, examples):
    random = np.random.default_rng(3)
    return {
        tensor.name: random.integers(0, 11, (examples, *tensor.shape[1:]))
        if tensor.dtype == "int32"
        else random.normal(size=(examples, *tensor.shape[1:]))
        for tensor in model.inputs
    }
