"""A small training for tests of workers: one network, its joint batches, and each of two workers' halves of them."""

import horovod.tensorflow as hvd
import keras
import numpy as np

STEPS, BATCH = 6, 8  # of all workers together


def network(embeds=False):
    """Dense layers; perhaps behind an embedding, whose gradient is sparse."""
    keras.utils.set_random_seed(3)
    before = [keras.layers.Embedding(40, 8), keras.layers.Flatten()] if embeds else [keras.layers.Rescaling(1 / 40)]
    layers = [keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((6,), dtype="int32"), *before, *layers])


def joint_batches():
    rng = np.random.default_rng(5)
    return rng.integers(0, 40, (STEPS * BATCH, 6)), rng.integers(0, 3, (STEPS * BATCH,))


def mine_of_all():
    """This worker's half of every batch."""
    halves = [values.reshape(STEPS, 2, BATCH // 2, *values.shape[1:])[:, hvd.rank()] for values in joint_batches()]
    return [half.reshape(STEPS * BATCH // 2, *half.shape[2:]) for half in halves]


def trained(model, optimizer, data, batch, **compiled):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **compiled)
    model.fit(*data, batch_size=batch, shuffle=False, verbose=0)
    return [variable.numpy() for variable in model.variables]


def differ(weights, others):
    return any(not np.array_equal(ours, theirs) for ours, theirs in zip(weights, others, strict=True))
