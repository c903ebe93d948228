"""Variables among workers: hand them out, and tell whether they are still the same."""

import zlib

import numpy as np
import tensorflow as tf

from tf_terngrad.ternary import transport
from tf_terngrad.ternary.distributed import agreement
from tf_terngrad.ternary.distributed.averager import name_of


def broadcast_variables(variables, root_rank: int = 0, process_set=None) -> None:
    """Give the variables of all workers the values that one of them has; eager.

    Use it when all workers should begin with the same values, in a training loop of your own.

    Args:
        variables: variables of Keras or TensorFlow, of any types; as many, and of the same shapes, on all workers.
        root_rank: whose values.
        process_set: a `horovod.tensorflow.ProcessSet`; None: all workers.

    Raises:
        ValueError: the variables are not alike on all workers; or there is no worker of that rank.
        ModuleNotFoundError, RuntimeError: Horovod is not installed, or not initialized.

    Example:

    ```python
    tt.distributed.broadcast_variables(model.variables + optimizer.variables)
    ```
    """
    variables = list(variables)
    size = transport.initialized().size()
    if root_rank not in range(size):
        raise ValueError(f"Expected a rank from 0 to {size - 1}. Received: root_rank={root_rank!r}")
    if transport.alone(process_set) or not variables:
        return
    lines = [agreement.entry(name_of(v), f"{tf.as_dtype(v.dtype).name} {tuple(v.shape)}") for v in variables]
    agreement.require([f"values of worker {root_rank}", *lines], "The variables", process_set)
    values = [_numpy(variable) for variable in variables]
    # as bytes: Horovod broadcasts no bfloat16 and no uint32, of which seeds are
    data = np.concatenate([np.frombuffer(value.tobytes(), np.uint8) for value in values])
    received = transport.broadcast(data, root_rank, "tf_terngrad.broadcast", process_set).numpy()
    ends = np.cumsum([value.nbytes for value in values])
    for variable, value, part in zip(variables, values, np.split(received, ends[:-1]), strict=True):
        variable.assign(part.view(value.dtype).reshape(value.shape))


def check_replicas(variables, process_set=None) -> None:
    """Check that variables have the same values, bit by bit, on all workers; eager.

    Use it when you want to be sure that the workers' models have not drifted apart.

    Args:
        variables: variables of Keras or TensorFlow, the same ones on all workers.
        process_set: a `horovod.tensorflow.ProcessSet`; None: all workers.

    Raises:
        RuntimeError: on all workers: they differ; it names the first that does, and the workers.
        ModuleNotFoundError, RuntimeError: Horovod is not installed, or not initialized.
    """
    if transport.alone(process_set):
        return
    sums = [(name_of(variable), zlib.crc32(_numpy(variable).tobytes())) for variable in variables]
    everyones = transport.everyones([checksum for _, checksum in sums], "tf_terngrad.replicas", process_set)
    for (name, _), values in zip(sums, zip(*everyones, strict=True), strict=True):
        parties = list(agreement.parties(values).values())
        if len(parties) > 1:
            who = " and ".join(f"workers {ranks}" for ranks in parties)
            raise RuntimeError(
                f"The replicas of the model drifted apart: {name} is not the same on {who}. Everything that changes "
                "weights must be the same everywhere: broadcast the initial state, use one distributed optimizer, and "
                "have no step that looks at one worker's data only."
            )


def _numpy(variable):
    return tf.convert_to_tensor(variable).numpy()
