"""A training that goes on after its workers were killed."""

import contextlib
import logging
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_terngrad.checks import integer
from tf_terngrad.keras_internals import build_metrics, optimizers_of, seed_states
from tf_terngrad.ternary.distributed import metric_states, saved, seeds, start
from tf_terngrad.ternary.distributed.averager import name_of
from tf_terngrad.ternary.distributed.callbacks.resuming import Resuming
from tf_terngrad.ternary.distributed.variables import broadcast_variables
from tf_terngrad.ternary.transport import transport_of

FILE = "training.npz"
LOG = logging.getLogger("tf_terngrad")


class Checkpoint(Resuming):
    """Saves the whole training every so many steps, and has the same program go on from there when it starts again.

    Use it when a training on several workers is long enough that one of them may be killed.

    Give it to all workers. The first one writes `training.npz` into its folder, and only that worker reads it: the
    others need no such folder. As `fit` starts again, all workers get what it holds, and go on at its epoch, behind the
    batches of that epoch which were done. Those are read from the data and left out.

    What is in it: the model's variables, its optimizers' (moments, iterations, learning rates), how far the random bits
    of their exchanges are, and for each worker the states of its random numbers and what its metrics have counted. With
    as many workers, and data that come in the same order again (`shuffle=False`, or an order that depends on the
    epoch), the trainable weights are bit for bit those of a training that nobody has killed. BatchNorm statistics are
    the first worker's for all. What other callbacks keep in themselves, as `EarlyStopping` the best loss, and the
    history of epochs before, are not in it. The file does not fit what `tt.callbacks.Reconfigure` makes of the model.

    With another number of workers, each goes on in the same part of the epoch, new ones with random numbers of their
    own; what Keras' metrics have counted is shared out.

    The file is replaced as a whole: a kill in the middle leaves the one before. So do a full disk, and weights that are
    not finite any more: a warning says so, and the training goes on. It is not removed at the end: who runs the program
    once more trains the epochs that are missing, if any. To start anew, give another folder; a second `fit` of a
    program needs one of its own.

    Args:
        folder: of this training alone; it is made where there is none.
        every: batches from one saving to the next; None: only at each epoch's end.
        optimizers: those that move the model, one or a list; None: all that are attributes of the model.
        also: further variables that go on: those of what `tt.sparsify` returned, or of the `exchange_state` of a tape.
        process_set: a `horovod.tensorflow.ProcessSet`, or a `Transport`; None: all of Horovod's workers.

    Raises:
        TypeError, ValueError: `every` is no positive integer.
        ValueError: as training begins, on all workers: the file is damaged, or belongs to another model.
        OSError: as training begins, on all workers: the first cannot make the folder.

    Example:

    ```python
    model.fit(x, y, epochs=90, callbacks=[
        tt.distributed.callbacks.BroadcastVariables(),
        tt.distributed.callbacks.Checkpoint("runs/one", every=500),
    ])
    ```
    """

    def __init__(self, folder, every=None, optimizers=None, also=(), process_set=None):
        super().__init__(None if every is None else integer(every, "every", "Checkpoint", 1))
        self.path = Path(folder) / FILE
        self.optimizers = optimizers
        self.also = list(also)
        self.process_set = process_set
        self._found = self._counted = None

    def on_train_begin(self, logs=None):
        """Goes on from the file, if there is one."""
        network = transport_of(self.process_set).ready()
        content = error = self._found = None
        if _leads(network):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                content = saved.read(self.path)
            except (OSError, ValueError) as reason:
                error = reason
        small = content and content.without_values()
        self._found, error = network.everyones((small, error), "tf_terngrad.checkpoint.found")[0]
        if error is not None:
            raise error
        if self._found is not None:
            self._restore(content, network)

    def on_epoch_begin(self, epoch, logs=None):
        """Has the batches left out that were done, in the epoch that goes on."""
        super().on_epoch_begin(epoch, logs)
        found, self._found = self._found, None
        if self._left_out:
            self._counted = found.counted

    def on_train_batch_end(self, batch, logs=None):
        """Saves, when it is time; an epoch's last batch is saved with the epoch."""
        if self._is_time(batch):
            self._save(self._epoch, self._done)

    def on_epoch_end(self, epoch, logs=None):
        """Saves."""
        self._save(epoch + 1, 0)

    def _variables(self):
        """What all workers share, in the order of the file."""
        return [*start.shared_of(self.model, self._optimizers()), *self.also]

    def _optimizers(self):
        return optimizers_of(self.model, self.optimizers)

    def _restore(self, content, network):
        """Takes over what was found; the content is the first worker's, which hands it out."""
        problem = self._difference_of_size()
        if problem is None:
            start.build(self._optimizers(), self.model, self._found.built)
        variables, states = self._variables(), seed_states(self.model)
        if _leads(network) and problem is None:
            problem = saved.difference(content, [name_of(each) for each in variables], _arrays(variables))
            if problem is None and len(content.own[0]) != len(states):
                problem = f"{len(states)} generators of random numbers. Received: {len(content.own[0])}"
        problem = network.everyones(problem, "tf_terngrad.checkpoint.problem")[0]
        if problem is not None:
            raise ValueError(
                f"{self.path} belongs to another model. Expected, for {self.model.name!r}: {problem}. Give another "
                "folder to start anew."
            )
        if _leads(network):
            _assign(variables, content.values)
        broadcast_variables(variables, network.ranks()[0], self.process_set)
        rank, known = int(network.rank()), self._found.own
        own = known[rank] if rank < len(known) else [seeds.stream(state, rank) for state in known[0]]
        _assign(states, own)
        self._go_on_at(self._found.epoch, self._found.step, self._found.steps)
        if _leads(network):
            self._say_where()

    def _difference_of_size(self):
        """What tells at once that the file is another model's, on all workers; None: nothing does."""
        optimizers, places = len(self._optimizers()), len(self.model.variables)
        if not places:
            return "a model that is built, with an Input, or by a call on a batch. Received: one without variables"
        if optimizers != len(self._found.built):
            return f"{optimizers} optimizers. Received: {len(self._found.built)}"
        if any(place >= places for built in self._found.built for place in built or ()):
            return f"{places} variables. Received: more"
        return None

    def _say_where(self):
        epoch, epochs = self._found.epoch, self.params.get("epochs")
        LOG.info("Goes on at epoch %s, step %s, from %s", epoch, self._found.step, self.path)
        if epochs is not None and epoch >= epochs:
            LOG.warning(
                "Checkpoint: nothing is left to train: %s has %s epochs, and fit was given epochs=%s. Give more epochs "
                "to go on, or another folder to start anew.",
                *(self.path, epoch, epochs),
            )

    def _begin_to_leave_out(self, batch):
        if self._counted is not None:
            self._count_on(batch)

    def _count_on(self, batch):
        """Has the metrics go on with what they have counted in this epoch; as they must be built for, with a batch."""
        network, counted, self._counted = transport_of(self.process_set).ready(), self._counted, None
        if type(self.model).train_step is keras.Model.train_step:
            build_metrics(self.model, batch)
        mine = counted[int(network.rank()) :: len(network.ranks())]
        variables = self.model.metrics_variables
        if len(counted) == len(network.ranks()) or len(variables) == len(metric_states.variables(self.model)):
            _assign(variables, [sum(arrays[1:], arrays[0]) for arrays in zip(*mine, strict=True)])
        with contextlib.suppress(ValueError):  # of a train_step of one's own, metrics may not be built yet
            self._logs = self.model.get_metrics_result()

    def _save(self, epoch, step):
        network = transport_of(self.process_set).ready()
        own = _arrays(seed_states(self.model)), _arrays(self.model.metrics_variables) if step else []
        everyones = network.everyones(own, "tf_terngrad.checkpoint")
        if not _leads(network):
            return
        states, counted = ([each[part] for each in everyones] for part in (0, 1))
        built = start.built_for(self._optimizers(), self.model)
        if (lost := _not_finite(self.model)) is not None:
            LOG.warning("Checkpoint: epoch %s, step %s is not saved, for %s is not finite.", epoch, step, lost)
            return
        values = _arrays(self._variables())
        content = saved.Saved(epoch, step, self.params.get("steps"), built, values, states, counted)
        try:
            saved.write(content, self.path)
        except OSError as error:
            LOG.warning(
                "Checkpoint: epoch %s, step %s is not saved, and training goes on; after a kill it would begin at the "
                "last one that was. %s",
                *(epoch, step, error),
            )


def _leads(network):
    """Whether this worker reads and writes."""
    return int(network.rank()) == 0


def _not_finite(model):
    """The name of a weight that nothing can be trained from any more; None: there is none."""
    weights = zip(model.trainable_variables, _arrays(model.trainable_variables), strict=True)
    return next((name_of(weight) for weight, values in weights if not np.isfinite(values).all()), None)


def _arrays(variables):
    return [np.asarray(tf.convert_to_tensor(variable)) for variable in variables]


def _assign(variables, arrays):
    """Set variables, if there are as many of the same shapes; metrics may be others in the program of now."""
    if [tuple(each.shape) for each in variables] == [np.shape(array) for array in arrays]:
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
