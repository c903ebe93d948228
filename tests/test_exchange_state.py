"""The state of exchanges: whose it is, that it goes on after a restart, and that no two draw the same digits."""

import functools

import horovod.tensorflow as hvd
import keras
import numpy as np
import pytest
import tensorflow as tf
import virtual_workers
from small_training import classification, compiled, small_model
from workers import run_workers

import tf_terngrad as tt
from tf_terngrad.ternary.distributed.averager import Averager
from tf_terngrad.ternary.distributed.settings import Settings
from tf_terngrad.ternary.state import FURTHEST, ExchangeState

exchange_state = tt.distributed.exchange_state
GRADIENT = np.random.default_rng(0).normal(size=2000).astype("float32")


def averager(network):
    return Averager(Settings(tt.TernGrad(clip=None), process_set=network))


def averages(average, steps):
    variable = tf.Variable(tf.zeros(2000))
    return [average([tf.constant(GRADIENT)], [variable])[0].numpy() for _ in range(steps)]


def test_random_bits_go_on_where_a_saved_state_ended():
    def work(network):
        unbroken = averager(network)
        expected = averages(unbroken, 3)
        saved = [variable.numpy() for variable in unbroken.state.variables]
        expected += averages(unbroken, 3)
        resumed = averager(network)  # its exchanges have other names
        for variable, value in zip(resumed.state.variables, saved, strict=True):
            variable.assign(value)
        return expected, averages(resumed, 3), averages(averager(network), 3)

    for expected, resumed, fresh in virtual_workers.run(2, work):
        np.testing.assert_array_equal(resumed, expected[3:])
        assert len({average.tobytes() for average in [*expected, *fresh]}) == 9


def test_a_checkpoint_of_tensorflow_holds_it(tmp_path):
    state = ExchangeState()
    for _ in range(5):
        state.next_step()
    path = tf.train.Checkpoint(exchange=state).save(tmp_path / "state")
    other = ExchangeState()
    tf.train.Checkpoint(exchange=other).restore(path).assert_consumed()
    assert int(other.step) == int(state.step)
    assert [variable.name for variable in state.variables] == ["terngrad_step:0"]


def test_no_two_states_count_the_same_numbers():
    first, second = ExchangeState(), ExchangeState()
    assert abs(int(first.step) - int(second.step)) >= FURTHEST
    assert int(ExchangeState(first=7).next_step()) == 8


def test_it_is_made_for_good_within_a_graph_too():
    states = []

    @tf.function
    def step():
        states.append(states[0] if states else ExchangeState(first=0))
        return states[0].next_step()

    assert [int(step()) for _ in range(3)] == [1, 2, 3]


def whose():
    settings = tt.TernGrad(seed=3)
    optimizer = tt.distributed.DistributedOptimizer(keras.optimizers.SGD(), settings)
    scaled = keras.optimizers.LossScaleOptimizer(optimizer)
    tapes = [tt.distributed.DistributedGradientTape(tf.GradientTape(), settings) for _ in range(2)]
    given = [optimizer, settings, tapes[0]]
    assert exchange_state(scaled) is exchange_state(optimizer)
    assert exchange_state(tapes[0]) is exchange_state(tapes[1])
    assert exchange_state(settings) is exchange_state(tt.TernGrad(seed=3)) is not exchange_state(tt.TernGrad(seed=4))
    assert len({int(exchange_state(one).step) for one in given}) == 3
    assert not any("terngrad" in variable.path for variable in optimizer.variables)


def test_everything_that_exchanges_has_one():
    run_workers(whose)
    model = tt.distributed.simulate(compiled(small_model()), 2, tt.TernGrad(smallest=1))
    model.fit(*classification(40), batch_size=20, epochs=3, verbose=0)
    assert int(exchange_state(model).step) == 6
    for wrong in (keras.optimizers.SGD(), small_model(), "adam", None):
        with pytest.raises(TypeError, match=r"exchange_state: .*a TernGrad\. Received"):
            exchange_state(wrong)


def test_a_simulation_draws_the_same_digits_again():
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        model = tt.distributed.simulate(compiled(small_model()), 2, tt.TernGrad(smallest=1))
        model.fit(*classification(40), batch_size=20, shuffle=False, verbose=0)
        weights.append(model.get_weights())
        ExchangeState()  # whatever else is made meanwhile
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def through_horovods_own_functions(graph):
    """Six averages, then the last three of them again."""
    compression, mine = tt.TernGrad(clip=None, seed=graph), tf.constant(GRADIENT) * (1 + hvd.rank())
    reduce = functools.partial(hvd.allreduce, mine, compression=compression)
    step = tf.function(reduce) if graph else reduce
    averages = [step().numpy() for _ in range(3)]
    saved = exchange_state(compression).step.numpy()
    averages += [step().numpy() for _ in range(3)]
    exchange_state(compression).step.assign(saved)
    return averages, [step().numpy() for _ in range(3)]


@pytest.mark.parametrize("graph", [0, 1])
def test_horovods_own_functions_go_on_too(graph):
    for expected, resumed in run_workers(through_horovods_own_functions, graph):
        np.testing.assert_array_equal(resumed, expected[3:])
        assert len({average.tobytes() for average in expected}) == 6


def handed_out():
    for _ in range(hvd.rank()):
        ExchangeState()  # this worker counts from another number
    model = small_model()
    model.compile(tt.distributed.DistributedOptimizer(keras.optimizers.SGD(), tt.TernGrad(smallest=1)), "mse")
    state, before = exchange_state(model.optimizer), []
    state.step.assign_add(100 * (1 + hvd.rank()))
    mine = int(state.step)
    note = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: before.append(int(state.step)))
    given = [tt.distributed.callbacks.BroadcastVariables(1), note]
    model.fit(np.ones((4, 5)), np.ones((4, 3)), batch_size=2, verbose=0, callbacks=given)
    return mine, before


def test_workers_begin_with_the_state_of_one():
    (first, steps), (second, others) = run_workers(handed_out)
    assert first != second
    assert steps == others == [second, second + 1]
