"""The group lasso over a whole model's structures: a penalty, or a proximal step that makes groups exactly zero."""

import keras

from tf_terngrad import checks
from tf_terngrad.sparsity import rounding
from tf_terngrad.sparsity.budget import Budget
from tf_terngrad.sparsity.learn.budgeted import Budgeted
from tf_terngrad.sparsity.learn.choice import choose, widths
from tf_terngrad.sparsity.learn.course import BudgetSchedule
from tf_terngrad.sparsity.learn.sparsity import Sparsity
from tf_terngrad.sparsity.structures import structures

METHODS = ("proximal", "subgradient")


def sparsify(
    model,
    strength=None,
    ratio=None,
    kinds=None,
    include=None,
    exclude=None,
    method="proximal",
    threshold=1e-4,
    optimizer=None,
    budget=None,
    schedule=None,
    round_to=1,
    input_shapes=None,
):
    """Train a model towards fewer structures: R = strength * sum_g ||w_g||_2 over the groups g of the whole model.

    Use it when a whole network should learn which of its filters, units and branches it needs, whatever its layers.

    A group is one member of a structure: a filter with its bias, its batch-norm scale and shift and every slice that
    reads it. Call it before `compile`; then `fit`, `train_on_batch` or a loop of your own train as ever. Several calls
    on one model add up, for a strength of its own for each kind.

    `method="proximal"`: after each update of the optimizer to u, the weights become the minimizer of
    sum_i (w_i - u_i)^2 / (2 * rate_i) + strength * sum_g ||w_g||, where rate_i is how far the optimizer moves weight i
    for a gradient. Groups become exactly zero, and the strength means the same under each optimizer of Keras: at the
    end a living group's gradient is -strength * w_g / ||w_g||, a dead one's at most the strength. SGD has one rate,
    learning_rate / (1 - momentum), so there w_g <- u_g * max(0, 1 - rate * strength / ||u_g||); others have a rate for
    each weight, see `tt.Metric`. `method="subgradient"`: R joins `model.losses`, and after each update weights with
    |w| < threshold become zero, as in the paper.

    Only what can move counts: weights with `trainable=False`, whenever that is set, are neither in a norm nor in a
    ratio, and of a structure that they keep in the model (see its `fixed`) no member is penalized. A weight that
    trains, but is not among the variables of an update, counts in the norms and keeps its value.

    What became zero stays zero when the penalty goes off: after `release()`, with a strength of 0, in the averages of
    `use_ema`. `release(revive=True)` ends that. A saved model forgets it: give the loaded one to `tt.hold`.

    `budget`: instead of a strength, what the model may cost at the end. It trains dense at first; then members leave in
    many small steps, those first that are worth least for what they cost: a structure is worth the logarithm of the sum
    of its members' norms, and keeps its last member. Branches of residual sums are compared with one another, and all
    of them may leave: with `kinds=["branch"]`, or beside other kinds, depth is learned. From `schedule.end` of the
    training on nothing more leaves, and what is left trains on. The cost of `tt.compact`'s model is then within
    the budget; `budgeted.costs()` is what it would be now. By default members of widths leave (no inputs of the model,
    no branches); what `include`, `exclude` and `kinds` leave out counts as it is.

    Args:
        model: a built `keras.Model`: Functional, Sequential, or a subclass that was called once.
        strength: the weight of the penalty beside the loss.
        ratio: instead of a strength, the share of the penalty in the first batch's total loss, in [0, 1):
            strength = ratio * |loss| / ((1 - ratio) * sum_g ||w_g||), then fixed (PruneTrain, 2019). In a loop of your
            own, call `calibrate(loss)` on the result before the first update. Workers that `tt.distributed` trains
            together have the mean of what their first batches give.
        kinds: which kinds of structures: any of "filter", "unit", "width" (of a residual stream, with all layers that
            add to it or read it), "hidden", "head", "key", "value", "gate", "offset", "block", "input", "branch"; all
            by default.
        include: names of layers or structures, with wildcards; all by default.
        exclude: names of layers or structures to leave out, with wildcards.
        method: "proximal" or "subgradient".
        threshold: the magnitude under which a weight is set to zero, for "subgradient".
        optimizer: the optimizer whose learning rate scales the proximal step; by default the one that makes the
            update, each of several for the variables that it moves.
        budget: a `tt.Budget`.
        schedule: a `tt.BudgetSchedule`; by default the first tenth of the first `fit` is dense, and after six tenths
            the budget is met.
        round_to: with a budget, the widths that structures may end at; members between two of them leave together. An
            integer: its multiples, and any width of a structure with fewer members; 8 or 16 suit most processors.
            "auto": those at which a member costs least by `tt.costs(model).latency`. Behind a training with a strength,
            `tt.prune(model, round_to=)` rounds.
        input_shapes: with a budget, as `tt.costs` takes them: shapes of an example, where the model leaves sizes open.

    Returns:
        A `Sparsity`.

    Raises:
        TypeError: if `model` is not a Keras model, `optimizer` not a Keras optimizer, a number no number, or a text
            stands in place of a list.
        ValueError: for a model that is not built or is a subclass whose `call` cannot be followed; unless exactly one
            of `strength`, `ratio` and `budget` is given; for a negative or NaN number, an unknown kind, method or name,
            a budget that cannot be met, or when nothing is left to sparsify.

    Source: structured sparsity learning (Wen et al., NIPS 2016); the proximal step is block soft thresholding (Yuan
    and Lin, 2006), in the optimizer's metric (Yun et al., Adaptive proximal gradient methods, 2021). For the course of
    a budget see `tt.BudgetSchedule`.

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    >>> sparsify(model, strength=1e-3, kinds=["unit"]).groups
    3
    """
    if (strength is not None) + (ratio is not None) + (budget is not None) != 1:
        raise ValueError(
            "sparsify: expected one of `strength`, `ratio` and `budget`. "
            f"Received: strength={strength!r}, ratio={ratio!r}, budget={budget!r}"
        )
    if budget is None and schedule is not None:
        raise ValueError(f"sparsify: `schedule` is that of a budget. Received: budget=None, schedule={schedule!r}")
    if strength is not None:
        strength = checks.number(strength, "strength", "sparsify")
    if ratio is not None:
        ratio = checks.number(ratio, "ratio", "sparsify", below=1)
    method = checks.one_of(method, METHODS, "method", "sparsify")
    threshold = checks.number(threshold, "threshold", "sparsify")
    if optimizer is not None and not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(checks.refusal("sparsify", "optimizer", "a keras.optimizers.Optimizer", optimizer))
    round_to = rounding.checked(round_to, "sparsify")
    if budget is None and round_to != 1:
        raise ValueError(
            f"sparsify: `round_to` is that of a budget. Received: budget=None, round_to={round_to!r}. "
            f"Behind a training with a strength, tt.prune(model, round_to={round_to!r}) rounds."
        )
    found = structures(model)
    if budget is None:
        chosen = choose(found, kinds, include, exclude)
        return Sparsity(model, chosen, strength, ratio, method, threshold, optimizer)
    checks.instance(budget, Budget, "budget", "sparsify")
    schedule = checks.instance(
        BudgetSchedule() if schedule is None else schedule, BudgetSchedule, "schedule", "sparsify"
    )
    if method != "proximal":
        raise ValueError(f"sparsify: a budget zeroes members by itself, without a penalty. Received: method={method!r}")
    chosen = choose(found, widths(found) if kinds is None else kinds, include, exclude)
    budgeted = Budgeted(model, chosen, budget, schedule, round_to, input_shapes)
    return Sparsity(model, chosen, 0.0, None, method, threshold, optimizer, budgeted)
