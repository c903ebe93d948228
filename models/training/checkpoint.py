"""The state of training after an epoch, in one file that a kill cannot spoil."""

import csv
import io
import json
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np

from tf_terngrad.files import drafts, replacing, write


class EpochCheckpoint(keras.callbacks.Callback):
    """Keeps the model's and the optimizer's state and the curves after each epoch, in one file written at once.

    Args:
        path: the .npz file.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path = Path(path)
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
                values = [file[f"state_{i}"] for i in range(len(file.files) - 1)]
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
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write(self.path.with_suffix(".csv"), _table(self.curves).encode())
        with replacing(self.path) as draft, draft.open("wb") as stream:
            np.savez(stream, header=header, **state)


def _state(model: keras.Model) -> list[keras.Variable]:
    """Everything a training step reads and writes: weights, seeds of random layers, the optimizer's state."""
    return [*model.variables, *model.optimizer.variables]


def _table(curves: dict[str, list[float]]) -> str:
    """The curves as CSV, one row an epoch."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["epoch", *curves])
    rows.writerows((epoch, *values) for epoch, values in enumerate(zip(*curves.values(), strict=True), start=1))
    return text.getvalue()
