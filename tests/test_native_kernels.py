"""The native codec: its C++ kernels on every instruction set, and what its operations refuse."""

import functools
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tf_terngrad.ternary import native

KERNELS = Path(native.__file__).parent / "cc"
TESTED = ("kernels_test", "bytes", "digits", "floats", "huffman", "moments", "ternarize", "words")


def instruction_sets():
    """Name -> the macro that compiles the kernels for it; only those that this processor has."""
    here = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    sets = {"as shipped": [], "baseline": ["-DTERNGRAD_SIMD="]}
    for flag, target in {"avx2": "avx2", "avx512vl": "arch=x86-64-v4"}.items():
        if f" {flag} " in here:
            sets[target] = [f'-DTERNGRAD_SIMD=__attribute__((target("{target}")))']
    return sets


@functools.cache
def run_kernels(name):
    """The outcome of the kernels' own tests, compiled for one instruction set."""
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/kernels_test"
        flags = ["-std=c++17", "-O3", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", *instruction_sets()[name]]
        sources = [str(KERNELS / f"{name}.cc") for name in TESTED]
        subprocess.run([os.environ.get("CXX", "g++"), *flags, *sources, "-o", program], check=True)
        return subprocess.run([program], capture_output=True, text=True)


@pytest.mark.parametrize("name", instruction_sets())
def test_kernels_obey_their_laws_and_give_the_same_bits_on_every_instruction_set(name):
    outcome = run_kernels(name)
    assert outcome.returncode == 0, outcome.stdout
    assert outcome.stdout == run_kernels("baseline").stdout


SEED = (1, 2, 3, 4)


def gradient(size, dtype="float32"):
    return tf.constant(np.random.default_rng(0).normal(size=size), dtype)


def digest():
    """A hash of what the operations give, on gradients of many tiles."""
    given, lengths = gradient(300_000), [200_001, 99_999]
    thresholds, scales = native.scale(given, lengths, 1.5)
    parts = (given, lengths, thresholds, scales, SEED)
    data, words = native.encode_bytes(*parts), native.encode_words(*parts, 3)
    results = [
        *(thresholds, scales, data, words, native.ternarize(*parts, levels=5)),
        native.mean_of_bytes(tf.stack([data, data]), lengths, tf.stack([scales, 2 * scales])),
        native.mean_of_words(words, lengths, scales, 3),
        native.sum_bytes(tf.stack([data, data]), 300_000),
        native.add_bytes(tf.stack([data, data]), 300_000),
        *native.compress(data, [10, data.shape[0] - 10]),
    ]
    return hashlib.sha256(b"".join(result.numpy().tobytes() for result in results)).hexdigest()


def test_results_do_not_depend_on_the_number_of_threads():
    program = "import tensorflow as tf; tf.config.threading.set_intra_op_parallelism_threads(4)"
    program += "; from test_native_kernels import digest; print(digest())"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parent, KERNELS.parents[2])))}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert done.stdout.strip() == digest(), done.stderr


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_floats_give_the_digits_of_their_values_in_float32(dtype):
    given, lengths = gradient(10_000, dtype), [10_000]
    single = tf.cast(given, tf.float32)
    thresholds, scales = native.scale(given, lengths, 2.5)
    np.testing.assert_array_equal(native.scale(single, lengths, 2.5), (thresholds, scales))
    rest = (lengths, thresholds, scales, SEED)
    np.testing.assert_array_equal(native.ternarize(given, *rest), native.ternarize(single, *rest))
    data = native.encode_bytes(given, *rest)[None]
    mean = native.mean_of_bytes(data, lengths, scales[None], dtype=given.dtype)
    expected = tf.cast(native.mean_of_bytes(data, lengths, scales[None]), dtype)
    np.testing.assert_array_equal(tf.cast(mean, tf.float64), tf.cast(expected, tf.float64))


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("levels", [1, 2, 50])
def test_sums_of_bytes_are_the_sums_of_digits_across_tiles(workers, levels):
    size = 40_003
    digits = np.random.default_rng(0).integers(-levels, levels + 1, (workers, size))
    data = tf.stack([native.pack_bytes(tf.constant(each, tf.int8), levels) for each in digits])
    sums = native.unpack_words(native.sum_bytes(data, size, levels), size, workers, levels)
    np.testing.assert_array_equal(sums, digits.sum(0))
    if workers * levels <= 127:
        added = native.unpack_bytes(native.add_bytes(data, size, levels), size, workers * levels)
        np.testing.assert_array_equal(added, digits.sum(0))


def test_every_bucket_has_its_own_threshold_and_scale():
    given = gradient(9000)
    lengths = [1, 0, 2999, 5000, 1000]
    thresholds, scales = native.scale(given, lengths, 2.0)
    each = [native.scale(part, [part.shape[0]], 2.0) for part in tf.split(given, lengths)]
    np.testing.assert_array_equal(thresholds, [float(threshold[0]) for threshold, _ in each])
    np.testing.assert_array_equal(scales, [float(scale[0]) for _, scale in each])


def test_static_shapes_are_known_where_sizes_are():
    given = tf.TensorSpec([1000], tf.float32)

    @tf.function(input_signature=[given])
    def shapes(given):
        thresholds, scales = native.scale(given, [400, 600], 2.5)
        parts = (given, [400, 600], thresholds, scales, SEED)
        data = native.encode_bytes(*parts)
        seen = [thresholds, native.ternarize(*parts), data, native.encode_words(*parts, 2)]
        seen += [native.unpack_bytes(data, 1000), native.mean_of_bytes(data[None], [400, 600], scales[None])]
        assert [value.shape.as_list() for value in seen] == [[2], [1000], [200], [None], [1000], [1000]]
        return data

    assert shapes(gradient(1000)).shape == [200]


