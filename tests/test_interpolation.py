"""A table of a few lengths: exact where it was asked, straight in between, each kind of width by itself."""

import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np

from tf_terngrad.sparsity.costs.interpolation import CLOSE, SMALL, Diagonal, Grid, kind, knots, thinned


def filled(function, whole, factors=None):
    grid = Grid(whole, factors)
    points = grid.points(function)
    grid.fill(function)
    return grid, points


@hypothesis.given(st.integers(1, 3000), st.integers(1, 9), st.data())
def test_every_length_lies_between_two_knots_of_its_kind(length, factor, data):
    asked = knots(length, factor)
    assert asked == sorted(set(asked)) and asked[0] >= 1 and asked[-1] == length
    inside = data.draw(st.integers(1, length))
    same = [knot for knot in asked if kind(factor * knot) == kind(factor * inside)]
    assert same[0] <= inside <= same[-1]


@hypothesis.given(st.lists(st.integers(1, 90), min_size=1, max_size=2), st.integers(0, 10**6))
@hypothesis.settings(max_examples=30)
def test_it_gives_what_was_measured_where_it_was_measured(whole, seed):
    def function(point):
        return np.random.default_rng([seed, *point]).uniform(1, 2)

    grid, points = filled(function, whole)
    assert set(itertools.chain(*([point[axis] for point in points] for axis in range(len(whole))))) <= set(range(1, 91))
    for point in points:
        assert grid.at(point) == function(point)


@hypothesis.given(st.lists(st.integers(1, 200), min_size=1, max_size=3), st.data())
@hypothesis.settings(max_examples=30)
def test_what_is_straight_along_each_axis_is_exact_everywhere(whole, data):
    factors = [data.draw(st.integers(1, 5)) for _ in whole]

    def function(point):  # another line for each kind
        return 3.0 + np.prod([1 + kind(factor * each) + each for factor, each in zip(factors, point, strict=True)])

    grid, _ = filled(function, whole, factors)
    point = [data.draw(st.integers(1, size)) for size in whole]
    np.testing.assert_allclose(grid.at(point), function(point), rtol=1e-12)


@hypothesis.given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40))
def test_what_is_left_out_is_close_to_a_line(values):
    lengths = list(range(1, len(values) + 1))
    kept = thinned(lengths, values)
    guessed = np.interp(lengths, kept, [values[length - 1] for length in kept])
    allowed = CLOSE * np.maximum(values, SMALL * max(values))
    assert (np.abs(guessed - values) <= allowed + 1e-12).all()


def test_a_function_of_no_length_is_a_number():
    grid, points = filled(lambda point: 7.0, ())
    assert points == [()] and grid.at(()) == 7.0


def test_a_function_of_many_lengths_has_no_grid_but_a_diagonal():
    def function(point):
        return float(sum(point))

    whole = (64,) * 6
    assert Grid(whole).points(lambda point: np.prod([1 + each % 7 for each in point])) is None
    diagonal = Diagonal(whole)
    assert len(diagonal.points(function)) < 10
    diagonal.fill(function)
    assert diagonal.at(whole) == 6 * 64
    assert diagonal.at((32,) * 6) == 6 * 32
    assert diagonal.at((16, 48) * 3) == 6 * 32
