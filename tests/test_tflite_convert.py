"""The law of TFLite: the file gives the Keras model's outputs, with stock operators, or there is no file."""

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import small_models
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from small_models import convolution, example_inputs, many, mobile, nested, randomized, residual, sequential

from tf_terngrad import tflite
from tf_terngrad.tflite import candidates


def file_answers(path, arrays):
    """LiteRT by itself, through the file's signature: the oracle for what the package says about a file."""
    run = Interpreter(model_path=str(path)).get_signature_runner()
    return run(**arrays)


@pytest.mark.parametrize("build", small_models.ALL)
def test_float32_file_gives_the_models_outputs_with_stock_operators(build, tmp_path):
    report = tflite.convert(randomized(build()), tmp_path / "m.tflite")
    assert report.relative_difference <= 1e-4
    assert all(output.scale > 0 for output in report.outputs)
    assert report.custom == () and sum(report.operators.values()) > 0
    assert report.bytes == (tmp_path / "m.tflite").stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]


@pytest.mark.parametrize("build", [convolution, mobile, residual, many, nested])
@pytest.mark.parametrize("quantize", ["float16", "dynamic", "int8"])
def test_quantized_file_stays_near_the_model(build, quantize, tmp_path):
    model = randomized(build())
    calibration = example_inputs(model, 64)
    if (build, quantize) == (many, "int8") and tf.__version__ < "2.21":
        # Its converter writes one of the biases in a type that the operator refuses: no file, and a clear word.
        with pytest.raises(tflite.ConversionError, match="LiteRT cannot run the file"):
            tflite.convert(model, tmp_path / "m.tflite", quantize, calibration)
        return
    report = tflite.convert(model, tmp_path / "m.tflite", quantize, calibration)
    assert report.custom == ()
    assert report.relative_difference <= {"float16": 1e-2, "dynamic": 0.1, "int8": 0.2}[quantize]
    assert report.checked_on == "32 calibration inputs"


@pytest.mark.parametrize("quantize", [None, "float16", "dynamic", "int8"])
def test_quantized_weights_take_the_bytes_that_their_type_says(quantize, tmp_path):
    model = sequential((64,), layers.Dense(512, activation="relu"), layers.Dense(64))
    weights = 2 * 64 * 512
    data = np.random.default_rng(0).normal(size=(20, 64))
    report = tflite.convert(model, tmp_path / "m.tflite", quantize, data)
    size = {None: 4, "float16": 2, "dynamic": 1, "int8": 1}[quantize] * weights
    assert size <= report.bytes <= 1.1 * size + 4096


def test_report_says_what_litert_gives(tmp_path):
    model = randomized(many())
    inputs = {"image": np.ones((1, 6, 6, 1), "float32"), "tokens": np.full((1, 5), 7, "int32")}
    report = tflite.convert(model, tmp_path / "m.tflite", "float16", calibration=inputs)
    expected, received = model(inputs), file_answers(tmp_path / "m.tflite", inputs)
    assert set(received) == {"score", "kind"} == {output.name for output in report.outputs}
    for output in report.outputs:
        ours = keras.ops.convert_to_numpy(expected[output.name])
        np.testing.assert_allclose(output.scale, np.abs(ours).max(), rtol=1e-6)
        np.testing.assert_allclose(output.max_difference, np.abs(received[output.name] - ours).max(), atol=1e-7)
    assert report.max_difference == max(output.max_difference for output in report.outputs) > 0


def attention(features, steps=7):
    """A block of a transformer of time series, which often have one feature; one normalization, or none."""
    series = keras.Input((steps, features), name="series")
    seen = layers.MultiHeadAttention(2, 3)(series, series) + series
    seen = layers.Dense(features)(layers.Dense(4)(seen)) + seen
    return keras.Model(series, layers.Dense(3, name="head")(layers.GlobalAveragePooling1D()(seen)))


def scaled():
    """One feature, and a scale for each of several readers."""
    one = keras.Input((1,), name="one")
    return keras.Model(one, layers.Dense(3)(one * np.array([1.0, 2.0, -3.0, 4.0], "float32")))


