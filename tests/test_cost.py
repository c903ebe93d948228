"""What an exchange costs: a table of known bits, and the laws of bytes, seconds and choices."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_terngrad.ternary import cost
from tf_terngrad.ternary.layout import LARGEST_IN_TWO

WORKERS = [2, 4, 8, 16, 64, 256]
# Bits that a worker sends for an element: 2(N-1)/N times 32, 16 or 64/k, with k the digits that an int64 word holds in
# base 2N+1: worked out by hand.
BITS = {
    "float32": [32, 48, 56, 60, 63, 63.75],
    "float16": [16, 24, 28, 30, 31.5, 31.875],
    "words": [2.370, 4.8, 7.467, 10.0, 14.0, 18.214],
}
LARGE = 30_000_000

names = st.sampled_from(sorted(cost.METHODS))
sizes = st.integers(1, 10**9)
worker_counts = st.integers(1, cost.LARGEST)
levels = st.integers(1, 127)
cores = st.floats(0.1, 64)
links = st.builds(cost.Link, rate=st.floats(1e6, 1e12), delay=st.floats(0, 1e-2))


@pytest.mark.parametrize("name", BITS)
def test_bits_of_an_element(name):
    bits = [8 * cost.BYTES[name](LARGE, workers) / LARGE for workers in WORKERS]
    assert bits == pytest.approx(BITS[name], rel=5e-4)


def entropy(workers):
    """Bits of a sum of ternary digits, of normally distributed gradients clipped at 2.5 standard deviations."""
    magnitude = math.sqrt(2 / math.pi) * (1 - math.exp(-(2.5**2) / 2)) + 2.5 * math.erfc(2.5 / math.sqrt(2))
    half = magnitude / 2.5 / 2
    total = np.ones(1)
    for _ in range(workers):
        total = np.convolve(total, [half, 1 - 2 * half, half])
    return -np.sum(total[total > 0] * np.log2(total[total > 0]))


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8, 16, 64, 127])
def test_bytes_take_little_more_than_their_entropy(workers):
    bits = cost.digit_bits(workers)
    assert entropy(workers) <= bits <= 1.02 * entropy(workers)
    assert 8 * cost.bytes_bytes(LARGE, workers) / LARGE == pytest.approx((workers - 1) * cost.digit_bits(), rel=1.5e-2)
    both = (workers - 1) / workers * (cost.digit_bits() + bits)  # and a little for padding and where lanes end
    assert 8 * cost.shards_bytes(LARGE, workers) / LARGE == pytest.approx(both, rel=1.5e-2)


def test_sums_that_no_byte_holds_take_two():
    """The high one is 0 but for one of 10^18 sums of 200 digits, and takes the bit that no letter goes without."""
    assert entropy(200) + 1 <= cost.digit_bits(200) <= 1.02 * (entropy(200) + 1)


@given(names, sizes, worker_counts, levels)
def test_more_elements_and_more_workers_cost_more_bytes_and_one_worker_none(name, size, workers, level):
    sent = cost.BYTES[name]
    assert sent(size, 1, level) == 0
    assert sent(size, workers, level) <= sent(size + 1, workers, level)
    assert sent(size, workers, level) <= sent(size, workers + 1, level)


@given(sizes, worker_counts)
def test_shards_never_send_more_than_words(size, workers):
    rounding = 8 * workers
    assert cost.shards_bytes(size, workers) <= cost.words_bytes(size, workers) + rounding


@given(st.integers(10**7, 10**9), worker_counts, st.integers(1, 126))
def test_more_levels_cost_more_bytes(size, workers, level):
    for name in cost.SCHEDULES:
        assert cost.BYTES[name](size, workers, level) <= cost.BYTES[name](size, workers, level + 1)


@given(names, sizes, st.integers(2, cost.LARGEST), links, cores)
def test_seconds_are_bounded_by_the_wire_and_fall_with_rate_and_cores(name, size, workers, link, cores):
    time = cost.seconds(name, size, workers, link=link, cores=cores)
    assert time > 8 * cost.BYTES[name](size, workers) / link.rate
    faster = cost.Link(2 * link.rate, link.delay)
    assert time / 2 <= cost.seconds(name, size, workers, link=faster, cores=cores) <= time
    assert time / 2 <= cost.seconds(name, size, workers, link=link, cores=2 * cores) <= time
    later = cost.Link(link.rate, link.delay + 1e-3)
    assert cost.seconds(name, size, workers, link=later, cores=cores) > time
    bursting = cost.Link(link.rate, link.delay, burst=1e-4)
    saved = 1e-4 * cost.METHODS[name].exchanges(workers, 1)
    assert time - saved <= cost.seconds(name, size, workers, link=bursting, cores=cores) + 1e-12 <= time + 1e-12


@given(names, sizes, st.integers(2, cost.LARGEST))
def test_a_slow_link_makes_times_proportional_to_bytes(name, size, workers):
    # An element of any method takes far longer on this link than to encode, add and agree on it.
    slow = cost.Link(rate=1e-3, delay=0)
    expected = 8 * cost.FRAME * cost.BYTES[name](size, workers) / slow.rate
    assert math.isclose(cost.seconds(name, size, workers, link=slow), expected, rel_tol=1e-3)


@given(sizes, worker_counts, levels, links)
def test_the_choice_is_the_fastest(size, workers, level, link):
    hold = workers < cost.LARGEST and workers * level <= LARGEST_IN_TWO
    able = [name for name in cost.SCHEDULES if name != "shards" or hold]
    times = {name: cost.seconds(name, size, workers, level, link) for name in able}
    assert times[cost.choose(size, workers, level, link)] == min(times.values())


def test_what_is_chosen():
    assert [cost.choose(5_000_000, workers) for workers in (2, 4, 8, 64, 1024)] == ["bytes"] + ["shards"] * 4
    # of small tensors, what Horovod has to agree on counts most
    assert "shards" not in [cost.choose(1024, workers) for workers in (2, 4, 8)]


def test_what_stands_for_any_more_workers_holds_any_sums():
    for level in (1, 2, 16, 31, 127):
        assert cost.choose(5_000_000, cost.LARGEST, level) in ("words", "bytes")
    assert cost.choose(5_000_000, cost.LARGEST - 1) == "shards"


@pytest.mark.parametrize("workers, levels, messages", [(4, 1, 4), (127, 1, 4), (128, 1, 5), (2, 64, 5)])
def test_sums_that_need_two_bytes_need_another_collective(workers, levels, messages):
    instant = cost.Link(rate=math.inf, delay=0)
    late = cost.Link(rate=math.inf, delay=1)
    times = [cost.seconds("shards", 1, workers, levels, link) for link in (instant, late)]
    agreeing = cost.MEETING * math.log2(workers) + messages * cost.CYCLE
    assert times[0] == pytest.approx(agreeing, rel=1e-3)
    # one alltoall, and a ring for each byte of a sum
    assert times[1] - times[0] == pytest.approx(1 + (messages - 3) * (workers - 1))


def test_seconds_are_the_terms_of_their_formula():
    size, workers, cores, link = 10**6, 4, 0.5, cost.Link(1e8, 1e-3)
    method, sent = cost.METHODS["bytes"], cost.bytes_bytes(10**6, 4)
    terms = [
        (cost.MEETING * 2 + cost.CYCLE * 3) / 0.5,
        size * (method.codec + 4 * method.decode) / 0.5,
        max(8 * cost.FRAME * sent / 1e8, method.travel * sent / 0.5),
        1e-3 * 3,
    ]
    assert cost.seconds("bytes", size, workers, link=link, cores=cores) == pytest.approx(sum(terms))
    faster = cost.seconds("bytes", size, workers, link=link, cores=2)
    assert faster == pytest.approx(terms[0] / 2 + terms[1] / 4 + terms[2] + terms[3])  # the wire is what it waits for


@given(names, st.floats(1e-4, 10), sizes, st.integers(2, cost.LARGEST), links)
def test_a_step_is_computation_and_then_exchange(name, compute, size, workers, link):
    assert cost.step_seconds(name, compute, size, 1, link=link) == compute
    exchange = cost.seconds(name, size, workers, link=link)
    assert cost.step_seconds(name, compute, size, workers, link=link) == compute + exchange


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: cost.choose(1000, 0),
        lambda: cost.choose(-5, 4),
        lambda: cost.seconds("ring", 1000, 4),
        lambda: cost.Link(rate=0),
        lambda: cost.Link(delay=-1),
        lambda: cost.Link(burst=-1e-3),
    ],
)
def test_what_no_network_is_like_is_refused(wrong):
    with pytest.raises(ValueError, match=r"Expected .* Received"):
        wrong()
