"""The replicas of a `tf.distribute` strategy: each sees its own part of a batch, and all must do the same."""

import tensorflow as tf


def summed(value):
    """The sum of a float32 scalar over the replicas, the same on each; elsewhere the value itself.

    Optimizers of Keras sum the replicas' gradients, so what is minimized is the sum of the replicas' losses.
    """
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return value
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, value)


def share(value):
    """The part of a loss term that each replica adds, for all of them together to add it once."""
    return value / tf.distribute.get_strategy().num_replicas_in_sync


def counts(variable):
    """Whether this replica counts in a variable: in its own copy each does, in one that all share the first alone."""
    replica = tf.distribute.get_replica_context()
    if replica is None or isinstance(variable.value, tf.distribute.DistributedValues):
        return True
    return tf.convert_to_tensor(replica.replica_id_in_sync_group) == 0
