"""Random numbers of workers: each has a stream of its own, or dropout and augmentation would be the same on all."""

import hashlib

from tf_terngrad.keras_internals import seed_states
from tf_terngrad.ternary.transport import Transport

_SEEDS = 10**9  # as many as Keras draws from


def keep_apart(model, network: Transport) -> None:
    """Give generators of random numbers that have the same seed on several workers a seed for each of these workers.

    The first worker keeps its seed. The other ones' follow from it and from their rank, so that a training that begins
    again has the same ones. Seeds that differ stay: a second time, nothing changes.

    Args:
        model: whose layers have the generators; as many on all workers.
        network: of the workers.
    """
    states = seed_states(model)
    everyones = network.everyones([int(state.numpy()[0]) for state in states], "tf_terngrad.seeds")
    rank = int(network.rank())
    for position, state in enumerate(states):
        seed = _distinct([theirs[position] for theirs in everyones])[rank]
        if seed != everyones[rank][position]:
            state.assign([seed, state.numpy()[1]])


def _distinct(seeds) -> list[int]:
    """The seeds of workers, each changed until no worker of a smaller rank has it."""
    known = []
    for rank, seed in enumerate(seeds):
        while seed in known:
            seed = stream([seed, 0], rank)[0]
        known.append(seed)
    return known


def stream(state, rank: int) -> list[int]:
    """The state of a generator on another worker: an own seed, and as many numbers drawn.

    >>> stream([7, 20], 1) == stream([7, 20], 1)
    True
    """
    seed, drawn = (int(part) for part in state)
    digest = hashlib.blake2b(f"{seed} {rank}".encode(), digest_size=8).digest()
    return [1 + int.from_bytes(digest) % _SEEDS, drawn]
