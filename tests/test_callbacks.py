"""The monitor's counts reach the logs, the bar and TensorBoard; small weights are zero after every update."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tf_terngrad.sparsity.callbacks import SparsityMonitor, ZeroSmallWeights
from tf_terngrad.sparsity.learn.regularizers import ChannelLasso, FilterLasso, StructuredRegularizer, SumRegularizer
from tf_terngrad.sparsity.learn.wrappers import GroupSparse, IntrinsicSparse
from tf_terngrad.sparsity.sparsify import sparsify
from tf_terngrad.sparsity.structures import structures


def network(regularizer=None):
    keras.utils.set_random_seed(5)
    image = keras.Input((6, 6, 1))
    start = layers.Conv2D(4, 3, name="start", kernel_regularizer=regularizer)(image)
    total = start + layers.Conv2D(4, 3, padding="same", name="back")(start)
    hidden = layers.Dense(7, name="hidden")(layers.Flatten()(total))
    model = keras.Model(image, layers.Dense(2, name="out")(hidden))
    model.compile(keras.optimizers.SGD(0.05), "mse")
    return model


def data(examples=8):
    rng = np.random.default_rng(0)
    return rng.normal(size=(examples, 6, 6, 1)).astype("float32"), rng.normal(size=(examples, 2)).astype("float32")


def test_counts_stand_in_history_logs_and_bar(capsys):
    model, monitor = network(), SparsityMonitor()
    filters, units, branch = structures(model)
    filters.zero([1])
    units.zero([0, 2, 5])
    model.optimizer.learning_rate = 0.0
    seen = []
    later = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs)))
    history = model.fit(*data(), epochs=2, callbacks=[monitor, later]).history
    assert history["filters"] == [3, 3] and history["units"] == [4, 4] and history["branches"] == [1, 1]
    assert monitor.live == {"start": 3, "hidden": 4, branch.name: 1}
    assert [logs["filters"] for logs in seen] == [3, 3]
    shown = capsys.readouterr().out
    assert "- filters: 3 -" in shown and "- units: 4" in shown and "- branches: 1" in shown


@pytest.mark.parametrize("verbose", [1, 2])
def test_the_bar_shows_zeros_and_large_counts_whole(capsys, verbose):
    model, monitor = network(), SparsityMonitor(tolerance=1e6)
    model.fit(*data(), verbose=verbose, callbacks=[monitor])
    assert "- filters: 0 -" in capsys.readouterr().out


def test_counts_follow_the_training():
    model = network()
    sparsify(model, strength=2.5)
    history = model.fit(*data(64), batch_size=8, epochs=3, verbose=0, callbacks=[SparsityMonitor()]).history
    for structure, name in zip(structures(model), ("filters", "units", "branches"), strict=True):
        assert history[name][-1] == np.count_nonzero(structure.norms())
    assert 7 > history["units"][0] > history["units"][-1]


def test_tolerance_and_every():
    model = network()
    norms = np.sort(structures(model)[1].norms())
    monitor = SparsityMonitor(tolerance=norms[3], every=2)
    strengthen = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: grow(model) if epoch == 2 else None)
    model.optimizer.learning_rate = 0.0
    history = model.fit(*data(), epochs=4, verbose=0, callbacks=[strengthen, monitor]).history
    assert history["units"] == [3, 3, 3, 7]


def grow(model):
    for weight in model.trainable_variables:
        weight.assign(10 * weight.value)


def test_nan_is_not_counted_as_dead(tmp_path):
    model = network()
    kernel = model.get_layer("start").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    history = model.fit(*data(), verbose=0, callbacks=[SparsityMonitor(log_dir=tmp_path)]).history
    assert history["filters"] == [4]


def test_tensorboard_gets_scalars_and_pictures(tmp_path):
    model = network()
    structures(model)[1].zero([0])
    model.optimizer.learning_rate = 0.0
    model.fit(*data(), epochs=3, verbose=0, callbacks=[SparsityMonitor(log_dir=tmp_path, every=2)])
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {"live/start", "live/hidden"} <= tags
    assert {f"weights/{name}/kernel" for name in ("start", "back", "hidden", "out")} <= tags
    assert [event.step for event in events.Tensors("live/hidden")] == [0, 1]
    assert [tf.make_ndarray(event.tensor_proto) for event in events.Tensors("live/hidden")] == [6, 6]
    width, height, picture = events.Tensors("weights/hidden/kernel")[0].tensor_proto.string_val
    assert int(width) > 0 and int(height) > 0 and picture.startswith(b"\x89PNG")


def test_the_monitor_refuses():
    for tolerance in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="tolerance"):
            SparsityMonitor(tolerance=tolerance)
    for every, error in ((0, ValueError), (-1, ValueError), (True, TypeError), (1.0, TypeError), ("1", TypeError)):
        with pytest.raises(error, match=rf"SparsityMonitor: expected `every` .* Received: every={every!r}"):
            SparsityMonitor(every=every)
    assert SparsityMonitor(every=np.int64(2)).every == 2


THRESHOLD = 0.05


class EveryUpdate(keras.constraints.Constraint):
    """A constraint on another variable that looks at a kernel after each update; works inside graphs."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.counts = keras.Variable(np.zeros((2,)), trainable=False, dtype="float32")

    def __call__(self, value):
        small = keras.ops.logical_and(self.kernel.value != 0, keras.ops.abs(self.kernel.value) < THRESHOLD)
        self.counts.assign_add(keras.ops.stack([1.0, keras.ops.sum(keras.ops.cast(small, "float32"))]))
        return value


