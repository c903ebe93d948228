"""Compare a model with its compacted self: which layer became which, and what it costs now."""

import collections
import math
from collections.abc import Mapping

import keras
import numpy as np

from tf_terngrad.sparsity.costs import layer_costs
from tf_terngrad.sparsity.graph.open import opened
from tf_terngrad.sparsity.remove.fates import known_fates
from tf_terngrad.sparsity.remove.needs import needs
from tf_terngrad.sparsity.report.content import Matrix, Report, Row
from tf_terngrad.sparsity.report.heads import allowed_in, heads_of, looks_of, of_scores, projections
from tf_terngrad.sparsity.report.pictures import matrix_masks, weight_matrix
from tf_terngrad.sparsity.rules import rule_for
from tf_terngrad.sparsity.rules.activation import shown_by_numbers
from tf_terngrad.sparsity.rules.bare import BareWeight


def compare(model, small, *, metrics=None, history=None, notes=(), input_shapes=None, title=None, examples=None):
    """Compare a model with its compacted self, layer by layer.

    Use it when you want to see, or show others, what compaction took out and what it gained.

    Layers are matched by name. The report keeps copies of the weights; training on does not change it.

    Args:
        model: a built model.
        small: what `compact` made of it.
        metrics: numbers measured on both, {title: (before, after) or (before, after, unit)}; see `Report.add`.
        history: training curves: what `fit` returned, a dict of lists, or a list of these for runs in a row.
        notes: sentences for the reader, or a mapping {what: why} of what could not shrink.
        input_shapes: shapes of one example, one for each input; needed when the model leaves sizes open.
        title: the report's title; the model's name by default.
        examples: data of the model, an array or one for each input: the report then shows what each attention head
            looks at, on the first 64 of them.

    Returns:
        A `Report`.

    Raises:
        TypeError: not Keras models, or a metric that is no number.
        ValueError: a model is not built, inputs or outputs do not correspond, no layer has its name in both, the
            weights are not finite, an input leaves a size open and `input_shapes` does not say it, or `examples` are
            not as many as the inputs.

    Example:

    ```python
    report = tt.compare(model, small, metrics={"test error": (0.9, 0.9, "%")}, history=model.fit(...))
    print(report)
    report.to_html("report.html")
    ```
    """
    model, small = opened(model), opened(small)
    _check_ports(model, small)
    before, after = layer_costs(model, input_shapes), layer_costs(small, input_shapes)
    known = {id(fate.old): fate for fate in known_fates(small) or () if fate.old is not None}
    pairs = _pairs(before, after)
    rows = [_row(*pair, known) for pair in pairs]
    if not any(row.matters and not row.status for row in rows) and any(row.matters for row in rows):
        raise ValueError(
            f"No layer of '{small.name}' has the name of a layer of '{model.name}'. Expected the model and its "
            f"compacted self. Received: {small.name} with layers {[layer.name for layer in small.layers]}"
        )
    unknown = sorted({row.type for row in rows if None in row.multiply_adds})
    remedy = [
        f"Multiply-adds do not count layers of type {kind}: nothing is known of it. See `register_cost`."
        for kind in unknown
    ]
    totals = [tuple(sum(cost.multiply_adds or 0 for cost in costs) for costs in (before, after))]
    shown = shown_by_numbers((cost.path, cost.layer) for cost in before)
    heads = heads_of(pairs, known, allowed_in(model), {} if examples is None else looks_of(model, examples))
    notes = [
        *_notes(notes),
        *remedy,
        *shown,
        *_by_operations(pairs),
        *_unknown_parts(rows, model, small),
        *filter(None, [needs(small), *map(of_scores, heads)]),
    ]
    report = Report(title or model.name, rows, [], _curves(history), notes, heads)
    report.add("parameters", model.count_params(), small.count_params())
    report.add("multiply-adds", *totals[0])
    for name, values in (metrics or {}).items():
        report.add(name, *values)
    return report


def _check_ports(model, small):
    for side in ("inputs", "outputs"):
        shapes = [[tuple(tensor.shape) for tensor in getattr(each, side)] for each in (model, small)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"The {side} of the models do not correspond. Expected '{small.name}' to have the shapes of "
                f"'{model.name}', {shapes[0]}. Received: {shapes[1]}"
            )


def _pairs(before, after):
    """(cost before, cost after) a layer; None where there is no partner.

    First by path, then by the last name in it, then with the only layer with weights inside of a model of that path.
    """
    partners = {cost.path: cost for cost in after}
    pairs = {cost.path: partners.pop(cost.path, None) for cost in before}
    alone = collections.Counter(_last(path) for path, partner in pairs.items() if partner is None)
    moved = collections.Counter(map(_last, partners))
    for path, partner in pairs.items():
        if partner is None and alone[_last(path)] == moved[_last(path)] == 1:
            pairs[path] = partners.pop(next(other for other in partners if _last(other) == _last(path)))
    for path, partner in pairs.items():
        inside = [name for name, cost in partners.items() if name.startswith(f"{path}/") and _weights(cost)]
        if partner is None and len(inside) == 1:
            pairs[path] = partners.pop(inside[0])
    return [(cost, pairs[cost.path]) for cost in before] + [(None, cost) for cost in partners.values()]


def _weights(cost):
    return getattr(cost.layer, "weights", ())


def _last(path):
    return path.rsplit("/", 1)[-1]


def _row(before, after, known):
    layer = before or after
    pair = (before, after)
    return Row(
        layer.path,
        _types([cost.layer for cost in pair if cost]),
        tuple(_width(cost) if cost else 0 for cost in pair),
        tuple(sum(math.prod(w.shape) for w in _weights(cost)) if cost else 0 for cost in pair),
        tuple(cost.multiply_adds if cost else 0 for cost in pair),
        _matrices(before, after, known) if before else (),
    )


