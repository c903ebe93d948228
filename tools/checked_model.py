"""One model checked: a share of its structures zeroed, compacted, and compared with itself. Not a command."""

import collections
import dataclasses
import time

import keras
import numpy as np

import tf_terngrad as tt

TOLERANCE = 1e-4
TITLES = (
    "model",
    "structures",
    "members",
    "can leave",
    "weights",
    "difference",
    "spread",
    "seconds",
    "result",
    "frozen",
)


@dataclasses.dataclass
class Check:
    """What was seen of a model."""

    name: str
    structures: int
    members: int
    zeroed: int
    reach: float
    frozen: collections.Counter
    weights: tuple
    difference: float
    spread: float
    seconds: float
    broken: list

    def row(self):
        """The cells of its row in the table, `TITLES`."""
        why = "; ".join(f"{count} {reason}" for reason, count in self.frozen.most_common()) or "nothing"
        result = "ok" if not self.broken else f"BROKEN: {', '.join(self.broken)}"
        before, after = (count / 1e6 for count in self.weights)
        return (
            *(self.name, self.structures, f"{self.members} -> {self.members - self.zeroed}"),
            f"{self.reach:.0%}",
            *(f"{before:.2f}M -> {after:.2f}M", f"{self.difference:.0e}", f"{self.spread:.0e}"),
            *(f"{self.seconds:.1f}", result, why),
        )


def check_model(name, model, inputs, share=1 / 3, seed=0):
    """Zero a share of the structures of a model, compact it, and compare on inputs of two examples or more."""
    rng = np.random.default_rng(seed)
    start = time.perf_counter()
    found = tt.structures(model)
    seconds = time.perf_counter() - start
    stay = {id(variable): [set(range(size)) for size in variable.shape] for variable in model.variables}
    members = zeroed = 0
    for structure in (structure for structure in found if structure.kind != "branch"):
        dead = rng.choice(structure.size, int(structure.size * share), replace=False)
        structure.zero(dead)
        members, zeroed = members + structure.size, zeroed + len(dead)
        for piece in structure.slices:
            stay[id(piece.variable)][piece.axis] -= {*piece.indices[dead].ravel().tolist()}
    before = [np.array(weight.numpy()) for weight in model.weights]
    start = time.perf_counter()
    small = tt.compact(model)
    seconds += time.perf_counter() - start
    outputs, compacted = (_outputs(each, inputs) for each in (model, small))
    scale = [np.abs(output).max() for output in outputs]
    difference = max(np.abs(a - b).max() / c for a, b, c in zip(outputs, compacted, scale, strict=True))
    spread = max(np.ptp(output, axis=0).max() / c for output, c in zip(outputs, scale, strict=True))
    widths = {id(fate.old): fate.kept for fate in tt.fates(small) if fate.new is not None and fate.old is not None}
    laws = {
        "outputs differ": not difference <= TOLERANCE,
        "outputs do not depend on the input": not spread > 100 * TOLERANCE,
        # What a layer that is carried over draws random numbers with is a variable, and no weight.
        "widths": any(list(map(len, widths[key])) != list(map(len, stay[key])) for key in widths.keys() & stay.keys()),
        "the model was changed": not all((a == b.numpy()).all() for a, b in zip(before, model.weights, strict=True)),
        "compacting again changes something": tt.compact(small, dry_run=True).changes,
    }
    counts = model.count_params(), small.count_params()
    broken = [law for law, is_broken in laws.items() if is_broken]
    covered = {id(piece.variable): piece.variable for structure in found for piece in structure.slices}
    reach = sum(np.prod(variable.shape) for variable in covered.values()) / max(counts[0], 1)
    return Check(name, len(found), members, zeroed, reach, _reasons(found), counts, difference, spread, seconds, broken)


def _outputs(model, inputs):
    return [np.asarray(output, np.float64) for output in keras.tree.flatten(model(inputs, training=False))]


def _reasons(found):
    """How many channels are frozen for each reason, without the layers' names and the model's own outputs."""
    reasons = collections.Counter()
    for frozen in found.frozen:
        kinds = {reason.split(": ", 1)[-1] for reason in frozen.reasons} - {"the model's output"}
        if kinds:
            reasons[", ".join(sorted(kinds))] += frozen.size
    return reasons
