"""The state of training after an epoch, in one file that a kill cannot spoil."""

import csv
import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_terngrad.files import drafts, replacing, write
from tf_terngrad.sparsity.learn import hooks


class EpochCheckpoint(keras.callbacks.Callback):
    """Keeps the model's and the optimizer's state and the curves after each epoch, in one file written at once.

    Args:
        path: the .npz file.
        exchanged: variables that tell how far the random bits of exchanges between workers are. A file without them, as
            of one worker alone, leaves them as they are, and one with them serves one worker too.
    """

    def __init__(self, path: Path, exchanged: Sequence[tf.Variable] = ()):
        super().__init__()
        self.path = Path(path)
        self.exchanged = list(exchanged)
        self.epochs = 0
        self.curves: dict[str, list[float]] = {}

    def restore(self, model: keras.Model) -> tuple[int, dict[str, list[float]]]:
        """Set the model, its optimizer and the curves to what the file holds; without a file, change nothing.

        Returns:
            (epochs, curves): how many epochs are done, and their curves.
        """
        if not self.path.exists():
            return self.epochs, self.curves
        for left in drafts(self.path):  # of a process that was killed; as large as the checkpoint
            left.unlink(missing_ok=True)
        try:
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                header = json.loads(file["header"].item())
                values = _listed(file, "state")
                exchanged = _listed(file, "exchanged")
        except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, OSError, EOFError) as error:
            raise ValueError(f"{self.path} is no checkpoint; remove it to start again ({error})") from error
        variables = _state(model)
        if [tuple(v.shape) for v in variables] != [v.shape for v in values]:
            raise ValueError(
                f"{self.path} belongs to another model. Expected {len(variables)} variables of the shapes of "
                f"{model.name!r}. Received: {len(values)} variables"
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        for variable, value in zip(self.exchanged, exchanged, strict=False):
            variable.assign(value)
        self.epochs, self.curves = header["epochs"], header["curves"]
        return self.epochs, self.curves

    def on_epoch_end(self, epoch, logs=None):
        """Write the curves, then the file: a kill between the two repeats this epoch, and its row with it.

        Raises:
            OSError: a file cannot be written, as on a full disk; that of the epoch before is still there.
        """
        self.epochs = epoch + 1
        for name, value in (logs or {}).items():
            self.curves.setdefault(name, []).append(float(value))
        header = np.array(json.dumps({"epochs": self.epochs, "curves": self.curves}))
        state = {f"state_{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(_state(self.model))}
        state |= {f"exchanged_{i}": variable.numpy() for i, variable in enumerate(self.exchanged)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write(self.path.with_suffix(".csv"), _table(self.curves).encode())
        with replacing(self.path) as draft, draft.open("wb") as stream:
            np.savez(stream, header=header, **state)


def _listed(file, name) -> list[np.ndarray]:
    """The arrays of a file that are numbered under a name."""
    return [file[f"{name}_{i}"] for i in range(sum(key.startswith(f"{name}_") for key in file.files))]


def _state(model: keras.Model) -> list[keras.Variable]:
    """Everything a training step reads and writes: weights, seeds, the state of the optimizer and of penalties."""
    penalties = [variable for owner in hooks.owners(model.trainable_variables) for variable in owner.variables]
    return [*model.variables, *model.optimizer.variables, *penalties]


def _table(curves: dict[str, list[float]]) -> str:
    """The curves as CSV, one row an epoch."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["epoch", *curves])
    rows.writerows((epoch, *values) for epoch, values in enumerate(zip(*curves.values(), strict=True), start=1))
    return text.getvalue()
