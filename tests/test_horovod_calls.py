"""TernGrad in Horovod's own calls, in real workers."""

import numpy as np
import pytest
import tensorflow as tf
from workers import run_workers

import tf_terngrad as tt

SETTINGS = {
    "words": {"schedule": "words"},
    "bytes": {"schedule": "bytes", "share_scales": False},
    "shards": {"schedule": "shards", "levels": 3},
    "auto": {"bucket_size": 500},
}


def gradients(rank):
    """Each tensor has one magnitude: its digits, and so the averages, are exact."""
    rng = np.random.default_rng(rank)
    return [rng.choice([-1.0, 1.0], shape).astype("float32") * 2.0**i for i, shape in enumerate([(40, 50), (1500,)])]


def expected(workers, op):
    total = [sum(parts) for parts in zip(*map(gradients, range(workers)), strict=True)]
    return total if op == "sum" else [part / workers for part in total]


def by_every_call(settings):
    """The results, by the call and the op."""
    import horovod.tensorflow as hvd

    compression = tt.TernGrad(clip=None, smallest=1, **settings)
    mine = [tf.constant(part) for part in gradients(hvd.rank())]
    variables = [tf.Variable(tf.zeros_like(part)) for part in mine]

    def reduce(op, **factors):
        return [hvd.allreduce(part, op=op, compression=compression, **factors) for part in mine]

    def grouped(op):
        return hvd.grouped_allreduce(mine, op=op, compression=compression)

    def tape(**options):
        with tf.GradientTape() as recorded:
            loss = sum(tf.reduce_sum(v * g) for v, g in zip(variables, mine, strict=True))
        return hvd.DistributedGradientTape(recorded, compression=compression, **options).gradient(loss, variables)

    results = {
        "eager average": reduce(hvd.Average),
        "eager sum": reduce(hvd.Sum),
        "graph average": tf.function(reduce)(hvd.Average),
        "grouped average": grouped(hvd.Average),
        "grouped graph sum": tf.function(grouped)(hvd.Sum),
        "scaled average": reduce(hvd.Sum, prescale_factor=0.5, postscale_factor=2 / hvd.size()),
        "tape average": tape(),
        "tape graph average": tf.function(tape)(),
        "tape predivided average": tape(gradient_predivide_factor=2.0),
        "tape grouped average": tape(groups=1),
        "tape sum": tape(op=hvd.Sum),
    }
    return {name: [part.numpy() for part in parts] for name, parts in results.items()}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_every_call_gives_the_average_or_the_sum(settings):
    results = run_workers(by_every_call, settings)
    for found in results:
        for name, parts in found.items():
            for part, wanted in zip(parts, expected(2, name.split()[-1]), strict=True):
                np.testing.assert_allclose(part, wanted, rtol=1e-6, err_msg=name)


def train_with_tf_keras(options):
    """The weights after some steps of a tf_keras model, in a graph and eagerly."""
    import horovod.tensorflow.keras as hvd
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([tf_keras.layers.Dense(64, activation="relu"), tf_keras.layers.Dense(1)])
    model.build((None, 32))
    optimizer = hvd.DistributedOptimizer(
        tf_keras.optimizers.SGD(0.01), compression=tt.TernGrad(smallest=100), **options
    )
    rng = np.random.default_rng(hvd.rank())
    x = rng.normal(size=(64, 32)).astype("float32")
    for eager in (False, True):
        model.compile(optimizer, "mse", run_eagerly=eager)
        model.fit(x, x.sum(1), batch_size=16, epochs=2, verbose=0)
    return [weight.numpy() for weight in model.weights], float(
        np.mean((model.predict(x, verbose=0)[:, 0] - x.sum(1)) ** 2)
    )


@pytest.mark.parametrize("options", [{}, {"groups": 1}, {"backward_passes_per_step": 2}], ids=str)
def test_horovods_keras_optimizer_trains_alike_on_all_workers(options):
    (first, loss), (second, _) = run_workers(train_with_tf_keras, options)
    for mine, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert loss < 30


def average_often(settings, rounds):
    """The mean of many averages of one gaussian gradient for each worker."""
    import horovod.tensorflow as hvd

    mine = tf.constant(np.random.default_rng(hvd.rank()).normal(size=3000), tf.float32)
    compression = tt.TernGrad(clip=None, **settings)
    step = tf.function(lambda: hvd.allreduce(mine, compression=compression))
    averages = [step().numpy() for _ in range(rounds)]
    assert (averages[0] != averages[1]).any(), "a step in a graph must draw other digits than the one before"
    return np.mean(averages, axis=0)


def test_averages_in_a_graph_are_right_on_average():
    first, second = run_workers(average_often, {}, 100)
    np.testing.assert_array_equal(first, second)
    each = [np.random.default_rng(rank).normal(size=3000) for rank in range(2)]
    bound = 0.5 * np.abs(each).max() / np.sqrt(2 * 100)
    assert np.abs(first - np.mean(each, axis=0)).max() < 5 * bound


def settings_made_anew_in_every_step():
    import horovod.tensorflow as hvd

    mine = tf.constant(np.random.default_rng(hvd.rank()).normal(size=3000), tf.float32)
    step = tf.function(lambda: hvd.allreduce(mine, compression=tt.TernGrad(clip=None)))
    eager = [hvd.allreduce(mine, compression=tt.TernGrad(clip=None)).numpy() for _ in range(4)]
    return len({average.tobytes() for average in [*eager, *(step().numpy() for _ in range(4))]})


