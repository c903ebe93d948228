"""One worker or several: what a training run must know of the others."""

import math
import os
import sys
from collections.abc import Callable

import keras

import tf_terngrad as tt
from tf_terngrad.ternary.transport import transport_of

PATIENCE = "600"
"""Seconds that workers wait for one that sends nothing, before all of them end; by itself Horovod waits for ever."""

COMPRESSIONS = {"none": lambda: None, "fp16": lambda: tt.Compression.fp16, "terngrad": tt.TernGrad}


class Worker:
    """The only worker there is.

    Attributes:
        rank, size: its number, from 0, and how many there are.
    """

    rank, size = 0, 1

    @property
    def leads(self) -> bool:
        """Whether it is this worker that writes files and prints."""
        return self.rank == 0

    @property
    def callbacks(self) -> tuple[keras.callbacks.Callback, ...]:
        """What must watch the training of several workers."""
        return ()

    def optimizer(self, optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
        """The optimizer, averaging gradients over all workers."""
        return optimizer

    def exchanged(self, optimizer: keras.optimizers.Optimizer) -> list:
        """The variables that tell how far the random bits of the optimizer's exchanges are."""
        return []

    def part_of(self, batch_size: int) -> int:
        """How many examples of a batch each worker gets; a ValueError where that is not the same for all."""
        if batch_size % self.size:
            raise ValueError(
                f"Expected a batch that {self.size} workers can share evenly. Received: batch_size={batch_size}"
            )
        return batch_size // self.size

    def steps(self, examples: int, batch_size: int) -> int:
        """Of an epoch. Several workers leave out a last, smaller batch: it may not do for all of them."""
        return math.ceil(examples / batch_size) if self.size == 1 else examples // batch_size

    def share(self, variables: list) -> None:
        """Give all workers the leader's values."""

    def agree(self, value):
        """The leader's value."""
        return value

    def is_left_alone(self, error: Exception) -> bool:
        """Whether an error tells that another worker does not answer."""
        return False

    def lead(self, function: Callable, *arguments):
        """What a function gives to the leader, who alone calls it; where it fails, all end with its message."""
        result = error = None
        if self.leads:
            try:
                result = function(*arguments)
            except (ValueError, OSError) as caught:
                error = caught
        result, error = self.agree((result, error))
        if error is not None:
            raise error
        return result


class OneOfSeveral(Worker):
    """One of the workers that have met.

    Args:
        compression: how gradients travel: a key of `COMPRESSIONS`.
    """

    def __init__(self, compression: str):
        self._network = transport_of().ready()
        self._compression = COMPRESSIONS[compression]()
        self.rank, self.size = int(self._network.rank()), int(self._network.size())

    @property
    def callbacks(self):
        return (tt.distributed.callbacks.AverageMetrics(),) if self.size > 1 else ()

    def optimizer(self, optimizer):
        return tt.distributed.DistributedOptimizer(optimizer, compression=self._compression)

    def exchanged(self, optimizer):
        return list(tt.distributed.exchange_state(optimizer).variables)

    def is_left_alone(self, error):
        return self._network.tells_of(error)

    def share(self, variables):
        tt.distributed.broadcast_variables(variables)

    def agree(self, value):
        return self._network.everyones(value if self.leads else None, "train.agree")[0]


class HorovodWorker(OneOfSeveral):
    """One of the workers that `horovodrun` has started."""

    def __init__(self, compression):
        import horovod.tensorflow as hvd  # where there is one worker, Horovod need not be installed

        os.environ.setdefault("HOROVOD_STALL_SHUTDOWN_TIME_SECONDS", PATIENCE)  # `init` reads it
        hvd.init()
        super().__init__(compression)


class TensorFlowWorker(OneOfSeveral):
    """One of the workers that TF_CONFIG names."""

    def __init__(self, compression):
        tt.distributed.init()
        super().__init__(compression)


def this_worker(compression: str) -> Worker:
    """This process among the workers of its run: alone unless `horovodrun` started it, or TF_CONFIG names others.

    Args:
        compression: how gradients travel: a key of `COMPRESSIONS`.
    """
    worker = Worker()
    if "HOROVOD_RANK" in os.environ or "OMPI_COMM_WORLD_RANK" in os.environ:
        try:
            worker = HorovodWorker(compression)
        except ImportError as error:
            sys.exit(f"Horovod started this process, but cannot be imported: {error}. Run `make setup`.")
    elif os.environ.get("TF_CONFIG"):
        try:
            worker = TensorFlowWorker(compression)
        except ValueError as error:
            sys.exit(str(error))
    if worker.size == 1 and compression != "none":
        print(
            f"--compression={compression} changes nothing: one worker sends no gradients. Start more by horovodrun, or "
            "name them in TF_CONFIG."
        )
    return worker
