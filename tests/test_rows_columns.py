"""The rows on rows and columns: as many zeros as the paper says, where it is said, in a layer that is the matrix."""

import keras
import numpy as np
import pytest

from models.convnet import convnet
from models.experiments import convnet_rows, rows_columns
from models.experiments.rows_columns import LAYERS, PLACEMENTS, ROWS, Layer

SMALL = Layer("conv", 9, 8, 12, 5, groups=2)


def test_the_matrices_are_those_of_the_reference_model():
    assert [layer.matrix for layer in LAYERS] == [(96, 363), (128, 1200), (384, 2304), (192, 1728), (128, 1728)]
    assert [layer.places for layer in LAYERS] == [3025, 729, 169, 169, 169]
    counts = [layer.groups * np.prod(layer.matrix) * layer.places for layer in LAYERS]
    assert counts == [105415200, 223948800, 149520384, 112140288, 74760192]


@pytest.mark.parametrize("place", PLACEMENTS)
def test_as_many_zeros_as_asked_for(place):
    zeros = PLACEMENTS[place](SMALL, 0.5, 0.64, np.random.default_rng(0))
    assert (zeros.rows.sum(1) == 3).all()
    assert zeros.columns.sum(1).tolist() == [{"anywhere": 36, "channels": 25 * 1, "border": 9 * 4}[place]] * 2
    single = rows_columns.scattered(SMALL, zeros, np.random.default_rng(1))
    assert single.sum() == zeros.alive.sum() and (single != zeros.alive).any()


def test_a_kernel_is_its_matrices():
    random = np.random.default_rng(0)
    zeros = rows_columns.anywhere(SMALL, 0.3, 0.5, random)
    kernel = rows_columns.kernel(SMALL, zeros.alive, random)
    matrices = kernel.reshape(100, 2, 6).transpose(1, 2, 0)
    np.testing.assert_array_equal(matrices != 0, zeros.alive)


@pytest.mark.parametrize(
    "place, left", [("anywhere", (5, 5, 4, 12)), ("channels", (5, 5, 1, 6)), ("border", (3, 3, 4, 6))]
)
def test_what_compaction_leaves_of_the_layer(place, left):
    random = np.random.default_rng(0)
    share = 0.0 if place == "anywhere" else 0.5
    zeros = PLACEMENTS[place](SMALL, share, 0.64, random)
    weights = rows_columns.kernel(SMALL, zeros.alive, random)
    small = rows_columns.compact_alone(SMALL, weights)
    layer = small.layers[-1]
    assert isinstance(layer, keras.layers.Conv2D) and tuple(layer.kernel.shape) == left


def test_the_rows_are_the_papers():
    assert [len(getattr(row, name)) for row in ROWS for name in ("columns", "rows", "paper", "l1")] == [5] * 8


def test_a_row_trains_and_has_its_line_in_the_table(tmp_path):
    random = np.random.default_rng(0)
    data = tuple((random.random((20, 32, 32, 3), "float32"), np.arange(20) % 10) for _ in range(2))
    (row,) = (row for row in convnet_rows.ROWS if row.name == "ssl")
    model, again = (convnet_rows.train(row, 0, data, tmp_path, epochs=3) for _ in range(2))
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])
    *_, paper, line = convnet_rows.table({row: [model]}, data, tmp_path).splitlines()
    assert line.startswith("| ssl | ") and paper.startswith("| *paper, fewer*") and paper.count("|") == line.count("|")


def test_what_is_zero_is_held_and_counted(tmp_path):
    model = convnet()
    kernel = model.get_layer("conv2").kernel
    array = kernel.numpy()
    array[:, :, :8] = 0
    array[..., :16] = 0
    kernel.assign(array)
    convnet_rows.hold(model)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(True))
    model.fit(np.random.default_rng(0).random((8, 32, 32, 3), "float32"), np.arange(8), verbose=0)
    found = convnet_rows.measure(model, runs=1)[1]
    assert (found.rows, found.columns) == (0.5, 0.25)
    assert found.zeros == 1 - 0.5 * 0.75
