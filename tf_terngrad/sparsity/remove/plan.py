"""Which units stay: what reaches the output, and what is a constant that its readers can take over."""

import dataclasses

import numpy as np

from tf_terngrad.console import plain_table
from tf_terngrad.keras_internals import may_lose_inputs
from tf_terngrad.sparsity.graph.follow import ALIAS
from tf_terngrad.sparsity.importance import scored
from tf_terngrad.sparsity.remove.windows import find_windows
from tf_terngrad.sparsity.rules import rule_for
from tf_terngrad.sparsity.structure import LEARNED
from tf_terngrad.sparsity.structures import from_graph


class Kept:
    """The units that stay, seen along any axis.

    Attributes:
        windows: the `Window` of each convolution of whose kernel some taps leave, by id of the layer.
    """

    def __init__(self, graph, needed):
        self._stays = _all(needed, graph.grids.needed(np.arange(len(graph.units))))
        self.windows = {}

    def window(self, layer):
        """What changes in the configuration of a convolution whose zero taps leave."""
        return self.windows[id(layer)].settings if id(layer) in self.windows else {}

    def mask(self, channels):
        """Which positions of the axis stay."""
        return self.stays(channels.units)

    def stays(self, units):
        """Which units stay."""
        return self._stays[units]

    def all_stay(self, several):
        """Where all of several units stay, for each of their positions."""
        return _all(self._stays, several)

    def is_zero(self, edge):
        """Whether what stays of a tensor is zero, whatever the model's input."""
        return any((channels.values == 0)[self.mask(channels)].all() for channels in edge.followed)

    def width(self, channels):
        """How many positions stay."""
        return int(self.mask(channels).sum())

    def positions(self, channels, chosen):
        """Where the chosen positions that stay lie among all that stay."""
        mask = self.mask(channels)
        return (np.cumsum(mask) - 1)[chosen[mask[chosen]]]

    def along(self, weight, shape):
        """For each axis of a variable of this shape the positions that stay; `weight` is None if nothing shrinks it."""
        axes = weight.axes if weight else {}
        return [
            np.flatnonzero(self._stays[axes[axis]]) if axis in axes else np.arange(size)
            for axis, size in enumerate(shape)
        ]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What compaction will do.

    Attributes:
        kept: the `Kept` units.
        sites: the places of the model's graphs that stay.
        widths: for each structure (name, kind, size, how many stay).
        removed: paths of the layers that leave altogether.
        frozen: what could not shrink, and why.
        warnings: sentences about chains that had to keep a dead channel.
        then: the `Plan`s of what can only leave once all this has left.
        in_vain: where nothing leaves, a sentence about the nearest member and what would change it.
    """

    kept: Kept
    sites: frozenset
    widths: tuple
    removed: tuple
    frozen: tuple
    warnings: tuple
    then: tuple = ()
    in_vain: str = ""

    @property
    def changes(self):
        """Whether anything leaves."""
        return bool(self.removed or self.kept.windows) or any(size != stay for _, _, size, stay in self.widths)

    def __str__(self):
        changed = [row for row in self.widths if row[2] != row[3]]
        table = plain_table(["structure", "kind", "members", "stay"], changed, text=["kind"])
        lines = [*table.splitlines(), *map(str, self.kept.windows.values())]
        lines += [f"{path}: leaves" for path in self.removed]
        lines = lines or [f"Nothing leaves. {self.in_vain}".strip()]
        if len(changed) < len(self.widths):
            lines.append(f"{len(self.widths) - len(changed)} of {len(self.widths)} structures keep all their members.")
        for plan in self.then:
            lines += ["Then:", str(dataclasses.replace(plan, frozen=()))]
        return "\n".join([*lines, *map(str, self.frozen), *self.warnings])


def make_plan(graph, keep=(), round_to=1, scores="norm"):
    """Find what can leave a followed model without changing its outputs.

    A unit is needed if it is frozen or kept by name, or if a needed column reads it with a weight that is not zero
    while what it emits is not a constant that the column's bias can hold. Needs are found backwards from the output;
    sums and concatenations then drop the inputs that add nothing, which may free more.
    """
    found, frozen = from_graph(graph)
    wanted = _wanted(graph, found, keep)
    spare = np.zeros(len(graph.units), bool)  # dead, but kept where an axis would be empty
    warnings = {}
    while True:
        needed, sites = _needed_and_live(graph, wanted, spare)
        before = spare.copy()
        warnings |= dict.fromkeys(_keep_one(graph, needed | spare, spare, sites))
        if (spare == before).all():
            break
    needed |= spare
    _round_up(found, needed, round_to, scores)
    kept = Kept(graph, needed)
    kept.windows = find_windows(graph, kept, sites)
    live_layers = {id(graph.sites[site].layer) for site in sites}
    removed = {c.path: None for c in graph.calls if id(c.layer) not in live_layers and c.layer is not ALIAS}
    widths = tuple((s.name, s.kind, s.size, int(needed[units].sum())) for s, units in found)
    return Plan(kept, sites, widths, tuple(removed), tuple(frozen), tuple(warnings))


def named_units(graph, found, name):
    """The units of a structure, or of what leaves a layer or anything inside it; None if nothing has that name."""
    for structure, units in found:
        if structure.name == name:
            return units
    calls = [call for call in graph.calls if f"{call.path}/".startswith(f"{name}/")]
    units = [channels.units for call in calls for edge in call.outputs for channels in edge.followed]
    return np.concatenate([np.zeros(0, np.int64), *units]) if calls else None


def _wanted(graph, found, keep):
    """The units that stay whatever their weights: frozen ones and those that are kept by name."""
    wanted = np.zeros(len(graph.units), bool)
    named = [units for name in keep if (units := named_units(graph, found, name)) is not None]
    for units in [*named, *(units for units, _ in graph.frozen)]:
        wanted[graph.grids.needed(units)] = True
    return wanted


def _needed_and_live(graph, wanted, spare):
    """The units that reach the output, and the places that it depends on, those of spare units among them."""
    sites = frozenset(graph.sites)
    while True:
        needed = _needed(graph, wanted, spare, sites)
        left = _live_sites(graph, Kept(graph, needed | spare))
        if left == sites:
            return needed, sites
        sites = left


def _needed(graph, wanted, spare, sites):
    """The units that reach the output, and what spare ones need to emit what their readers hear."""
    needed = wanted.copy()
    readings = [
        (_parts(graph, reading.units), _parts(graph, reading.columns), reading)
        for reading in reversed(graph.readings.values())
        if reading.sites & sites
    ]
    heard = np.zeros(len(spare), bool)
    changed = True
    while changed:
        changed = False
        for units, columns, reading in readings:
            known = _all(needed, units)
            if known.all():
                continue
            staying, silent = needed | spare, spare & ~heard
            speaks = _all(staying, units) & np.logical_or.reduce([silent[each] for each in units])
            rows = ~known & (~reading.constant | speaks)
            if reading.kernel is not None and rows.any():
                alive = _all(needed | heard, columns) if columns else np.ones(1, bool)
                rows[rows] = reading.nonzero[np.ix_(rows, alive)].any(1)
            if rows.any():
                for each in units:
                    needed[each[rows & ~reading.constant]] = heard[each[rows & reading.constant]] = changed = True
    return needed


def _parts(graph, several):
    """The units that each of several units needs, for each of their positions."""
    return [part for units in several for part in graph.grids.needed(units)]


def _all(marked, several):
    """Where all of several units are marked, for each of their positions."""
    return np.logical_and.reduce([marked[units] for units in several])


def _live_sites(graph, kept):
    """The places that the output depends on, when inputs that add nothing are dropped."""
    skips, terms_leave = {}, may_lose_inputs(graph.model)
    for call in graph.calls:
        masked = any(edge.masked for edge in call.inputs)  # what stays of them would hand on another mask
        skippable = rule_for(call.layer).skippable(call, kept) if terms_leave and not masked else set()
        skips[call.site] = skips[call.site] & skippable if call.site in skips else skippable
    sites, edges = set(), {id(edge) for edge in graph.outputs}
    size = -1
    while size != len(sites) + len(edges):
        size = len(sites) + len(edges)
        for call in reversed(graph.calls):
            if call.site in sites or any(id(edge) in edges for edge in call.outputs):
                sites.add(call.site)
                edges |= {id(edge) for i, edge in enumerate(call.inputs) if i not in skips[call.site]}
        for site, entering, leaving in graph.joined:
            if any(id(edge) in edges for edge in leaving):
                sites.add(site)
                edges |= {id(edge) for edge in (*entering, *leaving)}
    return frozenset(sites)


def _keep_one(graph, stays, spare, sites):
    """Add a spare unit to every axis on which nothing would stay; yields where, as a warning."""
    for call in graph.calls:
        if call.site not in sites:
            continue
        for channels in [*call.inside, *(channels for edge in call.outputs for channels in edge.followed)]:
            if _keep(graph, channels, stays, spare, least=1):
                yield f"{call.path}: every channel is dead; one is kept, for a layer cannot be empty."
        for channels, reason in call.pairs:
            if _keep(graph, channels, stays, spare, least=2):
                yield f"{call.path}: one dead channel is kept, for {reason}."
    for edge in graph.features:
        for channels in edge.followed if not graph.is_gathered(edge) else ():
            _keep(graph, channels, stays, spare, least=1)


def _keep(graph, channels, stays, spare, least):
    """Add a spare unit to an axis on which one less than `least` stays; whether that was so."""
    parts = graph.grids.needed(channels.units)
    staying = _all(stays, parts)
    if staying.sum() != least - 1 or len(staying) < least:
        return False
    nearest = np.argmax(np.where(staying, -1, stays[parts].sum(0)))
    stays[parts[:, nearest]] = spare[parts[:, nearest]] = True
    return True


def _round_up(found, needed, round_to, scores):
    """Keep dead members, the most important first, until widths are multiples of `round_to` (or all members stay)."""
    if round_to == 1:
        return
    for structure, units in found:
        stay = int(needed[units].sum())
        missing = min(-stay % round_to, structure.size - stay)
        if structure.kind not in ("input", *LEARNED) and stay and missing:
            dead = np.flatnonzero(~needed[units])
            best = dead[np.argsort(-scored(structure, scores, "compact")[dead], kind="stable")]
            needed[units[best[:missing]]] = True
