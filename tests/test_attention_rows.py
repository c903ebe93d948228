"""The rows of the tables of transformers: what is cut at a cost, what a cache gives, and that rows train."""

import json
import re

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tf_terngrad as tt
from models.blocks import per_block, sizes_of
from models.data.text import load_text
from models.decoder_lm import decoder_lm
from models.experiments import attention_rows
from models.experiments.cached import cached
from models.experiments.cuts import cut, multiply_adds
from models.experiments.worth import worth
from models.vit import vit

SIZES = {"units": (6, 5), "width": 8, "heads": (3, 2), "keys": (4, 3), "values": (2, 4)}


def decoder(seed=0, **sizes):
    keras.utils.set_random_seed(seed)
    return decoder_lm(20, steps=5, **{**SIZES, **sizes})


def small(model, seed):
    """What is left once some members of every structure are zero."""
    rng = np.random.default_rng(seed)
    for structure in tt.structures(model):
        if structure.kind != "branch":
            structure.zero(np.flatnonzero(rng.random(structure.size) < 0.4)[1:])
    return tt.compact(model)


@settings(max_examples=4)
@given(st.integers(0, 1000))
def test_sizes_build_a_model_that_is_as_large(seed):
    for model, build in (
        (decoder(), lambda **sizes: decoder(**sizes)),
        (vit((8, 8, 2), 3, stem=6, **SIZES), lambda **sizes: vit((8, 8, 2), 3, **sizes)),
    ):
        left = small(model, seed)
        again = build(**sizes_of(left))
        assert sizes_of(again) == sizes_of(left)
        assert again.count_params() == left.count_params()


def test_a_block_may_lack_its_halves():
    model = decoder(heads=(0, 2), units=(6, 0))
    assert sizes_of(model)["heads"] == (0, 2) and sizes_of(model)["units"] == (6, 0)


def test_sizes_are_one_or_one_a_block():
    assert per_block((1, 2), 2) == (1, 2)
    with pytest.raises(ValueError, match=r"each of 2 blocks.*\(1, 2, 3\)"):
        per_block((1, 2, 3), 2)


@settings(max_examples=3)
@given(st.integers(0, 1000), st.booleans())
def test_word_by_word_a_decoder_gives_what_it_gives_for_the_whole_text(seed, compacted):
    model = small(decoder(), seed) if compacted else decoder(seed)
    words = np.random.default_rng(seed).integers(0, 20, (1, 5), dtype="int32")
    stream = cached(model)
    kept = {tensor.name: np.zeros(tensor.shape, "float32") for tensor in stream.inputs if len(tensor.shape) == 4}
    logits = []
    for place in range(5):
        word = {"word": words[:, place : place + 1], "position": np.array([[place]], "int32")}
        kept = stream.predict_on_batch({**word, **kept})
        logits.append(kept.pop("logits"))
    np.testing.assert_allclose(np.concatenate(logits, 1), model.predict_on_batch(words), atol=1e-6)


@settings(max_examples=3)
@given(st.floats(0.3, 0.9), st.sampled_from(["norm", "random"]))
def test_a_cut_is_the_largest_at_its_cost(share, scores):
    model = decoder()
    before, most = model.get_weights(), int(share * multiply_adds(decoder()))
    left = cut(model, most, scores)
    assert multiply_adds(left) <= most < multiply_adds(model)
    assert multiply_adds(left) > 0.7 * most  # the next member would have been too much, of a model so small
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_cut_takes_what_its_scores_say():
    model = decoder()
    costs = tt.costs(model)
    width = next(each for each in costs.structures if each.kind == "width")
    most = costs.of({width.name: width.size - 1}).multiply_adds
    left = cut(model, most, lambda structure: np.arange(structure.size, 2 * structure.size) ** 3.0)
    table = model.get_layer("embedding").embeddings.numpy()
    np.testing.assert_array_equal(left.get_layer("embedding").embeddings.numpy(), table[:, 1:])


def test_a_cost_that_is_too_low_is_refused():
    with pytest.raises(ValueError, match="a budget that can be met"):
        cut(decoder(), 2)


@pytest.fixture
def task(monkeypatch):
    """Tiny transformers, with epochs of a few batches."""
    text = load_text(vocabulary=20)

    class Tiny(attention_rows.Words):
        EPOCHS, STEPS, RATE = (1, 2, 1), 5, 0.1

        def __init__(self):
            self.text = type(text)(text.words, *[text.train[:2400]] * 3)

        def build(self, **sizes):
            return decoder_lm(20, steps=5, dropout=0.1, **(sizes or SIZES))

    monkeypatch.setitem(attention_rows.ROWS, "decoder", attention_rows._rows({"unit": 0.03}))
    return Tiny()


def test_rows_train_shrink_and_are_measured(task, tmp_path):
    rows = attention_rows.ROWS["decoder"]
    for row in rows:
        attention_rows.train("decoder", row, 0, task, tmp_path)
    results = {row.name: json.loads((tmp_path / row.name / "seed0" / "result.json").read_text()) for row in rows}
    costs = {name: result["multiply_adds"] for name, result in results.items()}
    assert costs["sparse"] < costs["dense"] and costs["scratch"] == costs["sparse"]
    assert max(costs["norm"], costs["random"]) <= costs["sparse"]
    assert results["scratch"]["sizes"] == results["sparse"]["sizes"]
    assert (tmp_path / "sparse" / "seed0" / "heads.png").stat().st_size > 5_000
    again = attention_rows.train("decoder", rows[1], 0, task, tmp_path)  # as it is kept
    assert again.count_params() == results["sparse"]["weights"]
    lines = attention_rows.table("decoder", list(rows), 1, task, tmp_path).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len({len(row) for row in cells}) == 1 and [row[0] for row in cells[2:]] == [row.name for row in rows]
    assert re.fullmatch(r"[\d,]+ \(\d+\.\d\dx\)", cells[3][3])


def test_members_are_worth_the_loss_that_they_save_over_their_norm():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="units"), keras.layers.Dense(2)])
    model.set_weights([np.array([[3, 0], [0, 1]]), np.zeros(2), np.array([[4, 0], [0, 0]]), np.zeros(2)])
    lines = worth(model, (np.array([[0.5, 1.0]]), np.array([1]))).splitlines()
    (cells,) = ([cell.strip() for cell in line.split("|")] for line in lines if "| units |" in line)
    assert cells[2:6] == ["unit", "2", "5", f"{(5 + 1) / 2:.2f}"]
    saved = np.log(2) - np.log(1 + np.exp(0.5 * 3 * 4))  # the first unit speaks for the wrong class, by 6
    assert float(cells[6]) == pytest.approx((saved / 5 + 0) / 2, abs=1e-5)
