"""A gradient tape whose gradients are averages over the workers."""

import functools

import keras
import tensorflow as tf
from absl import logging

from tf_terngrad.ternary.distributed import lockstep
from tf_terngrad.ternary.distributed.averager import Averager, name_of
from tf_terngrad.ternary.distributed.settings import FUSION_BYTES, Settings


class DistributedGradientTape:
    """A `tf.GradientTape` whose `gradient` gives averages over the workers; in all else it is the tape.

        g = (1/N) sum_i g_i,   i = 1 .. N workers

    Use it when a loop of your own needs the averages themselves, before an ordinary optimizer applies them.

    Args:
        tape: a `tf.GradientTape`.
        compression: None, `Compression.none`, `Compression.fp16`, or a `TernGrad`.
        op: "average" or "sum", or Horovod's Average or Sum.
        exclude: patterns, as a shell's, of the paths of variables whose gradients stay floats: `["*/bias"]`.
        process_set: a `horovod.tensorflow.ProcessSet`, or a `Transport`; None: the compression's, or all of Horovod's
            workers.
        fusion_bytes: the most that is exchanged at once, before compression.

    Raises:
        TypeError, ValueError: an argument of another kind, or out of range.
        ModuleNotFoundError, RuntimeError: Horovod is not installed, or not initialized.

    Example:

    ```python
    with tf.GradientTape() as tape:
        loss = loss_of(model(x, training=True), y)
    tape = tt.distributed.DistributedGradientTape(tape, compression=tt.TernGrad())
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    ```

    Paper: Wen et al., TernGrad: Ternary gradients to reduce communication in distributed deep learning, 2017.
    """

    def __init__(self, tape, compression=None, op="average", exclude=(), process_set=None, fusion_bytes=FUSION_BYTES):
        if not isinstance(tape, tf.GradientTape):
            raise TypeError(f"Expected a tf.GradientTape. Received: tape={tape!r}")
        lockstep.install()
        self._tape = tape
        self._average = _averager(Settings(compression, op, exclude, process_set, fusion_bytes))

    @property
    def exchange_state(self):
        """The `ExchangeState` of all tapes with these settings."""
        return self._average.state

    @tf.autograph.experimental.do_not_convert
    def gradient(self, target, sources, output_gradients=None, unconnected_gradients=tf.UnconnectedGradients.NONE):
        """The averages of the gradients, in the structure of the sources.

        Args:
            target: what is differentiated, a tensor or a structure of them.
            sources: variables of Keras or TensorFlow, or tensors; one, or a structure of them.
            output_gradients: as in `tf.GradientTape.gradient`.
            unconnected_gradients: likewise.
        """
        gradients = self._tape.gradient(target, sources, output_gradients, unconnected_gradients)
        sources_in_order = keras.tree.flatten(sources)
        _tell_of_idle_patterns(self._average.settings, tuple(name_of(source) for source in sources_in_order))
        averages = self._average(keras.tree.flatten(gradients), sources_in_order)
        return keras.tree.pack_sequence_as(sources, averages)

    def __enter__(self):
        self._tape.__enter__()
        return self

    def __exit__(self, *error):
        self._tape.__exit__(*error)

    def __getattr__(self, name):
        return getattr(self._tape, name)


@functools.cache
def _averager(settings):
    """One for all tapes of the same settings: eager loops make a tape in every step."""
    return Averager(settings)


@functools.cache
def _tell_of_idle_patterns(settings, names):
    """Once: a loop may have one tape's settings for several networks, and patterns for one of them."""
    try:
        settings.require_excluded(names)
    except ValueError as error:
        logging.warning("tf_terngrad: DistributedGradientTape: %s", error)
