"""What TernGrad refuses in Horovod's own calls."""

import re

import horovod.tensorflow as hvd
import pytest
import tensorflow as tf
from workers import WorkersFailed, run_workers

import tf_terngrad as tt
from tf_terngrad.ternary import horovod
from tf_terngrad.ternary.compressor import token_of


def refused(op):
    hvd.allreduce(tf.ones(2000) * (hvd.rank() + 1), op=getattr(hvd, op), compression=tt.TernGrad())


@pytest.mark.parametrize("op", ["Min", "Max", "Product"])
def test_ops_that_do_not_add_are_refused_everywhere(op):
    with pytest.raises(WorkersFailed, match="digits can only be added") as failure:
        run_workers(refused, op)
    assert str(failure.value).count("digits can only be added") >= 2


def test_adasum_is_refused():
    """Horovod has it with MPI alone, which is not built here: its formula on the tokens of two workers."""
    mean = tf.zeros(2000)
    first, second = (token_of(mean, worker).numpy() for worker in range(2))
    overlap = first @ second
    combined = first * (1 - overlap / (2 * first @ first)) + second * (1 - overlap / (2 * second @ second))
    context = (mean, tf.constant(2.0), "terngrad")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"^TernGrad's digits can only be added.* gave \[\d"):
        tt.TernGrad().decompress(tf.constant(combined, tf.float32), context)
    tt.TernGrad().decompress(tf.constant((first + second) / 2, tf.float32), context)


def rows_refused(op):
    slices = tf.IndexedSlices(tf.ones((2, 3)), tf.constant([0, 1]))
    hvd.allreduce(slices, op=getattr(hvd, op), compression=tt.TernGrad())


@pytest.mark.parametrize("op", ["Min", "Adasum"])
def test_rows_with_another_op_are_refused(op):
    with pytest.raises(WorkersFailed, match="digits can only be added"):
        run_workers(rows_refused, op)


def scatter():
    hvd.reducescatter(tf.ones(2000), compression=tt.TernGrad())


def test_reducescatter_is_refused():
    with pytest.raises(WorkersFailed, match="not reducescatter"):
        run_workers(scatter)


CALLS = {
    "allreduce": lambda given, some: hvd.allreduce(given, process_set=some, compression=tt.TernGrad(process_set=some)),
    "our tape": lambda given, some: our_tape(given, compression=tt.TernGrad(process_set=some)),
    "our tape with floats": lambda given, some: our_tape(given, process_set=some),
    "broadcast": lambda given, some: tt.distributed.broadcast_variables([tf.Variable(given)], 0, some),
}


def our_tape(given, **options):
    variable = tf.Variable(given)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(variable**2)
    return tt.distributed.DistributedGradientTape(tape, **options).gradient(loss, variable)


def outside():
    """The last worker is in neither process set, the second in one of them."""
    sets = [hvd.add_process_set(ranks) for ranks in ([0], [0, 1])]
    given = tf.ones(2000)
    for some in sets:
        for call in CALLS.values():
            if some.included():
                call(given, some)
            else:
                expected = rf"Worker {hvd.rank()} is none of .*{re.escape(str(some.ranks))}"
                with pytest.raises(ValueError, match=expected):
                    call(given, some)
    with pytest.raises(ValueError, match=r"does not know the process set.*add_process_set.*ranks=\[1, 2\]"):
        our_tape(given, process_set=hvd.ProcessSet([1, 2]))


def test_a_worker_outside_the_process_set_is_told_and_the_others_go_on():
    run_workers(outside, workers=3, env={"HOROVOD_DYNAMIC_PROCESS_SETS": "1"})


def given_the_class():
    """Horovod's own compressions are classes; ours has settings."""
    gradient, variable = tf.ones(2000), tf.Variable(tf.ones(2000))
    rows = tf.IndexedSlices(tf.ones((2, 3)), tf.constant([0, 1]), tf.constant([5, 3]))

    def tape():
        with tf.GradientTape() as recorded:
            loss = tf.reduce_sum(variable**2)
        return hvd.DistributedGradientTape(recorded, compression=tt.TernGrad).gradient(loss, [variable])

    calls = [lambda given=given: hvd.allreduce(given, compression=tt.TernGrad) for given in (gradient, rows)]
    calls += [lambda: hvd.grouped_allreduce([gradient, rows], compression=tt.TernGrad), tape]
    for call in calls:
        with pytest.raises(TypeError, match=r"compression=TernGrad\(\).*Received: the class"):
            call()


def test_the_class_in_place_of_an_instance_is_refused():
    run_workers(given_the_class)


def test_without_horovods_init_an_exchange_is_refused():
    with pytest.raises(RuntimeError, match="not initialized"):
        tt.TernGrad().compress(tf.ones(2000))


def test_without_horovod_the_error_says_how_to_build_it(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    horovod.horovod.cache_clear()
    monkeypatch.setattr(horovod.importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match="build_horovod"):
        _ = tt.Compression.fp16
    horovod.horovod.cache_clear()
