"""The tables of docs/why.md: what is pruned stays zero, equal multiply-adds are equal, and a refusal is a row."""

import keras
import numpy as np
import pytest
from keras import layers
from small_models import randomized
from tool_modules import load

from models.experiments import why_rows

IMAGES = np.random.default_rng(0).normal(size=(40, 8, 8, 1)).astype("float32")
LABELS = np.random.default_rng(1).integers(0, 3, 40)


def network(filters=8):
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Flatten()(layers.Conv2D(filters, 3, name="conv")(image))
    return randomized(keras.Model(image, layers.Dense(3, name="logits")(x), name="small"))


@pytest.mark.parametrize("share", [0.5, 0.1, 1.0])
def test_the_largest_weights_stay_and_the_others_are_zero_through_training(share):
    model = network()
    pruned = why_rows.prune(model, share)
    assert why_rows.multiply_adds(pruned) == pytest.approx(share * why_rows.multiply_adds(model), rel=0.1)
    kept = [keras.ops.convert_to_numpy(pruned.get_layer(name).kernel) != 0 for name in ("conv", "logits")]
    for name, mask in zip(("conv", "logits"), kept, strict=True):
        size = np.abs(keras.ops.convert_to_numpy(model.get_layer(name).kernel))
        assert mask.sum() == max(1, int(share * mask.size)) and size[mask].min() >= size[~mask].max(initial=0)
    pruned.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    pruned.fit(IMAGES, LABELS, epochs=2, verbose=0)
    for name, mask in zip(("conv", "logits"), kept, strict=True):
        after = keras.ops.convert_to_numpy(pruned.get_layer(name).kernel)
        np.testing.assert_array_equal(after != 0, mask)
        assert share == 1.0 or not np.array_equal(after, keras.ops.convert_to_numpy(model.get_layer(name).kernel))


def test_multiply_adds_are_those_of_the_arithmetic():
    model = network()
    assert why_rows.multiply_adds(model) == 36 * 9 * 8 + 36 * 8 * 3
    assert why_rows.weights(model) == sum(np.count_nonzero(weight) for weight in model.get_weights())


def refuse(model, path, images):
    raise ValueError("Exception encountered. No such operator")


def test_a_table_has_a_line_for_each_way_and_one_for_what_is_refused(tmp_path):
    model, small = network(), network(2)
    zeros = why_rows.prune(model, 0.25)
    rows = [*why_rows.zero_rows(model, zeros, small), why_rows.Row("refused", model, refuse)]
    results = [
        why_rows.measure(row, tmp_path / f"{number}.tflite", (IMAGES, LABELS), (IMAGES, LABELS))
        for number, row in enumerate(rows)
    ]
    right = np.mean(np.argmax(model.predict(IMAGES, verbose=0), -1) == LABELS)
    assert results[0].error == pytest.approx(100 * (1 - right)) and results[-1].refusal.startswith("ValueError")
    sizes = [(tmp_path / f"{number}.tflite").stat().st_size for number in range(4)]
    assert sizes[3] < sizes[2] < sizes[0] == sizes[1]  # zeros are stored like other numbers
    lines = [line.split("|")[1:-1] for line in why_rows.table(results).splitlines()]
    assert {len(line) for line in lines} == {7} and len(lines) == 2 + len(rows)
    assert [line[0].strip() for line in lines[2:]] == [row.name for row in rows]
    assert lines[2][4].strip() == f"{sizes[0]:,}" and "No such operator" not in lines[-1][4]


def test_names_of_files():
    assert load("why").slug('Keras: `quantize("int8")`, `export`') == "keras_quantize_int8_export"
