"""The contract of the Huffman code that bytes travel in, for the native codec and its TensorFlow twin."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from codec_inputs import floats, gradient, lengths
from hypothesis import strategies as st

from tf_terngrad.ternary import cost, huffman, native, twin
from tf_terngrad.ternary.layout import digits_per_byte


def letters(size, kind, seed=0):
    """Bytes of some distribution."""
    rng = np.random.default_rng(seed)
    draw = {
        "any": lambda: rng.integers(0, 256, size),
        "one": lambda: np.full(size, 200),
        "two": lambda: rng.integers(0, 2, size) * 255,
        "peaked": lambda: np.abs(rng.normal(size=size) * 3).astype(int),
        "steep": lambda: np.minimum(rng.geometric(0.6, size), 255),  # Huffman's own code would be longer than ours
    }
    return tf.constant(draw[kind](), tf.uint8)


@pytest.mark.parametrize("kind", ["any", "one", "two", "peaked", "steep"])
@pytest.mark.parametrize("counts", [[0], [1], [0, 700, 0], [3840], [960, 3841, 5000]], ids=str)
def test_streams_give_the_bytes_back_whichever_codec_made_them(implementation, kind, counts):
    given = letters(sum(counts), kind)
    for maker in (native, twin):
        streams, sizes = maker.compress(given, counts)
        assert (streams.dtype, sizes.dtype, len(sizes)) == (tf.uint8, tf.int32, len(counts))
        np.testing.assert_array_equal(implementation.decompress(streams, counts), given)
        ends = np.cumsum(sizes)
        assert ends[-1] == len(streams)
        start = sum(counts[:-1])
        last = streams[ends[-1] - sizes[-1] :]
        np.testing.assert_array_equal(implementation.decompress(last, counts[-1:]), given[start:])


@pytest.mark.parametrize("maker", [native, twin], ids=["coded", "stored"])
def test_streams_are_read_in_a_graph_of_known_shapes(implementation, maker):
    given = letters(5000, "peaked")
    streams, _ = maker.compress(given, [5000])
    np.testing.assert_array_equal(tf.function(implementation.decompress)(streams, tf.constant([5000])), given)


@hypothesis.given(st.binary(max_size=5000), st.lists(st.integers(0, 3000), min_size=1, max_size=4))
@hypothesis.settings(deadline=None, max_examples=50)
def test_any_bytes_come_back_from_streams(given, cuts):
    cuts = np.minimum(np.cumsum(cuts), len(given))
    counts = np.diff([0, *cuts[:-1], len(given)])
    given = tf.constant(list(given), tf.uint8)
    streams, sizes = native.compress(given, counts)
    assert all(size <= count + (count > 0) for size, count in zip(sizes.numpy(), counts, strict=True))
    np.testing.assert_array_equal(native.decompress(streams, counts), given)


def spoilt(streams, where, value):
    return tf.tensor_scatter_nd_update(streams, [[where]], [tf.constant(value, tf.uint8)])


@pytest.mark.parametrize("maker", [native, twin], ids=["coded", "stored"])
def test_streams_that_no_encoder_made_are_refused(implementation, maker):
    streams, sizes = maker.compress(letters(5000, "peaked"), [5000])
    end = int(sizes[0])
    assert maker is twin or int(streams[-1]) == 0, "expected a stream with padding; choose another number of letters"
    bad = {
        "short": (streams[:-1], [5000]),
        "nothing": (streams[:0], [5000]),
        "long": (tf.concat([streams, [0]], 0), [5000]),
        "more letters": (streams, [5001]),
        "fewer letters": (streams, [4980]),
        "one more stream": (streams, [5000, 1]),
        "more letters than bits": (streams, [2**30]),
        "a head cut short": (streams[: min(100, end - 1)], [5000]),
    }
    if maker is native:
        bad |= {
            "padding": (spoilt(streams, end - 1, 1), [5000]),
            "no code": (spoilt(streams, 0, 0), [5000]),
            "a length that no code has": (spoilt(streams, 0, 13), [5000]),
            "a lane too long": (spoilt(streams, 129, 254), [5000]),
            "another lane": (spoilt(streams, 128, int(streams[128]) ^ 1), [5000]),
        }
    for what, (data, counts) in bad.items():
        with pytest.raises(tf.errors.InvalidArgumentError):
            pytest.fail(f"{what}: {implementation.decompress(data, counts)[:9]}")
    with pytest.raises(tf.errors.InvalidArgumentError):
        implementation.compress(letters(10, "any"), [4, 5])


def test_an_incomplete_code_is_refused_as_one(implementation):
    streams, _ = native.compress(letters(5000, "peaked"), [5000])
    for head in (0, 0x11):  # no letter has a code; all have one of one bit
        spoiled = tf.concat([tf.fill([huffman.LENGTH_BYTES], tf.constant(head, tf.uint8)), streams[128:]], 0)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"lengths .* (no|a complete) code"):
            implementation.decompress(spoiled, [5000])


def test_bits_behind_a_lanes_last_letter_are_refused_unless_zero(implementation):
    given = letters(5000, "peaked").numpy()
    streams, _ = native.compress(tf.constant(given), [5000])
    heads = streams[: huffman.LENGTH_BYTES].numpy()
    lengths = np.stack([heads % 16, heads // 16], 1).ravel().astype(int)
    decompress = tf.function(implementation.decompress)  # the twin takes ten times as long without a graph
    begin = huffman.LENGTH_BYTES + 2 * 2 * huffman.LANES  # two blocks, two bytes for the size of each of their lanes
    spoilable = 0
    for lane in np.split(given, [960, 1920, 2880, 3840, 4130, 4420, 4710]):
        bits = lengths[lane].sum()
        begin += -(-bits // 8)
        for spare in range(bits % 8 or 8, 8):
            spoilable += 1
            last = int(streams[begin - 1])
            with pytest.raises(tf.errors.InvalidArgumentError, match="zero"):
                decompress(spoilt(streams, begin - 1, last ^ 1 << spare), tf.constant([5000]))
    assert spoilable > 8


def test_whatever_comes_as_a_stream_is_read_or_refused(implementation):
    """Never a read behind its end: bytes of a stream, changed at random."""
    rng = np.random.default_rng(0)
    streams, _ = native.compress(letters(4000, "steep"), [4000])
    outcomes = set()
    for _ in range(200 if implementation is native else 3):
        data = streams.numpy()
        data[rng.integers(0, len(data), 3)] = rng.integers(0, 256, 3)
        try:
            outcomes.add(len(implementation.decompress(tf.constant(data), [4000])))
        except tf.errors.InvalidArgumentError:
            outcomes.add("refused")
    assert outcomes <= {4000, "refused"} and "refused" in outcomes


@pytest.mark.parametrize("workers, levels", [(1, 1), (1, 3), (1, 127), (4, 1), (16, 1), (5, 2)])
def test_streams_of_normally_distributed_gradients_are_as_long_as_expected(workers, levels):
    size = 1_000_000
    total = np.zeros(size, int)
    for worker in range(workers):
        given, cut = gradient(size, seed=worker), lengths(size)
        total += native.ternarize(given, cut, *floats(2.5, 2.5), (1, 2, 3, worker), levels).numpy()
    data = native.pack_bytes(tf.constant(total), workers * levels)
    streams, _ = native.compress(data, [len(data)])
    bits = cost.digit_bits(workers, levels) * digits_per_byte(workers * levels)
    assert len(streams) == pytest.approx(huffman.stream_bytes(len(data), bits), rel=0.01)
