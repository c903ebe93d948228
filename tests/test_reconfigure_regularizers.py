"""Regularizers of this package that layers were given, and what zeroes small weights, go on in the smaller model."""

import keras
import numpy as np
import pytest
from keras import layers
from reconfiguring import assert_same, compiled

import tf_terngrad as tt
from tf_terngrad import regularizers
from tf_terngrad.sparsity.learn import hooks

PENALTIES = {
    "filters": lambda: regularizers.FilterLasso(2e-2),
    "channels": lambda: regularizers.ChannelLasso(2e-2),
    "shapes and decay": lambda: regularizers.ShapeLasso(2e-2) + keras.regularizers.L2(1e-2),
    "windows": lambda: regularizers.Filter2DLasso(1e-2),
    "a layer": lambda: regularizers.LayerLasso(5e-2),
    "an axis": lambda: regularizers.GroupLasso(2e-2, axis=-1),
}


def network(make, **options):
    keras.utils.set_random_seed(3)
    parts = [
        layers.Conv2D(6, 3, activation="relu", kernel_regularizer=make(), name="stem", **options),
        layers.Conv2D(6, 3, activation="relu", kernel_regularizer=make(), name="body", **options),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, kernel_regularizer=make(), name="logits"),
    ]
    return compiled(keras.Sequential([keras.Input((6, 6, 2)), *parts]), keras.optimizers.SGD(0.2, momentum=0.9))


def stepped(model, count=1):
    x = np.random.default_rng(0).normal(size=(16, 6, 6, 2))
    for _ in range(count):
        model.train_on_batch(x, (x[..., 0].mean((1, 2)) > 0).astype("int32"))
    return model


def small_weights(model):
    """The callback as `fit` begins it."""
    callback = tt.callbacks.ZeroSmallWeights(1e-2)
    callback.set_model(model)
    callback.on_train_begin()
    return callback


def zeroed(model, members=(0, 3)):
    for found in tt.structures(model):
        if found.kind == "filter":
            found.zero(list(members))
    tt.hold(model)
    return model


@pytest.mark.parametrize("make", PENALTIES.values(), ids=PENALTIES)
def test_training_gives_the_same_weights(make):
    whole, model = (stepped(network(make)) for _ in range(2))
    callbacks = [small_weights(each) for each in (whole, model)]
    for each in (whole, model):
        zeroed(each)
    assert tt.reconfigure(model) == [{"stem": [0, 3], "body": [0, 3]}]
    for each in (whole, model):
        stepped(each, 2)
    assert_same(model, whole)
    losses = [keras.ops.convert_to_numpy(sum(each.losses)) for each in (model, whole)]
    np.testing.assert_allclose(*losses, rtol=2e-2)  # each group that is zero adds strength · 1e-4
    for callback, each in zip(callbacks, (whole, model), strict=True):
        assert any(callback is owner for owner in hooks.all_owners(each.weights))
        callback.on_train_end()
        assert not any(callback is owner for owner in hooks.all_owners(each.weights))


def test_configurations_have_them_and_they_go_on_again(tmp_path):
    model = stepped(network(PENALTIES["shapes and decay"]))
    for members in ([0, 3], [1]):
        assert tt.reconfigure(zeroed(model, members))
    kernel = model.get_layer("body").kernel
    assert kernel.shape == (3, 3, 3, 3) and repr(kernel.regularizer.regularizers[0]) == "ShapeLasso(strength=0.02)"
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(sum(loaded.losses), sum(model.losses), rtol=1e-6)
    plain = tt.compact(model)
    assert isinstance(plain.get_layer("body").kernel_regularizer, keras.regularizers.L2)


def test_what_is_held_at_zero_stays_so():
    model = network(PENALTIES["filters"])
    kernel = model.get_layer("body").kernel
    kernel.assign(kernel * (np.arange(6)[:, None] != np.arange(6)))  # a filter reads all channels but one
    callback = tt.callbacks.ZeroSmallWeights(hold=True)
    callback.set_model(model)
    callback.on_train_begin()
    assert tt.reconfigure(zeroed(model)) == [{"stem": [0, 3], "body": [0, 3]}]
    stepped(model, 2)
    np.testing.assert_array_equal((model.get_layer("body").kernel.numpy() == 0).all((0, 1)), np.eye(4, dtype=bool))
    callback.on_train_end()


def test_in_one_fit_they_zero_small_filters_that_leave():
    model = network(lambda: regularizers.FilterLasso(0.1), use_bias=False)
    x = np.random.default_rng(0).normal(size=(32, 6, 6, 2))
    callbacks = [tt.callbacks.ZeroSmallWeights(0.1), tt.callbacks.Reconfigure(every=2)]
    model.fit(x, (x[..., 0].mean((1, 2)) > 0) * 1, epochs=8, batch_size=8, verbose=0, callbacks=callbacks)
    assert callbacks[1].gone and model.get_layer("stem").filters < 6
