"""Files that begin behind some layers: text becomes numbers in the application, the file does the rest."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from small_models import randomized, sequential

from tf_terngrad import tflite

TEXTS = np.array(["good film", "a bad bad film", "what a film", "good and fun"] * 5)
WORDS = ["good", "film", "bad", "a", "what", "and", "fun"]


def vectorize():
    return layers.TextVectorization(vocabulary=WORDS, output_sequence_length=6, name="vectorize")


def reviews():
    stack = [vectorize(), layers.Embedding(9, 4), layers.GlobalAveragePooling1D(), layers.Dense(2, name="kind")]
    return randomized(sequential((1,), *stack, dtype="string"))


def mixed():
    """Text, a category and numbers."""
    inputs = {
        "city": keras.Input((1,), dtype="string", name="city"),
        "age": keras.Input((3,), name="age"),
        "text": keras.Input((), dtype="string", name="text"),
    }
    city = layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot", name="lookup")(inputs["city"])
    words = layers.GlobalMaxPooling1D()(layers.Embedding(9, 4)(vectorize()(inputs["text"])))
    both = layers.Concatenate()([city, inputs["age"], words])
    return randomized(keras.Model(inputs, {"score": layers.Dense(2, name="head")(both)}))


MIXED = {"city": np.array(["a", "q"] * 10), "age": np.ones((20, 3)), "text": list(TEXTS)}


def test_a_file_begins_behind_the_layer_that_reads_text(tmp_path):
    model = reviews()
    report = tflite.convert(model, tmp_path / "m.tflite", start="vectorize", calibration=TEXTS)
    assert report.inputs == {"vectorize": (1, 6)} and report.checked_on == "20 calibration inputs"
    assert report.relative_difference <= 1e-5 and report.custom == ()
    run = Interpreter(model_path=str(tmp_path / "m.tflite")).get_signature_runner()
    tokens = model.layers[0](TEXTS[1:2, None]).numpy()
    np.testing.assert_allclose(run(vectorize=tokens)["kind"], model(TEXTS[1:2, None]), atol=1e-6)


def test_several_layers_and_numbers_beside_them(tmp_path):
    report = tflite.convert(
        mixed(),
        tmp_path / "m.tflite",
        "int8",
        start=["lookup", "vectorize"],
        calibration=MIXED,
        evaluation=(MIXED, TEXTS_ARE_GOOD),
    )
    assert report.inputs == {"age": (1, 3), "lookup": (1, 3), "vectorize": (1, 6)}
    assert report.outputs[0].name == "score" and report.accuracy_lost == pytest.approx(0, abs=0.2)


TEXTS_ARE_GOOD = np.arange(20) % 2


def test_the_check_needs_no_texts(tmp_path):
    report = tflite.convert(reviews(), tmp_path / "m.tflite", start="vectorize")
    assert report.checked_on == "8 random inputs" and report.outputs[0].scale > 0


def test_a_model_stays_as_it_was(tmp_path):
    model = reviews()
    before, output = model(TEXTS[:3, None]), model.layers[1].output
    tflite.convert(model, tmp_path / "m.tflite", start="vectorize")
    assert model.layers[1].output is output  # Keras refuses this of a layer that was called twice
    np.testing.assert_array_equal(model(TEXTS[:3, None]), before)


def test_a_model_of_numbers_may_begin_anywhere(tmp_path):
    x = np.random.default_rng(0).normal(size=(9, 4))
    model = randomized(sequential((4,), layers.Dense(5, name="low"), layers.ReLU(), layers.Dense(2, name="high")))
    report = tflite.convert(model, tmp_path / "m.tflite", start="low", calibration=x)
    assert report.inputs == {"low": (1, 5)} and report.operators == {"FULLY_CONNECTED": 1, "RELU": 1}


def shared():
    """One layer called twice, its outputs have a name each."""
    one, two = keras.Input((4,), name="one"), keras.Input((4,), name="two")
    low = layers.Dense(3, name="low")
    return keras.Model([one, two], layers.Dense(2, name="high")(low(one) - low(two)))


def test_a_layer_that_is_called_twice_gives_two_inputs(tmp_path):
    report = tflite.convert(
        randomized(shared()), tmp_path / "m.tflite", start="low", calibration=[np.eye(4), -np.eye(4)]
    )
    assert report.inputs == {"low": (1, 3), "low_1": (1, 3)} and report.relative_difference <= 1e-5


def towers():
    """The models of recommenders: text becomes a vector inside of a model in the model."""
    user, film = (keras.Input((), dtype="string", name=name) for name in ("user", "film"))
    low = [
        keras.Sequential(
            [
                keras.Input((), dtype="string"),
                layers.StringLookup(vocabulary=["a", "b", "c"], name=f"{name}_lookup"),
                layers.Embedding(4, 3, name=f"{name}_vector"),
            ],
            name=f"{name}_tower",
        )
        for name in ("user", "film")
    ]
    return keras.Model([user, film], layers.Dot(1, name="score")([low[0](user), low[1](film)]))


def test_a_layer_inside_of_a_nested_model(tmp_path):
    data = [np.array(["a", "b", "c", "d"]), np.array(["b", "b", "d", "a"])]
    start = ["user_lookup", "film_lookup"]
    report = tflite.convert(randomized(towers()), tmp_path / "m.tflite", start=start, calibration=data)
    assert report.inputs == {"film_lookup": (1,), "user_lookup": (1,)} and report.operators["GATHER"] == 2
    assert report.relative_difference <= 1e-5


def masked():
    return sequential((5, 3), layers.Masking(name="masking"), layers.LSTM(4))


REFUSED = {
    "text": (reviews, None, ValueError, "'image' needs numbers.*know no text.*start='vectorize'; the application"),
    "texts": (mixed, None, ValueError, r"start=\['(lookup|vectorize)', '(lookup|vectorize)'\]"),
    "nested": (towers, None, ValueError, r"start=\['(user|film)_lookup', '(user|film)_lookup'\]"),
    "one of them": (mixed, "lookup", ValueError, "'text' needs numbers.*start='vectorize'"),
    "name": (reviews, "tokens", ValueError, "the name of a layer of model.*Received: start='tokens'.*in 'vectorize'"),
    "kind": (reviews, 3, TypeError, "`start` to be the name of a layer.*Received: start=3"),
    "mask": (masked, "masking", ValueError, "layer 'masking', which gives a mask"),
    "input": (reviews, "image", ValueError, "Received: start='image'"),
}


@pytest.mark.parametrize("build, start, error, message", REFUSED.values(), ids=REFUSED)
def test_where_to_cut_is_told(build, start, error, message, tmp_path):
    with pytest.raises(error, match=f"(?s){message}"):
        tflite.convert(build(), tmp_path / "m.tflite", start=start)
    assert not list(tmp_path.iterdir())
