"""One stage of a run: a compiled model trains, and goes on where a killed training stopped."""

import sys
from pathlib import Path

import keras
import tensorflow as tf

from models.training.checkpoint import EpochCheckpoint
from models.training.workers import Worker


def train_stage(
    model: keras.Model,
    path: Path,
    epochs: int,
    worker: Worker,
    training,
    validation: tf.data.Dataset,
    steps: int,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
) -> dict[str, list[float]]:
    """Train a compiled model, going on after the last epoch that the stage's checkpoint holds.

    Args:
        model: with its optimizer and loss.
        path: of the checkpoint, `<stage>.npz`; the curves are beside it, `<stage>.csv`.
        epochs: how many, counted from the very first.
        worker: this process among those that train together.
        training: a function of the first epoch and the one after the last: the batches of all of them.
        validation: batches.
        steps: batches of an epoch.
        callbacks: further Keras callbacks.

    Returns:
        The curves, one value an epoch, by name.

    Raises:
        ValueError: the checkpoint is of another model.
    """
    model.optimizer.build(model.trainable_variables)
    checkpoint = EpochCheckpoint(path, worker.exchanged(model.optimizer))
    checkpoint.epochs, checkpoint.curves = worker.lead(checkpoint.restore, model)
    worker.share([*model.variables, *model.optimizer.variables, *checkpoint.exchanged])
    if worker.leads:
        done = f" ({checkpoint.epochs} done before)" if checkpoint.epochs else ""
        print(f"\n{path.stem}: {epochs} epochs{done}, {model.count_params():,} parameters", flush=True)
    if checkpoint.epochs < epochs:
        model.fit(
            training(checkpoint.epochs, epochs),
            validation_data=validation,
            steps_per_epoch=steps,
            initial_epoch=checkpoint.epochs,
            epochs=epochs,
            shuffle=False,  # the batches come in their order
            callbacks=[*worker.callbacks, *callbacks, *([checkpoint] if worker.leads else [])],
            verbose=0 if not worker.leads else 1 if sys.stdout.isatty() else 2,
        )
    return checkpoint.curves
