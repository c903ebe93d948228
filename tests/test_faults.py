"""What goes wrong in one worker ends as an error in all of them: never a hang, never silence."""

import time

import horovod.tensorflow as hvd
import pytest
import tensorflow as tf
from workers import WorkersFailed, run_workers

import tf_terngrad as tt

SETTINGS = [{"schedule": "words"}, {"schedule": "bytes"}, {"schedule": "bytes", "share_scales": False}]
SETTINGS += [{"schedule": "shards"}, {}]


def reduce_others(settings, sizes):
    hvd.allreduce(tf.ones(sizes[hvd.rank()]), compression=tt.TernGrad(**settings))


@pytest.mark.parametrize("sizes", [(2000, 3000), (2000, 4000), (2000, 2001)], ids=str)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_gradient_of_another_shape_is_an_error_everywhere(settings, sizes):
    with pytest.raises(WorkersFailed) as failed:
        run_workers(reduce_others, settings, sizes, timeout=60)
    assert str(failed.value).count("raised") == 2
    assert "did not return" not in str(failed.value)


def reduce_others_of_one_size(settings):
    """As many elements in all, otherwise shared out."""
    from tf_terngrad.ternary import exchange, transport

    parts = [tf.ones(size) for size in [(1500, 2500), (2500, 1500)][hvd.rank()]]
    exchange.average(parts, tt.TernGrad(**settings), transport.HorovodTransport(), 1)


@pytest.mark.parametrize("settings", [{"schedule": name} for name in ("words", "bytes", "shards")], ids=str)
def test_tensors_in_another_order_are_an_error_everywhere(settings):
    with pytest.raises(WorkersFailed, match="same shapes, in the same order") as failed:
        run_workers(reduce_others_of_one_size, settings, timeout=60)
    assert str(failed.value).count("same shapes, in the same order") >= 2


def stop_answering(seconds):
    if hvd.rank() == 1:
        time.sleep(seconds)
    hvd.allreduce(tf.ones(2000), compression=tt.TernGrad())


def test_a_worker_that_stops_answering_is_named():
    """Horovod's guard, with times for a test; by itself it warns after a minute, and waits on."""
    env = {"HOROVOD_STALL_CHECK_TIME_SECONDS": "1", "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": "3"}
    with pytest.raises(WorkersFailed) as failed:
        run_workers(stop_answering, 20, env=env, timeout=60)
    assert "Missing ranks:\n1!: [" in str(failed.value)
    assert "Will shutdown" in str(failed.value)
