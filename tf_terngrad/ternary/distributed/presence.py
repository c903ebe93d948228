"""Whether all workers take part in a step, and what they tell one another where one does not.

In each step the workers agree before anything is exchanged (`averager`). One that takes no part in it, as its data have
ended, a callback has stopped it or something has failed there, answers in its place: the others then leave that step
undone, before it moves a weight, and ask what has happened.
"""

import contextlib
import weakref

import tensorflow as tf

AGREEMENT = "tf_terngrad.gradients.agreement"
"""What the workers ask before each exchange, whatever they are about to exchange."""

LEFT = "tf_terngrad: a worker takes no part in this step"
JOINED = (
    "A worker has called hvd.join(), and gradients cannot be averaged over those that are left. Give every worker as "
    "many batches, or train with fit: it ends an epoch for all where the first worker's data end."
)
SHOWN = 500
"""Characters of an error's message."""

PRESENT, ABSENT = 0, 1
_NEUTRAL = tf.int64.min

_records = weakref.WeakKeyDictionary()
_running = []


class AnotherFailed(RuntimeError):
    """Another worker has failed, and ends; an elastic run goes on without it."""


@contextlib.contextmanager
def of(model):
    """The `Presence` of a model that is trained meanwhile: the agreements of its steps are noted there."""
    _running.append(_records.setdefault(model, Presence()))
    try:
        yield _running[-1]
    finally:
        _running.pop().active = False


def known_of(model):
    """The `Presence` of a model that is trained now."""
    return _records.get(model, Presence())


def agreed(most: tf.Tensor, least: tf.Tensor, absent: tf.Tensor, network) -> list:
    """What has to have run before gradients are exchanged: all workers take part in the step.

    Args:
        most: the greatest digest of any worker, positive.
        least: the least, positive too where each of them has given one.
        absent: whether a worker has answered that it takes no part.
        network: of the workers.
    """
    if _running:
        _running[-1].network = network
    here = tf.debugging.Assert(absent == PRESENT, [LEFT])
    all_here = tf.debugging.Assert((least > 0) | (most <= 0) | (absent != PRESENT), [JOINED])
    return [check for check in (here, all_here) if check is not None]


class Presence:
    """What is known of the steps of a model that trains on several workers.

    Attributes:
        active: whether workers wait for this one if it stops.
        network: of the workers; None: there are no others, as far as is known.
    """

    def __init__(self):
        self.network = None
        self.active = False

    @property
    def shared(self):
        """Whether there are others."""
        return self.network is not None and not self.network.alone()

    def meet(self, at, text="", **more) -> list:
        """Meet the others where they are, and tell them where this worker is.

        Args:
            at: "epoch", "decision", "end": they come there too, and are met again until all have; or "failure".
            text: what has happened.
            more: further values for them.

        Returns:
            What each worker has told, a list of dictionaries.

        Raises:
            AnotherFailed: one of them has.
        """
        while True:
            self.network.maximum(tf.constant([_NEUTRAL] * 4 + [ABSENT], tf.int64), AGREEMENT)
            everyones = self.ask(at, text, **more)
            if at == "failure" or all(each["at"] == at for each in everyones):
                return everyones

    def ask(self, at, text="", **more) -> list:
        """The second half of `meet`, all there is to do in a step that others do not take part in."""
        everyones = self.network.everyones({"at": at, "text": text, **more}, "tf_terngrad.lockstep")
        failed = {rank: each["text"] for rank, each in enumerate(everyones) if each["at"] == "failure"}
        if failed and at != "failure":
            self.active = False
            told = "; ".join(f"worker {rank}: {text}" for rank, text in failed.items())
            raise AnotherFailed(f"This worker ends, for another one has failed. {told}")
        return everyones

    def failed(self, error):
        """Tell the others, who would wait; not of what the network itself has told."""
        if not (self.active and self.shared) or self.network.tells_of(error):
            return
        self.active = False
        self.meet("failure", f"{type(error).__name__}: {str(error)[:SHOWN]}")
