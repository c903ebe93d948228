"""The law of TFLite: the file gives the Keras model's outputs, with stock operators, or there is no file."""

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from tf_terngrad import tflite
from tf_terngrad.tflite import check, conversion
from tf_terngrad.tflite.ports import Port, arrange, ports


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


MODELS = [convolution, mobile, residual, many, nested, recurrent, free_size, bytes_in, volume, fixed_batch]


def file_answers(path, arrays):
    """LiteRT by itself, through the file's signature: the oracle for what the package says about a file."""
    run = Interpreter(model_path=str(path)).get_signature_runner()
    return run(**arrays)


@pytest.mark.parametrize("build", MODELS)
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
    report = tflite.convert(model, tmp_path / "m.tflite", quantize, calibration)
    assert report.custom == ()
    assert report.relative_difference <= {"float16": 1e-2, "dynamic": 0.1, "int8": 0.2}[quantize]
    assert report.checked_on == "32 calibration inputs"


def example_inputs(model, examples):
    random = np.random.default_rng(3)
    return {
        tensor.name: random.integers(0, 11, (examples, *tensor.shape[1:]))
        if tensor.dtype == "int32"
        else random.normal(size=(examples, *tensor.shape[1:]))
        for tensor in model.inputs
    }


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


@hypothesis.given(st.lists(st.sampled_from(["a", "a_1", "a-1", "_a", "1", "class", "a__1"]), min_size=1, max_size=6))
def test_any_names_give_distinct_identifiers(names):
    tensors = [keras.KerasTensor((None, 2)) for _ in names]
    for tensor, name in zip(tensors, names, strict=True):
        tensor._keras_history = type("History", (), {"operation": type("Operation", (), {"name": name})})
    found = [port.name for port in ports(tensors)]
    assert len(set(found)) == len(names)
    assert all(name.isidentifier() for name in found)


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


@pytest.mark.parametrize("shape", [(30,), (30, 1), (30, 4)])
@pytest.mark.parametrize("scale", [1.0, 9.0])
def test_accuracy_is_the_share_of_right_decisions(shape, scale):
    random = np.random.default_rng(5)
    outputs, numbers = scale * random.normal(size=(30, 4)), random.integers(0, 4, 30)
    labels = np.eye(4)[numbers] if shape == (30, 4) else numbers.reshape(shape)
    expected = sum(int(max(range(4), key=row.__getitem__) == n) for row, n in zip(outputs, numbers, strict=True)) / 30
    assert check.accuracies(Port("kind", (None, 4), "float32"), outputs, outputs, labels) == (expected, expected)


def test_one_class_is_decided_at_a_half_for_probabilities_and_at_zero_for_logits():
    port, labels = Port("score", (None, 1), "float32"), np.array([0, 1, 1])
    probabilities, logits = np.array([[0.4], [0.6], [0.9]]), np.array([[-2.0], [0.1], [3.0]])
    assert check.accuracies(port, probabilities, 1 - probabilities, labels) == (1.0, 0.0)
    assert check.accuracies(port, logits, -logits, labels) == (1.0, 0.0)


def test_a_file_that_breaks_the_law_is_not_written(tmp_path, monkeypatch):
    honest = conversion.flatbuffer

    def dishonest(model, *arguments):
        model.layers[0].bias.assign_add([1e-2, 0.0])
        content = honest(model, *arguments)
        model.layers[0].bias.assign_sub([1e-2, 0.0])
        return content

    monkeypatch.setattr(conversion, "flatbuffer", dishonest)
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


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def poisoned():
    model = sequential((3,), layers.Dense(2, name="dense"))
    model.layers[0].bias.assign([1.0, np.nan])
    return model


def dense():
    return sequential((3,), layers.Dense(2, name="dense"))


def silent():
    """No calibration can give the hidden activation a range."""
    model = sequential((3,), layers.Dense(4, activation="relu"), layers.Dense(2, activation="relu"), layers.Dense(2))
    for layer in model.layers[:2]:
        layer.bias.assign(np.full(layer.bias.shape, -100.0))
    return model


