"""One contract for every transport: virtual workers, Horovod's, TensorFlow's own, and one that knows files alone."""

import functools
import pickle
import time

import numpy as np
import pytest
import tensorflow as tf
import virtual_workers
from workers import run_workers

import tf_terngrad as tt
from tf_terngrad.ternary import exchange
from tf_terngrad.ternary.transport import transport_of

WORKERS = 3
MAKERS = ["virtual", "folder", "horovod", "tensorflow"]


class FolderTransport(tt.distributed.Transport):
    """Workers that see one folder: each lays its values there, and waits for the others'. By what is public alone."""

    def __init__(self, folder, rank, size):
        self._folder, self._rank, self._size = folder, rank, size
        self._exchanges = 0

    def size(self):
        return tf.constant(self._size)

    def rank(self):
        return tf.constant(self._rank)

    def maximum(self, tensor, name):
        return tf.reduce_max(tf.stack(self._all(tensor, name)), 0)

    def total(self, tensor, name):
        return tf.add_n(self._all(tensor, name))

    def gather(self, tensor, name):
        return tf.concat(self._all(tensor, name), 0)

    def scatter(self, tensor, counts, name):
        return tf.concat([parts[self._rank] for parts in self._all(tf.split(tensor, counts), name)], 0)

    def _all(self, value, name):
        self._exchanges += 1
        draft = self._folder / f"draft-{self._rank}"
        draft.write_bytes(pickle.dumps((name, tf.nest.map_structure(lambda part: part.numpy(), value))))
        draft.rename(self._folder / f"{self._exchanges}-{self._rank}")
        found = [self._wait(self._folder / f"{self._exchanges}-{other}") for other in range(self._size)]
        assert {other for other, _ in found} == {name}
        return [tf.nest.map_structure(tf.constant, values) for _, values in found]

    @staticmethod
    def _wait(path):
        while not path.exists():
            time.sleep(0.002)
        return pickle.loads(path.read_bytes())


def on_horovod(function):
    from tf_terngrad.ternary.horovod import HorovodTransport

    return function(HorovodTransport())


def on_collectives(function):
    return function(tt.distributed.CollectiveTransport())


@pytest.fixture(params=MAKERS)
def run(request, tmp_path):
    """Calls function(transport) in each of three workers."""

    def virtual(function):
        return virtual_workers.run(WORKERS, function)

    def folder(function):
        return virtual_workers.run(
            WORKERS, lambda network: function(FolderTransport(tmp_path, int(network.rank()), WORKERS))
        )

    def horovod(function):
        return run_workers(functools.partial(on_horovod, function), workers=WORKERS)

    def tensorflow(function):
        return run_workers(functools.partial(on_collectives, function), workers=WORKERS, by="tensorflow")

    makers = {"virtual": virtual, "folder": folder, "horovod": horovod, "tensorflow": tensorflow}
    return makers[request.param]


def who(network):
    assert network.initialized() and network.ready() is network and not network.alone()
    assert network.size().dtype == network.rank().dtype == tf.int32
    return int(network.size()), int(network.rank()), network.ranks()


def test_who_there_is(run):
    assert run(who) == [(WORKERS, rank, [0, 1, 2]) for rank in range(WORKERS)]


def reduced(network):
    results = {}
    for kind in ("float16", "float32", "float64", "int32", "int64"):
        mine = tf.cast(tf.constant([[1, -2], [3, 0]]) * (1 + network.rank()), kind)
        results[kind] = network.maximum(mine, f"{kind}.maximum").numpy(), network.total(mine, f"{kind}.total").numpy()
    return results


def test_maximum_and_total_are_elementwise_and_keep_the_dtype(run):
    for results in run(reduced):
        for kind, (most, total) in results.items():
            np.testing.assert_array_equal(most, np.array([[3, -2], [9, 0]], kind))
            np.testing.assert_array_equal(total, np.array([[6, -12], [18, 0]], kind))
            assert most.dtype == total.dtype == kind


def gathered(network):
    rank = int(network.rank())
    rows = network.gather(tf.fill([rank, 2], rank), "rows").numpy().tolist()
    return rows, network.gather(tf.constant([], tf.uint8), "nothing").numpy().tolist()


def test_what_is_gathered_may_have_any_lengths(run):
    assert run(gathered) == [([[1, 1], [2, 2], [2, 2]], [])] * WORKERS


