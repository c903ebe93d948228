"""What an exchange costs: a table of known bits, and the laws of bytes, seconds and choices."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_terngrad.ternary import cost
from tf_terngrad.ternary.layout import LARGEST_IN_TWO
from tf_terngrad.ternary.schedules import AUTOMATIC, LARGEST, SCHEDULES, choose

METHODS = cost.FLOATS | SCHEDULES

WORKERS = [2, 4, 8, 16, 64, 256]
# Bits that a worker sends for an element: 2(N-1)/N times 32, 16 or 64/k, with k the digits that an int64 word holds in
# base 2N+1: worked out by hand.
BITS = {
    "float32": [32, 48, 56, 60, 63, 63.75],
    "float16": [16, 24, 28, 30, 31.5, 31.875],
    "words": [2.370, 4.8, 7.467, 10.0, 14.0, 18.214],
}
LARGE = 30_000_000

methods = st.sampled_from(sorted(METHODS.values(), key=lambda method: method.name))
sizes = st.integers(1, 10**9)
worker_counts = st.integers(1, LARGEST)
levels = st.integers(1, 127)
cores = st.floats(0.1, 64)
links = st.builds(cost.Link, rate=st.floats(1e6, 1e12), delay=st.floats(0, 1e-2))


@pytest.mark.parametrize("name", BITS)
def test_bits_of_an_element(name):
    bits = [8 * METHODS[name].bytes(LARGE, workers) / LARGE for workers in WORKERS]
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
    assert 8 * SCHEDULES["bytes"].bytes(LARGE, workers) / LARGE == pytest.approx(
        (workers - 1) * cost.digit_bits(), rel=1.5e-2
    )
    both = (workers - 1) / workers * (cost.digit_bits() + bits)  # and a little for padding and where lanes end
    assert 8 * SCHEDULES["shards"].bytes(LARGE, workers) / LARGE == pytest.approx(both, rel=1.5e-2)


def test_sums_that_no_byte_holds_take_two():
    """The high one is 0 but for one of 10^18 sums of 200 digits, and takes the bit that no letter goes without."""
    assert entropy(200) + 1 <= cost.digit_bits(200) <= 1.02 * (entropy(200) + 1)


@given(methods, sizes, worker_counts, levels)
def test_more_elements_and_more_workers_cost_more_bytes_and_one_worker_none(method, size, workers, level):
    sent = method.bytes
    assert sent(size, 1, level) == 0
    assert sent(size, workers, level) <= sent(size + 1, workers, level)
    assert sent(size, workers, level) <= sent(size, workers + 1, level)


@given(sizes, worker_counts)
def test_shards_never_send_more_than_words(size, workers):
    rounding = 8 * workers
    assert SCHEDULES["shards"].bytes(size, workers) <= SCHEDULES["words"].bytes(size, workers) + rounding


@given(st.integers(10**7, 10**9), worker_counts, st.integers(1, 126))
def test_more_levels_cost_more_bytes(size, workers, level):
    for name in SCHEDULES:
        assert METHODS[name].bytes(size, workers, level) <= METHODS[name].bytes(size, workers, level + 1)


@given(methods, sizes, st.integers(2, LARGEST), links, cores)
def test_seconds_are_bounded_by_the_wire_and_fall_with_rate_and_cores(method, size, workers, link, cores):
    time = method.seconds(size, workers, link=link, cores=cores)
    assert time > 8 * method.bytes(size, workers) / link.rate
    faster = cost.Link(2 * link.rate, link.delay)
    assert time / 2 <= method.seconds(size, workers, link=faster, cores=cores) <= time
    assert time / 2 <= method.seconds(size, workers, link=link, cores=2 * cores) <= time
    later = cost.Link(link.rate, link.delay + 1e-3)
    assert method.seconds(size, workers, link=later, cores=cores) > time
    bursting = cost.Link(link.rate, link.delay, burst=1e-4)
    saved = 1e-4 * method.exchanges(workers, 1)
    assert time - saved <= method.seconds(size, workers, link=bursting, cores=cores) + 1e-12 <= time + 1e-12


@given(methods, sizes, st.integers(2, LARGEST))
def test_a_slow_link_makes_times_proportional_to_bytes(method, size, workers):
    # An element of any method takes far longer on this link than to encode, add and agree on it.
    slow = cost.Link(rate=1e-3, delay=0)
    expected = 8 * cost.FRAME * method.bytes(size, workers) / slow.rate
    assert math.isclose(method.seconds(size, workers, link=slow), expected, rel_tol=1e-3)


@given(sizes, worker_counts, levels, links)
def test_the_choice_is_the_fastest(size, workers, level, link):
    hold = workers < LARGEST and workers * level <= LARGEST_IN_TWO
    able = [schedule for name, schedule in SCHEDULES.items() if name != "shards" or hold]
    times = {schedule: schedule.seconds(size, workers, level, link) for schedule in able}
    assert times[choose(size, workers, level, link)] == min(times.values())


@given(sizes, worker_counts, levels)
def test_the_automatic_schedule_costs_what_the_chosen_one_costs(size, workers, level):
    chosen = choose(size, workers, level)
    assert AUTOMATIC.bytes(size, workers, level) == chosen.bytes(size, workers, level)
    assert AUTOMATIC.seconds(size, workers, level) == chosen.seconds(size, workers, level)


def test_what_is_chosen():
    assert [choose(5_000_000, workers).name for workers in (2, 4, 8, 64, 1024)] == ["bytes"] + ["shards"] * 4
    # of small tensors, what Horovod has to agree on counts most
    assert "shards" not in [choose(1024, workers).name for workers in (2, 4, 8)]


def test_what_stands_for_any_more_workers_holds_any_sums():
    for level in (1, 2, 16, 31, 127):
        assert choose(5_000_000, LARGEST, level).name in ("words", "bytes")
    assert choose(5_000_000, LARGEST - 1).name == "shards"


@pytest.mark.parametrize("workers, levels, messages", [(4, 1, 4), (127, 1, 4), (128, 1, 5), (2, 64, 5)])
def test_sums_that_need_two_bytes_need_another_collective(workers, levels, messages):
    instant = cost.Link(rate=math.inf, delay=0)
    late = cost.Link(rate=math.inf, delay=1)
    times = [SCHEDULES["shards"].seconds(1, workers, levels, link) for link in (instant, late)]
    agreeing = cost.MEETING * math.log2(workers) + messages * cost.CYCLE
    assert times[0] == pytest.approx(agreeing, rel=1e-3)
    # one alltoall, and a ring for each byte of a sum
    assert times[1] - times[0] == pytest.approx(1 + (messages - 3) * (workers - 1))


def test_seconds_are_the_terms_of_their_formula():
    size, workers, cores, link = 10**6, 4, 0.5, cost.Link(1e8, 1e-3)
    method, sent = METHODS["bytes"], SCHEDULES["bytes"].bytes(10**6, 4)
    terms = [
        (cost.MEETING * 2 + cost.CYCLE * 3) / 0.5,
        size * (method.codec + 4 * method.decode) / 0.5,
        max(8 * cost.FRAME * sent / 1e8, method.travel * sent / 0.5),
        1e-3 * 3,
    ]
    assert SCHEDULES["bytes"].seconds(size, workers, link=link, cores=cores) == pytest.approx(sum(terms))
    faster = SCHEDULES["bytes"].seconds(size, workers, link=link, cores=2)
    assert faster == pytest.approx(terms[0] / 2 + terms[1] / 4 + terms[2] + terms[3])  # the wire is what it waits for


@given(methods, st.floats(1e-4, 10), sizes, st.integers(2, LARGEST), links)
def test_a_step_is_computation_and_then_exchange(method, compute, size, workers, link):
    assert cost.step_seconds(method, compute, size, 1, link=link) == compute
    exchange = method.seconds(size, workers, link=link)
    assert cost.step_seconds(method, compute, size, workers, link=link) == compute + exchange


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: choose(1000, 0),
        lambda: choose(-5, 4),
        lambda: cost.Link(rate=0),
        lambda: cost.Link(delay=-1),
        lambda: cost.Link(burst=-1e-3),
    ],
)
def test_what_no_network_is_like_is_refused(wrong):
    with pytest.raises(ValueError, match=r"(?i)expected .* Received"):
        wrong()
