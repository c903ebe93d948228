"""Any Keras 3 optimizer, made to average its gradients over the workers.

It stays the object that it is, of its own class: what is saved of it loads without this package and without Horovod.
For that, two of its methods are replaced on the instance, where Keras calls them in every step:

- `_clip_gradients`, behind the accumulation of gradients and before clipping: here the gradients are exchanged;
- `_overwrite_variables_directly_with_gradients`, earlier, which is told the variables, and has nothing else to do.

An optimizer with an `apply` of its own, such as `keras.optimizers.MultiOptimizer`, exchanges as it begins.
"""

import contextlib

import keras

from tf_terngrad import keras_internals
from tf_terngrad.ternary.distributed import loss_scale
from tf_terngrad.ternary.distributed.averager import Averager
from tf_terngrad.ternary.distributed.settings import BUCKET_BYTES, Settings


def DistributedOptimizer(
    optimizer, compression=None, op="average", exclude=(), process_set=None, bucket_bytes=BUCKET_BYTES
):
    """Make an optimizer average its gradients over the workers, before it clips and applies them.

    Use it when `model.fit` runs on several workers: wrap the optimizer before `compile`.

        g = (1/N) sum_i g_i,   i = 1 .. N workers

    It is the same object, ready for `compile` and for loops of one's own. With gradient accumulation, one exchange
    serves the whole window. `keras.optimizers.LossScaleOptimizer` may be around it, and `compile` may put it there.
    What is made from its configuration is an ordinary optimizer, that of a loaded model too: make it distributed again.

    Args:
        optimizer: a `keras.optimizers.Optimizer`, whose step was not traced yet; of a model that was fitted before,
            `callbacks.BroadcastVariables` has it traced again.
        compression: None, `Compression.none`, `Compression.fp16`, or a `TernGrad`.
        op: "average" or "sum", or Horovod's Average or Sum.
        exclude: patterns, as a shell's, of the paths of variables whose gradients stay floats: `["*/bias"]`.
        process_set: a `horovod.tensorflow.ProcessSet`; None: the compression's, or all workers.
        bucket_bytes: the most that is exchanged at once, before compression. A bucket of floats travels while gradients
            of earlier layers are being computed, one of digits while others are encoded; fewer buckets cost fewer
            exchanges.

    Returns:
        The optimizer.

    Raises:
        TypeError: no Keras 3 optimizer, or another kind of compression.
        ValueError: it is distributed already; or op, bucket_bytes out of range.
        ModuleNotFoundError, RuntimeError: Horovod is not installed, or not initialized.
        ValueError: in the first step, on all workers: gradients that are not alike on all of them.

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
    settings = Settings(compression, op, exclude, process_set, bucket_bytes)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "Expected an instance of a Keras 3 optimizer, such as keras.optimizers.SGD(). (For those of tf_keras there "
            f"is Horovod's own DistributedOptimizer, with compression=TernGrad().) Received: {optimizer!r}"
        )
    if is_distributed(optimizer):
        raise ValueError(f"The optimizer {optimizer.name!r} is distributed already.")
    Exchange(loss_scale.inner(optimizer), Averager(settings))
    loss_scale.install()
    return optimizer


def is_distributed(optimizer) -> bool:
    """Whether an optimizer averages its gradients over the workers."""
    return loss_scale.exchange_of(loss_scale.inner(optimizer)) is not None


def is_new(optimizer) -> bool:
    """Whether an optimizer was made distributed, and has averaged no gradients, nor was traced doing so, since then."""
    exchange = loss_scale.exchange_of(loss_scale.inner(optimizer))
    return exchange is not None and not exchange.used


class Exchange:
    """What makes an optimizer distributed; its attribute `_exchange`."""

    def __init__(self, optimizer, averager):
        self._optimizer = optimizer
        self._averager = averager
        self._variables = []
        self._done = False
        self.used = False
        self.everywhere = averager.everywhere
        optimizer._exchange = self
        if type(optimizer).apply is keras.optimizers.Optimizer.apply:
            self._clip = optimizer._clip_gradients
            optimizer._overwrite_variables_directly_with_gradients = self._note_variables
            optimizer._clip_gradients = self._average_and_clip
        else:
            self._apply = optimizer.apply
            optimizer.apply = self._average_and_apply

    @property
    def accumulates(self) -> bool:
        """Whether the optimizer takes several steps' gradients together."""
        return bool(self._optimizer.gradient_accumulation_steps)

    def average(self, gradients, variables) -> list:
        """The averages of gradients over the workers."""
        _refuse_overwritten(variables)
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

    def _note_variables(self, gradients, variables):
        _refuse_overwritten(variables)
        self._variables = list(variables)
        return gradients, variables

    def _average_and_clip(self, gradients):
        return self._clip(gradients if self._done else self.average(gradients, self._variables))

    def _average_and_apply(self, gradients, trainable_variables=None):
        variables = trainable_variables or keras_internals.trainable_variables(self._optimizer)
        return self._apply(gradients if self._done else self.average(gradients, variables), trainable_variables)


def _refuse_overwritten(variables):
    for variable in variables:
        if getattr(variable, "overwrite_with_gradient", False):
            raise ValueError(
                f"What stands for the gradient of {variable.path} is its next value (as in float8 training), which has "
                "no average over workers. Expected another dtype policy."
            )