def scattered(network):
    rank = int(network.rank())
    mine = tf.cast(tf.range(4) + 10 * rank, tf.uint8)
    return network.scatter(mine, tf.constant([[1, 0, 3], [4, 0, 0], [2, 2, 0]])[rank], "parts").numpy().tolist()


def test_what_is_scattered_arrives_in_the_order_of_ranks(run):
    assert run(scattered) == [[0, 10, 11, 12, 13, 20, 21], [22, 23], [1, 2, 3]]


def handed_out(network):
    rank = int(network.rank())
    objects = network.everyones({"rank": rank, "text": "x" * rank}, "objects")
    mine = np.arange(6, dtype="uint8").reshape(2, 3) + rank
    return objects, [network.broadcast(mine, root, f"broadcast.{root}").numpy() for root in range(WORKERS)]


def test_objects_and_broadcasts_are_the_same_for_all(run):
    for objects, tables in run(handed_out):
        assert objects == [{"rank": rank, "text": "x" * rank} for rank in range(WORKERS)]
        for root, table in enumerate(tables):
            np.testing.assert_array_equal(table, np.arange(6).reshape(2, 3) + root)


def named(network):
    with tf.Graph().as_default():
        graph = [network.unique_name(tf.zeros(3, name="weight")) for _ in range(2)]
    return graph, network.unique_name(tf.zeros(3))


def test_names_are_unique_and_the_same_on_all_workers(run):
    (graph, eager), *others = run(named)
    assert len({*graph, eager}) == 3
    assert others == [(graph, eager)] * 2


def own_words(network):
    with pytest.raises(TypeError, match="process_set="):
        network.members("all")
    everyone = network.members(None)
    return int(everyone.size()), network.operation_name("sum"), network.compression_name(object())


def test_members_and_words(run):
    assert run(own_words) == [(WORKERS, "sum", None)] * WORKERS


SCHEDULES = ["words", "bytes", "shards", "auto"]


def averaged(network):
    """The average of gradients that digits hold as they are, by the tape and by the exchange."""
    rank, results = int(network.rank()), {}
    gradient = tf.constant(np.random.default_rng(rank).choice([-2.0, 2.0], (40, 50)), tf.float32)
    for schedule in SCHEDULES:
        settings = tt.TernGrad(clip=None, schedule=schedule)
        (results[schedule],) = exchange.average([gradient], settings, network, 1)
    variable = tf.Variable(tf.zeros((40, 50)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(variable * gradient)
    tape = tt.distributed.DistributedGradientTape(tape, tt.TernGrad(clip=None), process_set=network)
    results["tape"] = tape.gradient(loss, variable)
    optimizer = tt.distributed.DistributedOptimizer(tf.keras.optimizers.SGD(1.0), process_set=network)
    optimizer.apply([gradient], [variable])
    results["optimizer"] = -variable
    tt.distributed.broadcast_variables([variable.assign_add(gradient)], 2, network)
    tt.distributed.check_replicas([variable], network)
    return {name: result.numpy() for name, result in results.items()}


def test_gradients_are_averaged_over_any_transport(run):
    wanted = np.mean([np.random.default_rng(rank).choice([-2.0, 2.0], (40, 50)) for rank in range(WORKERS)], axis=0)
    for results in run(averaged):
        assert results.keys() == {*SCHEDULES, "tape", "optimizer"}
        for name, result in results.items():
            np.testing.assert_allclose(result, wanted, rtol=1e-6, err_msg=name)


def test_a_transport_that_is_not_ready_says_so():
    class Absent(FolderTransport):
        def initialized(self):
            return False

    absent = Absent(None, 0, 1)
    with pytest.raises(RuntimeError, match="Absent is not initialized"):
        absent.ready()
    with pytest.raises(RuntimeError, match="Absent is not initialized"):
        tt.distributed.DistributedGradientTape(tf.GradientTape(), process_set=absent)
    with pytest.raises(TypeError, match=r"abstract .*gather"):
        tt.distributed.Transport()


def test_a_transport_stands_for_itself_and_other_things_for_none():
    network = FolderTransport(None, 0, 1)
    assert transport_of(network) is network and network.alone()
    with pytest.raises(TypeError, match=r"`process_set` to be a horovod.*a Transport"):
        transport_of("all")
