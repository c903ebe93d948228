"""A model that becomes smaller in place, between two steps of its training."""

from tf_terngrad.keras_internals import become, note_path, optimizers_of
from tf_terngrad.sparsity import in_vain
from tf_terngrad.sparsity.costs import costs
from tf_terngrad.sparsity.graph.replay import check_model
from tf_terngrad.sparsity.learn import hooks
from tf_terngrad.sparsity.remove.fates import fates, remember
from tf_terngrad.sparsity.shrink.layer_penalties import LayerPenalties
from tf_terngrad.sparsity.shrink.leaving import smaller
from tf_terngrad.sparsity.shrink.moves import Moves
from tf_terngrad.sparsity.shrink.own_call import shrink_layers, stays_its_class
from tf_terngrad.sparsity.shrink.refusals import check
from tf_terngrad.sparsity.shrink.state import move_optimizer, require_same


def reconfigure(model, optimizer=None, gone=None):
    """Take what is dead out of a model in the middle of its training: the same object becomes a smaller network.

    Use it when you train in a loop of your own; with `fit`, `tt.callbacks.Reconfigure` calls it.

    A member leaves if all of its weights that train are zero. The model, the optimizer and what `tt.sparsify` put on
    the model stay the objects that they are; layers and variables are new ones. (Of a class with its own `call` and
    train_step, the layers stay too.) Momentum, moments, averages and accumulated gradients of what stays go along, and
    so do regularizers, iterations, schedules, loss scales, metrics and the states of seed generators.
    `tt.fates(model)` then tells what became of each variable, for what else belongs to them.

    Training goes on as it would have with the dead weights in place, if they had stayed dead: with the same weights, to
    rounding, for optimizers that move each weight by its own gradients. It is another training where a number depends
    on a width: `Dropout` draws other random numbers for a tensor of another shape, Muon scales by shapes, norms of
    gradients (`clipnorm`, `global_clipnorm`) leave out what is gone, and attention that loses key dimensions has larger
    queries.

    Args:
        model: a built `keras.Model`, compiled or not.
        optimizer: the optimizer of your loop, or a list of several; None: the model's, if it is compiled, and those
            that are attributes of it.
        gone: what an earlier call returned, to take out the same members of another model that was built alike, such as
            that of a run that was interrupted: its weights can be loaded then.

    Returns:
        What has left: for each pass over the model a dictionary of lists of members, by name of their structure. It is
        empty if nothing left, and can be written as JSON. If it is not, a `tf.function` of the step has to be made
        again.

    Raises:
        TypeError: `model` is no Keras model, or `optimizer` no Keras optimizer.
        ValueError: for what `tt.structures` refuses; for a model with wrappers of this package, which `tt.compact`
            would make ordinary layers, with a `BlockLasso`, with several replicas of `tf.distribute`, or of a class
            with its own `call` and train_step whose call would have to be another one; for an optimizer of yours that
            keeps other things than numbers for each weight, or holds another optimizer; for members in `gone` that the
            model does not have.

    Among workers of `tt.distributed.DistributedOptimizer` all call it between the same steps. Their trained weights are
    the same, so the same leaves on all of them; it asks, and refuses what is not.

    Source: PruneTrain (Lym et al., 2019), which calls it dynamic network reconfiguration.

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"), keras.layers.Dense(2)])
    >>> tt.structures(model)[1].zero([0, 2])
    >>> reconfigure(model)
    [{'hidden': [0, 2]}]
    >>> model.get_layer("hidden").units
    1
    """
    check_model(model)
    optimizers = optimizers_of(model, optimizer)
    check(model, optimizers)
    own_class = stays_its_class(model)
    small, gone, became = smaller(model, gone, widths_only=own_class)
    for each in optimizers:
        require_same(each, gone)
    if small is None:
        return []
    before, owners, found = _cost(model), hooks.all_owners(model.variables), fates(small)
    penalties = LayerPenalties(model)
    if own_class:
        found = shrink_layers(model, small, became, found)[1]
        hooks.take_off(each.new for each in found if each.new is each.old)
    moves = Moves(found)
    if not own_class:
        become(model, small)
    remember(model, found)
    for variable in model.variables:
        note_path(variable, moves.old(variable).path)
    for each in optimizers:
        if each.built:
            move_optimizer(each, model, moves)
    for owner in (penalties, *owners):
        owner.move(model, moves)
    hooks.retrace(model)
    in_vain.say(f"reconfigure: {_total(gone)} left model {model.name!r}: {before} -> {_cost(model)}.")
    return gone


def _cost(model):
    try:
        return f"{costs(model).multiply_adds:,} multiply-adds"
    except ValueError:  # of inputs without a size
        return f"{model.count_params():,} parameters"


def _total(gone):
    count = sum(len(members) for each in gone for members in each.values())
    return f"{count} member{'s' if count > 1 else ''} of {len({n for each in gone for n in each})} structures"
