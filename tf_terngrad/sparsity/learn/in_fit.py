"""In `fit`: tells each budget on a model how many updates there will be, and says what will happen when."""

import inspect

import keras

from tf_terngrad.sparsity import in_vain
from tf_terngrad.sparsity.learn.course import whole


def bound_with_plan(fit, model, args, kwargs, budgeted):
    """The arguments of a call of `fit`, with a callback that plans for these `Budgeted` objects."""
    bound = inspect.signature(fit).bind(model, *args, **kwargs)
    plan = _Plan(budgeted, bound.arguments.get("initial_epoch", 0))
    callbacks = bound.arguments.get("callbacks")
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.append(plan)
    else:
        bound.arguments["callbacks"] = [*keras.tree.flatten(callbacks or []), plan]
    return bound


class _Plan(keras.callbacks.Callback):
    """Plans at the first epoch; where Keras does not know its batches before it ends, after that.

    An epoch other than the one that `fit` was given to begin with means that a training which was interrupted goes on.
    """

    def __init__(self, budgeted, initial_epoch):
        super().__init__()
        self._budgeted, self._initial, self._planned, self._batches = budgeted, initial_epoch, False, 0

    def on_epoch_begin(self, epoch, logs=None):
        if not self._planned and self.params["steps"]:
            self._plan(self.params["steps"], epoch)
        elif not self._planned:
            for each in self._budgeted:
                each.course.wait()

    def on_train_batch_end(self, batch, logs=None):
        self._batches = batch + 1

    def on_epoch_end(self, epoch, logs=None):
        if not self._planned:
            self._plan(self._batches, epoch + 1)

    def _plan(self, batches, epoch):
        """Plan for all epochs, of which those before `epoch` are over."""
        self._planned = True
        epochs = self.params["epochs"] - self._initial
        updates = batches / (getattr(self.model.optimizer, "gradient_accumulation_steps", None) or 1)
        for each in self._budgeted:
            each.course.plan(whole(epochs * updates), seen=round((epoch - self._initial) * updates))
            in_vain.say(each.planned(f" in {epochs:,} epoch{'s' * (epochs != 1)}"))
