"""One worker of TF_CONFIG's, without Horovod: what test_collectives starts twice."""

import os
import signal
import sys

import keras
import numpy as np
import tensorflow as tf

import tf_terngrad as tt
from tf_terngrad.ternary.transport import transport_of

sys.modules["horovod"] = None  # this package imports it when it is needed
tt.distributed.init()
network = transport_of().ready()
rank, size = int(network.rank()), int(network.size())
assert isinstance(network, tt.distributed.CollectiveTransport) and network.ranks() == [0, 1]


def contract(dtype):
    """What the four exchanges give, of tensors whose lengths differ, none at all among them."""
    own = tf.cast(tf.range(rank * 3) + rank, dtype)
    return (
        network.total(tf.cast([rank + 1, 2], dtype), "t"),
        network.maximum(tf.cast([rank, 5 - rank], dtype), "m"),
        network.gather(own, "g"),
        network.gather(tf.cast(tf.fill((rank + 1, 2), rank), dtype), "rows"),
        network.scatter(tf.cast([10 * rank, 10 * rank + 1, 10 * rank + 2], dtype), [1, 2], "s"),
        network.total(tf.zeros((0,), dtype), "none"),
    )


def expected():
    handed = [[0, 10], [1, 2, 11, 12]][rank]
    return [3, 4], [1, 5], [1, 2, 3], [[0, 0], [1, 1], [1, 1]], handed, []


def check(results, dtype):
    for result, value in zip(results, expected(), strict=True):
        assert result.dtype == dtype, (result.dtype, dtype)
        np.testing.assert_array_equal(tf.cast(result, tf.float64), np.array(value, float))


for dtype in (tf.float32, tf.float16, tf.bfloat16, tf.float64, tf.int32, tf.int64, tf.uint8, tf.int8):
    check(contract(dtype), dtype)
for dtype in (tf.float32, tf.uint8):
    in_graph = tf.function(lambda dtype=dtype: network.in_turn(lambda: contract(dtype)), autograph=False)
    for _ in range(3):
        check(in_graph(), dtype)
assert network.gather(tf.constant([bool(rank)]), "bool").numpy().tolist() == [False, True]
assert network.everyones({"rank": rank}, "who") == [{"rank": 0}, {"rank": 1}]
assert int(network.broadcast(rank, 1, "root")) == 1
print("CONTRACT", flush=True)

variable = tf.Variable([1.0, -2.0, 3.0])
with tf.GradientTape() as tape:
    loss = tf.reduce_sum(variable**2) * (rank + 1.0)
mean = tt.distributed.DistributedGradientTape(tape).gradient(loss, [variable])[0]
np.testing.assert_allclose(mean, 3 * variable.numpy())
print("TAPE", flush=True)

keras.utils.set_random_seed(rank)
model = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)])
model.compile(tt.distributed.DistributedOptimizer(keras.optimizers.Adam(), compression=tt.TernGrad()), "mse")
x = np.random.rand(64, 8).astype("float32")
begin = [tt.distributed.callbacks.BroadcastVariables(0), tt.distributed.callbacks.AverageMetrics()]
history = model.fit(x, x.sum(1), batch_size=16, epochs=2, verbose=0, callbacks=begin)
weights = np.concatenate([weight.ravel() for weight in model.get_weights()]).tobytes()
answers = network.everyones((weights, history.history["loss"]), "weights")
assert answers[0] == answers[1], "replicas or metrics differ"
print("FIT", flush=True)

if rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
try:
    network.total(tf.ones(3), "dead")
except tf.errors.OpError:
    print("LEFT ALONE", flush=True)
    os._exit(7)