@pytest.mark.parametrize("arguments", [{}, {"steps_per_execution": 3}, {"jit_compile": True}])
def test_small_weights_are_zero_after_every_update(arguments):
    model = network(FilterLasso(1e-2) + ChannelLasso(1e-2))
    kernel, bias = model.get_layer("start").kernel, model.get_layer("out").bias
    bias.constraint = watch = EveryUpdate(kernel)
    model.compile(keras.optimizers.SGD(0.05), "mse", **arguments)
    model.fit(*data(48), batch_size=8, verbose=0, callbacks=[ZeroSmallWeights(THRESHOLD)])
    assert watch.counts.numpy().tolist() == [6, 0]
    assert 0 < np.count_nonzero(kernel) < kernel.numpy().size
    other = np.abs(model.get_layer("hidden").kernel.numpy())
    assert (other[other > 0] < THRESHOLD).any()
    assert kernel.constraint is None and bias.constraint is watch


def test_hold_keeps_zeros_and_makes_no_others_though_the_model_has_been_traced():
    model = network(FilterLasso(1e-2))
    kernel = model.get_layer("start").kernel
    model.fit(*data(48), batch_size=8, verbose=0, callbacks=[ZeroSmallWeights(THRESHOLD)])
    zeros = kernel.numpy() == 0
    assert zeros.any()
    model.fit(*data(48), batch_size=8, verbose=0, callbacks=[ZeroSmallWeights(0.5, hold=True)])
    np.testing.assert_array_equal(kernel.numpy() == 0, zeros)
    model.fit(*data(48), batch_size=8, verbose=0)
    assert kernel.numpy().all()


@pytest.mark.parametrize("options", [{}, {"use_ema": True}], ids=["weights", "averages"])
def test_hold_and_sparsify_agree_on_what_is_held(options):
    """All that sparsify holds, and no member more, is zero when ZeroSmallWeights has held it."""
    model = network(None)
    sparsity = sparsify(model, strength=0.5, kinds=["filter", "unit"])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    model.fit(*data(48), batch_size=8, verbose=0)
    dead = [structure.norms() == 0 for structure in sparsity.structures]
    assert 0 < np.concatenate(dead).sum() < sparsity.groups
    sparsity.strength.assign(0.0)
    for callbacks in ([], [ZeroSmallWeights(hold=True)]):
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9, **options), "mse")
        model.fit(*data(48), batch_size=8, verbose=0, callbacks=callbacks)
        for structure, before in zip(sparsity.structures, dead, strict=True):
            np.testing.assert_array_equal(structure.norms() == 0, before)


def test_the_users_constraint_comes_first_and_returns():
    model = network(FilterLasso(1e-2))
    kernel, own = model.get_layer("start").kernel, keras.constraints.NonNeg()
    kernel.constraint = own
    model.fit(*data(), verbose=0, callbacks=[ZeroSmallWeights(THRESHOLD)])
    left = kernel.numpy()[kernel.numpy() != 0]
    assert left.size and (left >= THRESHOLD).all()
    assert kernel.constraint is own


