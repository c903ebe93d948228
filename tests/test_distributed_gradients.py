"""The average of a step's gradients, between virtual workers: against NumPy, by every route."""

import fnmatch

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
import virtual_workers

from tf_terngrad.ternary.compressor import Compression, TernGrad
from tf_terngrad.ternary.distributed import gradients
from tf_terngrad.ternary.distributed.settings import Route, Settings

EXACT = TernGrad(clip=None, smallest=10)  # digits stand for gradients of -s, 0 and s as they are
SHAPES = {"first/kernel": (30, 4), "first/bias": (4,), "frozen": None, "last/kernel": (4, 25), "last/bias": (25,)}
ROWS, WIDTH = 12, 5


def ternary_gradients(worker, dtype="float32"):
    """A step's gradients of -3, 0 and 3, of both signs on each worker."""
    rng = np.random.default_rng(worker)
    return [
        None if shape is None else tf.constant(3 * rng.choice([-1, 0, 1], size=shape), dtype)
        for shape in SHAPES.values()
    ]


def averages(workers, settings, of=ternary_gradients, names=tuple(SHAPES)):
    def average(network):
        return gradients.average(of(int(network.rank())), names, settings, network, 1)

    return virtual_workers.run(workers, average)


def expected(workers, op="average", of=ternary_gradients):
    """The same in float64, by NumPy."""
    reduce = {"average": np.mean, "sum": np.sum}[op]
    columns = zip(*[of(worker) for worker in range(workers)], strict=True)
    return [None if parts[0] is None else reduce(np.array(parts, "float64"), axis=0) for parts in columns]


@pytest.mark.parametrize("op", ["average", "sum"])
@pytest.mark.parametrize("compression", [None, EXACT, TernGrad(clip=None, share_scales=False, smallest=1)])
@pytest.mark.parametrize("fusion_bytes", [1, 500, 2**20])
def test_every_worker_gets_what_numpy_gets(op, compression, fusion_bytes):
    for result in averages(3, Settings(compression, op, fusion_bytes=fusion_bytes)):
        for value, should, given in zip(result, expected(3, op), ternary_gradients(0), strict=True):
            if should is None:
                assert value is None
                continue
            assert (value.shape, value.dtype) == (given.shape, given.dtype)
            np.testing.assert_allclose(value, should, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("compression", [None, EXACT])
def test_gradients_of_several_types_keep_theirs(dtype, compression):
    def mixed(worker):
        return ternary_gradients(worker) + ternary_gradients(worker, dtype)

    for result in averages(2, Settings(compression), mixed, [*SHAPES, *SHAPES]):
        for value, should, given in zip(result, expected(2, of=mixed), mixed(0), strict=True):
            if should is not None:
                assert value.dtype == given.dtype
                np.testing.assert_allclose(np.asarray(value, "float64"), should)


def test_real_gradients_end_bit_identical_and_near_the_average():
    def normal(worker):
        return [tf.random.stateless_normal((40_000,), (worker, 1))]

    first, second = averages(2, Settings(TernGrad(levels=100, clip=None)), normal, ["kernel"])
    np.testing.assert_array_equal(first[0], second[0])
    largest = max(np.abs(normal(worker)[0]).max() for worker in range(2))
    np.testing.assert_allclose(first[0], (normal(0)[0] + normal(1)[0]) / 2, atol=largest / 100)
    assert not np.array_equal(first[0], (normal(0)[0] + normal(1)[0]) / 2)


class Recorder:
    """A transport that notes what is exchanged."""

    def __init__(self, network):
        self._network, self.exchanged = network, []

    def __getattr__(self, method):
        def call(*arguments):
            if arguments:
                self.exchanged.append((arguments[-1], arguments[0].dtype.name, arguments[0].shape.num_elements()))
            return getattr(self._network, method)(*arguments)

        return call


def exchanged(settings, of=ternary_gradients, names=tuple(SHAPES)):
    def average(network):
        recorder = Recorder(network)
        gradients.average(of(int(network.rank())), names, settings, recorder, 1)
        return recorder.exchanged

    return virtual_workers.run(2, average)[0]


def test_what_fits_into_a_fusion_is_one_exchange():
    floats = 30 * 4 + 4 + 4 * 25 + 25
    assert exchanged(Settings()) == [("gradients.0.floats", "float32", floats)]
    bytes_of_digits = [item for item in exchanged(Settings(EXACT)) if item[1] == "uint8"]
    assert [name for name, *_ in bytes_of_digits] == ["gradients.0.bytes"]
    assert bytes_of_digits[0][2] <= -(-(floats - 4) // 5) + 1  # a stream that no code shortens is one byte longer
    assert ("gradients.1.floats", "float32", 4) in exchanged(Settings(EXACT))


def test_a_small_fusion_begins_with_the_last_layer():
    sizes = [size for _, _, size in exchanged(Settings(fusion_bytes=4 * 125))]
    assert sizes == [125, 124]


def test_all_digits_of_a_step_share_their_scales_by_one_exchange():
    def of(worker):
        return [*ternary_gradients(worker), *ternary_gradients(worker, "float64"), rows_of(worker, [worker, 5])]

    found = exchanged(Settings(EXACT, fusion_bytes=1), of, [*SHAPES, *SHAPES, "embeddings"])
    digits = [name for name, *_ in found if name.endswith("bytes")]
    assert digits == [f"gradients.{number}.bytes" for number in (0, 1, 2, 4, 5, 6, 8)]
    # of the rows of both workers and of six tensors, and of each bucket twice a mark of two floats
    assert [item for item in found if item[0].endswith("scales")] == [("gradients.scales", "float32", 3 + 6 + 7 * 4)]


def test_what_is_excluded_or_small_stays_float():
    float_sizes = [size for name, _, size in exchanged(Settings(EXACT, exclude=["last/*"])) if "floats" in name]
    assert float_sizes == [4 * 25 + 25 + 4]


def test_float16_halves_the_bytes():
    assert exchanged(Settings(Compression.fp16)) == [("gradients.0.floats", "float16", 249)]
    for result in averages(2, Settings(Compression.fp16)):
        for value, should in zip(result, expected(2), strict=True):
            if should is not None:
                np.testing.assert_allclose(value, should)
                assert value.dtype == tf.float32


@hypothesis.given(
    st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 40), st.sampled_from(["float32", "float64"])))),
    st.integers(1, 400),
    st.sampled_from(["", "1*", "*"]),
)
def test_each_gradient_is_in_one_fusion_that_is_not_too_large(sizes, fusion_bytes, pattern):
    values = [None if size is None else tf.zeros(size[:1], size[1]) for size in sizes]
    names = [str(position) for position in range(len(values))]
    found = gradients.fusions(values, names, Settings(EXACT, exclude=[pattern], fusion_bytes=fusion_bytes))
    positions = [position for fusion in found for position in fusion.positions]
    assert sorted(positions) == [position for position, value in enumerate(values) if value is not None]
    for fusion in found:
        assert fusion.positions == sorted(fusion.positions, reverse=True)
        assert len({values[position].dtype for position in fusion.positions}) == 1
        size = sum(int(tf.size(values[position])) * values[position].dtype.size for position in fusion.positions)
        assert size <= fusion_bytes or len(fusion.positions) == 1
        for position in fusion.positions:
            digits = not fnmatch.fnmatchcase(names[position], pattern) and int(tf.size(values[position])) >= 10
            assert fusion.route == Route(digits)


