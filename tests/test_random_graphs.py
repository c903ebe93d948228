"""Fates, files and training over random graphs: of stock layers alone, and of users' composites among them."""

import random
import tempfile
from pathlib import Path

import composite_graphs
import graphs
import hypothesis
import hypothesis.strategies as st
import keras
import pytest
from file_laws import check_files
from laws import check_fates, random_zeros
from training_laws import check_learning, check_reconfigured, check_same_training, momentum

import tf_terngrad as tt

SEEDS = st.integers(0, 10**6)
OPTIMIZERS = {"momentum": momentum, "Adam": lambda: keras.optimizers.Adam(0.01)}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*every channel is dead"),
    pytest.mark.filterwarnings("ignore:`build..` was called on layer"),  # Keras does so in files of layers without one
]


def grow(kind, seed, **options):
    return kind.grow(random.Random(seed), **options)


kinds = pytest.mark.parametrize("kind", [graphs, composite_graphs], ids=["stock", "composites"])


@kinds
@hypothesis.given(SEEDS)
@hypothesis.settings(max_examples=3)
def test_every_variable_has_its_fate(kind, seed):
    model = grow(kind, seed)
    random_zeros(model, seed)
    check_fates(model, tt.compact(model))


@kinds
@hypothesis.given(SEEDS)
@hypothesis.settings(max_examples=3)
def test_files(kind, seed):
    classes = {name: each for name, each in vars(composite_graphs).items() if isinstance(each, type)}
    with tempfile.TemporaryDirectory() as folder:
        check_files(grow(kind, seed), Path(folder), classes, seed)


@kinds
@hypothesis.given(SEEDS)
@hypothesis.settings(max_examples=2)
def test_a_compact_model_trains_as_the_old_one_whose_members_are_held_at_zero(kind, seed):
    check_same_training(grow(kind, seed), seed)


@kinds
@hypothesis.given(SEEDS)
@hypothesis.settings(max_examples=3)
def test_a_model_trains_on_without_its_dead_members_as_it_would_have_with_them(kind, seed):
    check_reconfigured(grow(kind, seed), grow(kind, seed), seed)


@hypothesis.given(SEEDS, st.sampled_from(sorted(OPTIMIZERS)))
@hypothesis.settings(max_examples=2)
def test_what_dies_stays_dead_and_composites_lose_what_their_parts_lose(seed, optimizer):
    twins = [grow(composite_graphs, seed, opened=opened) for opened in (False, True)]
    check_learning(*twins, optimizer=OPTIMIZERS[optimizer])
