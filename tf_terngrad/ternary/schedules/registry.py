"""Which schedules there are, and which of them costs least."""

import functools

import tensorflow as tf

from tf_terngrad.checks import own_name, refusal
from tf_terngrad.ternary.cost import GIGABIT, Link
from tf_terngrad.ternary.schedules.schedule import LARGEST, Schedule


class Automatic(Schedule):
    """Of the registered schedules the one that costs least, for the number of workers that there are now.

    Nobody measures the link: it is taken for one of 1 Gb/s, and a worker to have a core for itself. Nor is it asked
    where a graph does not know the size, as of `tf.IndexedSlices`: the first schedule that can carry those serves them.
    """

    name = "auto"
    private_scales = True

    def run(self, load):
        able = _able(load.shared)
        size = load.gradient.shape[0]
        if size is None or len(able) == 1:
            return able[0].average(load)
        if tf.executing_eagerly():
            return _choose(able, size, int(load.transport.size()), load.levels, GIGABIT).average(load)
        best = [_choose(able, size, workers, load.levels, GIGABIT) for workers in range(1, LARGEST + 1)]
        used = list(dict.fromkeys(best))
        if len(used) == 1:
            return used[0].average(load)
        index = tf.gather([used.index(one) for one in best], tf.minimum(load.transport.size(), LARGEST) - 1)
        # in the graph, for all workers must choose alike when their number changes
        return tf.switch_case(index, [functools.partial(schedule.average, load) for schedule in used])

    def bytes(self, size, workers, levels=1):
        return choose(size, workers, levels).bytes(size, workers, levels)

    def seconds(self, size, workers, levels=1, link=GIGABIT, cores=1):
        return choose(size, workers, levels).seconds(size, workers, levels, link, cores)

    @property
    def signature(self):
        return f"auto of {', '.join(SCHEDULES)}"


SCHEDULES: dict[str, Schedule] = {}
"""The registered schedules, by name; "auto" chooses among them."""

AUTOMATIC = Automatic()


def register_schedule(schedule: Schedule) -> Schedule:
    """Have `TernGrad(schedule=)` take a schedule by its name, and "auto" choose it where it costs least.

    Use it when a schedule of your own is to be loaded again with a saved `TernGrad`, or chosen by its costs. All
    workers register the same ones.

    Args:
        schedule: an instance of a class of yours.

    Returns:
        The schedule.

    Raises:
        TypeError: it is no `Schedule`.
        ValueError: another one has its name.
    """
    if not isinstance(schedule, Schedule):
        raise TypeError(refusal("register_schedule", "schedule", "an instance of a class of Schedule", schedule))
    own_name(_known(), schedule, "schedule", "register_schedule")
    SCHEDULES[schedule.name] = schedule
    return schedule


def schedule_of(value, owner: str = "TernGrad") -> Schedule:
    """The schedule of a name, or the schedule itself.

    Raises:
        ValueError: none is registered under this name; or it is another one than that which has its name.
        TypeError: it is neither a name nor a schedule.

    >>> schedule_of("words")
    <schedule 'words'>
    """
    if isinstance(value, Schedule):
        own_name(_known(), value, "schedule", owner)
        return value
    known = _known()
    expected = f"one of {', '.join(map(repr, known))}, or a Schedule"
    if not isinstance(value, str):
        raise TypeError(refusal(owner, "schedule", expected, value))
    if value not in known:
        raise ValueError(refusal(owner, "schedule", expected, value, "register_schedule makes others known"))
    return known[value]


def is_registered(schedule: Schedule) -> bool:
    """Whether a schedule's name stands for it, so that it can be saved."""
    return _known().get(schedule.name) == schedule


def choose(size: int, workers: int, levels: int = 1, link: Link = GIGABIT) -> Schedule:
    """The registered schedule that takes the least time, of those that can hold the sums; what "auto" asks.

    Use it when your link is not one of 1 Gb/s: `TernGrad(schedule=choose(size, workers, link=Link(rate=1e8)))`.

    Args:
        size: how many elements.
        workers: N.
        levels: L.
        link: what connects the workers.

    Raises:
        TypeError, ValueError: a negative size, or no workers.

    >>> [choose(5_000_000, workers).name for workers in (2, 4, 64)]
    ['bytes', 'shards', 'shards']
    """
    return _choose(_able(shared=True), size, workers, levels, link)


@functools.cache
def _choose(able, size, workers, levels, link):
    holding = [schedule for schedule in able if schedule.holds(workers, levels)]
    return min(holding, key=lambda schedule: schedule.seconds(size, workers, levels, link))


def _able(shared) -> tuple[Schedule, ...]:
    """Those that can carry such scales."""
    return tuple(schedule for schedule in SCHEDULES.values() if shared or schedule.private_scales)


def _known():
    return SCHEDULES | {AUTOMATIC.name: AUTOMATIC}
