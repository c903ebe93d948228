"""The callback that has `fit` go on with a smaller model."""

import keras

from tf_terngrad import checks
from tf_terngrad.keras_internals import optimizers_of
from tf_terngrad.sparsity import in_vain
from tf_terngrad.sparsity.graph.replay import awaits_data
from tf_terngrad.sparsity.learn.after_fit import callbacks_of
from tf_terngrad.sparsity.shrink import interrupted, stored_weights
from tf_terngrad.sparsity.shrink.own_call import AnotherCall, rehearse, stays_its_class
from tf_terngrad.sparsity.shrink.reconfigure import reconfigure
from tf_terngrad.sparsity.shrink.refusals import check


class Reconfigure(keras.callbacks.Callback):
    """Takes dead structures out of the model while `fit` goes on: later epochs are those of a smaller network.

    Use it when `tt.sparsify` makes structures zero early in a training, and the rest of it should take less time.

    It acts between two epochs, before the first batch of the second one, by `tt.reconfigure`, which tells what leaves
    and what goes on. Your `model` is the same object all the time, and so are its optimizer, its history and what
    `tt.sparsify` returned; layers and variables are new ones, so take them from the model, as
    `model.get_layer("conv1")`, and do not keep them. Each time costs a retracing, some seconds for a deep network.
    After `fit`, `tt.compact(model)` takes out what has died since, and what is idle without being zero.

    Weights that `keras.callbacks.EarlyStopping(restore_best_weights=True)` has stored shrink too. Where some of them
    lived that have left now, the best epoch is sought anew, among those of the smaller model, and the log says so.

    `keras.callbacks.BackupAndRestore`, in one process, resumes as always: what has left is written into its folder, and
    a new process that builds the whole model again takes it out before the weights are loaded.

    Args:
        every: so many epochs.
        at: after these epochs, a list of how many are over: `at=[5, 10, 30]`.

    Attributes:
        gone: a list of dictionaries: `"epoch"`, how many were over, and `"members"`, what `tt.reconfigure` returned.

    Raises:
        TypeError: for numbers that are no integers.
        ValueError: for neither of `every` and `at`, or numbers below one; at the start of training, for a model or an
            optimizer that `tt.reconfigure` refuses (after the first epoch, if the model was not built before).

    Source: PruneTrain (Lym et al., 2019).

    Example:

    ```python
    sparsity = tt.sparsify(model, strength=1e-2)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=3, callbacks=[tt.callbacks.Reconfigure(every=1)])
    model.save("smaller.keras")
    ```
    """

    def __init__(self, every=None, at=()):
        super().__init__()
        if isinstance(at, (int, str)):
            raise TypeError(checks.refusal("Reconfigure", "at", "a list of integers", at, f"Write at=[{at!r}]"))
        if every is None and not len(at):
            raise ValueError(f"Reconfigure: expected `every` or `at`. Received: every={every!r}, at={at!r}")
        self.every = None if every is None else checks.integer(every, "every", "Reconfigure", least=1)
        self.at = [checks.integer(epoch, "at", "Reconfigure", least=1) for epoch in at]
        self.gone = []
        self._is_checked = False

    def set_model(self, model):
        """Brings a model to where an interrupted training was, before other callbacks load its weights."""
        super().set_model(model)
        backups = [each for each in callbacks_of(model) if isinstance(each, keras.callbacks.BackupAndRestore)]
        for backup in backups:
            self.gone = interrupted.resume(model, backup.backup_dir) or self.gone

    def on_train_begin(self, logs=None):
        """Refuses what cannot shrink; of a model that the first batch builds, that is said after the first epoch."""
        self._is_checked = not awaits_data(self.model)
        if self._is_checked:
            _check(self.model)

    def on_epoch_end(self, epoch, logs=None):
        """Refuses what cannot shrink, if it was not known before."""
        if not self._is_checked:
            self._is_checked = True
            _check(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        """Takes out what is dead, when it is time: all callbacks have seen the epoch before, and have saved it."""
        if not (epoch in self.at or (self.every and epoch and epoch % self.every == 0)):
            return
        before = self.model.weights
        try:
            members = reconfigure(self.model)
        except AnotherCall as reason:  # of these members, not of those of the rehearsal
            in_vain.say(f"Nothing left: {reason}")
            return
        if not members:
            return
        self.gone.append({"epoch": epoch, "members": members})
        for callback in callbacks_of(self.model):
            stored_weights.move(callback, self.model, before)
            if isinstance(callback, keras.callbacks.BackupAndRestore):
                interrupted.note(self.gone, callback.backup_dir)


def _check(model):
    check(model, optimizers_of(model))
    if stays_its_class(model):
        rehearse(model)
