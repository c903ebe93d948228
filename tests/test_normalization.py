"""Normalizations over one axis, over another, over several, of tensors of any rank."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from laws import (
    check_laws,
    check_random_zeros,
    check_widths,
    difference,
    fresh_inputs,
    outputs_of,
    random_members,
    randomize,
    zero_members,
)

import tf_terngrad as tt

Layer, RMS = layers.LayerNormalization, layers.RMSNormalization
WIDTH = 8
CASES = {
    "a vector": ((), lambda: Layer(epsilon=0.3)),
    "steps": ((5,), lambda: Layer()),
    "an image": ((4, 5), lambda: Layer()),
    "an image, no shift": ((4, 5), lambda: Layer(center=False)),
    "an image, neither scale nor shift": ((4, 5), lambda: Layer(center=False, scale=False)),
    "a video": ((2, 4, 5), lambda: Layer(axis=[4])),
    "a video, by its root mean square": ((2, 4, 5), lambda: RMS(axis=4)),
    "rows and columns": ((4, 5), lambda: Layer(axis=[1, 2])),
    "rows": ((4, 5), lambda: Layer(axis=1, center=False, scale=False)),
}


@pytest.mark.filterwarnings("ignore:.*every channel is dead", "ignore:.*one dead channel is kept")
@pytest.mark.parametrize("name", CASES)
def test_what_is_zero_leaves_and_nothing_else(name):
    sizes, normalize = CASES[name]
    keras.utils.set_random_seed(1)
    inputs = keras.Input((*sizes, 3))
    x = layers.Dense(WIDTH, name="front")(inputs)
    x = layers.Dense(WIDTH)(normalize()(x)) + x
    model = randomize(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))))
    weights = model.get_weights()
    small = check_widths(model, random_members(3))
    assert small.get_layer("front").units < WIDTH
    model.set_weights(weights)
    check_random_zeros(model, 1)


@pytest.mark.parametrize("sizes", [(), (5,), (None,), (4, 5)])
def test_the_scale_of_a_smaller_width_names_its_axes(sizes):
    """TensorFlow multiplies along an ellipsis as many small matrices, and takes tens of times as long to train."""
    inputs = keras.Input((*sizes, 3))
    x = Layer(name="norm")(layers.Dense(WIDTH, name="front")(inputs))
    model = randomize(keras.Model(inputs, layers.Dense(2)(x)))
    next(structure for structure in tt.structures(model) if structure.name == "front").zero([1, 4])
    small = tt.compact(model)
    assert small.output_shape == model.output_shape
    assert "..." not in small.get_layer("norm").get_layer("scale").equation


@pytest.mark.parametrize("axis", [1, [1, 2]])
def test_a_root_mean_square_over_other_axes_stays_as_wide(axis):
    inputs = keras.Input((WIDTH, WIDTH, WIDTH))
    x = layers.Dense(WIDTH)(RMS(axis=axis, name="norm")(layers.Dense(WIDTH, name="front")(inputs)))
    model = randomize(keras.Model(inputs, layers.Dense(3)(x)))
    check_random_zeros(model, 1)
    (front,) = [entry for entry in tt.structures(model).frozen if entry.name == "front"]
    assert "whatever its axis is" in str(front)


def test_a_mask_of_the_steps_reaches_what_is_behind_it():
    inputs = keras.Input((6,), dtype="int32")
    x = Layer()(layers.Embedding(20, WIDTH, mask_zero=True)(inputs))
    x = layers.MultiHeadAttention(2, 4)(x, x)
    check_widths(randomize(keras.Model(inputs, layers.Dense(2)(x))), random_members(0))


def masked_steps(around):
    """A model of embedded words whose masked steps reach attention through a normalization."""
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, WIDTH, mask_zero=True, name="words")(inputs)
    x = x + around(Layer(name="norm"))(x)
    x = layers.MultiHeadAttention(2, 4)(x, x)
    return randomize(keras.Model(inputs, layers.Dense(2)(x)))


def test_a_width_shrinks_though_a_mask_of_the_steps_goes_on(tmp_path):
    model = masked_steps(lambda norm: norm)
    zero_members(model, lambda found: [1, 3] if "words" in found.born else [])
    small = check_laws(model)
    assert small.get_layer("words").output_dim == WIDTH - 2
    inputs = fresh_inputs(model)
    small.save(tmp_path / "small.keras")
    with warnings.catch_warnings(action="ignore"):  # Keras takes a model for one that ends a mask
        (again,) = outputs_of(keras.models.load_model(tmp_path / "small.keras"), inputs)
    assert difference(outputs_of(model, inputs)[0], again) < 1e-5
    words = np.asarray(inputs)
    assert (words == 0).any()
    assert (words != 0).any()


def test_a_mask_that_a_graph_does_not_show_keeps_the_width():
    def nested(norm):
        inner = keras.Input((6, WIDTH))
        model = keras.Model(inner, norm(inner), name="inner")
        model.supports_masking = True
        return model

    model = masked_steps(nested)
    assert "inner/norm: a mask of the steps may come with its input" in str(tt.structures(model))
    check_random_zeros(model, 1)


def test_one_layer_for_tensors_of_several_ranks_stays():
    inputs, normalize = [keras.Input((6, 5)), keras.Input((4, 4, 5))], Layer()
    found = [layers.Flatten()(normalize(layers.Dense(WIDTH)(x))) for x in inputs]
    check_random_zeros(randomize(keras.Model(inputs, [layers.Dense(2)(x) for x in found])), 1)


@pytest.mark.filterwarnings("ignore:.*not all int8")
def test_a_smaller_one_is_as_exact_in_int8_as_a_whole_one(tmp_path):
    """The range of what enters is much smaller than that of what leaves; the file must know both."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 5))
    x = Layer()(layers.Dense(12, kernel_initializer=keras.initializers.RandomNormal(stddev=0.02), name="front")(inputs))
    model = keras.Model(inputs, layers.Dense(3)(x))
    next(found for found in tt.structures(model) if found.name == "front").zero([1, 4, 7, 8])
    data = np.random.default_rng(0).normal(size=(64, 6, 5)).astype("float32")
    small = tt.compact(model)
    assert small.get_layer("front").units == 8
    assert tt.tflite.convert(small, tmp_path / "m.tflite", "int8", calibration=data).relative_difference <= 0.06
