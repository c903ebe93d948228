"""Variables among workers: hand them out, and tell whether they are still the same."""

import math
import zlib

import numpy as np
import tensorflow as tf

from tf_terngrad.checks import integer, one_of
from tf_terngrad.ternary.distributed import agreement
from tf_terngrad.ternary.distributed.averager import name_of
from tf_terngrad.ternary.transport import transport_of

PIECE = 16 * 2**20
"""Bytes that are broadcast at once."""

BROADCAST = "tf_terngrad.broadcast"


def broadcast_variables(variables, root_rank: int = 0, process_set=None) -> None:
    """Give the variables of all workers the values that one of them has; eager.

    Use it when a loop of your own begins, so that all workers begin with one model.

    Args:
        variables: variables of Keras or TensorFlow, of any types; as many, and of the same shapes, on all workers.
        root_rank: whose values.
        process_set: a `horovod.tensorflow.ProcessSet`, or a `Transport`; None: all of Horovod's workers.

    Raises:
        ValueError: the variables are not alike on all workers; or there is no worker of that rank.
        ModuleNotFoundError, RuntimeError: Horovod is not installed, or not initialized.

    Example:

    ```python
    tt.distributed.broadcast_variables(model.variables + optimizer.variables)
    ```
    """
    variables = list(variables)
    network = transport_of(process_set).ready()
    root_rank = integer(root_rank, "root_rank", "broadcast_variables")
    one_of(root_rank, network.ranks(), "root_rank", "broadcast_variables")
    if network.alone() or not variables:
        return
    lines = [agreement.entry(name_of(v), f"{tf.as_dtype(v.dtype).name} {tuple(v.shape)}") for v in variables]
    agreement.require([f"values of worker {root_rank}", *lines], "The variables", network)
    for group in _groups(variables):
        _broadcast(group, root_rank, network)


def _groups(variables) -> list[list]:
    """Variables whose values travel together: of so many bytes, or one that is larger."""
    groups, size = [], PIECE
    for variable in variables:
        own = tf.as_dtype(variable.dtype).size * math.prod(variable.shape)
        if size + own > PIECE:
            groups.append([])
            size = 0
        groups[-1].append(variable)
        size += own
    return groups


def _broadcast(variables, root_rank, network):
    """In pieces, so that not much is in memory beside the variables: some pieces, or the largest variable three times.

    As bytes: Horovod broadcasts no bfloat16 and no uint32, of which seeds are.
    """
    is_root = network.ranks()[int(network.rank())] == root_rank
    kinds = [tf.as_dtype(variable.dtype) for variable in variables]
    ends = np.cumsum([kind.size * math.prod(v.shape) for kind, v in zip(kinds, variables, strict=True)])
    received = None if is_root else np.zeros(ends[-1], np.uint8)
    for start in range(0, ends[-1], PIECE):
        if is_root:
            network.broadcast(np.concatenate([_bytes(v, start) for v in variables]), root_rank, BROADCAST)
        else:
            piece = slice(start, start + PIECE)
            received[piece] = network.broadcast(received[piece], root_rank, BROADCAST)
    if not is_root:
        for variable, kind, part in zip(variables, kinds, np.split(received, ends[:-1]), strict=True):
            variable.assign(part.view(kind.as_numpy_dtype).reshape(variable.shape))


def _bytes(variable, start):
    """A piece of the variable's bytes; there is another one only where it is alone."""
    flat = tf.reshape(tf.convert_to_tensor(variable), (-1,))
    return flat[start // flat.dtype.size : (start + PIECE) // flat.dtype.size].numpy().view(np.uint8)


def check_replicas(variables, process_set=None) -> None:
    """Check that variables have the same values, bit by bit, on all workers; eager.

    Use it when you want to be sure that the workers still train one model.

    Args:
        variables: variables of Keras or TensorFlow, the same ones on all workers.
        process_set: a `horovod.tensorflow.ProcessSet`, or a `Transport`; None: all of Horovod's workers.

    Raises:
        RuntimeError: on all workers: they differ; it names the first that does, and the workers.
        ModuleNotFoundError, RuntimeError: Horovod is not installed, or not initialized.
    """
    network = transport_of(process_set).ready()
    if network.alone():
        return
    variables = list(variables)
    everyones = network.everyones(checksums(variables), "tf_terngrad.replicas")
    for name, values in zip(map(name_of, variables), zip(*everyones, strict=True), strict=True):
        parties = list(agreement.parties(values).values())
        if len(parties) > 1:
            who = " and ".join(f"workers {ranks}" for ranks in parties)
            raise RuntimeError(
                f"The replicas of the model drifted apart: {name} is not the same on {who}. Everything that changes "
                "weights must be the same everywhere: broadcast the initial state, use one distributed optimizer, and "
                "have no step that looks at one worker's data only."
            )


def checksums(variables) -> list[int]:
    """A number for the values of each variable; of other values, others, but for once in 2^32."""
    return [zlib.crc32(tf.convert_to_tensor(variable).numpy().tobytes()) for variable in variables]
