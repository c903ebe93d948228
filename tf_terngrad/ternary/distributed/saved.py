"""A training in a file: plain numbers about it, and arrays of any types, written whole or not at all."""

import dataclasses
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_terngrad.files import drafts, replacing


@dataclasses.dataclass
class Saved:
    """How far a training is.

    Attributes:
        epoch: that goes on, from 0.
        step: batches of it that are done.
        steps: batches that it has; None: nobody knows.
        built: for each optimizer, the places of the variables that it is built for, see `start.built_for`.
        values: list of arrays, those that all workers share.
        own: for each worker a list of arrays, such as the states of its random numbers.
        counted: for each worker a list of arrays, what its metrics have counted in this epoch.
    """

    epoch: int
    step: int
    steps: int | None
    built: list
    values: list
    own: list
    counted: list

    def without_values(self) -> "Saved":
        """The same, as small as it is sent to all workers."""
        return dataclasses.replace(self, values=[])


_ARRAYS = ("values", "own", "counted")


def write(saved: Saved, path: Path) -> None:
    """Write a training.

    Raises:
        OSError: as for `files.replacing`; the file is the one of before then.
    """
    header = {name: value for name, value in vars(saved).items() if name not in _ARRAYS}
    groups = {"values": saved.values}
    for name in ("own", "counted"):
        header[name] = len(getattr(saved, name))
        groups |= {f"{name}_{rank}": arrays for rank, arrays in enumerate(getattr(saved, name))}
    header["kinds"] = {
        name: [[tf.as_dtype(array.dtype).name, array.shape] for array in arrays] for name, arrays in groups.items()
    }
    content = {f"{name}_{i}": _bytes(each) for name, arrays in groups.items() for i, each in enumerate(arrays)}
    with replacing(path) as draft, draft.open("wb") as stream:
        np.savez(stream, header=np.array(json.dumps(header)), **content)


def read(path: Path) -> Saved | None:
    """Read a training; None: there is no such file. Half files that killed processes have left are removed.

    Raises:
        ValueError: it is something else, or has been damaged.
        PermissionError: this process may not read it.
    """
    for left in drafts(path):
        left.unlink(missing_ok=True)
    if not path.exists():
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            header = json.loads(file["header"].item())
            groups = {
                name: [_array(file[f"{name}_{i}"], *kind) for i, kind in enumerate(kinds)]
                for name, kinds in header.pop("kinds").items()
            }
    except (zipfile.BadZipFile, zlib.error, KeyError, TypeError, ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"{path} is no checkpoint of a training, or damaged. Remove it to start anew. ({error})"
        ) from error
    for name in ("own", "counted"):
        header[name] = [groups[f"{name}_{rank}"] for rank in range(header[name])]
    return Saved(**header, values=groups["values"])


def difference(saved: Saved, names, values) -> str | None:
    """What the first array is that a training has otherwise; None: all have the types and shapes that were saved."""
    kinds = [f"{array.dtype} {array.shape}" for array in saved.values]
    if len(kinds) != len(values):
        return f"{len(values)} variables. Received: {len(kinds)}"
    for name, value, kind in zip(names, values, kinds, strict=True):
        if f"{value.dtype} {value.shape}" != kind:
            return f"{name} of {value.dtype} {value.shape}. Received: {kind}"
    return None


def _bytes(array):
    """As bytes: NumPy's files know no bfloat16."""
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)


def _array(data, dtype, shape):
    return np.frombuffer(data.tobytes(), tf.as_dtype(dtype).as_numpy_dtype).reshape(shape)