ONE_FEATURE = {
    "attention": lambda: attention(1),
    "attention, one step": lambda: attention(1, steps=1),
    "attention, two features": lambda: attention(2),
    "matrices": lambda: sequential((7, 1), layers.Dense(4), layers.Dense(1), layers.Dense(3)),
    "one step": lambda: sequential((1, 1), layers.Dense(4), layers.Dense(2)),
    "einsum": lambda: sequential(
        (7, 1), layers.EinsumDense("abc,cde->abde", (7, 2, 3)), layers.EinsumDense("abcd,cde->abe", (7, 1))
    ),
    "scale": scaled,
    "bias of each step": lambda: sequential((7, 4), layers.Lambda(lambda x: x + np.arange(7.0)[None, :, None])),
}


@pytest.mark.parametrize("batch_size", [1, 2, None])
@pytest.mark.parametrize("build", ONE_FEATURE.values(), ids=ONE_FEATURE)
def test_a_model_on_one_feature_converts(build, batch_size, tmp_path):
    report = tflite.convert(randomized(build()), tmp_path / "m.tflite", batch_size=batch_size)
    assert report.relative_difference <= 1e-5 and report.outputs[0].scale > 0


def test_a_scale_of_each_feature_still_moves_into_the_matrix_behind_it(tmp_path):
    model = sequential((5,), layers.BatchNormalization(center=False), layers.Dense(3))
    assert tflite.convert(randomized(model), tmp_path / "m.tflite").operators.keys() <= {
        "FULLY_CONNECTED",
        "SUB",
        "ADD",
    }


def test_a_file_that_would_end_this_process_is_an_error(tmp_path):
    """The normalization of one feature is zero everywhere: its range and those before it are too far apart for int8."""
    series = keras.Input((20, 1), name="series")
    seen = layers.LayerNormalization(epsilon=1e-6)(layers.MultiHeadAttention(1, 1)(series, series))
    data = np.random.default_rng(0).normal(size=(40, 20, 1))
    with pytest.raises(tflite.ConversionError, match=r"ends the process.*single feature.*quantize='dynamic'"):
        tflite.convert(keras.Model(series, seen), tmp_path / "m.tflite", "int8", calibration=data)


@hypothesis.settings(max_examples=8)
@hypothesis.given(
    kernel=st.integers(1, 3),
    strides=st.integers(1, 2),
    padding=st.sampled_from(["same", "valid"]),
    activation=st.sampled_from(["relu", "tanh", "softplus", "elu", "leaky_relu"]),
    norm=st.booleans(),
    batch_size=st.sampled_from([1, 2, None]),
)
def test_law_holds_for_any_small_network(tmp_path_factory, kernel, strides, padding, activation, norm, batch_size):
    stack = [layers.Conv2D(4, kernel, strides=strides, padding=padding)]
    stack += [layers.BatchNormalization()] if norm else []
    stack += [layers.Activation(activation), layers.Flatten(), layers.Dense(3)]
    path = tmp_path_factory.mktemp("file") / "m.tflite"
    report = tflite.convert(randomized(sequential((7, 7, 2), *stack)), path, batch_size=batch_size)
    assert report.relative_difference <= 1e-4
    assert report.inputs == {"image": (batch_size, 7, 7, 2)}


def test_fixed_batch_folds_and_fuses_everything(tmp_path):
    report = tflite.convert(randomized(convolution()), tmp_path / "m.tflite")
    stages = {"CONV_2D": 2, "FULLY_CONNECTED": 2, "MAX_POOL_2D": 1, "RESHAPE": 1, "SOFTMAX": 1}
    assert report.operators == stages


def test_free_batch_takes_any_number_of_examples(tmp_path):
    model = randomized(convolution())
    tflite.convert(model, tmp_path / "m.tflite", batch_size=None)
    interpreter = Interpreter(model_path=str(tmp_path / "m.tflite"))
    index = interpreter.get_input_details()[0]["index"]
    images = np.random.default_rng(0).normal(size=(5, 12, 12, 2)).astype("float32")
    interpreter.resize_tensor_input(index, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, images)
    interpreter.invoke()
    received = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(received, keras.ops.convert_to_numpy(model(images)), atol=1e-5)