def test_settings_made_anew_in_every_step_draw_other_digits():
    assert run_workers(settings_made_anew_in_every_step) == [8, 8]


def pass_through():
    import horovod.tensorflow as hvd

    rank = hvd.rank()
    given = [
        tf.constant([rank, 5]),
        tf.constant([0.1 * rank]),
        tf.zeros((0,)),
        tf.fill((2000,), rank),
        tf.constant(3.0),
        np.array([0.5, rank], "float32"),
    ]
    return [hvd.allreduce(value, op=hvd.Sum, compression=tt.TernGrad()).numpy() for value in given]


def test_integers_small_and_empty_tensors_travel_as_they_are():
    for found in run_workers(pass_through):
        np.testing.assert_array_equal(found[0], [1, 10])
        np.testing.assert_allclose(found[1], [0.1])
        assert found[2].shape == (0,)
        np.testing.assert_array_equal(found[3], np.ones(2000))
        assert found[4] == 6
        np.testing.assert_array_equal(found[5], [1, 1])


def not_finite(value):
    import horovod.tensorflow as hvd

    mine = tf.one_hot(7, 3000, on_value=value if hvd.rank() == 1 else 1.0)
    return [hvd.allreduce(mine, compression=tt.TernGrad(**s)).numpy() for s in SETTINGS.values()]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_on_one_worker_reaches_all(value):
    for found in run_workers(not_finite, value):
        assert all(np.isnan(average[7]) for average in found)


def rows_by_every_call():
    """Rows 1 and 3 of the first worker, 3 and 4 of the second; each worker has its own rows twice."""
    import horovod.tensorflow as hvd

    compression = tt.TernGrad(clip=None, smallest=1)
    indices = tf.constant([[3, 1, 3, 1], [4, 3, 3, 4]][hvd.rank()])
    signs = np.random.default_rng(1).choice([-1.0, 1.0], (5, 6)).astype("float32")
    slices = tf.IndexedSlices(tf.gather(signs, indices), indices, tf.constant([5, 6]))
    table = tf.Variable(tf.zeros((5, 6)))

    def reduce(op, **factors):
        return hvd.allreduce(slices, op=op, compression=compression, **factors)

    def grouped(op):
        found = hvd.grouped_allreduce([tf.ones(3), slices, tf.ones(2)], op=op, compression=tt.TernGrad(clip=None))
        np.testing.assert_array_equal(found[0], tf.ones(3) * (1 if op == hvd.Average else hvd.size()))
        return found[1]

    def tape(**options):
        with tf.GradientTape() as recorded:
            loss = tf.reduce_sum(tf.gather(table, indices) * tf.gather(signs, indices))
        distributed = hvd.DistributedGradientTape(recorded, compression=compression, **options)
        return distributed.gradient(loss, [table])[0]

    results = {
        "eager average": reduce(hvd.Average),
        "eager sum": reduce(hvd.Sum),
        "graph average": tf.function(reduce)(hvd.Average),
        "scaled average": reduce(hvd.Sum, prescale_factor=0.25, postscale_factor=2.0),
        "grouped average": grouped(hvd.Average),
        "grouped sum": grouped(hvd.Sum),
        "tape average": tape(),
        "tape graph average": tf.function(tape)(),
        "tape grouped average": tape(groups=1),
    }
    return signs, {name: (found.indices.numpy(), found.values.numpy()) for name, found in results.items()}


def test_rows_are_merged_and_travel_as_digits_by_every_call():
    (signs, first), (_, second) = run_workers(rows_by_every_call)
    for name, (indices, values) in first.items():
        np.testing.assert_array_equal(second[name][0], indices)
        np.testing.assert_array_equal(second[name][1], values)
        total = np.array([[2], [4], [2]]) * signs[[1, 3, 4]]
        wanted = total if name.endswith("sum") else total / 2
        np.testing.assert_array_equal(indices, [1, 3, 4], err_msg=name)
        np.testing.assert_allclose(values, wanted, rtol=1e-6, err_msg=name)


def in_a_process_set():
    """Two of three workers; one of them traces its step again in the middle."""
    import horovod.tensorflow as hvd

    pair = hvd.add_process_set([0, 1])
    if hvd.rank() == 2:
        return None
    weight, compression = tf.Variable(tf.zeros(2000)), tt.TernGrad(clip=None, process_set=pair)

    @tf.function
    def step(batch):
        with tf.GradientTape() as recorded:
            loss = tf.reduce_sum(weight) * tf.reduce_mean(batch)
        tape = hvd.DistributedGradientTape(recorded, process_set=pair, compression=compression)
        return tape.gradient(loss, [weight])[0]

    sizes = [64, 64, 63 if hvd.rank() else 64, 64]
    return [step(tf.fill([size], 1.0 + 2 * hvd.rank()))[:2].numpy().tolist() for size in sizes]


def test_a_step_may_be_traced_again_on_one_worker_of_a_process_set():
    first, second, other = run_workers(in_a_process_set, workers=3, env={"HOROVOD_DYNAMIC_PROCESS_SETS": "1"})
    assert first == second and other is None
    assert all(value in (1.5, 3.0) for means in first for value in means)
