"""TensorFlow Model Optimization on tf_keras copies of compact models: what works, and what it refuses."""

import dataclasses
import os
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from absl import flags
from small_models import randomized
from tool_modules import load

import tf_terngrad as tt
from models.experiments import measures
from models.experiments import quantization_rows as rows
from models.experiments.model_optimization import CellConfig, clustered, fake_quantized, flatbuffer_of
from models.experiments.tf_keras_copy import check_equal, taught_by, tf_keras_copy
from models.lstm_lm import lstm_lm

pytestmark = pytest.mark.filterwarnings(
    # The int8 quantizer leaves the splits of an unrolled LSTM in float32 from time to time; convert says so.
    "ignore:.* is not all int8. SPLIT compute in float32:UserWarning"
)

CLUSTERS, WORDS, STEPS = 5, 30, 4


def network():
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(6, 3, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="relu")(keras.layers.Add(name="sum")([x, keras.layers.Conv2D(6, 3, name="skip")(image)]))
    x = keras.layers.Flatten(name="flatten")(keras.layers.MaxPooling2D(name="pool")(x))
    x = keras.layers.Dropout(0.3, name="dropout")(keras.layers.Dense(10, activation="tanh", name="dense")(x))
    return randomized(keras.Model(image, keras.layers.Dense(4, name="logits")(x)))


def image_study():
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(120, 8, 8, 1)).astype("float32"), random.integers(0, 4, 120)
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.MaxPooling2D(name="pool")(keras.layers.Conv2D(6, 3, name="conv")(image))
    x = keras.layers.Dense(10, activation="relu", name="dense")(keras.layers.Flatten(name="flatten")(x))
    model = keras.Model(image, keras.layers.Dense(4, name="logits")(x))
    return study(model, images, labels, measures.error_percent, rows.IMAGE_WAYS)


def language_study():
    words = np.random.default_rng(0).integers(0, WORDS, (80, STEPS + 1)).astype("int32")
    model = lstm_lm(WORDS, (7,), 6, 0.1, steps=STEPS)
    for number, weight in enumerate(model.trainable_variables):
        weight.assign(np.random.default_rng(number).uniform(-1, 1, weight.shape))
    return study(model, words[:, :-1], words[:, 1:], rows.perplexity, rows.LANGUAGE_WAYS)


def study(model, inputs, labels, measure, ways):
    train, test = (inputs, labels), (inputs[:20], labels[:20])
    return rows.Study(model, train, test, measure, "worth", ways, CLUSTERS, epochs=1, batch_size=40)


def different(arrays):
    return [len(np.unique(array)) for array in arrays]


TWINS = {
    "branches": (network, (5, 8, 8, 1)),
    "lstm": (lambda: lstm_lm(WORDS, (7, 5), 6, 0.1), (3, 9)),
    "gru": (lambda: lstm_lm(WORDS, (7,), 6, layer=keras.layers.GRU), (3, 9)),
}


@pytest.mark.parametrize("build, shape", TWINS.values(), ids=TWINS)
def test_a_copy_gives_the_same_outputs_and_its_weights_come_back(build, shape):
    model = build()
    inputs = np.random.default_rng(1).integers(0, WORDS, shape)
    copy = tf_keras_copy(model)
    assert isinstance(copy, tf_keras.Model) and not isinstance(copy, keras.Model)
    assert check_equal(model, copy, inputs) < 1e-5
    for weight in copy.weights:
        weight.assign(weight + 0.125)
    with pytest.raises(ValueError, match=rf"copy of '{model.name}' is not equal to it: outputs up to .* differ by"):
        check_equal(model, copy, inputs)
    assert check_equal(taught_by(model, copy), copy, inputs) < 1e-4


def test_dropout_is_at_work_when_a_copy_trains():
    inputs = keras.Input((50,))
    copy = tf_keras_copy(keras.Model(inputs, keras.layers.Dropout(0.5)(inputs)))
    shares = [np.mean(copy(np.ones((20, 50)), training=training).numpy() == 0) for training in (True, False)]
    assert shares == [pytest.approx(0.5, abs=0.1), 0]


