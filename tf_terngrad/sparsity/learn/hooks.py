"""Where sparsity takes part in training: on a variable as regularizer and constraint, on a model as compute_loss.

When an update begins is in updates; the arithmetic is in penalties and groups. What training reads off a
worker's own data is a variable's `calibrations`: objects with `own_strength` and `agree`. What an optimizer knows of
other workers is its `require_same`, see shrink/state.
"""

import inspect

import keras
from keras import ops

from tf_terngrad.keras_internals import note_compute_loss
from tf_terngrad.sparsity.learn import penalties, updates
from tf_terngrad.sparsity.learn.shared_penalty import SharedPenalty
from tf_terngrad.sparsity.learn.structured_regularizer import SumRegularizer


class Hook:
    """A callable in the place of another one, which it calls too.

    Attributes:
        owner: who put it there.
        before: what was there; for a regularizer or a constraint it may be None.
    """

    def __init__(self, owner, before):
        self.owner = owner
        self.before = before

    def begin(self, update):
        """An update of an optimizer begins that will move this hook's variable."""
        if isinstance(self.before, Hook):
            self.before.begin(update)


class Penalty(Hook, keras.regularizers.Regularizer):
    """A variable's regularizer: the penalty of the whole model on one of its variables, nothing on the others."""

    def __init__(self, owner, variable, before):
        super().__init__(owner, before)
        self.variable = variable

    def __call__(self, value):
        own = self.owner.counted() if self.owner.counts_on(self.variable) else ops.zeros(())
        return own if self.before is None else own + self.before(value)


class AfterUpdate(Hook, keras.constraints.Constraint):
    """A variable's constraint: what the owner does to the whole model, once an update.

    An optimizer first moves all variables, then constrains one after the other. The first that is constrained has it
    done for all that the update moves; the others find it done.
    """

    def __init__(self, owner, variable, before):
        super().__init__(owner, before)
        self.variable = variable

    def begin(self, update):
        """Has the owner look at the weights before the first of them moves."""
        super().begin(update)
        update.remember(self.owner)

    def __call__(self, value):
        value = constrained(value, self.before)
        with updates.of(self.variable) as update:
            if not update.is_new_to(self.owner):
                return value
            self.variable.assign(value)
            self.owner.constrain(update.moves)
            self.owner.shrink()
            return self.variable.value


class Threshold(Hook, keras.constraints.Constraint):
    """A variable's constraint: weights below the owner's threshold become zero."""

    def __call__(self, value):
        return penalties.zero_small(constrained(value, self.before), self.owner.threshold)


class CalibratingLoss(Hook):
    """A model's compute_loss: tells its owner the losses of training."""

    def __call__(self, x=None, y=None, y_pred=None, sample_weight=None, training=True, **kwargs):
        if takes_training(self.before):
            kwargs["training"] = training
        with self.owner.muted():
            loss = self.before(x, y, y_pred, sample_weight, **kwargs)
        if training:
            self.owner.calibrate(loss)
        return self.owner.joined(loss)


def owners(variables):
    """Those who do something after each update to some of these variables, each once."""
    hooks = (hook for variable in list(variables)[::-1] for hook in _chain(getattr(variable, "constraint", None)))
    return list({id(hook.owner): hook.owner for hook in hooks if isinstance(hook, AfterUpdate)}.values())


def all_owners(variables):
    """Those who put hooks of any kind on some of these variables, each once; those of inner hooks come first."""
    depths, found = {}, {}
    for variable in variables:
        for hook in (getattr(variable, "constraint", None), getattr(variable, "regularizer", None)):
            for depth, owner in enumerate(each.owner for each in reversed(list(_chain(hook)))):
                found[id(owner)] = owner
                depths[id(owner)] = max(depth, depths.get(id(owner), 0))
    return sorted(found.values(), key=lambda owner: depths[id(owner)])


def _chain(hook):
    """The hooks on a variable, the outermost first."""
    while isinstance(hook, Hook):
        yield hook
        hook = hook.before


def constrain(variables):
    """Have variables obey the constraints that users gave them."""
    for variable in variables:
        own = under(variable.constraint)
        if own is not None:
            variable.assign(own(variable.value))


def under(hook):
    """What is under all hooks on a variable, or None."""
    return under(hook.before) if isinstance(hook, Hook) else hook


def constrained(value, before):
    """A variable's value after the constraint that was there before, if any."""
    return ops.convert_to_tensor(value) if before is None else before(value)


def without(hook, owner):
    """A chain of hooks without those of one owner."""
    if not isinstance(hook, Hook):
        return hook
    if hook.owner is owner:
        return without(hook.before, owner)
    hook.before = without(hook.before, owner)
    return hook


def users_own(penalty):
    """A regularizer or a constraint as the user gave it, without what this package added; None: nothing is left."""
    if isinstance(penalty, Hook):
        return users_own(penalty.before)
    if isinstance(penalty, SumRegularizer):
        left = [part for part in map(users_own, penalty.regularizers) if part is not None]
        return SumRegularizer(left) if len(left) > 1 else next(iter(left), None)
    if isinstance(penalty, SharedPenalty):
        return users_own(penalty.own)
    return None if type(penalty).__module__.startswith("tf_terngrad.") else penalty


def take_off(variables):
    """Give variables back what users put on them; owners of hooks that stay put theirs on again."""
    for variable in variables:
        variable.regularizer, variable.constraint = map(under, (variable.regularizer, variable.constraint))
        set_calibrations(variable, [])


def calibrations(variable):
    """What training sets by its first batch for this variable; of several workers, all have to agree on it."""
    return getattr(variable, "calibrations", [])


def set_calibrations(variable, found):
    """Tell a variable, and the one of TensorFlow in it: the tape of a loop may be asked for either."""
    variable.calibrations = variable.value.calibrations = found


def set_compute_loss(model, loss):
    """Replace a model's compute_loss, or give it back its class's own; tells Keras whether it takes `training`."""
    if getattr(loss, "__func__", None) is type(model).compute_loss:
        vars(model).pop("compute_loss", None)
    else:
        model.compute_loss = loss
    note_compute_loss(model, takes_training(loss))


def takes_training(loss):
    """Whether a compute_loss learns if it is called in training; those written before Keras 3.3 do not."""
    return "training" in inspect.signature(loss).parameters


def retrace(model):
    """Let `fit` and `evaluate` trace their graphs anew: those that they have do not know of changed hooks."""
    if model.train_function is not None:
        model.make_train_function(force=True)
    if model.test_function is not None:
        model.make_test_function(force=True)
    if model.predict_function is not None:
        model.make_predict_function(force=True)
