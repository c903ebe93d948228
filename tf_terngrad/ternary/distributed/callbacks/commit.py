"""`fit` in an elastic job."""

from tf_terngrad.checks import integer, refusal
from tf_terngrad.ternary.distributed import callback_states, elastic, lockstep
from tf_terngrad.ternary.distributed.callbacks.resuming import Resuming


class CommitState(Resuming):
    """Commits an elastic training every so many batches and at each epoch's end, and has `fit` go on where it was.

    Use it when `fit` trains within `tt.distributed.elastic.run`. It does what Horovod's CommitStateCallback,
    UpdateBatchStateCallback and UpdateEpochStateCallback do together; whatever place it has among the callbacks.

    When workers die, what was trained since the last commit is trained again by those that are left. `fit` begins at
    the state's epoch; the batches of it that were committed are read from the data and left out. If the epoch has
    another number of batches now, as many workers share the data, it goes on in the same part of it. Metrics count from
    there. Give `fit` the number of all epochs, `epochs=90`, not of those that are left.

    What other callbacks remember goes on as well, on workers that come too: the attributes that training changes and
    that are numbers, texts, arrays, or lists and dicts of those, as Keras' EarlyStopping, ReduceLROnPlateau,
    ModelCheckpoint and History have.

    Args:
        state: the `tt.distributed.elastic.KerasState` of the model.
        every: batches from one commit to the next; None: only at each epoch's end. A commit copies the state within
            the memory, and exchanges some bytes.

    Raises:
        TypeError, ValueError: `every` is no positive integer, or `state` no `KerasState`.
        ValueError: as training begins: `fit` is given the epochs that are left; or it trains another model.

    Example:

    ```python
    @tt.distributed.elastic.run
    def train(state):
        model.fit(data_of(hvd.rank(), hvd.size()), epochs=90,
                  callbacks=[tt.distributed.callbacks.CommitState(state, every=100)])
    ```
    """

    def __init__(self, state, every=None):
        if not isinstance(state, elastic.KerasState):
            raise TypeError(refusal("CommitState", "state", "a tt.distributed.elastic.KerasState", state))
        lockstep.install()
        super().__init__(None if every is None else integer(every, "every", "CommitState", 1))
        self.state = state
        self._others = []

    def before_training(self, callbacks):
        """Takes the last place: it puts back what others set as training begins; `lockstep` calls it."""
        callbacks.remove(self)
        callbacks.append(self)
        self._others = callbacks[:-1]

    def on_train_begin(self, logs=None):
        """Has `fit` go on at the state's epoch and batch, and callbacks with what they remembered."""
        state, epochs = self.state, self.params.get("epochs")
        if state.model is not self.model:
            raise ValueError(refusal("CommitState", "state", f"one of the model {self.model.name!r}", state.model))
        self._refuse_what_is_left(epochs)
        state.first_of_callbacks = callback_states.remembered(self._others) | state.first_of_callbacks
        callback_states.remind(self._others, state.of_callbacks)
        self._go_on_at(epochs if state.stopped else state.epoch, state.batch, state.steps)

    def on_train_batch_end(self, batch, logs=None):
        """Commits, when it is time."""
        if self._is_time(batch):
            self._commit(self._epoch, self._done)

    def on_epoch_end(self, epoch, logs=None):
        """Commits; a stop of any worker counts, for none of them would hear of it if others came now."""
        stops = self.state.network.everyones(bool(self.model.stop_training), "tf_terngrad.stops")
        self.state.stopped = any(stops)
        self._commit(epoch + 1, 0)

    def on_train_end(self, logs=None):
        """Forgets that this `fit` was stopped."""
        super().on_train_end(logs)
        self.state.stopped = False

    def _refuse_what_is_left(self, epochs):
        """As Horovod's callbacks want it: `epochs=90 - state.epoch`, of which too few would be left here."""
        known, self.state.epochs = self.state.epochs, epochs
        if known and self.state.epoch and epochs == known - self.state.epoch:
            raise ValueError(
                f"CommitState: expected fit to be given all epochs, epochs={known}: it begins at epoch "
                f"{self.state.epoch} by itself. Received: epochs={epochs}, those that are left."
            )

    def _commit(self, epoch, batch):
        state = self.state
        state.epoch, state.batch, state.steps = epoch, batch, self.params.get("steps")
        now = callback_states.changed(state.first_of_callbacks, callback_states.remembered(self._others))
        state.of_callbacks |= {
            which: state.of_callbacks.get(which, {}) | attributes for which, attributes in now.items()
        }
        state.commit()