def test_batch_statistics_move_when_a_copy_trains():
    inputs, model = np.random.default_rng(1).normal(size=(50, 8, 8, 1)).astype("float32"), network()
    copy = tf_keras_copy(model)
    norms = [one.get_layer("norm") for one in (model, copy)]
    before = norms[0].moving_mean.numpy()
    for one in (model, copy):
        one(inputs, training=True)
    np.testing.assert_allclose(*(norm.moving_mean.numpy() for norm in norms), atol=1e-5)
    assert np.abs(norms[0].moving_mean.numpy() - before).max() > 1e-3


def test_a_lost_activation_is_found():
    model = network()
    copy = tf_keras_copy(model)
    copy.get_layer("dense").activation = tf_keras.activations.relu
    with pytest.raises(ValueError, match="is not equal to it"):
        check_equal(model, copy, np.ones((2, 8, 8, 1)))


def test_layers_that_tf_keras_lacks_are_named():
    class Dense(keras.layers.Dense):
        pass

    for layer in (keras.layers.RMSNormalization(name="lone"), Dense(2, name="lone")):
        model = keras.Sequential([keras.Input((3,)), layer])
        with pytest.raises(ValueError, match=f"Received: 'lone', {type(layer).__name__}"):
            tf_keras_copy(keras.Model(model.inputs, model.outputs))


def test_tf_keras_stays_beside_keras_3():
    assert tf.keras.Model is keras.Model
    assert "TF_USE_LEGACY_KERAS" not in os.environ


@pytest.mark.parametrize("build", [image_study, language_study])
def test_clustered_files_hold_few_different_weights(build, tmp_path):
    done = build()
    results = {
        name: rows.measure(done, name, tmp_path / f"{name}.tflite") for name in ("float32", "clustered, float32")
    }
    free, few = (different(rows.weights_in(result.path)) for result in results.values())
    assert max(free) > CLUSTERS and max(few) <= CLUSTERS
    assert len(few) == len(free)
    kernels = [weight.numpy() for weight in done.clustered.weights if len(weight.shape) > 1]
    assert max(different(kernels)) <= CLUSTERS
    for after, before in zip(done.clustered.get_weights(), done.model.get_weights(), strict=True):
        assert np.abs(after - before).max() > 1e-6  # biases are trained as well


def test_clustering_leaves_dropout_at_work():
    inputs = tf_keras.Input((50,))
    dropped = tf_keras.layers.Dropout(0.5)(tf_keras.layers.Dense(50)(inputs))
    shares = []

    def fine_tune(model):
        shares.append(np.mean(model(np.ones((20, 50), "float32"), training=True).numpy() == 0))

    clustered(tf_keras.Model(inputs, dropped), CLUSTERS, fine_tune)
    assert shares == [pytest.approx(0.5, abs=0.1)]


def test_quantization_aware_training_gives_int8_files(tmp_path):
    done = image_study()
    result = rows.measure(done, "quantization-aware", tmp_path / "aware.tflite")
    assert result.refusal is None and 0 <= result.worth <= 100
    kernels = rows.weights_in(result.path)
    assert [kernel.dtype for kernel in kernels] == ["int8"] * 3
    rows.measure(done, "float32", tmp_path / "float32.tflite")
    assert {kernel.dtype for kernel in rows.weights_in(tmp_path / "float32.tflite")} == {np.dtype("float32")}


def test_clusters_outlive_quantization_aware_training(tmp_path):
    result = rows.measure(image_study(), "clustered, quantization-aware", tmp_path / "both.tflite")
    kernels = rows.weights_in(result.path)
    assert {kernel.dtype for kernel in kernels} == {np.dtype("int8")}
    dense = [kernel for kernel in kernels if kernel.ndim == 2]
    assert max(different(dense)) <= CLUSTERS  # convolutions have a scale for each filter


def test_what_is_refused_says_why(tmp_path):
    done = language_study()
    refused = {name: rows.measure(done, name, tmp_path / "none.tflite").refusal for name in list(done.ways)[8:10]}
    assert refused == {
        "quantization-aware": "TypeError: Input 'inputs' of 'FakeQuantWithMinMaxVars' Op has type int32 that does not "
        "match expected type of float32",
        "the same, behind the embedding": "RuntimeError: Layer lstm1:<class 'tf_keras.src.layers.rnn.lstm.LSTM'> is "
        "not supported",
    }
    assert not (tmp_path / "none.tflite").exists()