ONE = tf.constant([1.0])
BYTES = tf.fill([2, 4000], tf.constant(121, tf.uint8))
REFUSALS = {
    "lengths that add up to less": (lambda: native.scale(gradient(5), [4], 2.5), "5 elements.*sum of 4"),
    "lengths that add up to more": (lambda: native.scale(gradient(5), [3, 3], 2.5), r"lengths\[1\]=3 after 3"),
    "negative lengths": (lambda: native.scale(gradient(5), [6, -1], 2.5), r"lengths\[0\]=6"),
    "lengths without an end": (lambda: native.mean_of_words([0], [2**62, 2**62], [1.0, 1.0], 1), "an int64"),
    "a clip of 0": (lambda: native.scale(gradient(5), [5], 0.0), "clip=0"),
    "no levels": (lambda: native.pack_bytes([0], 0), "levels"),
    "too many levels": (lambda: native.pack_bytes([0], 128), "from 1 to 127. Received: levels=128"),
    "a seed of one": (lambda: native.ternarize(ONE, [1], ONE, ONE, (1,)), "two to four integers.*Received: shape"),
    "scales of no bucket": (lambda: native.ternarize(ONE, [1], ONE, [1.0, 2.0], SEED), "`scales` must have a value"),
    "thresholds of no bucket": (lambda: native.encode_bytes(ONE, [1], [], ONE, SEED), "`thresholds` must have a value"),
    "no workers": (lambda: native.encode_words(ONE, [1], ONE, ONE, SEED, 0), "1 to 2097151 workers.*workers=0"),
    "too many workers": (lambda: native.pack_words([0], 300_000, 7), "1 to 299593 workers.*workers=300000"),
    "a digit beyond the levels": (lambda: native.pack_bytes([0, -3], 2), "from -2 to 2.*Received: -3 at index 1"),
    "a digit beyond int8": (lambda: native.pack_bytes(tf.constant([256]), 2), "Received: 127 at index 0"),
    "a digit beyond the sums": (lambda: native.pack_words([9], 2, 4), r"-8 to 8 \(workers \* levels\).*Received: 9"),
    "a negative size": (lambda: native.unpack_bytes(BYTES[0], -1), "`size` must be a scalar, 0 or more"),
    "too few bytes": (lambda: native.unpack_bytes(BYTES[0, :9], 50), "50 digits take 10 bytes, 5 in each.*9 bytes"),
    "too many words": (lambda: native.unpack_words([0, 0], 20, 4), "20 digits take 1 words, 20 in each.*2 words"),
    "bytes without rows": (lambda: native.sum_bytes(BYTES[0], 20_000), "row for every worker"),
    "rows that are none": (lambda: native.mean_of_bytes(BYTES[:0], [20_000], tf.ones([0, 1])), "row for every worker"),
    "scales without rows": (lambda: native.mean_of_bytes(BYTES, [20_000], ONE), "`scales` must have a value"),
    "more rows than bytes hold": (lambda: native.add_bytes(BYTES, 4000, 64), "up to 1 rows with 64 levels.*2 rows"),
    "levels that no byte has": (lambda: native.mean_of_bytes(BYTES, [4000], [ONE, ONE], 128), "Received: levels=128"),
    "counts of other bytes": (lambda: native.compress(BYTES[0], [3999]), "number of bytes, 4000.*sum of 3999"),
    "negative counts": (lambda: native.compress(BYTES[0], [4001, -1]), r"counts\[0\]=4001 after 0"),
    "streams of nothing": (lambda: native.decompress([], [1]), r"counts\[0\]=1 after 0"),
    "streams cut short": (lambda: native.decompress([255, 1], [1, 2]), "of stream 1, a part is missing"),
    "streams without a code": (lambda: native.decompress([0] * 137, [1]), "of stream 0, the lengths are those of no"),
    "streams and more": (lambda: native.decompress([255, 1, 7], [1]), "1 bytes more than the streams have"),
    "digits behind the last": (lambda: native.unpack_bytes(BYTES[0, :1] + 81, 4), "byte 0, 202, .*behind the last"),
    "words out of range": (lambda: native.mean_of_words([2**63 - 1], [20], ONE, 4), "word 0, 9223372036854775807"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_malformed_input_is_refused_with_what_was_wrong(what):
    call, message = REFUSALS[what]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"(?s){message}"):
        call()


def test_the_first_malformed_byte_is_named():
    data = BYTES.numpy()
    data[1, 3000], data[1, 2000] = 250, 243
    wrong = "byte 6000, 243, is above 242, the largest that 5 digits from -1 to 1 give"
    with pytest.raises(tf.errors.InvalidArgumentError, match=wrong):
        native.sum_bytes(data, 20_000)
    with pytest.raises(tf.errors.InvalidArgumentError, match=wrong):
        native.mean_of_bytes(data, [20_000], [[1.0], [1.0]])


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """The library is looked for at this path."""
    native._load.cache_clear()
    monkeypatch.setattr(native, "PATH", tmp_path / "_native.so")
    yield native.PATH
    native._load.cache_clear()


def test_a_library_that_was_not_built_is_none_with_the_remedy(elsewhere):
    assert native.library() is None
    assert "was not built" in native.reason() and "build_ext --inplace" in native.reason()


def test_a_library_that_does_not_load_is_none_with_the_reason(elsewhere):
    elsewhere.write_bytes(b"no library")
    assert native.library() is None
    assert f"another TensorFlow than {tf.__version__}" in native.reason()


def test_the_library_is_there():
    assert native.library() is not None, native.reason()
    assert native.reason() is None