def test_names_become_identifiers_and_stay_apart(tmp_path):
    image = keras.Input((4,), name="self")
    dense = layers.Dense(2, name="a.b-c")
    model = keras.Model(image, [dense(image), dense(2.0 * image)])
    report = tflite.convert(model, tmp_path / "m.tflite")
    assert list(report.inputs) == ["tensor_self"]
    assert [output.name for output in report.outputs] == ["a_b_c", "a_b_c_1"]
    assert set(file_answers(tmp_path / "m.tflite", {"tensor_self": np.ones((1, 4), "float32")})) == {"a_b_c", "a_b_c_1"}


def test_mixed_precision_is_converted_in_float32_and_left_as_it_was(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = randomized(convolution())
    finally:
        keras.config.set_dtype_policy("float32")
    report = tflite.convert(model, tmp_path / "m.tflite")
    assert report.relative_difference <= 1e-4
    assert report.operators["CONV_2D"] == 2 and "DEQUANTIZE" not in report.operators
    assert {layer.dtype_policy.name for layer in model.layers} == {"mixed_float16"}


def test_conversion_leaves_the_model_alone(tmp_path):
    model = randomized(convolution())
    before = model.get_weights()
    tflite.convert(model, tmp_path / "m.tflite", "int8", calibration=example_inputs(model, 4))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_conversion_is_silent(tmp_path, capfd):
    tflite.convert(convolution(), tmp_path / "m.tflite", "int8", calibration=example_inputs(convolution(), 4))
    assert capfd.readouterr() == ("", "")


def test_evaluation_gives_both_accuracies(tmp_path):
    model = randomized(convolution())
    images = np.random.default_rng(1).normal(size=(40, 12, 12, 2)).astype("float32")
    labels = keras.ops.convert_to_numpy(model(images)).argmax(-1)
    labels[:10] = (labels[:10] + 1) % 3
    report = tflite.convert(model, tmp_path / "m.tflite", "dynamic", evaluation=(images, labels))
    decided = [file_answers(tmp_path / "m.tflite", {"image": image[None]})["digit"].argmax() for image in images]
    (output,) = report.outputs
    assert output.keras_accuracy == 0.75
    assert output.file_accuracy == np.mean(np.array(decided) == labels)
    assert report.accuracy_lost == output.keras_accuracy - output.file_accuracy
    assert "75.00 %" in str(report)


def test_a_file_that_breaks_the_law_is_not_written(tmp_path, monkeypatch):
    honest = candidates.flatbuffer

    def dishonest(model, *arguments):
        model.layers[0].bias.assign_add([1e-2, 0.0])
        content = honest(model, *arguments)
        model.layers[0].bias.assign_sub([1e-2, 0.0])
        return content

    monkeypatch.setattr(candidates, "flatbuffer", dishonest)
    path = tmp_path / "m.tflite"
    path.write_bytes(b"the last good file")
    with pytest.raises(tflite.ConversionError, match=r"output .dense. differs.*expected at most 0\.0001"):
        tflite.convert(sequential((3,), layers.Dense(2, name="dense")), path)
    assert path.read_bytes() == b"the last good file"
    assert len(list(tmp_path.iterdir())) == 1


def test_weights_beyond_float16_are_flagged(tmp_path):
    model = sequential((3,), layers.Dense(2))
    model.layers[0].kernel.assign(np.full((3, 2), 1e6))
    with pytest.warns(UserWarning, match=r"differs.*for float16"):
        tflite.convert(model, tmp_path / "m.tflite", "float16")


def test_int8_says_which_operators_stay_float32(tmp_path):
    model = sequential((4, 4, 4, 1), layers.Conv3D(2, 3))
    with pytest.warns(UserWarning, match="not all int8: CONV_3D"):
        tflite.convert(model, tmp_path / "m.tflite", "int8", calibration=np.ones((3, 4, 4, 4, 1)))
