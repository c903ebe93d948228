"""What puts a penalty or a budget on a model's structures while it trains, and takes it off again."""

import contextlib
import threading

import keras
import numpy as np
from keras import ops

from tf_terngrad.sparsity.learn import after_fit, hooks, kept, metrics, penalties, replicas, updates
from tf_terngrad.sparsity.learn.dead import Dead
from tf_terngrad.sparsity.learn.groups import Groups
from tf_terngrad.sparsity.learn.proximal import ProximalStep


class Sparsity:
    """What `sparsify` put on a model.

    Use it when you want to read or change the strength while training, or take the penalty off again.

    Attributes:
        structures: the structures that are penalized.
        groups: how many groups there are in all.
        left: how many there were that have left, by `tt.reconfigure`.
        strength: a scalar `keras.Variable`; assign to it to change the strength while training.
        released: whether the penalty is off again.
        budgeted: what brings the model within its budget, a `Budgeted`; None: there is none.
    """

    def __init__(self, model, chosen, strength, ratio, method, threshold, optimizer, budgeted=None):
        self.model = model
        self.structures = chosen
        self.budgeted = budgeted
        self.method = method
        self.threshold = threshold
        self.strength = keras.Variable(strength or 0.0, trainable=False, dtype="float32", name="strength")
        self._ratio = ratio
        self._calibrated = keras.Variable(ratio is None, trainable=False, dtype="bool", name="calibrated")
        self._can_calibrate = ratio is None
        self._asked = _Asked()
        self.released = False
        self._optimizer = optimizer
        self._groups = Groups(chosen)
        self.groups = self._groups.count
        self.left = 0
        self._step = ProximalStep(self._groups)
        self._dead = Dead(self._groups)
        self._attach()

    @property
    def variables(self):
        """What goes on from update to update, a list of `keras.Variable`: to keep in a checkpoint of the training."""
        under_budget = self.budgeted.variables if self.budgeted else []
        return [self.strength, self._calibrated, *self._step.variables, *self._dead.variables, *under_budget]

    def lasso(self):
        """The sum of the norms sqrt(sum w^2 + 1e-8) of the groups that can move, a scalar tensor."""
        norms = penalties.smooth_norms(self._groups.squared_norms())
        return ops.sum(ops.where(self._groups.can_move(), norms, 0.0))

    def penalty(self):
        """strength * lasso, a scalar tensor."""
        return self.strength.value * self.lasso()

    def calibrate(self, loss):
        """Set the strength from the first batch's loss; later calls change nothing, nor does a loss that is not finite.

        Args:
            loss: the loss without this penalty, a scalar tensor. Of several workers each gives its own, before
                `tt.distributed` averages their gradients; where another one does that, the mean of all. In a replica
                of `tf.distribute` its own part, whose gradients Keras sums over the replicas.
        """
        self._can_calibrate = True
        if self._ratio is None:
            return
        loss = ops.abs(replicas.summed(ops.stop_gradient(ops.cast(loss, "float32"))))
        first = penalties.strength_from_ratio(self._ratio, loss, ops.stop_gradient(self.lasso()))
        ready = ops.logical_and(ops.logical_not(self._calibrated.value), ops.isfinite(first))
        self.strength.assign(ops.where(ready, first, self.strength.value))
        self._calibrated.assign(ops.logical_or(ready, self._calibrated.value))

    def own_strength(self):
        """The strength that this worker has, a float32 scalar tensor; NaN before `calibrate` has set it."""
        self._check_calibrated()
        return ops.where(self._calibrated.value, self.strength.value, float("nan"))

    def agree(self, mean):
        """Give all workers one strength, the mean of theirs; while one of them has none yet, none of them has.

        What averages the gradients of several workers calls it where `own_strength` is not the same on all of them.

        Args:
            mean: a function of a float32 scalar, its mean over the workers; that of equal ones is exactly theirs.
        """
        strength = mean(self.own_strength())
        ready = ops.isfinite(strength)
        self.strength.assign(ops.where(ready, strength, 0.0))
        self._calibrated.assign(ready)

    def release(self, revive=False):
        """Take the penalty or the proximal step off the model; the weights stay as they are.

        Groups that are zero now stay zero, whatever momentum and averages an optimizer has of them, until `tt.compact`.

        Args:
            revive: let them live again, here or in a later call.
        """
        after_fit.forget(self)
        self.released = True
        holds = self._dead.hold() and not revive
        for variable in self._groups.variables:
            variable.regularizer = hooks.without(variable.regularizer, self)
            if not holds:
                variable.constraint = hooks.without(variable.constraint, self)
            hooks.set_calibrations(variable, [other for other in hooks.calibrations(variable) if other is not self])
        if self._ratio is not None:
            hooks.set_compute_loss(self.model, hooks.without(self.model.compute_loss, self))
        hooks.retrace(self.model)

    @property
    def waits_for_loss(self):
        """Whether `ratio` has set no strength so far."""
        return not bool(self._calibrated.numpy())

    def _attach(self):
        after_fit.watch(self)
        self._hook_variables()
        if self._ratio is not None:
            hooks.set_compute_loss(self.model, hooks.CalibratingLoss(self, self.model.compute_loss))
        hooks.retrace(self.model)

    def _hook_variables(self):
        if self.budgeted:
            self.budgeted.begin(len(self._groups.variables))
        for variable in self._groups.variables:
            variable.constraint = hooks.AfterUpdate(self, variable, variable.constraint)
            if self.released:
                continue
            if self.method == "subgradient":
                variable.regularizer = hooks.Penalty(self, variable, variable.regularizer)
            if self._ratio is not None:
                hooks.set_calibrations(variable, [*hooks.calibrations(variable), self])

    def move(self, model, moves):
        """Go on with what stays of the groups, when the model has become smaller; strength and pace go on too.

        Args:
            model: the model that has, this one's or one that this one's is a part of.
            moves: tells where variables, and members of structures, went.
        """
        moved = [moves.structure(structure) for structure in self.structures]
        stays = np.concatenate([members for _, members in moved])
        if self.budgeted:
            self.budgeted.move({old.name: new for old, (new, _) in zip(self.structures, moved, strict=True)}, stays)
        self.structures = [structure for structure, _ in moved if structure is not None]
        self._groups = Groups(self.structures)
        self.groups, self.left = self._groups.count, self.left + self.groups - self._groups.count
        self._step = self._step.moved(self._groups, [moves.old(variable) for variable in self._groups.variables])
        self._dead = self._dead.moved(self._groups, stays)
        if not self.groups and not self.released:
            self.release()
        self._hook_variables()
        known = set(map(id, self.model.variables))
        if not all(id(variable) in known for variable in self._groups.variables):
            self.model = model

    def counts_on(self, variable):
        """Whether the penalty is counted on this variable: the first that trains."""
        return variable is next((v for v in self._groups.variables if v.trainable), None)

    def counted(self):
        """The penalty where it has its strength; nothing while the data's loss alone is asked for."""
        if self._asked.muted:
            return ops.zeros(())
        self._check_calibrated()
        return self.penalty()

    @contextlib.contextmanager
    def muted(self):
        """The penalty does not join the model's losses meanwhile."""
        self._asked.muted = True
        try:
            yield
        finally:
            self._asked.muted = False

    def joined(self, loss):
        """A loss that was asked for without the penalty, and the penalty if it belongs to the loss."""
        if self.method != "subgradient":
            return loss
        return loss + ops.cast(replicas.share(self.penalty()), loss.dtype)

    def before_update(self):
        """What an update has to know of the weights before they move: which groups are zero, and the weights."""
        weights = {id(variable): ops.copy(variable.value) for variable in self._groups.variables}  # not read later
        return self._dead.now(), weights

    def constrain(self, moves):
        """Have what an update moves obey its own constraints: the step begins from what they allow."""
        hooks.constrain([variable for variable in self._groups.variables if moves(variable)])

    def shrink(self):
        """What an update ends with: of the variables that the one moves which goes on; else of all that train.

        The proximal step, or weights below the threshold made zero; then what is held, in averages too.
        """
        update = updates.current()
        moves = update.moves if update else None
        strength = ops.zeros(()) if self.released else self.strength.value
        zero, before = (update and update.seen_before(self)) or (None, None)
        held = self._dead.held(zero, strength)
        if self.released:
            norms = self._zeroed(held, moves)
        elif self.budgeted:
            norms = self._within_budget(update, held)
        elif self.method == "proximal":
            self._check_calibrated()
            optimizer = self._optimizer_of(update and update.optimizer)
            counting = (update and update.optimizer) or optimizer
            norms = self._step.make(strength, optimizer, counting, held, moves, before)
        else:
            self._groups.zero_small(self.threshold, moves)
            norms = self._zeroed(held, moves)
        self._dead.note(norms, ops.logical_or(strength > 0, bool(self.budgeted)))
        if update and getattr(update.optimizer, "use_ema", False):
            self.silence(update.optimizer, kept.AVERAGE)

    def _zeroed(self, gone, moves=None):
        """The squared norms when some groups are zero; `moves` says in which variables they become so now."""
        self._groups.scale(ops.where(gone, 0.0, 1.0), moves)
        return self._groups.squared_norms()

    def _within_budget(self, update, held):
        """The squared norms when those are zero that are held, and those that leave in this update."""
        optimizer = self._optimizer_of(update and update.optimizer)
        counting = (update and update.optimizer) or optimizer
        moves = np.array([update is None or update.moves(variable) for variable in self._groups.variables])
        leaving = self.budgeted.leaving(self._zeroed(held), self._groups.can_move(), counting, moves)
        return self._zeroed(ops.logical_or(held, leaving))

    def silence(self, optimizer, name):
        """Make what an optimizer keeps under a name zero for all groups that are zero now."""
        kept.silence(self._groups, optimizer, name)

    def _optimizer_of(self, making):
        """The optimizer whose learning rate scales the step."""
        optimizer = updates.with_a_rate(self._optimizer, making, getattr(self.model, "optimizer", None))
        if optimizer is None:
            raise ValueError(
                f"The proximal step needs the learning rate: compile model {self.model.name!r}, or pass "
                "sparsify(..., optimizer=...) the optimizer of your own loop."
            )
        metrics.warn_of_unknown(optimizer)
        return optimizer

    def _check_calibrated(self):
        if not self._can_calibrate:
            raise ValueError(
                "sparsify(ratio=...) sets the strength from the first batch's loss, which a loop of your own has to "
                "tell: call calibrate(loss) on the result of sparsify before the first update (with a distributed "
                "tape, before its gradients), or give a strength."
            )


class _Asked(threading.local):
    """Whether this thread asks for the data's loss alone; replicas of a strategy have a thread each."""

    muted = False
