"""One model on all workers before the first batch."""

import keras

from tf_terngrad.checks import integer
from tf_terngrad.ternary.distributed import agreement
from tf_terngrad.ternary.distributed.optimizer import is_distributed, is_new
from tf_terngrad.ternary.distributed.state import exchange_state
from tf_terngrad.ternary.distributed.variables import broadcast_variables
from tf_terngrad.ternary.transport import transport_of


class BroadcastVariables(keras.callbacks.Callback):
    """Before the first batch, all workers get the state of one: what was loaded, or drawn at random, is one model then.

    Use it when `fit` trains on several workers: always.

    That is all of the model's variables (weights, BatchNorm statistics, the states of seed generators), all of the
    optimizer's (moments, iterations, learning rate), and how far the random bits of its exchanges are.

    Args:
        root_rank: whose state.
        process_set: a `horovod.tensorflow.ProcessSet`, or a `Transport`; None: all of Horovod's workers.

    Raises:
        ValueError: at the start of training: the model's optimizer does not average gradients, nor does the model have
            a train_step of its own that could; the models are not alike on all workers, or the workers have other
            numbers of epochs, or of batches in an epoch where `fit` knows how many: they would wait for one another.

    Example:

    ```python
    model.fit(x, y, callbacks=[tt.distributed.callbacks.BroadcastVariables()])
    ```
    """

    def __init__(self, root_rank=0, process_set=None):
        super().__init__()
        self.root_rank = integer(root_rank, "root_rank", "BroadcastVariables", least=0)
        self.process_set = process_set

    def on_train_begin(self, logs=None):
        """Builds the optimizer, and hands out the state."""
        optimizer = self.model.optimizer
        if type(self.model).train_step is keras.Model.train_step and not is_distributed(optimizer):
            raise ValueError(
                f"The workers would train apart: the optimizer {optimizer.name!r} of model {self.model.name!r} "
                "averages no gradients. Expected tt.distributed.DistributedOptimizer(optimizer). A loaded model has an "
                "ordinary optimizer: tt.distributed.DistributedOptimizer(model.optimizer) before training makes it "
                "distributed."
            )
        agreement.require(
            [f"{self.params[name]} {name}" for name in ("epochs", "steps")],
            "What fit does",
            transport_of(self.process_set).ready(),
            "Give every worker as many examples, or steps_per_epoch.",
        )
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        if is_new(optimizer):
            self.model.make_train_function(force=True)  # it may have been traced while the optimizer averaged nothing
        exchanges = exchange_state(optimizer).variables if is_distributed(optimizer) else ()
        broadcast_variables([*self.model.variables, *optimizer.variables, *exchanges], self.root_rank, self.process_set)
