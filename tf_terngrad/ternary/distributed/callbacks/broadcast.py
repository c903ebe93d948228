"""One model on all workers before the first batch."""

import keras

from tf_terngrad.checks import integer, one_of, refusal
from tf_terngrad.keras_internals import optimizers_of, seed_states
from tf_terngrad.ternary.distributed import agreement, lockstep, seeds, start
from tf_terngrad.ternary.distributed.optimizer import is_distributed, is_new
from tf_terngrad.ternary.distributed.variables import broadcast_variables
from tf_terngrad.ternary.transport import transport_of

EPOCH = "Give every worker the same initial_epoch; tt.distributed.callbacks.Checkpoint has all of them go on alike."


class BroadcastVariables(keras.callbacks.Callback):
    """Before the first batch, all workers get the state of one: what was loaded, or drawn at random, is one model then.

    Use it when `fit` trains on several workers: always.

    That is all of the model's variables (weights, BatchNorm statistics), all of its optimizers' (moments, iterations,
    learning rates), and how far the random bits of their exchanges are. What the first batch builds, as in a model
    without an Input, is handed out behind it.

    Generators of random numbers (of dropout, of layers that augment images) keep a stream for each worker: with one
    for all, the workers' batches would get the same masks. Where workers have the same seed, as after
    `keras.utils.set_random_seed(0)` on all of them, the first keeps it, and the others' follow from it and their rank.
    Random numbers of `tf.random`, NumPy and `tf.data` are yours: `keras.utils.set_random_seed(hvd.rank())`.

    What would let the workers train apart, or wait for one another for ever, is refused on all of them before the first
    step.

    Args:
        root_rank: whose state.
        process_set: a `horovod.tensorflow.ProcessSet`, or a `Transport`; None: all of Horovod's workers.
        optimizers: those that move the model, one or a list; None: all that are attributes of the model.
        same_seeds: have all workers draw the same random numbers, those of one.

    Raises:
        TypeError: at the start of training: `optimizers` holds something else.
        ValueError: at the start of training: the model's optimizer does not average gradients, nor does the model have
            a train_step of its own that could; the models, the settings of optimizers (other than a learning rate that
            is a number), the callbacks that exchange something, the first epoch, or the numbers of epochs, or of
            batches in an epoch where `fit` knows how many, are not alike on all workers; or there is a
            `keras.callbacks.BackupAndRestore`, for which there is `Checkpoint`.

    Example:

    ```python
    model.fit(x, y, callbacks=[tt.distributed.callbacks.BroadcastVariables()])
    ```
    """

    def __init__(self, root_rank=0, process_set=None, optimizers=None, same_seeds=False):
        super().__init__()
        lockstep.install()
        self.root_rank = integer(root_rank, "root_rank", "BroadcastVariables", least=0)
        self.process_set = process_set
        self.optimizers = optimizers
        self.same_seeds = same_seeds
        self._is_beginning = False
        self._handed_out = None

    def before_training(self, callbacks):
        """Asks whether all workers begin alike, before any callback does something; `lockstep` calls it.

        Args:
            callbacks: all that `fit` has.
        """
        network = self._network()
        optimizers = self._optimizers()
        self._refuse_to_train_apart()
        one_of(self.root_rank, network.ranks(), "root_rank", "BroadcastVariables")
        if network.alone():
            return
        _refuse_backups(callbacks, network)
        exchanging = ", ".join(type(each).__name__ for each in callbacks if hasattr(each, "process_set"))
        fit = [f"{self.params[name]} {name}" for name in ("epochs", "steps")]
        remedy = "Give every worker as many examples, or steps_per_epoch."
        agreement.require(fit, "What fit does", network, remedy)
        same = "Give every worker the same ones, in the same order."
        agreement.require([exchanging], "The callbacks that exchange something", network, same)
        agreement.require(start.settings_of(optimizers), "The optimizers' settings", network)
        agreement.require([f"{len(seed_states(self.model))} seeds"], "The random numbers", network)

    def on_train_begin(self, logs=None):
        """Builds the optimizer, and hands out the state."""
        network, model, optimizers = self._network(), self.model, self._optimizers()
        if _is_stock(model) and model.built and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        if any(is_new(optimizer) for optimizer in optimizers):
            model.make_train_function(force=True)  # it may have been traced while the optimizer averaged nothing
        self._handed_out = None
        if not network.alone():
            start.build_alike(optimizers, model, self.root_rank, network)
            self._hand_out(network, optimizers)
            self._is_beginning = True

    def on_epoch_begin(self, epoch, logs=None):
        """Asks whether all workers begin at the same epoch."""
        self._require_beginning(f"epoch {epoch}")

    def on_train_batch_end(self, batch, logs=None):
        """Hands out what the first batch has built: a model without an Input, or layers of a train_step."""
        known, self._handed_out = self._handed_out, None
        if known is not None and known != len(self.model.variables):
            self._hand_out(self._network(), self._optimizers())
            self._handed_out = None

    def on_train_end(self, logs=None):
        """Tells the others if there was no epoch to train."""
        self._require_beginning("none, all being over")

    def _hand_out(self, network, optimizers):
        streams = seed_states(self.model)
        own = set() if self.same_seeds else set(map(id, streams))
        variables = {id(variable): variable for variable in [*self.model.variables, *streams]}
        shared = [variable for key, variable in variables.items() if key not in own]
        broadcast_variables([*shared, *start.state_of(optimizers)], self.root_rank, self.process_set)
        if not self.same_seeds:
            seeds.keep_apart(self.model, network)
        self._handed_out = len(self.model.variables)

    def _require_beginning(self, epoch):
        if self._is_beginning:
            self._is_beginning = False
            agreement.require([epoch], "The first epoch", self._network(), EPOCH)

    def _network(self):
        return transport_of(self.process_set).ready()

    def _optimizers(self):
        optimizers = optimizers_of(self.model, self.optimizers)
        for each in optimizers:
            if not isinstance(each, keras.optimizers.Optimizer):
                raise TypeError(refusal("BroadcastVariables", "optimizers", "optimizers of Keras 3", each))
        return optimizers

    def _refuse_to_train_apart(self):
        optimizer = self.model.optimizer
        if not _is_stock(self.model) or is_distributed(optimizer):
            return
        what = "no optimizer" if optimizer is None else f"the optimizer {optimizer.name!r}, which averages no gradients"
        raise ValueError(
            f"The workers would train apart: model {self.model.name!r} has {what}. Expected "
            "tt.distributed.DistributedOptimizer(optimizer). A loaded model has an ordinary optimizer: "
            "tt.distributed.DistributedOptimizer(model.optimizer) before training makes it distributed."
        )


def _is_stock(model):
    """Whether `fit` makes Keras' own steps, with the optimizer that `compile` was given."""
    return type(model).train_step is keras.Model.train_step


def _refuse_backups(callbacks, network):
    """One worker's backup lets it begin at another epoch than the others; those of several lock one file."""
    backups = network.everyones(
        any(isinstance(each, keras.callbacks.BackupAndRestore) for each in callbacks), "tf_terngrad.backups"
    )
    if any(backups):
        who = [rank for rank, has in zip(network.ranks(), backups, strict=True) if has]
        raise ValueError(
            f"keras.callbacks.BackupAndRestore (of workers {who}) serves one process alone: workers without it would "
            "begin at another epoch, and several would write one file. Expected, on all workers, "
            "tt.distributed.callbacks.Checkpoint(folder) in its place."
        )
