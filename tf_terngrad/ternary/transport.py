"""What this package needs of a network: the protocol that Horovod's workers, those of tests and yours serve."""

import abc
import functools
import pickle
import re
import sys

import numpy as np
import tensorflow as tf

from tf_terngrad.checks import refusal

QUESTION = "tf_terngrad.agreement"
"""The name under which workers ask one another what differs, from within a graph too."""


class Transport(abc.ABC):
    """Some workers, this one among them, and what they can do together.

    Use it when your workers talk over something else than Horovod: write a class with the six abstract methods, and
    give an instance as `process_set` to whatever of `tf_terngrad.distributed` takes one. The other methods work on top
    of those six; replace them where the network has a better way.

    All workers call the same methods in the same order. The name of an exchange is the same on all of them, and no
    other one that is under way has it; later ones may. Tensors that are added or compared have equal shapes and dtypes.

    Example:

    ```python
    average = tt.distributed.DistributedGradientTape(tape, tt.TernGrad(), process_set=MyTransport())
    ```
    """

    # Who there is.

    @abc.abstractmethod
    def size(self) -> tf.Tensor:
        """How many workers there are now, int32 scalar; in a graph, when it runs."""

    @abc.abstractmethod
    def rank(self) -> tf.Tensor:
        """Which of them this one is, int32 scalar: from 0 to `size() - 1`."""

    def ranks(self) -> list[int]:
        """The workers' numbers among all that the network has, in the order of their `rank`."""
        with tf.init_scope():
            return list(range(int(self.size())))

    def alone(self) -> bool:
        """Whether there is one worker only, and will be: nothing is exchanged then."""
        return len(self.ranks()) == 1

    def members(self, process_set) -> "Transport":
        """The transport of some of the workers; None: of all of them.

        Raises:
            TypeError: the network knows no such thing.
        """
        if process_set is not None:
            raise TypeError(refusal(type(self).__name__, "process_set", "None: it has no sets of workers", process_set))
        return self

    def initialized(self) -> bool:
        """Whether the workers have met, so that something can be exchanged."""
        return True

    def ready(self) -> "Transport":
        """The transport itself, if this worker can exchange something with the others now.

        Raises:
            RuntimeError: the workers have not met; or what they need is not installed (ModuleNotFoundError).
            ValueError: this worker is not one of them.
        """
        if not self.initialized():
            raise RuntimeError(f"{type(self).__name__} is not initialized: its workers have not met yet.")
        return self

    # What they exchange.

    @abc.abstractmethod
    def maximum(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        """The greatest value of any worker, elementwise; no value is NaN."""

    @abc.abstractmethod
    def total(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        """The sum over workers, elementwise, of floats or of integers; the same bits on all of them."""

    @abc.abstractmethod
    def gather(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        """Every worker's tensor, one after the other along the first axis; lengths may differ."""

    @abc.abstractmethod
    def scatter(self, tensor: tf.Tensor, counts: tf.Tensor, name: str) -> tf.Tensor:
        """Hand counts[r] elements of a vector to worker r; what the workers handed to this one, in their order."""

    def broadcast(self, tensor, root_rank: int, name: str) -> tf.Tensor:
        """The tensor of one worker, for all of them; eager.

        Args:
            tensor: of the same shape and dtype on all workers.
            root_rank: the worker's number among all that the network has, one of `ranks()`.
            name: of the exchange.
        """
        tensor = tf.convert_to_tensor(tensor)
        mine = int(root_rank == self.ranks()[int(self.rank())])
        flat = tf.reshape(tensor, (-1,))
        return tf.reshape(self.gather(flat[: mine * tf.size(flat)], name), tf.shape(tensor))

    def everyones(self, value, name: str) -> list:
        """What each worker has, in their order: anything that pickles. It happens now, even while a graph is made."""
        with tf.init_scope():
            data = tf.constant(np.frombuffer(pickle.dumps(value), np.uint8))
            sizes = self.gather(tf.size(data)[None], f"{name}.sizes").numpy()
            parts = np.split(self.gather(data, name).numpy(), np.cumsum(sizes)[:-1])
            return [pickle.loads(part.tobytes()) for part in parts]

    # What exchanges are called.

    def in_turn(self, exchange):
        """What exchange() gives: tensors, in any structure. Of several, each begins when the one before has ended.

        Operations of a graph, and of functions that it calls, would else run together, and those of one name may not.
        """
        if tf.executing_eagerly():
            return exchange()
        turns = self._turns
        with tf.control_dependencies([turns.assign_add(1)]):
            result = exchange()
        ended = [part for part in tf.nest.flatten(result, expand_composites=True) if part is not None]
        with tf.control_dependencies(ended):
            turns.assign_add(1)  # TensorFlow keeps what changes a variable in the order of the program
        return result

    @functools.cached_property
    def _turns(self) -> tf.Variable:
        return new_turns()

    def unique_name(self, tensor) -> str:
        """A name for the exchange of a tensor, unique in its graph, and the same on workers that build it alike."""
        if tf.executing_eagerly():
            return "terngrad"  # eager exchanges follow one another
        of = re.sub("[^A-Za-z0-9_.]", "_", tensor.name) if tf.is_symbolic_tensor(tensor) else "constant"
        return tf.compat.v1.get_default_graph().unique_name(f"terngrad.{of}")

    # What is said of it.

    def tells_of(self, error: Exception) -> bool:
        """Whether an error comes from the network itself, as where another worker does not answer."""
        return False

    # What users say in the network's own words.

    def operation_name(self, op):
        """Of one of the network's own operations its name, as "sum"; what is none of them, itself."""
        return op

    def compression_name(self, compression) -> str | None:
        """Of one of the network's own compressions its name, "none" or "fp16"; None: it is none of them."""
        return None


def new_turns() -> tf.Variable:
    """What counts the turns of exchanges; those of the same workers share one."""
    with tf.init_scope():
        return tf.Variable(0, dtype=tf.int64, trainable=False, name="terngrad_turns")


def transport_of(process_set=None) -> Transport:
    """The transport of those workers: a `Transport` itself, a process set of Horovod's, or (None) all workers.

    Those are TensorFlow's own after `tt.distributed.init()`, unless Horovod is initialized; else Horovod's.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(process_set, Transport):
        return process_set
    from tf_terngrad.ternary import collectives  # which has a Transport, so that it imports this file
    from tf_terngrad.ternary.horovod import HorovodTransport  # likewise

    hvd = sys.modules.get("horovod.tensorflow")
    if process_set is None and collectives.started() and not (hvd and hvd.is_initialized()):
        return collectives.CollectiveTransport()
    return HorovodTransport(process_set)
