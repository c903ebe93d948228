"""The contract of the codec, for the native one and its TensorFlow twin."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from tf_terngrad.ternary import codec, cost, huffman, native, twin
from tf_terngrad.ternary.layout import BYTE_STRIDE, WORD_STRIDE, digits_per_byte, digits_per_word, outputs

LEVELS = [1, 2, 3, 7, 127]
SIZES = [0, 1, 2, 4, 5, 6, 63, 64, 319, 320, 321, 1000, 5003]
DTYPES = ["float16", "bfloat16", "float32", "float64"]


def digits(size, most, seed=0):
    return np.random.default_rng(seed).integers(-most, most + 1, size)


def packed_by_hand(values, base, offset, count, stride):
    """The layout's own words: output j of a block holds the digits j, j + stride, j + 2 stride, ..."""
    result = []
    while len(values):
        width = stride if len(values) >= count * stride else -(-len(values) // count)
        block, values = values[: count * width], values[count * width :]
        for j in range(width):
            result.append(sum((int(digit) + offset) * base**i for i, digit in enumerate(block[j::width])))
            result[-1] += sum(offset * base**i for i in range(len(block[j::width]), count))
    return result


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("size", SIZES)
def test_bytes_are_the_layouts_and_unpack_gives_the_digits_back(implementation, size, levels):
    given = digits(size, levels)
    data = implementation.pack_bytes(tf.constant(given, tf.int8), levels)
    count = digits_per_byte(levels)
    assert data.numpy().tolist() == packed_by_hand(given, 2 * levels + 1, levels, count, BYTE_STRIDE)
    assert len(data) == outputs(size, count, BYTE_STRIDE)
    np.testing.assert_array_equal(implementation.unpack_bytes(data, size, levels), given)


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8, 64, 1000])
@pytest.mark.parametrize("size", SIZES)
def test_words_are_the_layouts_and_unpack_gives_the_sums_back(implementation, size, workers, levels):
    most = workers * levels
    given = digits(size, most)
    words = implementation.pack_words(tf.constant(given, tf.int32), workers, levels)
    count = digits_per_word(workers, levels)
    assert words.numpy().tolist() == packed_by_hand(given, 2 * most + 1, 0, count, WORD_STRIDE)
    np.testing.assert_array_equal(implementation.unpack_words(words, size, workers, levels), given)


@pytest.mark.parametrize("workers", [1, 2, 5, 127, 128, 1000])
@pytest.mark.parametrize("digit", [-1, 0, 1])
def test_sums_of_words_never_carry(implementation, workers, digit):
    words = implementation.pack_words(tf.fill((1000,), digit), workers, 1)
    total = implementation.unpack_words(words * workers, 1000, workers, 1)
    assert set(total.numpy().tolist()) == {digit * workers}


@hypothesis.given(st.data())
@hypothesis.settings(deadline=None, max_examples=50)
def test_sums_of_words_are_the_sums_of_digits(implementation, data):
    levels, workers = data.draw(st.sampled_from([1, 2, 5])), data.draw(st.integers(1, 40))
    size = data.draw(st.integers(0, 700))
    each = np.array([digits(size, levels, seed) for seed in range(workers)])
    words = sum(implementation.pack_words(tf.constant(one, tf.int32), workers, levels).numpy() for one in each)
    sums = implementation.unpack_words(tf.constant(words), size, tf.constant(workers), levels)
    np.testing.assert_array_equal(sums, each.sum(0))


@pytest.mark.parametrize("bad, size", [([243], 5), ([0, 0], 5), ([], 1), ([242], 4), ([121 + 81], 4)])
def test_bytes_that_no_digits_give_are_refused(implementation, bad, size):
    with pytest.raises(tf.errors.InvalidArgumentError):
        implementation.unpack_bytes(tf.constant(bad, tf.uint8), size, 1)


