"""Watch how many structures live while a model trains; take out what is dead; zero small weights after each update."""

import collections
import os

import keras
import numpy as np
import tensorflow as tf

from tf_terngrad import checks
from tf_terngrad.sparsity.learn import hooks
from tf_terngrad.sparsity.learn.shared_penalty import SharedPenalty
from tf_terngrad.sparsity.learn.structured_regularizer import StructuredRegularizer, SumRegularizer
from tf_terngrad.sparsity.remove.fates import known_fates
from tf_terngrad.sparsity.report import pictures
from tf_terngrad.sparsity.shrink.callback import Reconfigure
from tf_terngrad.sparsity.structure import noun
from tf_terngrad.sparsity.structures import structures

__all__ = ["Reconfigure", "SparsityMonitor", "ZeroSmallWeights"]


class SparsityMonitor(keras.callbacks.Callback):
    """Shows how many members of the model's structures live: in the progress bar, the history and TensorBoard.

    Use it when you want to see, while a model trains, how much smaller it is going to be.

    A member lives unless its norm over all its slices that train is at most a tolerance: a feature of a frozen base
    leaves once the head does not read it. The logs of each epoch get one entry for each kind, such as `filters: 37` and
    `hidden units: 210`; `live` has the counts of each structure. Structures that frozen layers keep in the model count
    with all their weights; `fixed` has the reason for each of these.

    Args:
        tolerance: norms of at most this count as dead.
        log_dir: a folder for TensorBoard: one scalar for each structure (`live/...`) and a picture of each kernel
            (white is zero); None: nothing is written.
        every: count and write every so many epochs; the logs repeat the last counts in between.

    Raises:
        TypeError: for a tolerance that is no number, or `every` that is no integer.
        ValueError: for a negative or NaN tolerance, or `every` below one; at the start of training, for a model that
            cannot be followed.

    Example:

    ```python
    history = model.fit(x, y, epochs=10, callbacks=[tt.callbacks.SparsityMonitor()])
    history.history["filters"]
    ```
    """

    def __init__(self, tolerance=0.0, log_dir=None, every=1):
        super().__init__()
        self.tolerance = checks.number(tolerance, "tolerance", "SparsityMonitor")
        self.log_dir = log_dir
        self.every = checks.integer(every, "every", "SparsityMonitor", least=1)
        self.live = {}
        self.fixed = {}
        self._totals = {}
        self._structures = []
        self._fates = None
        self._writer = None

    def on_train_begin(self, logs=None):
        """Finds the model's structures."""
        self._find()
        if self.log_dir is not None:
            self._writer = tf.summary.create_file_writer(os.fspath(self.log_dir))

    def on_epoch_end(self, epoch, logs=None):
        """Counts the living members and adds them to the logs."""
        if known_fates(self.model) is not self._fates:  # layers and variables are new ones since `tt.reconfigure`
            self._find()
        if (epoch + 1) % self.every == 0 or not self.live:
            self._count()
            if self._writer is not None:
                self._write(epoch)
        if logs is not None:
            logs.update(self._totals)

    def on_train_end(self, logs=None):
        """Closes the TensorBoard file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _find(self):
        self._structures = structures(self.model)
        self._fates = known_fates(self.model)

    def _count(self):
        live, totals = collections.Counter(), collections.Counter()
        self.fixed = {structure.name: structure.fixed for structure in self._structures if structure.fixed}
        for structure in self._structures:
            norms = structure.norms(trainable=structure.name not in self.fixed)
            count = int((~(norms <= self.tolerance)).sum())  # NaN lives
            live[structure.name] += count
            totals[noun(structure.kind, 2)] += count
        self.live = dict(live)
        self._totals = {name: _Count(total) for name, total in totals.items()}

    def _write(self, epoch):
        kernels = {id(p.variable): p for s in self._structures for p in s.penalized if p.role == "kernel"}
        with self._writer.as_default(step=epoch):
            for name, count in self.live.items():
                tf.summary.scalar(f"live/{name}", count)
            for piece in kernels.values():
                kernel = keras.ops.convert_to_numpy(piece.variable.value)
                if np.isfinite(kernel).all():
                    tf.summary.image(f"weights/{piece.variable.path}", pictures.weight_picture(kernel, size=256)[None])
        self._writer.flush()


class _Count(float):
    """A float that the progress bar shows as a whole number; it would divide by one and show four decimals."""

    def __truediv__(self, divisor):
        return _Count(float(self) / divisor)

    def __format__(self, specification):
        return f"{float(self):.12g}"


class ZeroSmallWeights(keras.callbacks.Callback):
    """After each update, weights with |w| < threshold become exactly zero.

    Use it when layers have `tt.regularizers` or `tt.layers` wrappers: their penalty alone only comes near zero.

    The paper's companion of the group lasso's subgradient. It acts on every weight that has a structured regularizer:
    one of this package, one of your own on `tt.regularizers.StructuredRegularizer`, or a wrapper's.
    `tt.sparsify(method="subgradient")` does the same by itself, and what `tt.sparsify` made zero is held by itself.

    Args:
        threshold: the magnitude under which a weight is zeroed.
        hold: keep the weights that are zero when training begins at zero, to fine-tune what is left; nothing else is
            zeroed then, whatever the threshold.

    Raises:
        TypeError: for a threshold that is no number, or `hold` that is neither True nor False.
        ValueError: for a negative or NaN threshold; at the start of training, if no weight is watched.

    Source: structured sparsity learning (Wen et al., NIPS 2016).

    Example:

    ```python
    hidden = keras.layers.Dense(20, activation="relu", kernel_regularizer=tt.regularizers.FilterLasso(1e-3))
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), hidden, keras.layers.Dense(3, activation="softmax")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, y, callbacks=[tt.callbacks.ZeroSmallWeights(1e-4)])
    ```
    """

    def __init__(self, threshold=1e-4, hold=False):
        super().__init__()
        self.threshold = checks.number(threshold, "threshold", "ZeroSmallWeights")
        self.hold = checks.flag(hold, "hold", "ZeroSmallWeights")
        self._watched = []

    def on_train_begin(self, logs=None):
        """Puts a constraint on every watched weight, which the optimizer applies after each update."""
        watched = [v for v in self.model.trainable_variables if self._watches(v)]
        self._watched = [(v, keras.ops.convert_to_numpy(v.value) != 0 if self.hold else None) for v in watched]
        if not self._watched:
            raise ValueError(
                f"ZeroSmallWeights: no weight of model {self.model.name!r} has a structured regularizer. Give layers a "
                "kernel_regularizer=tt.regularizers...., or use tt.sparsify(method='subgradient')."
            )
        self._constrain()
        hooks.retrace(self.model)

    def move(self, model, moves):
        """Goes on with what stays of the weights, when the model has become smaller; what is held stays so."""
        stay = [(moves.new(variable), variable, mask) for variable, mask in self._watched]
        self._watched = [
            (new, None if mask is None else moves.array(old, mask)) for new, old, mask in stay if new is not None
        ]
        self._constrain()

    def _constrain(self):
        for variable, mask in self._watched:
            before = hooks.without(variable.constraint, self)  # there if a training was interrupted
            variable.constraint = hooks.Threshold(self, before) if mask is None else _Hold(self, before, mask)

    def on_train_end(self, logs=None):
        """Takes the constraints off again. Averages that were written over the weights are constrained as they were."""
        for variable, _ in self._watched:
            variable.assign(variable.constraint(variable))
            variable.constraint = hooks.without(variable.constraint, self)
        hooks.retrace(self.model)

    def _watches(self, variable):
        """Whether it acts on a variable; what `tt.sparsify` is on is held too."""
        return _is_watched(variable.regularizer) or (self.hold and bool(hooks.owners([variable])))


class _Hold(hooks.Hook, keras.constraints.Constraint):
    """A constraint: what is zero in a mask is zero."""

    def __init__(self, owner, before, mask):
        super().__init__(owner, before)
        self.mask = mask

    def __call__(self, value):
        value = hooks.constrained(value, self.before)
        return keras.ops.where(self.mask, value, keras.ops.zeros_like(value))


def _is_watched(regularizer):
    """Whether a regularizer makes groups of weights small; of a sum, whether one of its parts does."""
    if isinstance(regularizer, SumRegularizer):
        return any(map(_is_watched, regularizer.regularizers))
    return isinstance(regularizer, (StructuredRegularizer, SharedPenalty, hooks.Penalty))