def test_an_lstm_is_quantized_by_a_config_of_its_own(tmp_path):
    done = language_study()
    shares = {}
    for name in list(done.ways)[10:13]:
        result = rows.measure(done, name, tmp_path / f"{len(shares)}.tflite")
        assert result.refusal is None, name
        arrays = rows.weights_in(result.path)
        shares[name] = [array.size for array in arrays if array.dtype == "int8"]
    logits, weights, outputs = shares.values()
    assert logits == []  # what comes into it is not rounded, so that its weights are not either
    assert sorted(weights) == [6 * 28, 7 * 28]
    assert sorted(outputs) == [6 * 28, 7 * 28, 7 * WORDS]


def test_weights_come_back_from_rounding_layers():
    done = language_study()
    options = {"choose": lambda layer: CellConfig() if "lstm" in layer.name else True, "behind": "embedding"}
    rounding = done.fine_tune(fake_quantized(done.copy(), **options))
    taught = taught_by(done.model, rounding)
    for after, before in zip(taught.get_weights(), done.model.get_weights(), strict=True):
        assert 1e-6 < np.abs(after - before).max() < 0.1
    assert np.abs(np.subtract(taught(done.test[0]), rounding(done.test[0]))).max() < 0.3
    with pytest.raises(ValueError, match="has no kernel of layer 'lstm1'"):
        taught_by(done.model, tf_keras.Model(rounding.input, rounding.get_layer("embedding").output))


def test_a_second_lstm_behind_rounded_outputs_is_refused_by_the_converter():
    copy = tf_keras_copy(lstm_lm(WORDS, (7, 5), 6, steps=STEPS))

    def choose(layer):
        return CellConfig(output=True) if isinstance(layer, tf_keras.layers.LSTM) else False

    with pytest.raises(tt.tflite.ConversionError, match="cannot duplicate the value since it's not constant"):
        flatbuffer_of(fake_quantized(copy, choose, behind="embedding"))


def test_files_are_measured_from_states_of_zeros(tmp_path):
    done = language_study()
    path = tmp_path / "fused.tflite"
    path.write_bytes(flatbuffer_of(done.copy()))
    inputs = done.test[0]
    assert rows.logits_of(path, inputs).shape == (20, STEPS, WORDS)
    np.testing.assert_allclose(rows.logits_of(path, inputs), done.model.predict(inputs, verbose=0), atol=0.05)
    np.testing.assert_array_equal(rows.logits_of(path, inputs)[3:], rows.logits_of(path, inputs[3:]))


def test_perplexity_is_that_of_keras():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(6, 3, 9)) * 4, random.integers(0, 9, (6, 3))
    loss = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    assert rows.perplexity(logits, labels) == pytest.approx(float(np.exp(np.mean(loss))), rel=1e-5)


@pytest.fixture(scope="module")
def tool():
    return load("compare_quantization")


def test_the_table_has_a_line_for_every_row(tool, tmp_path):
    def refuse(study, path):
        raise ValueError("No such layer. Take another.")

    done = dataclasses.replace(
        image_study(), ways={"as compacted": rows.IMAGE_WAYS["as compacted, float32"], "none": refuse}
    )
    *_, made, refused = tool.compare(done, tmp_path).splitlines()
    size = (tmp_path / "as_compacted.tflite").stat().st_size
    assert re.fullmatch(rf"\| as compacted \| [\d.]+ \| {size:,} \| [\d,]+ \| 0 % \| [\d,]+ \| [\d.]+ \|", made)
    assert refused == "| none | `ValueError: No such layer` | | | | | |"
    assert tool.title("small", done.model) == "small: 6-10-4, 654 parameters"


def test_a_text_in_pieces(tool):
    words = np.arange(tool.STEPS * 3)
    inputs, labels = tool.pieces(words)
    assert inputs.shape == (2, tool.STEPS)
    np.testing.assert_array_equal(inputs.ravel() + 1, labels.ravel())


def test_flags_that_make_no_sense_are_refused(tool):
    with pytest.raises(flags.IllegalFlagValueError, match="clusters"):
        flags.FLAGS(["compare_quantization", "--clusters=1"])
