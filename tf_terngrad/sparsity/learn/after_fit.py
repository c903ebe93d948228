"""After `fit`: says it if a penalty of this package was on and nothing became zero, once for each penalty."""

import weakref

import keras
from keras import ops

from tf_terngrad.keras_internals import all_layers, put_around
from tf_terngrad.sparsity import in_vain
from tf_terngrad.sparsity.learn.hooks import Hook
from tf_terngrad.sparsity.learn.structured_regularizer import SumRegularizer

_watched, _told = weakref.WeakSet(), weakref.WeakSet()


def watch(sparsity) -> None:
    """Look at what `sparsify` put on a model after each `fit` of the model, or of one that it is a part of."""
    _watched.add(sparsity)


def forget(sparsity) -> None:
    """Look at it no more."""
    _watched.discard(sparsity)


def tell(model) -> None:
    """Say of each penalty on a model that it made nothing zero; once, for some programs call `fit` for each epoch."""
    parts = {id(layer) for layer in all_layers(model)}
    found = [(sparsity, in_vain.of_training) for sparsity in list(_watched) if id(sparsity.model) in parts]
    found += [(regularizer, _of(variable)) for variable, regularizer in _lassos(model)]
    for penalty, sentence_of in found:
        if penalty not in _told and (sentence := sentence_of(penalty)):
            _told.add(penalty)
            in_vain.say(sentence)


def _of(variable):
    def sentence(regularizer):
        norms = ops.convert_to_numpy(regularizer.norms(variable.value))
        return in_vain.of_regularizer(variable, norms) if norms.all() and regularizer.strength else ""

    return sentence


def _lassos(model):
    """The regularizers with groups inside one weight, of those weights that train."""
    for variable in model.trainable_variables:
        yield from ((variable, part) for part in _parts(variable.regularizer) if hasattr(part, "norms"))


def _parts(regularizer):
    if isinstance(regularizer, Hook):
        return _parts(regularizer.before)
    return regularizer.regularizers if isinstance(regularizer, SumRegularizer) else [regularizer]


def _telling(fit):
    """`fit` that tells."""

    def fit_and_tell(model, *args, **kwargs):
        history = fit(model, *args, **kwargs)
        tell(model)
        return history

    return fit_and_tell


put_around(keras.Model, "fit", _telling)
