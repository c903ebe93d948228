"""What a schedule is: a way in which the workers' digits travel, and become the same average everywhere."""

import abc
import dataclasses
import math

import tensorflow as tf

from tf_terngrad.ternary import codec
from tf_terngrad.ternary.cost import Method
from tf_terngrad.ternary.layout import LARGEST_SUM
from tf_terngrad.ternary.load import Load, checked

LARGEST = 1025
"""So many workers, and more, have one choice: a schedule that holds whatever sums words hold."""


class Schedule(Method):
    """A way to exchange digits: how it runs, what it sends, what it costs, what it can hold.

    Use it when you want digits to travel in another way: over other operations of the network, or in another form.

        average = s / (L N) times the sum of the N workers' digits in [-L, L]

    Attributes:
        name: what `TernGrad(schedule=)` takes, and what is saved of it.
        largest_sum: the largest sum of digits that it holds, N L; `math.inf`: any.
        private_scales: whether each worker may have a scale of its own (`TernGrad(share_scales=False)`).
        codec, decode, travel, questions: what it costs, as of `cost.Method`; by default as much as the slowest.

    Example:

    ```python
    class Halves(tt.Schedule):
        name = "halves"
        largest_sum = 2048

        def run(self, load):
            halves = tf.cast(load.digits(), tf.float16)
            return load.mean(load.transport.total(halves, f"{load.name}.halves"))

        def bytes(self, size, workers, levels=1):
            return 2 * (workers - 1) / workers * 2 * size

    tt.register_schedule(Halves())
    compression = tt.TernGrad(schedule="halves")
    ```
    """

    largest_sum: float = math.inf
    private_scales: bool = False
    codec = 2.3e-9
    travel = 1.0e-9
    questions = 2

    @abc.abstractmethod
    def run(self, load: Load) -> tf.Tensor:
        """The average of the workers' gradients, of the load's shape (size,) and dtype: the same bits everywhere."""

    def average(self, load: Load) -> tf.Tensor:
        """`run`, unless the workers' sums may become larger than it holds: an error then, before anything travels."""
        if self.largest_sum < math.inf:
            most = load.transport.size() * load.levels
            message = (
                f"{load.name!r}: expected N L, the largest sum of digits, of at most {self.largest_sum} for "
                f"schedule={self.name!r}. Choose schedule='words' or fewer levels. Received a sum of"
            )
            gradient = checked(most <= self.largest_sum, [message, most], load.gradient)
            load = dataclasses.replace(load, gradient=gradient)
        return self.run(load)

    def holds(self, workers: int, levels: int) -> bool:
        """Whether it holds the sums of so many workers; LARGEST of them stand for any number that words hold."""
        return (workers * levels if workers < LARGEST else LARGEST_SUM) <= self.largest_sum

    @property
    def signature(self) -> str:
        """What has to be the same on all workers."""
        return self.name

    def __repr__(self):
        return f"<schedule {self.name!r}>"


def everyones_bytes(load, what: str, data, counts) -> tf.Tensor:
    """The workers' bytes, one after the other, so many of each; they travel in a Huffman code (huffman.py)."""
    streams, _ = codec.compress(data, tf.size(data)[None])
    return codec.decompress(load.transport.gather(streams, f"{load.name}.{what}"), counts)
