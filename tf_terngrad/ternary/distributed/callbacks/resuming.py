"""A callback that has `fit` go on in the middle of an epoch."""

import math

import keras

from tf_terngrad.keras_internals import begin_at


class Resuming(keras.callbacks.Callback):
    """Has `fit` go on at an epoch, behind the batches of it that were done: those are read and left out.

    Args:
        every: batches from one saving to the next; None: only at each epoch's end.
    """

    def __init__(self, every=None):
        super().__init__()
        self.every = every
        self._place = None
        self._epoch = self._done = self._left_out = 0
        self._logs = {}

    def on_epoch_begin(self, epoch, logs=None):
        """Has the batches left out that were done, in the epoch that goes on."""
        place, self._place = self._place, None
        self._epoch, self._done, self._left_out = epoch, 0, 0
        if place is None:
            return
        begin_at(self.model, 0)  # or another `fit` would begin there too
        first, step, of = place
        if epoch == first and step:
            steps = self.params.get("steps")
            self._left_out = step * steps // of if steps and of and steps != of else step

    def on_train_batch_begin(self, batch, logs=None):
        """Leaves the batch out if it was done."""
        if batch < self._left_out:
            self.model.train_function = self._leave_out(self.model.train_function)

    def on_train_end(self, logs=None):
        """Forgets where it went on."""
        if self._place is not None:
            begin_at(self.model, 0)
            self._place = None

    def _go_on_at(self, epoch, step, steps):
        """Begin there; `steps` are the batches that the epoch had then, as with fewer workers. None: nobody knows."""
        self._place = epoch, step, steps
        begin_at(self.model, epoch)

    def _is_time(self, batch) -> bool:
        """Whether to save behind this batch; an epoch's last batch is saved with the epoch."""
        before, self._done = self._done, batch + 1
        is_time = self.every and self._done // self.every > before // self.every
        is_last = self._done >= (self.params.get("steps") or math.inf)
        return bool(is_time) and not is_last and self._done > self._left_out

    def _leave_out(self, train_function):
        """A training function that reads the batches of one execution, and changes nothing."""

        def read(iterator):
            self.model.train_function = train_function
            batches = [batch for _, batch in zip(range(self.model.steps_per_execution), iterator)]  # noqa: B905
            if not batches:
                raise StopIteration
            self._begin_to_leave_out(batches[0])
            return self._logs

        return read

    def _begin_to_leave_out(self, batch):
        """What else is put back, as a batch is known that it may need."""
