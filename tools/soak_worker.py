"""What a worker of tools/soak.py does: it trains on from the last checkpoint until one of them meets with a mishap.

It writes a file of JSON: how far it had come when it began and when it ended, a number for its weights, and its error.
"""

import json
import os
import pathlib
import resource
import time

import keras
import numpy as np
from absl import app, flags

import tf_terngrad as tt
from tf_terngrad.ternary.distributed.variables import checksums
from tf_terngrad.ternary.transport import transport_of

FOLDER = flags.DEFINE_string("folder", None, "Folder of the training, and of what workers tell.", required=True)
MISHAP = flags.DEFINE_string("mishap", "none", "What happens to the victim.")
VICTIM = flags.DEFINE_integer("victim", 0, "The rank that it happens to.")
AT = flags.DEFINE_integer("at", 5, "The batch of an epoch at which it happens.")
EPOCHS = flags.DEFINE_integer("epochs", 3, "To train in all.")
BATCHES = flags.DEFINE_integer("batches", 12, "Of an epoch.")
EVERY = flags.DEFINE_integer("every", 5, "Batches from one checkpoint to the next.")

BATCH = 16  # examples
PACE = 0.03  # seconds of a batch at least, so that a signal may come anywhere in it
LARGEST_FILE = 2000  # bytes, where the disk is full: less than a checkpoint


class Mishap(keras.callbacks.Callback):
    """What happens to the victim from within; and for all, how far the training is."""

    def __init__(self, rank, folder):
        super().__init__()
        self.is_victim, self.now = rank == VICTIM.value, folder / f"now-{rank}"
        self.began = None

    def on_epoch_begin(self, epoch, logs=None):
        """Notes where it begins."""
        if self.began is None:
            self.began = int(self.model.optimizer.iterations)
            self.now.write_text(str(self.began))

    def on_train_batch_end(self, batch, logs=None):
        """Meets with it."""
        time.sleep(PACE)
        if batch == AT.value and self.is_victim:
            if MISHAP.value == "stop":
                self.model.stop_training = True
            elif MISHAP.value == "error":
                raise OSError("a mishap")
            elif MISHAP.value == "full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, resource.RLIM_INFINITY))
        self.now.write_text(str(int(self.model.optimizer.iterations)))


def network():
    """Small, with what is a worker's own: masks of dropout, statistics of batches."""
    return keras.Sequential(
        [
            keras.Input((20,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(1),
        ]
    )


def batches(rank):
    """A worker's examples, as a generator: fit does not know how many there are."""
    is_victim = rank == VICTIM.value
    generator = np.random.default_rng(rank)
    for number in range(BATCHES.value):
        if MISHAP.value == "ends" and is_victim and number == AT.value:
            return
        x = generator.normal(size=(BATCH, 20)).astype("float32")
        y = x[:, :1] * x[:, 1:2]
        if MISHAP.value == "nan" and is_victim and number == AT.value:
            y[0] = np.nan
        yield x, y


def data(rank):
    """The same as a tf.data.Dataset, anew in each epoch."""
    import tensorflow as tf

    kinds = tf.TensorSpec((BATCH, 20), tf.float32), tf.TensorSpec((BATCH, 1), tf.float32)
    return tf.data.Dataset.from_generator(lambda: batches(rank), output_signature=kinds)


def main(_):
    """Train."""
    if "TF_CONFIG" in os.environ:
        tt.distributed.init()
    else:
        import horovod.tensorflow as hvd

        hvd.init()
    rank, folder = int(transport_of().rank()), pathlib.Path(FOLDER.value)
    (folder / f"pid-{rank}").write_text(str(os.getpid()))
    model, mishap = network(), Mishap(rank, folder)
    model.compile(tt.distributed.DistributedOptimizer(keras.optimizers.Adam(1e-3), tt.TernGrad(smallest=1)), "mse")
    given = [
        tt.distributed.callbacks.BroadcastVariables(),
        tt.distributed.callbacks.AverageMetrics(),
        keras.callbacks.TerminateOnNaN(),
        tt.distributed.callbacks.Checkpoint(folder, EVERY.value),
        mishap,
    ]
    error = None
    try:
        model.fit(data(rank), epochs=EPOCHS.value, callbacks=given, verbose=0)
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    told = {
        "began": mishap.began,
        "ended": int(model.optimizer.iterations),
        "weights": checksums(model.trainable_variables),
        "finite": all(bool(np.isfinite(weight.numpy()).all()) for weight in model.trainable_variables),
        "error": error and error[:500],
    }
    (folder / f"result-{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    app.run(main)