DATA = np.ones((4, 3))
REFUSED = {
    "not a model": (lambda: "m.keras", {}, TypeError, "keras.Model.*load_model.*'m.keras'"),
    "unbuilt": (lambda: keras.Sequential([layers.Dense(2)]), {}, ValueError, "unbuilt or subclassed.*keras.Input"),
    "subclassed": (Subclassed, {}, ValueError, "unbuilt or subclassed"),
    "nan weight": (poisoned, {}, ValueError, "weight '.*dense/bias' holds NaN"),
    "mode": (dense, {"quantize": "int4"}, ValueError, "float16.*Received: 'int4'"),
    "batch": (dense, {"batch_size": 0}, ValueError, "batch_size.*Received: 0"),
    "no calibration": (dense, {"quantize": "int8"}, ValueError, "needs calibration="),
    "shape": (
        dense,
        {"calibration": np.ones((4, 5))},
        ValueError,
        r"input 'image'.*\(n, 3\).*Received: shape \(4, 5\)",
    ),
    "rank": (dense, {"calibration": np.ones(3)}, ValueError, r"\(n, 3\).*Received: shape \(3,\)"),
    "empty": (dense, {"calibration": np.ones((0, 3))}, ValueError, r"n >= 1.*Received: shape \(0, 3\)"),
    "nan data": (dense, {"calibration": DATA * np.nan}, ValueError, "calibration for input 'image'.*NaN"),
    "name": (dense, {"calibration": {"picture": DATA}}, ValueError, r"inputs \['image'\].*Received: \['picture'\]"),
    "count": (nested, {"calibration": [np.ones((2, 4))]}, ValueError, "expected 2 arrays.*Received: 1"),
    "lengths": (nested, {"calibration": (np.ones((2, 4)), np.ones((3, 4)))}, ValueError, "same number of examples"),
    "dtype": (many, {"calibration": example_inputs(nested(), 2)}, ValueError, r"'image', 'tokens'.*Received"),
    "float tokens": (
        many,
        {"calibration": {"image": np.ones((2, 6, 6, 1)), "tokens": np.ones((2, 5))}},
        TypeError,
        "input 'tokens'.*int32.*Received: dtype float64",
    ),
    "no pair": (dense, {"evaluation": DATA}, ValueError, "pair .inputs, labels."),
    "labels": (
        dense,
        {"evaluation": (DATA, np.ones(3))},
        ValueError,
        r"labels of output 'dense'.*Received: shape \(3,\)",
    ),
    "which output": (nested, {"evaluation": ([np.ones((2, 4))] * 2, np.ones(2))}, ValueError, "dict of labels"),
    "range": (
        lambda: sequential((3,), layers.Lambda(keras.ops.log, output_shape=(3,), name="log")),
        {},
        ValueError,
        "NaN or infinity in output 'log'.*calibration=",
    ),
    "loop": (recurrent, {"quantize": "int8", "calibration": np.ones((2, 6, 3))}, tflite.ConversionError, "unroll=True"),
    "no range": (
        silent,
        {"quantize": "int8", "calibration": np.random.default_rng(0).normal(size=(20, 3))},
        tflite.ConversionError,
        "LiteRT cannot run.*calibration inputs vary",
    ),
    "free loop": (recurrent, {"batch_size": None}, tflite.ConversionError, "batch_size=1"),
    "operator": (
        lambda: sequential((3,), layers.Lambda(keras.ops.erfinv, output_shape=(3,))),
        {},
        tflite.ConversionError,
        "no stock TFLite operator covers: Erfinv",
    ),
}


@pytest.mark.parametrize("build, arguments, error, message", REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_and_nothing_lost(build, arguments, error, message, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"the last good file")
    with pytest.raises(error, match=f"(?s){message}"):
        tflite.convert(build(), path, **arguments)
    assert path.read_bytes() == b"the last good file"
    assert len(list(tmp_path.iterdir())) == 1


def test_unwritable_folder_is_found_before_the_conversion(tmp_path, monkeypatch):
    def unexpected(*arguments):
        raise AssertionError("converted before the folder was tried")

    monkeypatch.setattr(conversion, "flatbuffer", unexpected)
    (tmp_path / "file").touch()
    for path, error in [
        (tmp_path / "missing" / "m.tflite", FileNotFoundError),
        (tmp_path / "file" / "m.tflite", NotADirectoryError),
        (tmp_path, IsADirectoryError),
    ]:
        with pytest.raises(error, match=str(path)):
            tflite.convert(dense(), path)


@hypothesis.given(examples=st.integers(1, 5), form=st.sampled_from(["tuple", "list", "dict"]))
def test_data_arrives_in_the_order_of_the_inputs_whatever_its_form(examples, form):
    inputs = [Port("b", (None, 2), "float32"), Port("a", (None,), "int32")]
    arrays = [np.full((examples, 2), 0.5), np.arange(examples)]
    data = {"tuple": tuple(arrays), "list": arrays, "dict": {"a": arrays[1], "b": arrays[0]}}[form]
    for port, given, received in zip(inputs, arrays, arrange(data, inputs, "calibration"), strict=True):
        np.testing.assert_array_equal(given, received)
        assert received.dtype == port.dtype