def test_after_an_interrupted_training_the_callback_starts_anew():
    model, callback = network(FilterLasso(1e-2)), ZeroSmallWeights(THRESHOLD)

    def interrupt(epoch, logs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(*data(), verbose=0, callbacks=[callback, keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)])
    model.fit(*data(), verbose=0, callbacks=[callback])
    assert model.get_layer("start").kernel.constraint is None


def test_zero_small_weights_refuses():
    for threshold in (-1e-4, float("nan")):
        with pytest.raises(ValueError, match="threshold"):
            ZeroSmallWeights(threshold)
    with pytest.raises(TypeError, match="expected `hold` to be True or False"):
        ZeroSmallWeights(hold="no")
    with pytest.raises(ValueError, match=r"no weight of model 'functional'.*kernel_regularizer"):
        network().fit(*data(), verbose=0, callbacks=[ZeroSmallWeights()])


# Which weights are watched: it is decided by class, wherever the class was written.


class RowLasso(StructuredRegularizer):
    """A regularizer as users write them."""

    def __call__(self, weights):
        return 0.01 * keras.ops.sum(keras.ops.sqrt(keras.ops.sum(keras.ops.square(weights), -1) + 1e-8))

    def attached(self, layer, variable):
        return self

    def get_config(self):
        return {}


class OwnFilters(FilterLasso):
    """A subclass of one of ours."""


class PlainPenalty(keras.regularizers.Regularizer):
    """A regularizer that knows nothing of groups."""

    def __call__(self, weights):
        return 0.01 * keras.ops.sum(keras.ops.square(weights))


def dense(regularizer=None):
    return layers.Dense(3, kernel_regularizer=regularizer)


WATCHED = {
    "own": (lambda: dense(RowLasso()), ["kernel"]),
    "subclass of ours": (lambda: dense(OwnFilters(0.01)), ["kernel"]),
    "own in a sum": (lambda: dense(keras.regularizers.L2(0.01) + RowLasso()), ["kernel"]),
    "ours beside another": (lambda: dense(FilterLasso(0.01) + PlainPenalty()), ["kernel"]),
    "own in GroupSparse": (lambda: GroupSparse(dense(RowLasso()), 0.01), ["kernel", "bias"]),
    "another in GroupSparse": (lambda: GroupSparse(dense(PlainPenalty()), 0.01), ["kernel", "bias"]),
    "IntrinsicSparse": (lambda: IntrinsicSparse(layers.GRU(3), 0.01), ["kernel", "recurrent_kernel", "bias"]),
    "another": (lambda: dense(PlainPenalty()), []),
    "a sum without": (lambda: dense(SumRegularizer([PlainPenalty(), keras.regularizers.L1(0.01)])), []),
    "none": (dense, []),
}


@pytest.mark.parametrize("make, names", WATCHED.values(), ids=WATCHED)
def test_weights_are_watched_by_the_class_of_their_regularizer(make, names):
    layer = make()
    model = keras.Sequential([keras.Input((4, 5) if layer.name.startswith("intrinsic") else (5,)), layer])
    model.compile("sgd", "mse")
    x, y = np.ones((2, *model.input_shape[1:])), np.ones((2, 3))
    threshold = float(np.median(np.abs(layer.weights[0])))
    callback = ZeroSmallWeights(threshold)
    if not names:
        with pytest.raises(ValueError, match="has a structured regularizer"):
            model.fit(x, y, verbose=0, callbacks=[callback])
        return
    model.fit(x, y, verbose=0, callbacks=[callback])
    for weight in layer.weights:
        small = np.abs(weight.numpy()) < threshold
        assert weight.name not in names or not weight.numpy()[small].any()


def test_weights_that_sparsify_penalizes_are_watched_and_those_that_it_shrinks_are_not():
    model = network()
    sparsify(model, strength=0.01, method="subgradient", threshold=0.0)
    model.fit(*data(), verbose=0, callbacks=[ZeroSmallWeights(THRESHOLD)])
    kernel = model.get_layer("hidden").kernel.numpy()
    assert (kernel == 0).any() and not (np.abs(kernel[kernel != 0]) < THRESHOLD).any()
    model = network()
    sparsify(model, strength=0.01)
    with pytest.raises(ValueError, match="has a structured regularizer"):
        model.fit(*data(), verbose=0, callbacks=[ZeroSmallWeights()])
