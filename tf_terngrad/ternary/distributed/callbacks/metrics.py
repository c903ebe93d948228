"""Logs of all workers' data."""

import keras
import numpy as np

from tf_terngrad.ternary.transport import transport_of


class AverageMetrics(keras.callbacks.Callback):
    """At the end of an epoch, its logs become the averages over the workers: loss, metrics, and those of validation.

    Use it when logs, checkpoints or early stopping shall look at the data of all workers.

    Put it before the callbacks that should see the averages: checkpoints, early stopping, schedules. All workers decide
    the same then.

    Args:
        process_set: a `horovod.tensorflow.ProcessSet`, or a `Transport`; None: all of Horovod's workers.

    Raises:
        ValueError: at the end of an epoch: the workers' logs have different names.

    Example:

    ```python
    model.fit(x, y, callbacks=[tt.distributed.callbacks.AverageMetrics(), keras.callbacks.EarlyStopping()])
    ```
    """

    sees_logs_first = True
    """For `lockstep`: whatever place it has among the callbacks, the others see the averages."""

    def __init__(self, process_set=None):
        super().__init__()
        self.process_set = process_set

    def on_epoch_end(self, epoch, logs=None):
        """Averages."""
        network = transport_of(self.process_set).ready()
        if logs is None or network.alone():
            return
        everyones = network.everyones({k: float(v) for k, v in logs.items()}, "tf_terngrad.metrics")
        if any(set(others) != set(logs) for others in everyones):
            raise ValueError(f"The workers' logs must have the same names. Received: {[sorted(o) for o in everyones]}")
        for name in logs:
            logs[name] = float(np.mean([others[name] for others in everyones]))
