"""A training that was interrupted: what had left its model is noted beside the backup of its weights."""

import collections
import json
import pathlib

import h5py

from tf_terngrad import files
from tf_terngrad.sparsity.shrink.reconfigure import reconfigure

_NOTES, _WEIGHTS = "reconfigured.json", "latest.weights.h5"


def note(gone, folder) -> None:
    """Write what has left the model so far into the folder of a backup."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / _NOTES, json.dumps(gone).encode())


def resume(model, folder) -> list:
    """Take out of a model what had left when the backup in a folder was saved.

    The backup may be older than the last note: a process can be killed between the two. The shapes tell.

    Returns:
        What has left, as it was noted; nothing if there is no backup of a smaller model.

    Raises:
        ValueError: the shapes of the backup are those of no step on the way.
    """
    notes, weights = (pathlib.Path(folder, name) for name in (_NOTES, _WEIGHTS))
    if not notes.exists() or not weights.exists():
        return []
    gone, wanted = json.loads(notes.read_text("utf-8")), _shapes_in(weights)
    for count in range(len(gone) + 1):
        if _shapes_of(model) == wanted:
            return gone[:count]
        if count < len(gone):
            reconfigure(model, gone=gone[count]["members"])
    raise ValueError(
        f"Reconfigure: expected the model of the training that {str(folder)!r} is a backup of, as it was built before "
        f"anything left. Received: {model.name!r}, whose weights have other shapes, whatever leaves. Build the same "
        "model, or remove the folder to begin anew."
    )


def _shapes_of(model):
    return collections.Counter(tuple(variable.shape) for variable in model.variables)


def _shapes_in(path):
    """The shapes of the model's variables in a file of weights."""
    found = collections.Counter()

    def see(name, entry):
        if isinstance(entry, h5py.Dataset) and not name.startswith("optimizer/"):
            found[entry.shape] += 1

    with h5py.File(path) as file:
        file.visititems(see)
    return found
