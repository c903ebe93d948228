"""What becomes of gradients on their way, as pictures."""

import fnmatch
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_terngrad.checks import integer, strings
from tf_terngrad.files import replacing
from tf_terngrad.ternary import codec
from tf_terngrad.ternary.compressor import TernGrad
from tf_terngrad.ternary.distributed.averager import name_of
from tf_terngrad.ternary.distributed.settings import Settings
from tf_terngrad.ternary.distributed.simulation import Digits, Simulation

STAGES = ("gradient", "clipped", "ternary", "averaged")
_INK, _BAR = "#44546a", "#14539a"


class GradientHistograms(keras.callbacks.Callback):
    """Histograms of gradients as they are, clipped, ternary and averaged: before training, and behind every k-th epoch.

    Use it when you want to see what clipping and rounding do to the gradients of your model.

    The batch is shared out among so many simulated workers; nothing is exchanged, and nothing of the model changes. The
    first three columns show the first worker's gradient, the last one what all workers get.

    Args:
        x, y: a batch of as many examples as the workers can share evenly.
        folder: gets `epoch-000.png`, and so on.
        compression: a `TernGrad`; None: with its defaults.
        workers: N.
        variables: patterns, as a shell's, of the paths of variables.
        every: k.

    Attributes:
        values: dict path of a variable -> dict stage -> array, of the last picture. The stages are "gradient",
            "clipped", "ternary", "averaged".

    Raises:
        TypeError, ValueError: an argument of another kind, or out of range; at the start of training: no variable fits
            the patterns.

    Example:

    ```python
    pictures = tt.distributed.callbacks.GradientHistograms(images[:64], labels[:64], "histograms", workers=4)
    model.fit(images, labels, callbacks=[pictures])
    ```

    Paper: Wen et al., TernGrad, 2017, figure 2.
    """

    def __init__(self, x, y, folder, compression=None, workers=2, variables=("*kernel",), every=1):
        super().__init__()
        self._settings = Settings(TernGrad() if compression is None else compression)
        if not self._settings.ternary:
            raise TypeError(f"Expected a TernGrad, such as TernGrad(clip=2.5). Received: compression={compression!r}")
        workers = integer(workers, "workers", "GradientHistograms", 1)
        every = integer(every, "every", "GradientHistograms", 1)
        if len(x) == 0 or len(x) % workers:
            raise ValueError(f"Expected a multiple of {workers} examples, one share a worker. Received: {len(x)}")
        self._batch = (x, y)
        self._folder, self._workers, self._every = Path(folder), workers, every
        self._patterns = list(strings(variables, "variables", "GradientHistograms", or_one=True))
        self.values = {}

    def on_train_begin(self, logs=None):
        """Draws the gradients before training."""
        if not self._chosen():
            paths = [name_of(variable) for variable in self.model.trainable_variables]
            raise ValueError(f"No variable fits variables={self._patterns}. Expected patterns of some of {paths}")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._show(0)

    def on_epoch_end(self, epoch, logs=None):
        """Draws them again."""
        if (epoch + 1) % self._every == 0:
            self._show(epoch + 1)

    def _chosen(self):
        """The positions of the variables to show, and their paths."""
        paths = [name_of(variable) for variable in self.model.trainable_variables]
        return {
            position: path
            for position, path in enumerate(paths)
            if any(fnmatch.fnmatchcase(path, pattern) for pattern in self._patterns)
        }

    def _show(self, epoch):
        gradients = self._gradients()
        self.values = {path: self._stages(gradients[position], epoch) for position, path in self._chosen().items()}
        figure = draw(self.values, self._workers, f"{self.model.name}, epoch {epoch}")
        with replacing(self._folder / f"epoch-{epoch:03}.png") as draft:
            figure.savefig(draft, dpi=110)

    def _gradients(self):
        """Every worker's; what a forward pass leaves behind in the model is taken back."""
        state = [*self.model.non_trainable_variables, *self.model.metrics_variables]
        before = [variable.numpy() for variable in state]
        try:
            simulation = Simulation(self.model, self._workers, self._settings)
            return simulation.gradients(*keras.tree.map_structure(tf.convert_to_tensor, self._batch))
        finally:
            for variable, value in zip(state, before, strict=True):
                variable.assign(value)

    def _stages(self, gradient, step):
        compression = self._settings.compression
        digits = Digits.of([gradient], compression, step)
        first = tf.reshape(gradient[0], (-1,)).numpy()
        thresholds, scales = (
            np.repeat(values[0], digits.lengths).astype("float32") for values in (digits.thresholds, digits.scales)
        )
        codes = codec.unpack_bytes(digits.rows[0], first.size, compression.levels).numpy()
        (mean,) = digits.average()
        arrays = first, np.clip(first, -thresholds, thresholds), codes * scales / compression.levels, mean.numpy()
        return {stage: array.reshape(gradient.shape[1:]) for stage, array in zip(STAGES, arrays, strict=True)}


def draw(values, workers, title):
    """A figure: a row for each variable, a column for each stage.

    Args:
        values: as `GradientHistograms.values`.
        workers: how many are averaged.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 1.9 * len(values) + 0.7), layout="constrained", facecolor="white")
    grid = figure.subplots(len(values), len(STAGES), squeeze=False, sharex="row", sharey="row")
    figure.suptitle(title, fontsize=11, color=_INK, fontweight="bold")
    titles = (*STAGES[:3], f"averaged over {workers} workers")
    for row, (path, stages) in zip(grid, values.items(), strict=True):
        edge = max(float(np.abs(array).max()) for array in stages.values()) * 1.02 or 1.0
        for axes, (stage, array) in zip(row, stages.items(), strict=True):
            axes.hist(array.ravel(), bins=np.linspace(-edge, edge, 82), color=_BAR, log=True)
            levels = len(np.unique(array))
            if stage in STAGES[2:]:
                axes.annotate(f"{levels} values", (0.97, 0.9), xycoords="axes fraction", ha="right", fontsize=8)
            axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 2), useMathText=True)
            axes.tick_params(colors=_INK, labelsize=7)
            axes.xaxis.offsetText.set_fontsize(7)
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(path, fontsize=8, color=_INK)
        row[0].set_ylim(bottom=0.7)
    for axes, text in zip(grid[0], titles, strict=True):
        axes.set_title(text, fontsize=9, color=_INK)
    return figure