def rows_of(worker, indices, dtype=tf.int64):
    values = np.random.default_rng(worker).choice([-2.0, 0.0, 2.0], size=(len(indices), WIDTH))
    return tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(indices, dtype), tf.constant([ROWS, WIDTH]))


def dense(slices):
    table = np.zeros((ROWS, WIDTH))
    np.add.at(table, slices.indices.numpy(), slices.values.numpy())
    return table


@pytest.mark.parametrize("op", ["average", "sum"])
@pytest.mark.parametrize("compression", [None, TernGrad(clip=None, levels=2), TernGrad(clip=None, share_scales=False)])
@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
@pytest.mark.parametrize("indices", [([3, 1], [5, 3]), ([0, 11], [4]), ([], [2, 7]), ([], [])])
def test_rows_of_all_workers_come_back_merged(op, compression, indices, dtype):
    def of(worker):
        return [rows_of(worker, indices[worker], dtype)]

    total = dense(of(0)[0]) + dense(of(1)[0])
    for (result,) in averages(2, Settings(compression, op), of, ["embeddings"]):
        assert result.indices.numpy().tolist() == sorted({index for own in indices for index in own})
        assert result.indices.dtype == dtype
        np.testing.assert_allclose(dense(result), total / 2 if op == "average" else total, rtol=1e-6)


def test_a_row_that_came_twice_is_there_once_with_its_sum():
    def of(worker):
        return [rows_of(worker, [4, 4, 9, 4])]

    for (result,) in averages(2, Settings(), of, ["embeddings"]):
        assert result.indices.numpy().tolist() == [4, 9]
        np.testing.assert_allclose(dense(result), (dense(of(0)[0]) + dense(of(1)[0])) / 2)


def test_rows_that_one_worker_lacks_do_not_clip_the_others():
    """Row by row, a value of 2 and four zeros clip at 2.5 sigma = 2: as it is. Over the whole block, at less."""

    def of(worker):
        indices = np.arange(4) + 4 * worker
        values = np.tile([2.0, 0, 0, 0, 0], (4, 1)) * (1 if worker else 1e-3)
        return [tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(indices), tf.constant([ROWS, WIDTH]))]

    for (result,) in averages(2, Settings(TernGrad(clip=2.5)), of, ["embeddings"]):
        np.testing.assert_allclose(dense(result), (dense(of(0)[0]) + dense(of(1)[0])) / 2, rtol=1e-6)


@pytest.mark.parametrize("compression", [None, EXACT])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_on_one_worker_is_so_on_all(compression, bad):
    def of(worker):
        values = np.ones((2, 300), "float32")
        if worker == 1:
            values[0, 17] = bad
        return [tf.constant(values[0]), tf.constant(values[1])]

    for broken, whole in averages(2, Settings(compression), of, ["broken", "whole"]):
        assert not np.isfinite(broken[17])
        np.testing.assert_array_equal(whole, np.ones(300))


@pytest.mark.parametrize("wrong", [TernGrad, "terngrad", 2.5, object(), Compression])
def test_compression_of_another_kind_is_refused(wrong):
    with pytest.raises(TypeError, match=r"such as TernGrad\(\)"):
        Settings(wrong)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"op": "adasum"}, ValueError, "op='adasum'"),
        ({"exclude": "*/bias"}, TypeError, "exclude="),
        ({"exclude": [3]}, TypeError, "exclude="),
        ({"fusion_bytes": 0}, ValueError, "fusion_bytes=0"),
        ({"fusion_bytes": 1e6}, TypeError, "fusion_bytes="),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Settings(**arguments)
