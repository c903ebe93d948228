"""Training of networks that read, and the rows of the results on reading."""

import dataclasses
import re

import keras
import numpy as np
import pytest

import tf_terngrad as tt
from models.bidaf import SETS
from models.experiments import reading_rows
from models.training.reading_trainer import ReadingTrainer, SpanLoss

LINES = ["the sun rose upon the earth when lot entered .", "and noah went in with his sons and his wife ."]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Some questions, and sizes of a tiny network."""
    for part, count in {"train": 30, "valid": 5, "test": 5}.items():
        (tmp_path / f"text.{part}.txt").write_text("\n".join(LINES * count))
    for name, value in {"CONTEXT": 24, "QUESTION": 8, "UNITS": 5, "EMBEDDING": 6, "BATCH": 4, "AVERAGE": 0.5}.items():
        monkeypatch.setattr(reading_rows, name, value)
    for name, value in {"RATE": 0.1, "BASE_EPOCHS": 0, "SPARSE_EPOCHS": 4, "FURTHER_EPOCHS": 0}.items():
        monkeypatch.setattr(reading_rows, name, value)
    return reading_rows.Data.load(tmp_path)


def test_the_loss_is_the_sum_of_both_ends():
    logits = np.random.default_rng(0).normal(size=(3, 2, 4)).astype("float32")
    spans = np.array([[0, 2], [1, 1], [3, 3]])
    likely = np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    expected = -np.mean([likely[i, 0, first] + likely[i, 1, last] for i, (first, last) in enumerate(spans)])
    assert float(SpanLoss()(spans, logits)) == pytest.approx(expected, rel=1e-5)
    assert SpanLoss.from_config(SpanLoss().get_config()).name == "span_loss"


def test_the_weights_after_training_are_the_average(data, tmp_path):
    model = data.build()
    first = model.get_weights()
    trainer = data.trainer(tmp_path)
    seen = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(model.get_weights()))
    trainer.fit(model, "stage", 1, 0.01, [watch])
    expected = seen[0]
    for weights in seen[1:]:
        expected = [0.5 * mean + 0.5 * weight for mean, weight in zip(expected, weights, strict=True)]
    trained = [np.abs(one - other).max() > 0 for one, other in zip(first, model.get_weights(), strict=True)]
    for wanted, got in zip(expected, model.get_weights(), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert any(trained)
    again = data.build()  # a stage that is done begins with what it ended with
    data.trainer(tmp_path).fit(again, "stage", 1, 0.01)
    for kept, weight in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, weight)


def test_answers_are_texts_of_the_contexts(data, tmp_path):
    model = data.build()
    answers = data.trainer(tmp_path).answers(model, "test")
    questions = data.parts["test"].source
    assert len(answers) == len(questions) == 10
    assert all(answer in question.context.text for answer, question in zip(answers, questions, strict=True))
    exact, f1 = data.trainer(tmp_path).score(model, "test")
    assert 0 <= exact <= f1 <= 100


def test_a_part_without_questions_is_refused(data, tmp_path):
    parts = {**data.parts, "valid": dataclasses.replace(data.parts["valid"], source=[])}
    with pytest.raises(ValueError, match="valid: expected at least one question"):
        ReadingTrainer(tmp_path, data.lexicon, parts)


@pytest.mark.filterwarnings("ignore:.*every channel is dead")
def test_rows_train_shrink_and_are_measured(data, tmp_path):
    rows = (reading_rows.Row("dense"), reading_rows.Row("sparse", 2.0))
    models = [reading_rows.base(data, tmp_path), reading_rows.train(rows[1], data, tmp_path)]
    results = [reading_rows.measure(row, model, data) for row, model in zip(rows, models, strict=True)]
    assert results[0].units == (5,) * 6
    assert 6 <= sum(results[1].units) < 30
    assert results[1].multiply_adds < results[0].multiply_adds and results[1].weights < results[0].weights
    for mine, kept in zip(
        models[1].get_weights(), reading_rows.train(rows[1], data, tmp_path).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, kept)
    lines = reading_rows.table(results, models, tmp_path).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len({len(row) for row in cells}) == 1
    assert cells[-1][0] == "sparse" and re.fullmatch(r"[\d,]+ \(\d+\.\d\dx fewer\)", cells[-1][3])
    assert {file.name for file in tmp_path.glob("*.tflite")} == {"dense.tflite", "sparse.tflite"}


def test_only_the_six_sets_leave(data, tmp_path):
    sparsity = tt.sparsify(data.build(), strength=0.1, include=SETS)
    assert {found.name for found in sparsity.structures} == set(SETS)
    assert sparsity.groups == 6 * 5
