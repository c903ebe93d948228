"""The distributed gradient tape, among real workers, against NumPy."""

import horovod.tensorflow as hvd
import keras
import numpy as np
import pytest
import tensorflow as tf
import virtual_workers
from workers import run_workers

from tf_terngrad.ternary.compressor import TernGrad
from tf_terngrad.ternary.distributed import DistributedGradientTape


def gradients_of_a_structure(compression, op, traced):
    """The gradients of rank-dependent sums: factor (rank + 1) * 2, of a Keras variable, one of TensorFlow, and None."""
    ours, theirs = keras.Variable(np.zeros((40, 30), "float32"), name="ours"), tf.Variable(tf.zeros((2000,)))
    sources = {"ours": ours, "others": [theirs, tf.Variable(1.0)]}

    def gradients():
        with tf.GradientTape() as tape:
            target = tf.reduce_sum(ours) + 2 * tf.reduce_sum(theirs)
            target *= float(hvd.rank() + 1)
        return DistributedGradientTape(tape, compression=compression, op=op).gradient(target, sources)

    result = (tf.function(gradients) if traced else gradients)()
    return {"ours": result["ours"].numpy(), "theirs": result["others"][0].numpy(), "unused": result["others"][1]}


def test_gradients_keep_their_structure_and_are_averages():
    def together():
        results = []
        for compression in (None, TernGrad(clip=None)):
            for op in ("average", "sum"):
                results += [(op, gradients_of_a_structure(compression, op, traced)) for traced in (False, True)]
        return results

    for results in run_workers(together):
        assert len(results) == 8
        for op, result in results:
            factor = {"average": 1.5, "sum": 3}[op]
            assert result["unused"] is None
            # a worker's digits of a constant that is half the shared scale are ones and zeros, half of each
            assert result["ours"].mean() == pytest.approx(factor, rel=0.1)
            assert result["theirs"].mean() == pytest.approx(2 * factor, rel=0.1)


def test_floats_are_exact():
    def together():
        return [gradients_of_a_structure(None, "average", traced) for traced in (False, True)]

    for results in run_workers(together):
        for result in results:
            np.testing.assert_array_equal(result["ours"], np.full((40, 30), 1.5))
            np.testing.assert_array_equal(result["theirs"], np.full(2000, 3.0))


def test_one_variable_and_a_persistent_tape_and_exit_by_error():
    def together():
        variable = tf.Variable([1.0, 2.0])
        with DistributedGradientTape(tf.GradientTape(persistent=True)) as tape:
            square = tf.reduce_sum(variable**2) * (hvd.rank() + 1)
        again = [tape.gradient(square, variable).numpy() for _ in range(2)]
        assert tape.watched_variables()[0] is variable
        with pytest.raises(ZeroDivisionError), DistributedGradientTape(tf.GradientTape()):
            raise ZeroDivisionError
        return again

    for results in run_workers(together):
        np.testing.assert_array_equal(results, [[3.0, 6.0]] * 2)


def test_patterns_that_fit_nothing_are_told_once(caplog):
    def of(network):
        for _ in range(2):
            with tf.GradientTape() as tape:
                target = tf.reduce_sum(weight)
            DistributedGradientTape(tape, exclude=["*biass"], process_set=network).gradient(target, [weight])

    weight = keras.Variable(np.zeros(3, "float32"), name="bias")
    virtual_workers.run(1, of)
    (told,) = [record.getMessage() for record in caplog.records if "exclude" in record.getMessage()]
    assert "exclude=['*biass']" in told and "bias" in told


def test_other_things_than_tapes_are_refused():
    with pytest.raises(TypeError, match=r"tf\.GradientTape"):
        DistributedGradientTape("tape")
    with pytest.raises(TypeError, match=r"such as TernGrad\(\)"):
        DistributedGradientTape(tf.GradientTape(), TernGrad)
    with pytest.raises(RuntimeError, match="not initialized"):
        DistributedGradientTape(tf.GradientTape())
