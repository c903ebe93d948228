"""Learning rates for many workers: warmed up, and by epoch."""

import keras

from tf_terngrad.checks import number, positive
from tf_terngrad.ternary.transport import transport_of


class ScheduleLearningRate(keras.callbacks.Callback):
    """Sets the learning rate to a multiple of the initial one, which depends on the epoch.

        rate = initial_lr * multiplier(epoch),   start_epoch <= epoch < end_epoch

    Use it when the rate shall fall by epochs, and stay a number that other callbacks may set.

    Args:
        initial_lr: the rate for all workers together; usually N times that of one.
        multiplier: a function of the epoch; or a number m, which stands for m^(epoch - start_epoch).
        start_epoch, end_epoch: from when, and up to when, the rate is set; end_epoch None: always.
        staircase: set it as an epoch begins; False: at every batch, the epoch being a fraction then.
        steps_per_epoch: batches of an epoch; None: what `fit` finds out.

    Raises:
        TypeError: initial_lr is no number; as training begins: the optimizer has a learning rate schedule of its own.
        ValueError: as training begins: the number of steps is needed and not known.

    Example:

    ```python
    decay = tt.distributed.callbacks.ScheduleLearningRate(0.1 * hvd.size(), lambda epoch: 0.1 ** (epoch // 30))
    ```
    """

    def __init__(self, initial_lr, multiplier, start_epoch=0, end_epoch=None, staircase=True, steps_per_epoch=None):
        super().__init__()
        self.initial_lr = number(initial_lr, "initial_lr", type(self).__name__)
        self.multiplier = multiplier if callable(multiplier) else lambda epoch: multiplier ** (epoch - start_epoch)
        self.start_epoch = start_epoch
        self.end_epoch = end_epoch
        self.staircase = staircase
        self.steps_per_epoch = steps_per_epoch
        self._epoch = start_epoch

    def on_train_begin(self, logs=None):
        """Checks that the rate can be set."""
        if not isinstance(self.model.optimizer.learning_rate, keras.Variable):
            raise TypeError(
                "Expected an optimizer whose learning rate is a number. Received one with a schedule: "
                f"{self.model.optimizer.name!r}. Have either that or this callback."
            )
        self.steps_per_epoch = self.steps_per_epoch or self.params.get("steps")
        if not self.staircase and not self.steps_per_epoch:
            raise ValueError("fit cannot tell how many batches an epoch has. Expected steps_per_epoch, an integer.")

    def on_epoch_begin(self, epoch, logs=None):
        """Sets the rate of the epoch."""
        self._epoch = epoch
        if self.staircase:
            self._set(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        """Sets the rate of the batch, unless it is the epoch's."""
        if not self.staircase:
            self._set(self._epoch + batch / self.steps_per_epoch)

    def on_epoch_end(self, epoch, logs=None):
        """Adds the rate to the logs."""
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)

    def _set(self, epoch):
        if self.start_epoch <= epoch and (self.end_epoch is None or self._epoch < self.end_epoch):
            self.model.optimizer.learning_rate = self.initial_lr * self.multiplier(epoch)


class WarmUpLearningRate(ScheduleLearningRate):
    """Raises the learning rate from that of one worker to that of N, in the first epochs, batch by batch.

        rate = initial_lr / N * (1 + epoch (N - 1) / warmup_epochs),   at a batch's end

    Use it when N workers train with N times the learning rate of one, which is too much for the first steps.

    Args:
        initial_lr: the rate after warming up; usually N times that of one worker.
        warmup_epochs: how long it takes.
        steps_per_epoch: batches of an epoch; None: what `fit` finds out.

    Raises:
        ValueError: warmup_epochs is not positive; and see `ScheduleLearningRate`.

    Example:

    ```python
    model.fit(x, y, callbacks=[tt.distributed.callbacks.WarmUpLearningRate(0.1 * hvd.size(), warmup_epochs=5)])
    ```

    Paper: Goyal et al., Accurate, large minibatch SGD: Training ImageNet in 1 hour, 2017.
    """

    def __init__(self, initial_lr, warmup_epochs=5, steps_per_epoch=None):
        warmup_epochs = positive(warmup_epochs, "warmup_epochs", "WarmUpLearningRate")
        super().__init__(initial_lr, self._factor, 0, warmup_epochs, staircase=False, steps_per_epoch=steps_per_epoch)
        self.warmup_epochs = warmup_epochs

    def _factor(self, epoch):
        workers = len(transport_of().ready().ranks())
        done = min((epoch + 1 / self.steps_per_epoch) / self.warmup_epochs, 1)
        return (1 + done * (workers - 1)) / workers
