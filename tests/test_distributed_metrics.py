"""Metrics of several workers: their states add up to those of all data together."""

import horovod.tensorflow as hvd
import keras
import numpy as np
import pytest
from workers import run_workers

from tf_terngrad.ternary.distributed import DistributedOptimizer, callbacks, metric_states

CLASSES = 3


class Largest(keras.metrics.Metric):
    """One that does not add up."""

    def __init__(self):
        super().__init__(name="largest")
        self.seen = self.add_variable((), "zeros", name="seen")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.seen.assign(keras.ops.maximum(self.seen, keras.ops.max(y_pred)))

    def result(self):
        return self.seen.value


class Halved(keras.metrics.MeanAbsoluteError):
    """One that adds up as Keras' does, with a result of its own."""

    def result(self):
        return super().result() / 2


METRICS = {
    "auc": lambda: keras.metrics.AUC(num_thresholds=11),
    "precision": keras.metrics.Precision,
    "recall": lambda: keras.metrics.Recall(class_id=1),
    "f1": lambda: keras.metrics.F1Score(average=None),
    "fbeta": lambda: keras.metrics.FBetaScore(average="macro", beta=2.0),
    "iou": lambda: keras.metrics.OneHotMeanIoU(CLASSES),
    "sensitivity": lambda: keras.metrics.SensitivityAtSpecificity(0.5),
    "negatives": keras.metrics.FalseNegatives,
    "r2": lambda: keras.metrics.R2Score(class_aggregation=None),
    "root": keras.metrics.RootMeanSquaredError,
    "similarity": keras.metrics.CosineSimilarity,
    "halved": Halved,
}


def model_with(*metrics):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(CLASSES, activation="softmax")])
    model.compile("sgd", "categorical_crossentropy", metrics=list(metrics))
    return model


def examples(count, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 4)).astype("float32"), np.eye(CLASSES)[rng.integers(0, CLASSES, count)]


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_of_keras_adds_up(name):
    model = model_with(METRICS[name]())
    x, y = examples(60)
    whole = model.evaluate(x, y, return_dict=True, verbose=0)
    states = []
    for part in (slice(0, 20), slice(20, 60)):
        model.evaluate(x[part], y[part], verbose=0)
        states.append(metric_states.states(model))
    before = metric_states.results(model)
    merged = metric_states.merged_results(model, states)
    assert metric_states.are_alike(states) and merged.keys() == whole.keys()
    for key, value in whole.items():
        np.testing.assert_allclose(merged[key], value, rtol=1e-5, err_msg=key)
    for key, value in metric_states.results(model).items():
        np.testing.assert_array_equal(value, before[key])


def test_whoever_updates_a_state_by_himself_is_left_alone():
    model = model_with(Largest(), Halved())
    model.evaluate(*examples(4), verbose=0)
    assert [metric.name for metric in metric_states.adding_up(model)] == ["loss", Halved().name]
    assert not metric_states.are_alike([metric_states.states(model), []])


def test_logs_become_those_of_all_workers_data():
    def together():
        keras.utils.set_random_seed(3)
        model = model_with()
        metrics = [METRICS["f1"](), METRICS["auc"](), Largest()]
        # No step changes a weight, so that one process can tell what all data give.
        model.compile(DistributedOptimizer(keras.optimizers.SGD(0.0)), "categorical_crossentropy", metrics=metrics)
        of_all = examples(24)
        mine = [part[hvd.rank() :: 2] for part in of_all]
        unequal = [part[: 4 + 8 * hvd.rank()] for part in mine]
        own = []
        note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: own.append(dict(logs)))
        after = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(mine=hvd.rank()))
        history = model.fit(
            *mine,
            batch_size=4,
            epochs=3,
            validation_data=unequal,
            validation_freq=2,
            verbose=0,
            callbacks=[note, after, callbacks.BroadcastVariables(), callbacks.AverageMetrics()],
        ).history
        everyones = hvd.allgather_object(unequal)
        together = [np.concatenate([theirs[part] for theirs in everyones]) for part in (0, 1)]
        whole, valid = (model.evaluate(*part, return_dict=True, verbose=0) for part in (of_all, together))
        return history, own, whole, valid

    workers = run_workers(together)
    for history, own, whole, valid in workers:
        assert all((len(history[name]), len(history[f"val_{name}"])) == (3, 1) for name in whole)
        for name in ("loss", "f1_score", "auc"):
            for value in history[name]:
                np.testing.assert_allclose(value, whole[name], rtol=1e-5)
            np.testing.assert_allclose(history[f"val_{name}"][0], valid[name], rtol=1e-5)
        assert history["f1_score"][0].shape == (CLASSES,) and history["mine"] == [0.5] * 3
        assert history["largest"][0] == pytest.approx(np.mean([logs[0]["largest"] for _, logs, *_ in workers]))
        for name in own[0]:  # the next epoch counts from nothing, and counts this worker's data alone
            np.testing.assert_array_equal(own[0][name], own[2][name])


def test_a_train_step_that_tells_other_values_keeps_them():
    def together():
        class Own(keras.Model):
            def train_step(self, data):
                logs = super().train_step(data)
                return {"loss": logs["loss"] * 0.0 + 7.0, "rank": float(hvd.rank())}

        x = keras.Input((4,))
        model = Own(x, keras.layers.Dense(CLASSES, activation="softmax")(x))
        model.compile(DistributedOptimizer(keras.optimizers.SGD(0.1)), "categorical_crossentropy")
        return model.fit(*examples(8), batch_size=4, verbose=0, callbacks=[callbacks.AverageMetrics()]).history

    assert run_workers(together) == [{"loss": [7.0], "rank": [0.5]}] * 2