@pytest.mark.parametrize(
    "bad, size", [([2**63 - 1], 40), ([-(2**63)], 40), ([(3**40 + 1) // 2], 40), ([0, 0], 40), ([], 1), ([3], 1)]
)
def test_words_that_no_digits_give_are_refused(implementation, bad, size):
    with pytest.raises(tf.errors.InvalidArgumentError):
        implementation.unpack_words(tf.constant(bad, tf.int64), size, 1, 1)


@hypothesis.given(st.data())
def test_bytes_are_refused_or_those_that_their_digits_give(implementation, data):
    levels, size = data.draw(st.sampled_from([1, 2, 7])), data.draw(st.integers(0, 30))
    base, count = 2 * levels + 1, digits_per_byte(levels)
    given = data.draw(st.lists(st.integers(0, 255), min_size=-(-size // count), max_size=-(-size // count)))
    by_hand = [byte // base**i % base - levels for i in range(count) for byte in given][:size]
    if packed_by_hand(by_hand, base, levels, count, BYTE_STRIDE) == given:
        assert implementation.unpack_bytes(tf.constant(given, tf.uint8), size, levels).numpy().tolist() == by_hand
    else:
        with pytest.raises(tf.errors.InvalidArgumentError):
            implementation.unpack_bytes(tf.constant(given, tf.uint8), size, levels)


@hypothesis.given(st.data())
def test_words_are_refused_or_those_that_their_digits_give(implementation, data):
    workers, levels = data.draw(st.sampled_from([1, 2, 4, 9])), data.draw(st.sampled_from([1, 3]))
    base, count = 2 * workers * levels + 1, digits_per_word(workers, levels)
    size = data.draw(st.sampled_from([0, 3, count - 1, count, 2 * count]))
    most = base**count // 2
    near = st.sampled_from([sign * (most + more) for sign in (-1, 1) for more in (-1, 0, 1, 2**40)])
    words = st.one_of(near, st.integers(-(2**63), 2**63 - 1), st.integers(-base, base))
    given = rest = data.draw(st.lists(words, min_size=-(-size // count), max_size=-(-size // count)))
    by_hand = []
    for _ in range(count):
        digits = [(word + base // 2) % base - base // 2 for word in rest]
        rest = [(word - digit) // base for word, digit in zip(rest, digits, strict=True)]
        by_hand += digits
    if packed_by_hand(by_hand[:size], base, 0, count, WORD_STRIDE) == given:
        found = implementation.unpack_words(tf.constant(given, tf.int64), size, workers, levels)
        assert found.numpy().tolist() == by_hand[:size]
    else:
        with pytest.raises(tf.errors.InvalidArgumentError):
            implementation.unpack_words(tf.constant(given, tf.int64), size, workers, levels)


@pytest.mark.parametrize(
    "levels, workers", [(1, 0), (1, -1), (1, 2**21), (7, 299_594), (127, 9_000_000), (1, 2**31 - 1)]
)
@pytest.mark.parametrize("known", [True, False])
def test_other_numbers_of_workers_than_words_hold_are_refused(implementation, levels, workers, known):
    workers = workers if known else tf.constant(workers)
    for refused in (
        lambda: implementation.pack_words(tf.constant([0, 1]), workers, levels),
        lambda: implementation.unpack_words(tf.constant([1], tf.int64), 2, workers, levels),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match="workers"):
            refused()


@pytest.mark.parametrize("bad", [2, -2])
def test_digits_out_of_range_are_refused(implementation, bad):
    with pytest.raises(tf.errors.InvalidArgumentError):
        implementation.pack_bytes(tf.constant([0, bad], tf.int8), 1)
    with pytest.raises(tf.errors.InvalidArgumentError):
        implementation.pack_words(tf.constant([0, bad], tf.int32), 1, 1)


@pytest.mark.parametrize("workers, levels", [(1, 1), (1, 3), (1, 127), (4, 1), (16, 1), (5, 2)])
def test_streams_of_normally_distributed_gradients_are_as_long_as_expected(workers, levels):
    size = 1_000_000
    total = np.zeros(size, int)
    for worker in range(workers):
        given, cut = gradient(size, seed=worker), lengths(size)
        total += native.ternarize(given, cut, *floats(2.5, 2.5), (1, 2, 3, worker), levels).numpy()
    streams, _ = native.compress(
        native.pack_bytes(tf.constant(total), workers * levels), [outputs_of(size, workers * levels)]
    )
    letters, bits = outputs_of(size, workers * levels), cost.digit_bits(workers, levels)
    expected = huffman.stream_bytes(letters, bits * digits_per_byte(workers * levels))
    assert len(streams) == pytest.approx(expected, rel=0.01)


def outputs_of(size, levels):
    return outputs(size, digits_per_byte(levels), BYTE_STRIDE)


def gradient(size, dtype="float32", seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=size), dtype)


def lengths(*values):
    return tf.constant(values, tf.int32)


def floats(*values):
    """A threshold and a scale, each for one bucket."""
    return [tf.constant([value]) for value in values]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("clip", [None, 2.5, 0.5])
def test_scales_are_the_formula(implementation, dtype, clip):
    cut = [3000, 0, 1, 7, 1992]
    given = gradient(5000, dtype)
    thresholds, scales = implementation.scale(given, lengths(*cut), clip)
    parts = np.split(given.numpy().astype("float64"), np.cumsum(cut)[:-1])
    sigma = np.array([part.std() if len(part) else 0 for part in parts])
    largest = np.array([np.abs(part).max(initial=0) for part in parts])
    mean = np.array([np.abs(part.mean()) if len(part) else 0 for part in parts])
    expected = np.full(len(cut), np.inf) if clip is None else np.maximum(clip * sigma, mean)
    np.testing.assert_allclose(thresholds, expected, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(scales, np.minimum(expected, largest), rtol=1e-6, atol=1e-12)


def test_a_large_mean_does_not_spoil_the_deviation(implementation):
    given = gradient(100_000) * 1e-3 + 1
    thresholds, _ = implementation.scale(given, lengths(100_000), 5000.0)
    assert float(thresholds[0]) == pytest.approx(5000 * given.numpy().astype("float64").std(), rel=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
def test_values_that_do_not_differ_are_not_clipped_away(implementation, value):
    given, cut = tf.fill((1001,), value), lengths(1000, 1)
    thresholds, scales = implementation.scale(given, cut, 2.5)
    np.testing.assert_allclose(scales, [abs(value)] * 2, rtol=1e-6)
    codes = implementation.ternarize(given, cut, thresholds, scales, (1, 2), 1)
    assert set(codes.numpy().tolist()) == {int(np.sign(value))}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_makes_its_buckets_scale_infinite_and_its_mean_nan(implementation, bad):
    given = tf.constant([1.0, bad, 2.0, 3.0])
    cut = lengths(2, 2)
    thresholds, scales = implementation.scale(given, cut, 2.5)
    assert np.isinf(scales[0]) and np.isfinite(scales[1])
    data = implementation.encode_bytes(given, cut, thresholds, scales, (1, 2), 1)
    means = implementation.mean_of_bytes(data[None], cut, scales[None], 1, tf.float32)
    words = implementation.encode_words(given, cut, thresholds, scales, (1, 2), 1, 1)
    for mean in (means, implementation.mean_of_words(words, cut, scales, 1, 1, tf.float32)):
        assert np.isnan(mean.numpy()).tolist() == [True, True, False, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("levels", [1, 2, 7, 127])
def test_digits_have_the_clipped_gradient_as_their_mean(implementation, dtype, levels):
    size, rounds = 2000, 300
    given, cut = gradient(size, dtype), lengths(1500, 500)
    thresholds, scales = implementation.scale(given, cut, 1.5)
    shared = scales * 1.25
    each = np.repeat(shared.numpy(), cut.numpy())
    limit = np.repeat(thresholds.numpy(), cut.numpy())
    total = np.zeros(size)
    for step in range(rounds):
        codes = implementation.ternarize(given, cut, thresholds, shared, (3, step, 0, 1), levels).numpy()
        assert codes.dtype == np.int8
        assert np.abs(codes).max() <= levels
        total += codes
    expected = np.clip(given.numpy().astype("float64"), -limit, limit)
    error = total / rounds * each / levels - expected
    deviation = 0.5 * each / levels / np.sqrt(rounds)
    assert np.abs(error / deviation).max() < 5
    assert abs(np.mean(error / deviation)) < 5 / np.sqrt(size)


def test_digits_of_other_keys_are_independent(implementation):
    size = 100_000
    given, cut = tf.fill((size,), 0.5), lengths(size)
    keys = [(1, 0, 0, 0), (2, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1), (0, 1, 0, 0), (1, 2**40, 0, 0)]
    drawn = [implementation.ternarize(given, cut, *floats(1.0, 1.0), key, 1).numpy().astype("float64") for key in keys]
    for place, one in enumerate(drawn):
        assert abs(one.mean() - 0.5) < 5 * 0.5 / np.sqrt(size)
        shifted = np.corrcoef(one[:-1], one[1:])[0, 1]
        others = [np.corrcoef(one, other)[0, 1] for other in drawn[place + 1 :]]
        assert np.abs([shifted, *others]).max() < 5 / np.sqrt(size)


def test_the_same_key_gives_the_same_digits_and_the_encoders_pack_them(implementation):
    given, cut = gradient(10_000), lengths(4000, 6000)
    thresholds, scales = implementation.scale(given, cut, 2.5)
    parts, key = (given, cut, thresholds, scales), (7, 8, 9, 10)
    codes = implementation.ternarize(*parts, key, 2)
    np.testing.assert_array_equal(codes, implementation.ternarize(*parts, tf.constant(key, tf.int64), 2))
    np.testing.assert_array_equal(implementation.encode_bytes(*parts, key, 2), implementation.pack_bytes(codes, 2))
    words = implementation.encode_words(*parts, key, 3, 2)
    np.testing.assert_array_equal(words, implementation.pack_words(tf.cast(codes, tf.int32), 3, 2))


def test_zero_gradients_and_zero_scales_give_zero_digits(implementation):
    cut = lengths(100)
    assert not implementation.ternarize(tf.zeros(100), cut, *floats(0.0, 0.0), (1, 2), 1).numpy().any()
    assert not implementation.ternarize(tf.zeros(100), cut, *floats(1.0, 1.0), (1, 2), 1).numpy().any()
    codes = implementation.ternarize(tf.constant([2.0, -2.0]), lengths(2), *floats(np.inf, 2.0), (1, 2), 1)
    assert codes.numpy().tolist() == [1, -1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("levels", [1, 3])
def test_means_are_what_the_digits_say(implementation, dtype, levels):
    workers, cut = 3, lengths(700, 0, 300)
    rng = np.random.default_rng(1)
    each = rng.integers(-levels, levels + 1, (workers, 1000))
    scales = rng.uniform(0.5, 2, (workers, 3)).astype("float32")
    data = tf.stack([implementation.pack_bytes(tf.constant(one, tf.int8), levels) for one in each])
    spread = np.repeat(scales, cut.numpy(), axis=1)
    tolerance = {"float16": 1e-3, "bfloat16": 8e-3}.get(dtype, 1e-6)
    mean = implementation.mean_of_bytes(data, cut, scales, levels, tf.as_dtype(dtype))
    assert mean.dtype.name == dtype
    np.testing.assert_allclose(
        mean.numpy().astype("float64"), (each * spread).mean(0) / levels, rtol=tolerance, atol=tolerance
    )
    added = implementation.add_bytes(data, 1000, levels)
    np.testing.assert_array_equal(implementation.unpack_bytes(added, 1000, workers * levels), each.sum(0))
    of_sums = implementation.mean_of_bytes(
        added[None], cut, scales[:1], tf.constant(workers * levels), tf.as_dtype(dtype)
    )
    words = implementation.sum_bytes(data, 1000, levels)
    np.testing.assert_array_equal(implementation.unpack_words(words, 1000, workers, levels), each.sum(0))
    shared = implementation.mean_of_words(words, cut, scales[0], workers, levels, tf.as_dtype(dtype))
    np.testing.assert_array_equal(of_sums.numpy().astype("float64"), shared.numpy().astype("float64"))
    np.testing.assert_allclose(
        shared.numpy().astype("float64"), each.mean(0) * spread[0] / levels, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("signature", [None, [tf.TensorSpec([None]), tf.TensorSpec([], tf.int32)]], ids=str)
def test_everything_works_in_a_graph_whether_shapes_are_known_or_not(implementation, signature):
    @tf.function(input_signature=signature)
    def there_and_back(given, workers):
        cut = tf.stack([tf.size(given)])
        thresholds, scales = implementation.scale(given, cut, None)
        words = implementation.encode_words(given, cut, thresholds, scales, (1, 2), workers, 1)
        means = implementation.mean_of_words(words * tf.cast(workers, tf.int64), cut, scales, workers, 1, tf.float32)
        data = implementation.encode_bytes(given, cut, thresholds, scales, (1, 2), 1)
        streams, _ = implementation.compress(data, tf.size(data)[None])
        rows = tf.repeat(implementation.decompress(streams, tf.size(data)[None])[None], workers, axis=0)
        sums = implementation.add_bytes(rows, tf.size(given), 1)
        return means, implementation.mean_of_bytes(sums[None], cut, scales[None], workers, tf.float32)

    for size in (0, 1, 1000):
        for workers in (1, 4, 9):
            given = tf.sign(gradient(size))
            for means in there_and_back(given, tf.constant(workers)):
                np.testing.assert_array_equal(means, given)


def test_both_codecs_read_each_others_bytes_and_words():
    given = digits(5003, 2)
    for one, other in ((native, twin), (twin, native)):
        data = one.pack_bytes(tf.constant(given, tf.int8), 2)
        np.testing.assert_array_equal(other.unpack_bytes(data, 5003, 2), given)
        words = one.pack_words(tf.constant(given, tf.int32), 5, 2)
        np.testing.assert_array_equal(other.unpack_words(words, 5003, 5, 2), given)


@pytest.fixture
def choice(monkeypatch):
    codec.implementation.cache_clear()
    yield lambda value: monkeypatch.setenv("TF_TERNGRAD_CODEC", value)
    codec.implementation.cache_clear()


@pytest.mark.parametrize("value, expected", [("tensorflow", "tensorflow"), ("native", "native"), ("", "native")])
def test_the_environment_chooses_the_codec(choice, value, expected):
    choice(value)
    assert codec.implementation() == expected


def test_an_unknown_codec_is_refused(choice):
    choice("fast")
    with pytest.raises(ValueError, match="Received: 'fast'"):
        codec.implementation()


def test_without_the_library_the_twin_serves_unless_the_native_one_was_asked_for(choice, monkeypatch):
    monkeypatch.setattr(native, "library", lambda: None)
    assert codec.implementation() == "tensorflow"
    codec.implementation.cache_clear()
    choice("native")
    with pytest.raises(RuntimeError, match="not there"):
        codec.implementation()
