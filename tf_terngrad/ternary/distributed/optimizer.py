"""Any Keras 3 optimizer, made to average its gradients over the workers.

It stays the object that it is, of its own class: what is saved of it loads without this package and without Horovod.
For that, `apply` is replaced on the instance: it averages first, and Keras clips and applies the averages. Where
gradients accumulate, that would exchange those of every batch; one exchange serves a whole window between Keras'
accumulation and its clipping (`keras_internals.between_accumulation_and_clipping`).
"""

import contextlib

import keras
import tensorflow as tf

from tf_terngrad import keras_internals
from tf_terngrad.ternary.distributed import agreement, lockstep, loss_scale
from tf_terngrad.ternary.distributed.averager import Averager, name_of
from tf_terngrad.ternary.distributed.settings import FUSION_BYTES, Settings


def DistributedOptimizer(
    optimizer, compression=None, op="average", exclude=(), process_set=None, fusion_bytes=FUSION_BYTES
):
    """Make an optimizer average its gradients over the workers, before it clips and applies them.

        g = (1/N) sum_i g_i,   i = 1 .. N workers

    Use it when `fit`, or a loop of your own, trains one model on several workers.

    It is the same object, ready for `compile` and for loops of one's own. With gradient accumulation, one exchange
    serves the whole window. `keras.optimizers.LossScaleOptimizer` may be around it, and `compile` may put it there.
    What is made from its configuration is an ordinary optimizer, that of a loaded model too: make it distributed again.

    Args:
        optimizer: a `keras.optimizers.Optimizer`, whose step was not traced yet; of a model that was fitted before,
            `callbacks.BroadcastVariables` has it traced again.
        compression: None, `Compression.none`, `Compression.fp16`, or a `TernGrad`.
        op: "average" or "sum", or Horovod's Average or Sum.
        exclude: patterns, as a shell's, of the paths of variables whose gradients stay floats: `["*/bias"]`.
        process_set: a `horovod.tensorflow.ProcessSet`, or a `Transport`; None: the compression's, or all of Horovod's
            workers.
        fusion_bytes: the most that is exchanged at once, before compression. Floats of one such fusion travel while
            gradients of earlier layers are being computed, digits while others are encoded; fewer fusions cost fewer
            exchanges.

    Returns:
        The optimizer.

    Raises:
        TypeError: no Keras 3 optimizer, or another kind of compression.
        ValueError: it is distributed already; or op, fusion_bytes out of range.
        ModuleNotFoundError, RuntimeError: Horovod is not installed, or not initialized.
        ValueError: in the first step, on all workers: gradients that are not alike on all of them; a pattern of
            `exclude` that fits no variable of the optimizer.

    Example:

    ```python
    hvd.init()
    optimizer = tt.distributed.DistributedOptimizer(keras.optimizers.Adam(), compression=tt.TernGrad(clip=2.5))
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(x[hvd.rank() :: hvd.size()], y[hvd.rank() :: hvd.size()],
              callbacks=[tt.distributed.callbacks.BroadcastVariables()])
    ```

    Paper: Wen et al., TernGrad: Ternary gradients to reduce communication in distributed deep learning, 2017.
    """
    settings = Settings(compression, op, exclude, process_set, fusion_bytes)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "Expected an instance of a Keras 3 optimizer, such as keras.optimizers.SGD(). (For those of tf_keras there "
            f"is Horovod's own DistributedOptimizer, with compression=TernGrad().) Received: {optimizer!r}"
        )
    if is_distributed(optimizer):
        raise ValueError(f"The optimizer {optimizer.name!r} is distributed already.")
    Exchange(loss_scale.inner(optimizer), Averager(settings))
    loss_scale.install()
    lockstep.install()
    return optimizer


def is_distributed(optimizer) -> bool:
    """Whether an optimizer averages its gradients over the workers."""
    return loss_scale.exchange_of(loss_scale.inner(optimizer)) is not None


def is_new(optimizer) -> bool:
    """Whether an optimizer was made distributed, and has averaged no gradients, nor was traced doing so, since then."""
    exchange = loss_scale.exchange_of(loss_scale.inner(optimizer))
    return exchange is not None and not exchange.used


class Exchange:
    """What makes an optimizer distributed; its attribute `_exchange`.

    Attributes:
        state: `ExchangeState`, of the random bits.
        used: whether it has averaged gradients, or was traced doing so.
    """

    def __init__(self, optimizer, averager):
        self._optimizer = optimizer
        self._averager = averager
        self._variables = []
        self._done = False
        self.state = averager.state
        self.used = False
        self.everywhere = averager.everywhere
        optimizer._exchange = self
        optimizer.require_same = self.require_same
        if self.accumulates and type(optimizer).apply is keras.optimizers.Optimizer.apply:
            keras_internals.between_accumulation_and_clipping(optimizer, self._note, self._average_accumulated)
        else:
            self._apply = optimizer.apply
            optimizer.apply = self._average_and_apply

    def require_same(self, lines, subject):
        """Refuse, on all workers, what is not the same on all of them; what changes a model in training asks.

        Args:
            lines: list of str, this worker's.
            subject: what they describe, for the message.

        Raises:
            ValueError: they differ.
        """
        network = self._averager.settings.network
        if not network.alone():
            agreement.require([agreement.unnumbered(line) for line in lines], subject, network)

    @property
    def accumulates(self) -> bool:
        """Whether the optimizer takes several steps' gradients together."""
        return bool(self._optimizer.gradient_accumulation_steps)

    def average(self, gradients, variables) -> list:
        """The averages of gradients over the workers."""
        _refuse_overwritten(variables)
        if not self.used:
            own = keras_internals.trainable_variables(self._optimizer) if self._optimizer.built else variables
            self._averager.settings.require_excluded([name_of(variable) for variable in own])
        self.used = True
        return self._averager(gradients, variables)

    @contextlib.contextmanager
    def done(self):
        """Within it, the optimizer takes what it is given for averages."""
        self._done = True
        try:
            yield
        finally:
            self._done = False

    @property
    def is_done(self) -> bool:
        """Whether the optimizer's gradients are averages already."""
        return self._done

    def _average_unless_done(self, gradients, variables):
        return gradients if self._done else self.average(gradients, variables)

    def _note(self, variables):
        _refuse_overwritten(variables)
        self._variables = list(variables)

    def _average_accumulated(self, gradients):
        return self._average_unless_done(gradients, self._variables)

    @tf.autograph.experimental.do_not_convert
    def _average_and_apply(self, gradients, trainable_variables=None):
        """In place of `apply`. What Keras refuses or leaves alone, it is left to, before anything is exchanged."""
        if len(gradients) == 0 or (trainable_variables is None and not self._optimizer.built):
            return self._apply(gradients, trainable_variables)
        given = keras_internals.trainable_variables(self._optimizer)
        given = given if trainable_variables is None else list(trainable_variables)
        if len(gradients) != len(given):
            raise ValueError(f"Expected a gradient for each of {len(given)} variables. Received: {len(gradients)}")
        return self._apply(self._average_unless_done(gradients, given), None if trainable_variables is None else given)


def _refuse_overwritten(variables):
    for variable in variables:
        if getattr(variable, "overwrite_with_gradient", False):
            raise ValueError(
                f"What stands for the gradient of {variable.path} is its next value (as in float8 training), which has "
                "no average over workers. Expected another dtype policy."
            )
