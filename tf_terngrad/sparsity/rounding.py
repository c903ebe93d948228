"""Widths that the hardware likes: what `round_to` means where members may leave for it."""

from tf_terngrad import checks

MOST = 8  # "auto" takes at most one of so many members


def rounded_down(costs, round_to, owner):
    """The function (name of a structure, members) -> members that `round_to` means; it gives no more than it is given.

    Args:
        costs: the `Costs` of the model.
        round_to: an integer, of which widths are multiples (smaller ones stay as they are); or "auto": the width with
            the least milliseconds a member, of those that lose at most one member of eight.
        owner: the function whose argument it is, for errors.
    """
    if isinstance(round_to, str):
        checks.one_of(round_to, ["auto"], "round_to", owner)
        return _Fastest(costs)
    step = checks.integer(round_to, "round_to", owner, least=1)
    return lambda name, count: count // step * step or count


class _Fastest:
    """Looks for the fastest width near another, once for each."""

    def __init__(self, costs):
        self._costs, self._known = costs, {}

    def __call__(self, name, count):
        if (name, count) not in self._known:
            widths = range(count - count // MOST, count + 1)
            self._known[name, count] = min(widths, key=lambda width: (self._each(name, width), -width)) if count else 0
        return self._known[name, count]

    def _each(self, name, width):
        """Milliseconds a member of the model with so many; the rest of it is whole."""
        less = self._costs.latency - self._costs.of({name: width}).latency
        return (self._alone(name) - less) / width

    def _alone(self, name):
        """Milliseconds that leave with all members of a structure."""
        return self._costs.latency - self._costs.of({name: 0}).latency
