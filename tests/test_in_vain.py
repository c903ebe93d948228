"""A training or a compaction in which nothing leaves says so, once, in one sentence, and never else."""

import logging

import keras
import numpy as np
import pytest
from keras import layers

from tf_terngrad.sparsity.callbacks import ZeroSmallWeights
from tf_terngrad.sparsity.compact import compact
from tf_terngrad.sparsity.learn.regularizers import FilterLasso
from tf_terngrad.sparsity.sparsify import sparsify
from tf_terngrad.sparsity.structures import structures


def network(**options):
    keras.utils.set_random_seed(5)
    hidden = layers.Dense(7, activation="relu", name="hidden", **options)
    model = keras.Sequential([keras.Input((4,), name="pixels"), hidden, layers.Dense(1, name="out")], name="net")
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def fit(model, **options):
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    model.fit(x, x[:, :1], verbose=0, **options)


@pytest.fixture
def said(caplog):
    """The sentences so far."""
    caplog.set_level(logging.INFO, "tf_terngrad")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "tf_terngrad"]


def nearest(model, kinds):
    """The name, number and norm of the member with the least norm."""
    rows = [(n, s.name, i) for s in structures(model) if s.kind in kinds for i, n in enumerate(s.norms())]
    return min(rows)


def test_a_fit_that_makes_nothing_zero_names_the_nearest_group_once(said):
    model = network()
    sparsify(model, strength=2e-4)
    fit(model)
    norm, name, number = nearest(model, ("unit", "input"))
    fit(model)
    (sentence,) = said()
    assert "no group of model 'net' is zero after this training. " in sentence
    assert f"The nearest group, member {number} of {name!r}" in sentence
    assert f"has the norm {norm:.3g};" in sentence
    assert "Train longer, or with a larger strength (now 0.0002) or learning rate (now 0.01)." in sentence


def test_the_pace_of_a_training_says_when_the_first_group_will_be_zero(said):
    model = network()
    sparsity = sparsify(model, strength=0.05, kinds=["unit"])
    before = np.concatenate([structure.norms() for structure in sparsity.structures])
    fit(model, epochs=3)
    after = np.concatenate([structure.norms() for structure in sparsity.structures])
    falls = after < before
    more = int(np.ceil(min(3 * after[falls] / (before - after)[falls])))
    assert f"At the pace of these 3 epochs the first group would be zero after about {more:,} more. Train" in said()[0]


def test_of_a_training_in_which_nothing_shrinks_no_pace_is_told(said):
    model = network()
    sparsify(model, strength=1e-9, kinds=["unit"])
    model.optimizer.learning_rate = 0.0
    fit(model)
    assert "At the pace" not in said()[0]


SILENT = {
    "something is zero": lambda model: sparsify(model, strength=100.0, kinds=["unit"]),
    "no penalty": lambda model: None,
    "a strength of zero": lambda model: sparsify(model, strength=0.0),
    "released": lambda model: sparsify(model, strength=1e-4).release(),
}


@pytest.mark.parametrize("prepare", SILENT.values(), ids=SILENT)
def test_a_fit_is_silent(prepare, said):
    model = network()
    prepare(model)
    fit(model)
    assert not said()


def test_each_reason_has_its_remedy(said):
    model = network()
    sparsify(model, strength=1e-4, method="subgradient", threshold=1e-5)
    fit(model)
    assert "weights below threshold=1e-05 become zero" in said()[-1]
    model = network()
    sparsify(model, ratio=0.2, kinds=["unit"])
    model.get_layer("hidden").trainable = False
    model.get_layer("out").kernel.trainable = False
    model.compile("sgd", "mse")
    fit(model)
    assert "for none can be: hidden: none of its weights trains. Let layers train" in said()[-1]
    model = network()
    sparsify(model, ratio=0.2)
    model.compile("sgd", lambda y, outputs: keras.ops.sum(outputs) * np.nan)
    fit(model)
    assert "`ratio` has set no strength: the loss was never finite" in said()[-1]
    assert len(said()) == 3


def test_the_part_of_a_model_that_trains_is_looked_at(said):
    student = network()
    sparsify(student, strength=1e-5)
    image = keras.Input((4,))
    outer = keras.Model(image, student(image))
    outer.compile(keras.optimizers.SGD(0.01), "mse")
    fit(outer)
    assert "no group of model 'net'" in said()[0]


def test_regularizers_only_come_near_zero_unless_small_weights_are_zeroed(said):
    regularizer = FilterLasso(1e-3) + keras.regularizers.L2(1e-3)
    model = network(kernel_regularizer=regularizer)
    fit(model)
    fit(model)
    norms = np.linalg.norm(model.get_layer("hidden").kernel, axis=0)
    (sentence,) = said()
    assert f"number {norms.argmin()} of 7" in sentence and "ZeroSmallWeights(threshold)" in sentence
    model = network(kernel_regularizer=FilterLasso(1e-3))
    fit(model, callbacks=[ZeroSmallWeights(threshold=10.0)])
    assert len(said()) == 1


def test_a_compaction_that_takes_nothing_out_says_what_would(said):
    model = network()
    norm, name, number = nearest(model, ("unit", "input"))
    plan = str(compact(model, dry_run=True))
    assert not said()
    compact(model, tolerance=1e-7)
    (sentence,) = said()
    assert sentence.startswith("compact: nothing leaves model 'net'. The nearest group, member")
    assert f"member {number} of {name!r}" in sentence and f"has the norm {norm:.3g};" in sentence
    assert "give a `tolerance` (now 1e-07)" in sentence
    assert plan.startswith("Nothing leaves. The nearest group")
    structures(model)[1].zero([2])
    compact(model)
    assert len(said()) == 1
    compact(model, keep="hidden")
    assert "has the norm 0;" in said()[1] and "It stays for `keep` or `round_to`" in said()[1]


def test_a_model_that_cannot_shrink_says_where_the_reasons_are(said):
    compact(keras.Sequential([keras.Input((4, 4)), layers.Dense(2)]))
    assert "No structure can shrink: `tt.structures(model).frozen` says why." in said()[0]
