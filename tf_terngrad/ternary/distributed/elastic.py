"""Training goes on while workers die, leave and come: what Horovod's elastic jobs need of Keras 3."""

import copy
import functools

import numpy as np
import tensorflow as tf

from tf_terngrad.checks import refusal
from tf_terngrad.keras_internals import optimizers_of, seed_states
from tf_terngrad.ternary import horovod
from tf_terngrad.ternary.distributed import presence, seeds, start
from tf_terngrad.ternary.distributed.variables import broadcast_variables

__all__ = ["KerasState", "run"]


def run(function):
    """Have a function train on whatever workers there are; it is called again when they have become others.

    Use it in the place of `hvd.elastic.run`: that one takes most errors of exchanges that have names for the end of the
    function, and training ends early, in silence.

    Before each call all workers get the state of one. After a worker has died, the state is first put back where it was
    committed last; after workers were added, or asked to leave, nothing is lost.

    Args:
        function: of a `KerasState`, and further arguments. It exchanges something only within itself, and builds there
            what depends on the number of workers, as a dataset or a callback.

    Returns:
        A function of the same arguments.

    Raises:
        ModuleNotFoundError: Horovod is not installed.

    Example: see `KerasState`.
    """

    @functools.wraps(function)
    def going_on(state, *args, **kwargs):
        with horovod.lost_workers(presence.AnotherFailed):
            return function(state, *args, **kwargs)

    again = horovod.elastic_run(going_on)

    @functools.wraps(function)
    def run_elastic(state, *args, **kwargs):
        state.runs = True
        try:
            return again(state, *args, **kwargs)
        finally:
            state.runs = False

    return run_elastic


class KerasState:
    """The state of a training that workers may leave and join: model, optimizers, random numbers, epoch and batch.

    Use it with `run` and `horovodrun --min-np 2 --host-discovery-script discover.sh python train.py`.

    Its attributes `epoch` and `batch`, and those that you name, are kept too: set them, and begin your loop at them. In
    `fit`, `callbacks.CommitState` does so.

    What is kept: the model's variables, its optimizers' (moments, iterations, learning rates), how far the random bits
    of their exchanges are, what the callbacks of `fit` remember, and on each worker the states of its random numbers. A
    worker that comes has random numbers of its own.

    Args:
        model: that is built.
        optimizer: that moves the model, one or a list; None: all that are attributes of the model.
        also: further variables that go on: those of what `tt.sparsify` returned, or of the `exchange_state` of a tape.
        more: further attributes, objects that pickle: all workers get the first one's.

    Raises:
        ModuleNotFoundError, RuntimeError: Horovod is not installed, or not initialized.
        ValueError: the model is not built, or one of several optimizers is not.

    Example:

    ```python
    hvd.init()
    optimizer = tt.distributed.DistributedOptimizer(keras.optimizers.Adam(), compression=tt.TernGrad())
    model.compile(optimizer, "sparse_categorical_crossentropy")

    @tt.distributed.elastic.run
    def train(state):
        mine = slice(hvd.rank(), None, hvd.size())
        commit = tt.distributed.callbacks.CommitState(state, every=100)
        model.fit(x[mine], y[mine], epochs=90, callbacks=[commit])

    train(tt.distributed.elastic.KerasState(model))
    ```

    or in a loop of your own:

    ```python
    @tt.distributed.elastic.run
    def train(state):
        while state.batch < 10000:
            train_step(batch_of(state.batch, hvd.rank(), hvd.size()))
            state.batch += 1
            if state.batch % 100 == 0:
                state.commit()
    ```
    """

    def __init__(self, model, optimizer=None, also=(), **more):
        self.network = horovod.HorovodTransport().ready()
        self.model, self.also = model, list(also)
        self.optimizers = optimizers_of(model, optimizer)
        self._build()
        self._hosts = horovod.changing_hosts()
        self._reset_callbacks = []
        self.runs = False
        self.of_callbacks = {}
        self.first_of_callbacks = {}
        more = {"epoch": 0, "batch": 0, "steps": None, "epochs": None, "stopped": False} | more
        for name, value in more.items():
            setattr(self, name, value)
        self._names = [*more, "of_callbacks"]
        self.save()

    # What training calls.

    def commit(self) -> None:
        """Keep the state as it is now, and let workers come that wait; all workers call it together.

        Raises:
            HostsUpdatedInterrupt: on all workers: workers come or leave; `run` calls the function again.
        """
        self.save()
        self.check_host_updates()

    def save(self) -> None:
        """Keep the state as it is now, in the memory of this process."""
        self._values = [(variable, _value(variable)) for variable in [*self._shared(), *seed_states(self.model)]]
        self._attributes = {name: copy.deepcopy(getattr(self, name)) for name in self._names}

    def restore(self) -> None:
        """Put the state back where it was kept last."""
        for variable, value in self._values:
            variable.assign(value)
        for name, value in self._attributes.items():
            setattr(self, name, copy.deepcopy(value))

    def register_reset_callbacks(self, callbacks) -> None:
        """Have functions called, without arguments, when the workers have become others, before `sync`.

        Args:
            callbacks: list of functions, such as one that sets the learning rate for as many workers as there are now.
        """
        self._reset_callbacks.extend(callbacks)

    # What `run` calls.

    def sync(self) -> None:
        """Give all workers the first one's state; random numbers stay each worker's own.

        Raises:
            RuntimeError: it is not `run` that calls, but `hvd.elastic.run`, which may end training in silence.
        """
        if not self.runs:
            raise RuntimeError(
                "KerasState: expected @tt.distributed.elastic.run around the function that trains. Horovod's own "
                "hvd.elastic.run would end it in silence when a worker dies."
            )
        with horovod.lost_workers():
            start.build_alike(self.optimizers, self.model, 0, self.network)
            broadcast_variables(self._shared(), 0, self.network)
            seeds.keep_apart(self.model, self.network)
            mine = {name: getattr(self, name) for name in self._names} if int(self.network.rank()) == 0 else None
            for name, value in self.network.everyones(mine, "tf_terngrad.elastic")[0].items():
                setattr(self, name, value)
        self.save()

    def check_host_updates(self) -> None:
        """Raise on all workers if some shall come or leave."""
        with horovod.lost_workers():
            self._hosts.check_host_updates()

    def on_hosts_updated(self, timestamp, update_res) -> None:
        """Note what the launcher tells."""
        self._hosts.on_hosts_updated(timestamp, update_res)

    def on_reset(self) -> None:
        """Call the functions that `register_reset_callbacks` was given."""
        self._hosts.on_reset()
        for callback in self._reset_callbacks:
            callback()

    def _shared(self):
        return [*start.shared_of(self.model, self.optimizers), *self.also]

    def _build(self):
        if not self.model.built:
            expected = "a model that is built, with an Input, or by a call on a batch"
            raise ValueError(refusal("KerasState", "model", expected, self.model))
        if len(self.optimizers) == 1 and not self.optimizers[0].built:
            self.optimizers[0].build(self.model.trainable_variables)
        for optimizer in self.optimizers:
            if not optimizer.built:
                expected = "optimizers that are built, as by optimizer.build(variables), where there are several"
                raise ValueError(refusal("KerasState", "optimizer", expected, optimizer))


def _value(variable):
    """A copy: NumPy's view of a tensor may be its memory, which the variable's next assignment writes to."""
    return np.array(tf.convert_to_tensor(variable))
