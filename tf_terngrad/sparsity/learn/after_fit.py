"""Around `fit`: its callbacks, for those that act on others; budgets are planned before; it says if it was in vain.

That is said after it if a penalty of this package was on and nothing became zero, once for each penalty.
"""

import weakref

import keras
from keras import ops

from tf_terngrad.keras_internals import all_layers, put_around
from tf_terngrad.sparsity import in_vain
from tf_terngrad.sparsity.learn.hooks import Hook
from tf_terngrad.sparsity.learn.in_fit import bound_with_plan
from tf_terngrad.sparsity.learn.structured_regularizer import SumRegularizer

_going_on = []
"""(model, its callbacks) for each `fit` that goes on, the innermost last."""

_watched, _told = weakref.WeakSet(), weakref.WeakSet()


def watch(sparsity) -> None:
    """Look at what `sparsify` put on a model after each `fit` of the model, or of one that it is a part of."""
    _watched.add(sparsity)


def forget(sparsity) -> None:
    """Look at it no more."""
    _watched.discard(sparsity)


def callbacks_of(model) -> list:
    """The callbacks that the `fit` of a model was given; none if none goes on."""
    return next((callbacks for each, callbacks in reversed(_going_on) if each is model), [])


def tell(model, before, epochs) -> None:
    """Say of each penalty on a model that it made nothing zero; once, for some programs call `fit` for each epoch.

    Args:
        model: that was trained.
        before: what `_norms` gave before.
        epochs: that it took.
    """
    for sparsity in _watched_on(model):
        _say(sparsity, in_vain.of_training(sparsity, before.get(sparsity), epochs))
    for variable, regularizer in _lassos(model):
        norms = ops.convert_to_numpy(regularizer.norms(variable.value))
        _say(regularizer, in_vain.of_regularizer(variable, norms) if norms.all() and regularizer.strength else "")


def _say(penalty, sentence):
    if sentence:
        _told.add(penalty)
        in_vain.say(sentence)


def _all_on(model):
    """What `sparsify` put on a model or a part of it."""
    parts = {id(layer) for layer in all_layers(model)}
    return [each for each in list(_watched) if id(each.model) in parts]


def _watched_on(model):
    """Those that nothing has been said of."""
    return [each for each in _all_on(model) if each not in _told]


def _without_a_plan(model):
    """The budgets of which nobody has said when they have to be met."""
    return [each.budgeted for each in _all_on(model) if each.budgeted and each.budgeted.course.is_open]


def _norms(model):
    return {sparsity: in_vain.norms_of(sparsity.structures) for sparsity in _watched_on(model)}


def _lassos(model):
    """The regularizers with groups inside one weight, of those weights that train, and nothing has been said of."""
    pairs = [(variable, part) for variable in model.trainable_variables for part in _parts(variable.regularizer)]
    return [(variable, part) for variable, part in pairs if hasattr(part, "norms") and part not in _told]


def _parts(regularizer):
    if isinstance(regularizer, Hook):
        return _parts(regularizer.before)
    return regularizer.regularizers if isinstance(regularizer, SumRegularizer) else [regularizer]


def _given(x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None, *others, **options):
    """The callbacks among the arguments of `fit`, which may be one, several or a `CallbackList`."""
    return keras.tree.flatten(getattr(callbacks, "callbacks", callbacks))


def _telling(fit):
    """`fit` that tells."""

    def fit_and_tell(model, *args, **kwargs):
        before, unplanned = _norms(model), _without_a_plan(model)
        if unplanned:
            bound = bound_with_plan(fit, model, args, kwargs, unplanned)
            args, kwargs = bound.args[1:], bound.kwargs
        _going_on.append((model, _given(*args, **kwargs)))
        try:
            history = fit(model, *args, **kwargs)
        finally:
            _going_on.pop()
        tell(model, before, len(history.epoch))
        return history

    return fit_and_tell


put_around(keras.Model, "fit", _telling)
