"""The smaller ordinary model."""

import dataclasses
import warnings

import keras

from tf_terngrad import checks
from tf_terngrad.sparsity import in_vain
from tf_terngrad.sparsity.graph.follow import Graph
from tf_terngrad.sparsity.graph.open import opened
from tf_terngrad.sparsity.graph.replay import check_model
from tf_terngrad.sparsity.graph.values import is_finite
from tf_terngrad.sparsity.importance import find_score
from tf_terngrad.sparsity.remove.fates import composed, remember
from tf_terngrad.sparsity.remove.needs import needs
from tf_terngrad.sparsity.remove.plan import make_plan, named_units
from tf_terngrad.sparsity.remove.rebuild import Builder
from tf_terngrad.sparsity.remove.windows import have_shared_kernels
from tf_terngrad.sparsity.structures import from_graph


def compact(model, tolerance=0.0, round_to=1, keep=(), dry_run=False, scores="norm"):
    """Take out of a model what its outputs do not depend on; the rest is an ordinary, smaller Keras model.

    Use it when training has made structures zero, and you want the smaller model that computes the same.

    A member of a structure leaves if nothing that matters reads it, or if it always emits the same constant and every
    reader can take that constant into its bias: f(x) = W x + b with x_i = v becomes f'(x') = W' x' + (b + v W_i). A
    term of a sum that is zero leaves with all its layers. Taps of a convolution that are zero at all filters and
    channels leave where they form a border of the kernel, or are all but every second, third, ... one. The input model
    is not touched; names, inputs and outputs stay. A user's own layers are taken apart into what their call is made of;
    what cannot be, or keeps its widths, is carried over as it is. This package's regularizers and wrappers are gone
    from the result; a user's own regularizers stay, also out of a sum with this package's. `tt.fates` tells what became
    of every variable.
    The log ("tf_terngrad") says it where nothing leaves (how far the nearest member was, and what would change it),
    where the result is not all Keras's own (what its file asks for), and what a model of a class of one's own has lost.

    Args:
        model: a built `keras.Model`: Functional, Sequential, or a subclass that was called once.
        tolerance: weights of at most this magnitude count as zero when deciding what leaves; weights that stay are
            kept as they are. With 0.0 the outputs are the same to rounding.
        round_to: keep widths at multiples of this, with dead members if need be; 8 suits most accelerators.
        keep: names of layers whose outputs all stay, or of structures whose members all stay.
        dry_run: return a `Plan` to print instead of a model.
        scores: which dead members `round_to` keeps, the most important first: "norm", "random", or a function of a
            `Structure` that gives an array of shape (size,); see `tt.importance`.

    Returns:
        A `keras.Model`, or with `dry_run` a `Plan`.

    Raises:
        TypeError: if `model` is not a Keras model, or another argument is of a wrong kind.
        ValueError: if it is not built, is a subclass whose `call` cannot be followed, or has weights that are not
            finite; if `tolerance` is negative or NaN, `round_to` is below 1, or a name in `keep` or of `scores` is
            unknown.

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"), keras.layers.Dense(2)])
    >>> from tf_terngrad.sparsity.structures import structures
    >>> structures(model)[1].zero([0, 2])
    >>> compact(model).get_layer("hidden").units
    1
    """
    tolerance, round_to, dry_run = _checked(model, tolerance, round_to, scores, dry_run)
    names = list(checks.strings(() if keep is None else keep, "keep", "compact", or_one=True))
    whole = opened(model)
    plans, small, found, said = [], whole, [], []
    while True:  # a branch that has left may have frozen or tied what can leave then; of a shared kernel come two
        graph = Graph(small, tolerance=tolerance)
        layers = _born_in(graph, names) if names and small is whole else []
        plan = make_plan(graph, names, round_to, scores)
        names += layers
        if plans and not plan.changes:
            break
        plans.append(plan if plans or plan.changes else _in_vain(graph, plan))
        if plan.changes or not dry_run:
            builder = Builder(graph, plan)
            small = builder.build()
            said += builder.sentences
            found = composed(found, builder.fates) if found else builder.fates
        if (not plan.changes or _is_all(plan, graph)) and not have_shared_kernels(graph):
            break
    if dry_run:
        return dataclasses.replace(plans[0], then=tuple(plans[1:]))
    if plans[0].in_vain:
        in_vain.say(f"compact: nothing leaves model {model.name!r}. {plans[0].in_vain}")
    for sentence in dict.fromkeys(sentence for plan in plans for sentence in plan.warnings):
        warnings.warn(sentence, stacklevel=2)
    for sentence in dict.fromkeys([*said, needs(small)]):
        in_vain.say(sentence)
    remember(small, found)
    return small


def _is_all(plan, graph):
    """Whether nothing more can leave once all of a plan has: only widths shrink, and no dead channel has to stay.

    Where two axes of a tensor are followed, what is zero on one of them may be so only in what stays of the other; and
    through a kernel of one tap constants pass that a padded one stops.
    """
    several = [edge.followed for call in graph.calls for edge in call.outputs if len(edge.followed) > 1]
    whole = all(plan.kept.mask(channels).all() for followed in several for channels in followed)
    return whole and plan.sites >= graph.sites.keys() and not (plan.warnings or plan.kept.windows)


def _in_vain(graph, plan):
    """A plan by which nothing leaves, with a sentence about that."""
    found = [structure for structure, _ in from_graph(graph)[0]]
    return dataclasses.replace(plan, in_vain=in_vain.of_compaction(found, graph.tolerance))


def _born_in(graph, names):
    """The layers of the structures that have these names, for positions in names change as others leave."""
    found, _ = from_graph(graph)
    layers = []
    for name in names:
        if named_units(graph, found, name) is None:
            known = ", ".join(structure.name for structure, _ in found) or "none"
            raise ValueError(f"keep: the model has no layer or structure named {name!r}. Structures: {known}.")
        layers += [path for structure, _ in found if structure.name == name for path in structure.born]
    return [path for path in layers if path not in names]


def _checked(model, tolerance, round_to, scores, dry_run):
    """The tolerance, `round_to` and `dry_run` as Python's own, once all arguments are known to be right."""
    check_model(model)
    find_score(scores, "compact")
    for weight in model.weights:
        if keras.backend.is_float_dtype(weight.dtype) and not is_finite(weight):
            raise ValueError(
                f"Weight {weight.path!r} holds NaN or infinity: the model cannot be compacted. "
                "Load a checkpoint from before the training diverged."
            )
    tolerance = checks.number(tolerance, "tolerance", "compact")
    round_to = checks.integer(round_to, "round_to", "compact", least=1)
    return tolerance, round_to, checks.flag(dry_run, "dry_run", "compact")
