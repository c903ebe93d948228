"""What is said of a training or a compaction in which nothing leaves: how far the nearest group was, what to change.

It is said by Python's `logging`, as "tf_terngrad", and not as a warning: programs that make errors of warnings go on.
"""

import logging

import numpy as np

from tf_terngrad.sparsity.learn import updates

LOG = logging.getLogger("tf_terngrad")


def say(sentence) -> None:
    """Log a sentence, if there is one."""
    if sentence:
        LOG.warning("%s", sentence)


def of_training(sparsity, before=None, epochs=0) -> str:
    """What to say of a training that ended under `sparsify`; nothing if a group is zero or has left, or it is off.

    Args:
        sparsity: what `sparsify` returned.
        before: what `norms_of` gave before the training, which says how fast groups shrink.
        epochs: that it took.
    """
    if sparsity.budgeted:
        return sparsity.budgeted.missed()
    strength = float(sparsity.strength.numpy())
    if sparsity.left or not (strength or sparsity.waits_for_loss):
        return ""
    start = f"tt.sparsify: no group of model {sparsity.model.name!r} is zero after this training"
    first = sparsity.structures[0]
    if all(structure.fixed for structure in sparsity.structures):
        return f"{start}, for none can be: {first.name}: {first.fixed}. Let layers train, and compile again."
    if sparsity.waits_for_loss:
        return f"{start}, for `ratio` has set no strength: the loss was never finite, or nothing trained."
    after = norms_of(sparsity.structures)
    norm, text = nearest(after)
    pace = _pace(before, after, epochs) if before else ""
    return f"{start}. {text} {pace}{_remedy(sparsity, strength)}" if norm else ""


def of_compaction(found, tolerance) -> str:
    """What to say of a compaction that takes nothing out of a model with these structures."""
    if not found:
        return "No structure can shrink: `tt.structures(model).frozen` says why."
    norm, text = nearest(norms_of(found))
    if not norm:
        return f"{text} It stays for `keep` or `round_to`, or because a layer cannot be empty."
    remedy = f"Train with `tt.sparsify` longer or with a larger strength, or give a `tolerance` (now {tolerance:g})."
    return f"{text} {remedy}"


def of_regularizer(variable, norms) -> str:
    """What to say of a regularizer of one weight whose groups have these norms."""
    norms = np.ravel(norms)
    return (
        f"tt.regularizers: no group of weight {variable.path!r} is zero after this training. The nearest, number "
        f"{norms.argmin()} of {norms.size}, has the norm {norms.min():.3g}. These penalties only come near zero: train "
        "with callbacks=[tt.callbacks.ZeroSmallWeights(threshold)], or with `tt.sparsify`, which makes exact zeros."
    )


def norms_of(found) -> list:
    """(structure, its members' norms) of what training can take out, over what trains."""
    free = [structure for structure in found if not structure.fixed] or found
    return [(each, np.nan_to_num(each.norms(trainable=not each.fixed), nan=np.inf)) for each in free]


def nearest(norms):
    """The least of the norms that `norms_of` gave, and a sentence about that member."""
    structure, own = min(norms, key=lambda pair: pair[1].min())
    text = (
        f"The nearest group, member {own.argmin()} of {structure.name!r} ({structure.kind}), has the norm "
        f"{own.min():.3g}; the median there is {np.median(own):.3g}."
    )
    return own.min(), text


def _pace(before, after, epochs):
    """A sentence on when the first group will be zero, if all go on as they went."""
    pairs = [(then, now) for (one, then), (other, now) in zip(before, after, strict=False) if one is other]
    then, now = (np.concatenate(norms) for norms in zip(*pairs, strict=True)) if pairs else (np.zeros(0),) * 2
    falls = now < then
    if not (falls.any() and epochs):
        return ""
    more = np.ceil(epochs * (now[falls] / (then[falls] - now[falls])).min())
    return f"At the pace of these {epochs:,} epochs the first group would be zero after about {more:,.0f} more. "


def _remedy(sparsity, strength):
    if sparsity.method == "subgradient":
        return (
            f"Only weights below threshold={sparsity.threshold:g} become zero: train longer, with a larger strength "
            f"(now {strength:.3g}) or threshold, or with method='proximal'."
        )
    optimizer = updates.with_a_rate(getattr(sparsity.model, "optimizer", None))
    rate = f" or learning rate (now {float(optimizer.learning_rate.numpy()):.3g})" if optimizer else ""
    return f"Train longer, or with a larger strength (now {strength:.3g}){rate}."
