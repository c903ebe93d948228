"""The laws that training keeps on every model, with a penalty and after compaction."""

import hypothesis
import keras
import numpy as np
from keras import layers
from laws import fresh_inputs, kept_values, random_members, shapes, zero_members

from tf_terngrad.keras_internals import all_layers, graph_of
from tf_terngrad.sparsity.compact import compact
from tf_terngrad.sparsity.hold import hold
from tf_terngrad.sparsity.remove.fates import fates
from tf_terngrad.sparsity.shrink.reconfigure import reconfigure
from tf_terngrad.sparsity.sparsify import sparsify
from tf_terngrad.sparsity.structures import structures

RATE, BATCH, BATCHES = 1e-3, 8, 4


def without_dropout(model):
    """The model, whose dropout drops nothing: what it drops depends on the widths."""
    for layer in all_layers(model):
        if isinstance(layer, layers.Dropout):
            layer.rate = 0.0
    return model


def train(model, optimizer, epochs=1, seed=2):
    """Fit a model to random targets; frozen layers stay as they are, and all numbers are finite."""
    rng = np.random.default_rng(seed)
    x = fresh_inputs(model, seed, BATCH * BATCHES)
    y = [rng.normal(size=(BATCH * BATCHES, *output.shape[1:])).astype("float32") for output in graph_of(model).outputs]
    frozen = [(w, w.numpy()) for layer in all_layers(model) if not layer.trainable for w in layer.weights]
    model.compile(optimizer, ["mse"] * len(y), run_eagerly=True)  # tracing takes longer than a few updates
    model.fit(x, y if len(y) > 1 else y[0], batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0)
    for weight, before in frozen:
        np.testing.assert_array_equal(weight, before, err_msg=weight.path)
    assert all(np.isfinite(weight.numpy()).all() for weight in model.weights)


def momentum(rate=RATE):
    return keras.optimizers.SGD(rate, momentum=0.9)


def check_same_training(model, seed):
    """Zero members of each structure: the compact model trains as the old one in which these are held at zero.

    But for what dropout drops, and for a bias that constants were folded into: their weights trained before.
    """
    hypothesis.assume(any(map(len, zero_members(without_dropout(model), random_members(seed)).values())))
    small = compact(model)
    hypothesis.assume(not any(fate.folded for fate in fates(small)))
    before = [weight.numpy() for weight in small.weights]
    hold(model)
    for each in (model, small):
        train(each, momentum())
    moved = max(np.abs(weight.numpy() - old).max() for weight, old in zip(small.weights, before, strict=True))
    weights = set(map(id, small.weights))
    for fate in fates(small):
        if id(fate.new) in weights:
            np.testing.assert_allclose(fate.new, kept_values(fate), rtol=1e-4, atol=1e-3 * moved, err_msg=fate.new.path)


def check_reconfigured(model, twin, seed):
    """Zero members of each structure, and hold them: the twin, from which they leave on the way, trains likewise.

    But for attention that has lost key dimensions: its queries are multiplied, and so is what they learn.
    """
    hypothesis.assume(any(map(len, zero_members(without_dropout(model), random_members(seed)).values())))
    without_dropout(twin).set_weights(model.get_weights())
    runs = [(each, momentum()) for each in (model, twin)]
    for each, optimizer in runs:
        hold(each)
        train(each, optimizer)
    start, before = [variable.numpy() for variable in model.trainable_variables], twin.variables
    hypothesis.assume(reconfigure(twin) and all(np.all(fate.factor == 1) for fate in fates(twin)))
    for each, optimizer in runs:
        train(each, optimizer, seed=3)
    wholes = {id(old): whole for old, whole in zip(before, model.variables, strict=True)}
    moved = max(np.abs(now - old).max() for now, old in zip(model.trainable_variables, start, strict=True))
    now = set(map(id, twin.weights))
    for fate in fates(twin):
        assert not fate.folded
        if id(fate.new) in now:
            expected = wholes[id(fate.old)].numpy()[np.ix_(*fate.kept)].reshape(fate.new.shape)
            np.testing.assert_allclose(fate.new, expected, rtol=1e-4, atol=1e-3 * moved, err_msg=fate.new.path)


# Under a penalty


def check_learning(model, *twins, optimizer=momentum):
    """What dies under a penalty stays dead without it, frozen layers stay as they are, and twins lose the same."""
    free = [found for found in structures(without_dropout(model)) if not found.fixed]
    hypothesis.assume(free)
    norms = np.concatenate([found.norms(trainable=True) for found in free])
    strength = 0.7 * float(np.median(norms)) / (12 * 10 * RATE)  # some die in 12 updates: a weight may be in two groups
    for twin in twins:
        copy_weights(model, without_dropout(twin))
    learned = [_learned(each, strength, optimizer) for each in (model, *twins)]
    assert all(each == learned[0] for each in learned)


def _learned(model, strength, optimizer):
    """Where the members lie that a penalty makes zero, and the widths that are left."""
    sparsity = sparsify(model, strength)
    assert list(map(_places, sparsity.structures)) == list(map(_places, structures(model)))
    train(model, optimizer(), epochs=3)
    died = _dead(model)
    sparsity.release()
    train(model, momentum(), epochs=1, seed=3)
    assert died <= _dead(model)
    return died, sorted(shapes(compact(model)))


def copy_weights(model, twin):
    """Give a twin of a model, the same but for composites around its layers, the values of its weights."""
    source, target = ({_name(weight): weight for weight in each.weights} for each in (model, twin))
    assert len(source) == len(model.weights) and source.keys() == target.keys()
    for name, weight in source.items():
        target[name].assign(weight)


def _dead(model):
    """Where each member lies that is zero in all that trains."""
    free = [found for found in structures(model) if not found.fixed]
    return {_places(found, member) for found in free for member in np.flatnonzero(found.norms(trainable=True) == 0)}


def _places(found, member=...):
    return found.kind, frozenset(
        (_name(piece.variable), piece.axis, tuple(piece.indices[member].ravel())) for piece in found.penalized
    )


def _name(variable):
    """A variable's name with that of its layer, whatever that is inside of."""
    return "/".join(variable.path.split("/")[-2:])
