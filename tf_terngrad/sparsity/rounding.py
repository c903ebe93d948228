"""Widths that the hardware likes: what `round_to` means wherever members leave for it.

Each structure has *allowed widths*, and ends at one of them. Members between two of them leave together or not at all.

- `round_to=8`: the multiples of 8. A structure that has fewer members may have any width.
- `round_to="auto"`: the widths at which a member costs least, by the milliseconds of `tt.costs(model).latency`. Between
  two of them the model would be hardly faster than at the larger one.
"""

import numpy as np

from tf_terngrad import checks

REACH = 32
"""How many widths further down "auto" looks: two steps of 16, what two registers of a processor hold."""

CLOSE = 0.75
"""The share of the most that a member can save, from which on a width counts as good as the best one."""

ROUNDINGS = ("down", "nearest")


def checked(round_to, owner: str) -> int | str:
    """An integer of at least one, or "auto".

    Args:
        round_to: what a user gave.
        owner: the function that was given it.

    Raises:
        TypeError: it is neither an integer nor a text.
        ValueError: it is below one, or another text.
    """
    if isinstance(round_to, str):
        return checks.one_of(round_to, ["auto"], "round_to", owner)
    return checks.integer(round_to, "round_to", owner, least=1)


def allowed_widths(round_to, structures, costs) -> list[np.ndarray]:
    """The widths that each structure may end at, increasing; of branches, which leave whole, zero and one.

    Args:
        round_to: as `checked` gives it.
        structures: those whose members may leave, a list of `Structure`.
        costs: `Costs` of their model; they are asked only for "auto".
    """
    numbers = {each.name: number for number, each in enumerate(costs.structures)}

    def widths(structure):
        if not structure.least:
            return np.arange(structure.size + 1)
        if round_to == "auto":
            return fastest(milliseconds(costs, numbers[structure.name]))
        return multiples(structure.size, round_to)

    return list(map(widths, structures))


def multiples(size: int, step: int) -> np.ndarray:
    """The multiples of a step up to a size; all widths, where there is none.

    >>> multiples(50, 16), multiples(3, 16)
    (array([16, 32, 48]), array([1, 2, 3]))
    """
    return np.arange(step, size + 1, step) if size >= step else np.arange(1, size + 1)


def milliseconds(costs, number: int) -> np.ndarray:
    """What depends on a structure of the latency, at each number of members from none to all; the others are whole.

    Args:
        costs: `Costs` of a model.
        number: the place of the structure in `costs.structures`.
    """
    terms = [term for term in costs.terms("latency") if number in term.owners]
    shares, size = np.ones(len(costs.structures) + 1), costs.structures[number].size
    found = np.zeros(size + 1)
    for count in range(size + 1):
        shares[number] = count / size
        found[count] = sum(term.value(shares) for term in terms)
    return found


def fastest(times: np.ndarray) -> np.ndarray:
    """The widths at which a member costs least, found from the whole width down.

    From an allowed width b, a smaller one w saves (t(b) - t(w)) / (b - w) with each member that leaves. The next one is
    the largest w within reach that saves nearly as much so as the best one: where times rise in steps, the next step;
    on a straight line, b - 1. The whole width is left out itself where its last members cost much more than those
    below: of a hundred, in steps of 16, the last four cost as much as the sixteen before.

    Args:
        times: t, the milliseconds at each width from zero on.

    >>> fastest(np.ceil(np.arange(101) / 16))
    array([16, 32, 48, 64, 80, 96])
    """
    widths = [len(times) - 1]
    while (lower := _next(times, widths[-1])) is not None:
        widths.append(lower)
    if len(widths) > 1:
        whole, second = widths[:2]
        price = (times[whole] - times[second]) / (whole - second)
        _, savings = _lower(times, second, least=0)
        widths = widths[1:] if CLOSE * price > savings.max() else widths
    return np.array(widths[::-1])


def _next(times, width):
    """The next allowed width below one; None: at no smaller one the model is faster."""
    lower, savings = _lower(times, width, least=1)
    most = savings.max(initial=0.0)
    return int(lower[savings >= CLOSE * most].max()) if most > 0 else None


def _lower(times, width, least):
    """The widths within reach below one, and what each member saves that leaves; further, until one of them saves."""
    reach = REACH
    while True:
        lower = np.arange(max(width - reach, least), width)
        savings = (times[width] - times[lower]) / (width - lower)
        if savings.max(initial=0.0) > 0 or width - reach <= least:
            return lower, savings
        reach *= 2


def at_most(widths: np.ndarray, count: int) -> int:
    """The largest allowed width up to a number of members; the number itself, where all are larger.

    >>> at_most(np.array([8, 16]), 15), at_most(np.array([8, 16]), 5)
    (8, 5)
    """
    below = widths[widths <= count]
    return int(below[-1]) if len(below) else count


def nearest(widths: np.ndarray, count: int) -> int:
    """As `at_most`, but a number stays that is no nearer to the allowed width below it than to the one above.

    >>> [nearest(np.array([8, 16]), count) for count in (11, 12, 13, 19)]
    [8, 12, 13, 16]
    """
    above = widths[widths > count]
    return count if len(above) and above[0] - count <= count - at_most(widths, count) else at_most(widths, count)
