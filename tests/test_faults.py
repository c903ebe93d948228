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
