"""A worker that comes while the others train averages with them, who traced their steps when it was not there."""

import os
import pathlib
import sys

import patience

ROOT = pathlib.Path(__file__).parents[1]

TRAINING = """
import os, sys, time

import horovod.tensorflow as hvd
import tensorflow as tf
from horovod.common.elastic import ObjectState

import tf_terngrad as tt

hvd.init()
weight, bias = tf.Variable(tf.ones(3000)), tf.Variable(tf.ones(3))


@tf.function
def train_step():
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum((weight * tf.random.normal([3000])) ** 2) + tf.reduce_sum(bias)
    tape = tt.distributed.DistributedGradientTape(tape, compression=tt.TernGrad())
    for variable, gradient in zip([weight, bias], tape.gradient(loss, [weight, bias])):
        variable.assign_sub(1e-4 * gradient)


@hvd.elastic.run
def train(state):
    weight.assign(state.weight)
    while not state.left:
        train_step()
        if os.path.exists(sys.argv[2]):
            os.replace(sys.argv[2], sys.argv[1])  # a second worker may come
        time.sleep(0.1)
        state.weight, state.left = weight.numpy(), hvd.size() == 2
        state.commit()


train(ObjectState(hvd.broadcast_object, hvd.rank, weight=weight.numpy(), left=False))
print("worker", hvd.rank(), "of", hvd.size(), "has", float(tf.reduce_sum(weight)), flush=True)
"""


def test_a_worker_joins_an_elastic_job(tmp_path):
    script, hosts, more, discovery = (tmp_path / name for name in ("train.py", "hosts", "more", "discover.sh"))
    script.write_text(TRAINING)
    hosts.write_text("localhost:1")
    more.write_text("localhost:2")
    discovery.write_text(f"#!/bin/sh\ncat {hosts}\n")
    discovery.chmod(0o755)
    horovodrun = pathlib.Path(sys.executable).with_name("horovodrun")
    elastic = ["-np", "1", "--min-np", "1", "--max-np", "2", "--host-discovery-script", discovery]
    command = [horovodrun, *elastic, "--network-interface", "lo", sys.executable, script, hosts, more]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = patience.run(command, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line.partition(":")[2].split(" has ") for line in done.stdout.splitlines() if " has " in line]
    assert sorted(who for who, _ in said) == ["worker 0 of 2", "worker 1 of 2"]
    assert said[0][1] == said[1][1]
