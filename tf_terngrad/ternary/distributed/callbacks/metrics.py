"""Logs of all workers' data."""

import keras
import numpy as np

from tf_terngrad.ternary.distributed import metric_states
from tf_terngrad.ternary.transport import transport_of


class AverageMetrics(keras.callbacks.Callback):
    """At the end of an epoch, its logs become those of all workers: loss, metrics, and those of validation.

    Use it when logs, checkpoints or early stopping shall look at the data of all workers.

    What Keras' own metrics have counted is added up, and the value is that of all examples together: right for AUC,
    Precision or F1Score too, whose averages mean nothing, and where workers have other numbers of examples. All else is
    averaged: what another callback has put in the logs, or a metric whose `update_state` is your own. Arrays stay
    arrays, as of `F1Score(average=None)`. The metrics themselves stay those of this worker.

    The other callbacks see these logs, whatever place it has among them: checkpoints, early stopping, schedules. All
    workers decide the same then. What callbacks in front of it add is averaged in its own place.

    Args:
        process_set: a `horovod.tensorflow.ProcessSet`, or a `Transport`; None: all of Horovod's workers.

    Raises:
        ValueError: at the end of an epoch: the workers' logs have different names.

    Example:

    ```python
    model.fit(x, y, callbacks=[tt.distributed.callbacks.AverageMetrics(), keras.callbacks.EarlyStopping()])
    ```
    """

    def __init__(self, process_set=None):
        super().__init__()
        self.process_set = process_set
        self._training, self._done = None, ()

    def on_epoch_begin(self, epoch, logs=None):
        """Forgets the epoch before."""
        self._training, self._done = None, ()

    def on_test_begin(self, logs=None):
        """Keeps what the metrics have of the training: validation begins, and they start anew."""
        self._training = self._counted()

    def before_epoch_end(self, logs):
        """Adds up and averages, before any callback sees the end of the epoch; `lockstep` calls it."""
        self.on_epoch_end(None, logs)
        self._done = set(logs)

    def on_epoch_end(self, epoch, logs=None):
        """Adds up and averages what is new."""
        network = transport_of(self.process_set).ready()
        if logs is None or network.alone():
            return
        new = {name: value for name, value in logs.items() if name not in self._done}
        self._average(new, network)
        logs.update(new)

    def _average(self, logs, network):
        now = self._counted() if logs else ({}, [])
        counted = {"": now} if self._training is None else {"": self._training, "val_": now}
        mine = {prefix: _told_by(logs, prefix, *values) for prefix, values in counted.items()}
        everyones = network.everyones((sorted(logs), mine), "tf_terngrad.metrics")
        if any(names != sorted(logs) for names, _ in everyones):
            raise ValueError(
                f"The workers' logs must have the same names. Received: {[names for names, _ in everyones]}"
            )
        if not logs:
            return
        for prefix in mine:
            logs.update(self._merged(prefix, [counted[prefix] for _, counted in everyones if prefix in counted]))
        arrays = {name: np.asarray(value, "float64") for name, value in logs.items()}
        values = network.everyones(arrays, "tf_terngrad.logs")
        for name in logs:
            mean = np.mean([others[name] for others in values], axis=0)
            logs[name] = mean if mean.ndim else float(mean)

    def _counted(self):
        """The values and the states of the metrics."""
        if self.model is None:
            return {}, []
        return metric_states.results(self.model), metric_states.states(self.model)

    def _merged(self, prefix, everyones):
        """The values of all data together, of the logs that tell a metric's value on all workers."""
        names = set.intersection(*(names for names, _ in everyones))
        states = [states for _, states in everyones]
        if not names or not metric_states.are_alike(states):
            return {}
        merged = metric_states.merged_results(self.model, states)
        return {prefix + name: merged[name] for name in names}


def _told_by(logs, prefix, values, states):
    """The names of values that the logs tell as they are, which a train_step of one's own may do or not; the states."""
    names = {name for name, value in values.items() if _is_same(logs.get(prefix + name), value)}
    return names, states


def _is_same(one, other):
    return one is not None and np.array_equal(np.asarray(one, "float64"), np.asarray(other, "float64"), equal_nan=True)
