"""Random transformers whose heads, dimensions, units and widths leave: in half precision, in files, in TFLite."""

import random
import tempfile
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import keras
import pytest
from file_laws import check_files
from laws import (
    check_random_members,
    fresh_inputs,
    random_members,
    zero_members,
)
from transformer_graphs import CLASSES, grow

import tf_terngrad as tt

SEEDS = st.integers(0, 10**6)
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*every channel is dead", "ignore:.*one dead channel is kept", "ignore:.*does not support masking"
)


@pytest.mark.parametrize("policy", ["mixed_float16", "float16"])
@hypothesis.given(SEEDS)
@hypothesis.settings(max_examples=2)
def test_in_half_precision(policy, seed):
    keras.config.set_dtype_policy(policy)
    try:
        check_random_members(grow(random.Random(seed), depth=1), seed)
    finally:
        keras.config.set_dtype_policy("float32")


@hypothesis.given(SEEDS)
@hypothesis.settings(max_examples=2)
def test_files(seed):
    with tempfile.TemporaryDirectory() as folder:
        check_files(grow(random.Random(seed)), Path(folder), CLASSES, seed)


@pytest.mark.filterwarnings("ignore:.*not all int8")
@pytest.mark.parametrize(("mode", "tolerance"), [(None, 1e-4), ("int8", 0.25)])
@hypothesis.given(SEEDS)
@hypothesis.settings(max_examples=1)
def test_tflite(mode, tolerance, seed):
    model = grow(random.Random(seed), depth=1)
    zero_members(model, random_members(seed))
    small = tt.compact(model)
    data = fresh_inputs(small, seed, batch=64)
    with tempfile.TemporaryDirectory() as folder:
        report = tt.tflite.convert(small, f"{folder}/m.tflite", mode, calibration=data if mode else None)
    assert report.relative_difference <= tolerance
