"""Grids: whatever axes are split, merged and tied, what stays of each of them is a full grid of what stays."""

import hypothesis
import hypothesis.strategies as st
import numpy as np

from tf_terngrad.sparsity.graph.channels import Channels, Units
from tf_terngrad.sparsity.graph.grids import Grids

SIZES = ((6,), (2, 3), (3, 2), (12,), (3, 4), (2, 2, 3))


class _Axes:
    """Axes of units that are split, merged and tied at random, and what must then be true of what stays."""

    def __init__(self, choices):
        self.choices, self.units = choices, Units()
        self.grids = Grids(self.units)
        self.axes, self.ties, self.made = [self.units.new(12) for _ in range(2)], [], []

    def step(self):
        axis = self.choices.choice(self.axes)
        sizes = self.choices.choice([sizes for sizes in SIZES if np.prod(sizes) == len(axis)] or [(len(axis),)])
        {"split": self.split, "merge": self.merge, "tie": self.tie}[self.choices.choice(["split", "merge", "tie"])](
            axis, sizes
        )

    def split(self, axis, sizes):
        along = self.grids.split(axis, sizes)
        self.made.append((axis, np.meshgrid(*along, indexing="ij")))
        self.axes += along
        if self.choices.random() < 0.7:
            self.grids.cross(Channels.of(along[0]))

    def merge(self, axis, _):
        other = self.choices.choice(self.axes)
        if len(axis) * len(other) <= 12:
            rows, columns = (each.ravel() for each in np.meshgrid(axis, other, indexing="ij"))
            self.axes.append(self.grids.merged(rows, columns))
            self.made.append((self.axes[-1], (rows, columns)))

    def tie(self, axis, _):
        other = self.choices.choice([each for each in self.axes if len(each) == len(axis)])
        other = other[self.choices.sample(range(len(other)), len(other))] if self.choices.random() < 0.2 else other
        self.units.tie(axis, other)
        self.ties.append((axis, other))


@hypothesis.given(st.randoms(use_true_random=False), st.integers(0, 10**6))
@hypothesis.settings(max_examples=60)
def test_what_stays_is_a_full_grid(choices, seed):
    axes = _Axes(choices)
    for _ in range(choices.randrange(1, 9)):
        axes.step()
    stays = np.random.default_rng(seed).random(len(axes.units)) < 0.7
    held = axes.grids.settle()
    stays[axes.grids.needed(held)] = True
    staying = stays[axes.grids.needed(np.arange(len(axes.units)))].all(0)
    assert staying[held].all()
    for one, other in axes.ties:
        np.testing.assert_array_equal(staying[one], staying[other])
    for flat, parts in axes.made:
        expected = np.logical_and.reduce([staying[part].ravel() for part in parts])
        np.testing.assert_array_equal(staying[flat], expected)


def test_rows_that_nothing_crosses_stay_and_columns_may_leave():
    units = Units()
    grids = Grids(units)
    flat = units.new(6)
    rows, columns = grids.split(flat, (2, 3))
    assert grids.settle().tolist() == rows.tolist()
    assert grids.needed(flat).tolist() == [[*columns, *columns]] * 2
    grids.cross(Channels.of(rows))
    assert grids.settle().tolist() == []
    assert grids.needed(flat).tolist() == [[*rows.repeat(3)], [*columns, *columns]]
    positions, lying = grids.lying(flat)
    assert positions[lying == rows[1]].tolist() == [3, 4, 5]


def test_an_axis_that_is_made_of_itself_stays():
    units = Units()
    grids = Grids(units)
    flat = units.new(6)
    rows, _ = grids.split(flat, (2, 3))
    grids.cross(Channels.of(rows))
    units.tie(rows[:1], flat[:1])
    assert {*units.find(flat[:1])} <= {*grids.settle()}
