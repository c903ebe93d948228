"""Whether the workers still train one model."""

import keras

from tf_terngrad.checks import integer
from tf_terngrad.ternary.distributed.variables import check_replicas


class CheckReplicas(keras.callbacks.Callback):
    """Every so many batches, checks that all workers have the same trainable weights, bit by bit; ends training if not.

    Use it when you want a training that falls apart to end at once.

    What a check costs: a checksum of all weights, and an exchange of four bytes a variable.

    Args:
        every: batches from one check to the next.
        process_set: a `horovod.tensorflow.ProcessSet`, or a `Transport`; None: all of Horovod's workers.

    Raises:
        TypeError, ValueError: `every` is no positive integer.
        RuntimeError: in training, on all workers: the weights differ; it names the first that does, and the workers.

    Example:

    ```python
    model.fit(x, y, callbacks=[tt.distributed.callbacks.CheckReplicas(every=100)])
    ```
    """

    def __init__(self, every=100, process_set=None):
        super().__init__()
        self.every = integer(every, "every", "CheckReplicas", 1)
        self.process_set = process_set
        self._batches = 0

    def on_train_batch_end(self, batch, logs=None):
        """Checks, when it is time."""
        self._batches += 1
        if self._batches % self.every == 0:
            check_replicas(self.model.trainable_variables, self.process_set)