def _types(layers):
    """What a layer is called, before and after where that differs, and so the sizes of a convolution's kernel."""
    sizes = ["x".join(map(str, np.ravel(getattr(layer, "kernel_size", ())))) for layer in layers]
    pairs = [dict.fromkeys(map(_type, layers)), *([sizes] if len(set(sizes)) > 1 and all(sizes) else [])]
    return " ".join(" → ".join(pair) for pair in pairs)


def _type(layer):
    """What a layer is called; a weight that a user's call takes by itself is none."""
    return "weight" if isinstance(layer, BareWeight) else type(layer).__name__


def _width(cost):
    """How many units, filters or channels a layer gives."""
    known = rule_for(cost.layer).axes(cost.layer)
    for weight in _weights(cost):
        if weight.name in known and known[weight.name].makes_outputs:
            return math.prod(weight.shape[axis] for axis in known[weight.name].outputs)
    axis = getattr(cost.layer, "axis", -1)
    return cost.shape[axis if isinstance(axis, int) else -1] if cost.shape else 1


def _named(layer):
    """The weights of a layer by name; of a name that comes again, with its number, as in stacked cells.

    Those of an attention layer's projections have the projection's name too.
    """
    seen = collections.Counter()
    names = {id(part.kernel): part.name for part in projections(layer).values()}
    for weight in getattr(layer, "weights", ()):
        if names and id(weight) not in names:
            continue  # biases of two axes, which say nothing that the kernels do not
        name = f"{names[id(weight)]} {weight.name}" if names else weight.name
        seen[name] += 1
        yield name + (f" {seen[name]}" if seen[name] > 1 else ""), weight


def _holder(layer, weight):
    """The projection of an attention layer that holds a weight; of any other layer, itself."""
    return next((part for part in projections(layer).values() if part.kernel is weight), layer)


def _matrices(before, after, known):
    """Copies of a layer's weights of two axes or more, as matrices."""
    partners = dict(_named(after.layer)) if after else {}
    found = []
    for name, weight in _named(before.layer):
        if len(weight.shape) < 2 or "float" not in weight.dtype:
            continue
        holder = _holder(before.layer, weight)
        outputs = getattr(rule_for(holder).axes(holder).get(weight.name), "outputs", ()) or -1
        pair = [
            None if each is None else weight_matrix(keras.ops.convert_to_numpy(each), outputs).copy()
            for each in (weight, partners.get(name))
        ]
        if not all(np.isfinite(matrix).all() for matrix in pair if matrix is not None):
            raise ValueError(f"Layer '{before.path}': expected finite weights. Received NaN or infinity in {name}")
        found.append((name, *pair, _kept(weight, pair[1], outputs, known)))
    return tuple(Matrix(before.path if len(found) == 1 else f"{before.path} {name}", *rest) for name, *rest in found)


def _kept(weight, after, outputs, known):
    """Which rows and columns of a weight's matrix stay: none if its layer left; None where it is not known."""
    fate = known.get(id(weight))
    if after is not None and (fate is None or fate.new is None):
        return None
    kept = [np.zeros(0, int)] * len(weight.shape) if after is None else fate.kept
    masks = [np.isin(np.arange(size), positions) for size, positions in zip(weight.shape, kept, strict=True)]
    return matrix_masks(masks, outputs)


def _by_operations(pairs):
    """A sentence for each type of layer that operations compute now, for no layer of the type has a part of a width."""
    names = collections.defaultdict(list)
    for before, after in pairs:
        if before and after and after.path.startswith(f"{before.path}/"):
            names[type(before.layer).__name__, type(after.layer).__name__].append(before.path)
    for (old, new), (first, *others) in names.items():
        more = f" and {len(others)} more" if others else ""
        yield f"{first}{more}: what stays of the {old} is a model of operations, with its weights in an {new}."


def _unknown_parts(rows, model, small):
    """A sentence for the reader if it is not known which rows and columns left."""
    if any(matrix.kept is None and matrix.lost for row in rows for matrix in row.matrices):
        yield (
            f"The pictures do not mark what left: compact() did not make '{small.name}' of '{model.name}' in this "
            "process, and a file does not keep which rows and columns of a weight stayed."
        )


def _curves(history):
    """Training curves of one run or of several in a row, by name; NaN where a run has no such curve."""
    runs = history if isinstance(history, (list, tuple)) else [history] if history else []
    runs = [getattr(run, "history", run) for run in runs]
    if not all(isinstance(run, Mapping) for run in runs):
        raise TypeError(
            f"Expected history as `fit` returns it, a dict of lists, or a list of these. Received: {history!r}"
        )
    runs = [{name: np.ravel(values).astype(float) for name, values in run.items()} for run in runs]
    lengths = [max(map(len, run.values()), default=0) for run in runs]
    curves = {name: np.full(sum(lengths), np.nan) for run in runs for name in run}
    for run, end in zip(runs, np.cumsum(lengths, dtype=int), strict=True):
        for name, values in run.items():
            start = end - max(map(len, run.values()))
            curves[name][start : start + len(values)] = values
    return curves


def _notes(notes):
    """Sentences; a mapping {what: why} becomes one sentence a reason."""
    if isinstance(notes, str):
        return [notes]
    if not isinstance(notes, Mapping):
        return [str(note) for note in notes]
    reasons = {}
    for what, why in notes.items():
        reasons.setdefault(str(why), []).append(str(what))
    return [f"{', '.join(names)}: {why}" for why, names in reasons.items()]
