"""What goes wrong in one worker ends as an error in all of them: never a hang, never silence."""

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
