"""Statistics measured anew: as NumPy has them, for any batches, and nothing else of the model changes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tf_terngrad as tt
from models.lenet import lenet
from models.resnet20 import resnet20

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return (RANDOM.normal(size=shape) * 3 + RANDOM.normal(size=shape[-1]) * 5).astype("float32")


def sequential(*parts):
    keras.utils.set_random_seed(0)
    return keras.Sequential(parts)


def other_statistics(model):
    """Give a model's normalizations some statistics that no data have."""
    for variable in model.non_trainable_variables:
        if "moving" in variable.path:
            variable.assign(RANDOM.uniform(1, 2, variable.shape))
    return model


def chain():
    return other_statistics(
        sequential(
            *(keras.Input((6,)), layers.Dense(8, name="a"), layers.BatchNormalization(name="first")),
            *(layers.Dropout(0.5), layers.Activation("tanh"), layers.Dense(5, name="b")),
            *(layers.BatchNormalization(name="second", momentum=0.3), layers.Dense(2)),
        )
    )


@pytest.mark.parametrize("size", [1, 7, 20, 64, 1000])
def test_as_numpy_has_them(size):
    model, x = chain(), normal(64, 6)
    assert tt.calibrate(model, x, size) == ["first", "second"]
    kernels = {name: model.get_layer(name).kernel.numpy().astype(float) for name in "ab"}
    entered = x @ kernels["a"]
    parts = [entered[cut : cut + size] for cut in range(0, 64, size)]
    normalized = [(part - part.mean(0)) / np.sqrt(part.var(0) + 1e-3) for part in parts]
    later = np.concatenate([np.tanh(part) for part in normalized]) @ kernels["b"]
    for name, values in (("first", entered), ("second", later)):
        layer = model.get_layer(name)
        np.testing.assert_allclose(layer.moving_mean, values.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(layer.moving_variance, values.var(0), rtol=1e-4, atol=1e-5)


class Block(layers.Layer):
    """A user's own, compiled, with layers in a list; it says nothing of training to one of them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [layers.Dense(4), layers.BatchNormalization(), layers.BatchNormalization(scale=False)]

    @tf.function
    def call(self, x, training=None):
        x = self.parts[1](self.parts[0](x), training=training)
        return self.parts[2](x * 2 + 1)


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.block, self.out = Block(), layers.Dense(2)

    def call(self, x, training=False):
        return self.out(self.block(x, training=training))


def nested():
    inner = sequential(keras.Input((4,)), layers.Dense(3), layers.BatchNormalization())
    x = keras.Input((4,))
    return keras.Model(x, layers.Concatenate()([inner(x), layers.BatchNormalization()(x)]))


def images():
    parts = layers.Conv2D(5, 3), layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(3, 3)
    return sequential(keras.Input((8, 8, 4)), *parts, layers.BatchNormalization(center=False))


MODELS = {
    "nested": (nested, (4,)),
    "images": (images, (8, 8, 4)),
    "resnet20": (lambda: resnet20((8, 8, 3)), (8, 8, 3)),
    "axis 1": (lambda: sequential(keras.Input((3, 5, 5)), layers.BatchNormalization(axis=1)), (3, 5, 5)),
    "renorm": (lambda: sequential(keras.Input((3,)), layers.Dense(4), _renormalization()), (3,)),
    "composite": (lambda: sequential(keras.Input((4,)), Block(), layers.Dense(2)), (4,)),
    "wrapper": (
        lambda: sequential(
            keras.Input((4,)), tt.layers.GroupSparse(layers.Dense(5), 1e-3), layers.BatchNormalization()
        ),
        (4,),
    ),
}


def _normalized():
    return sequential(keras.Input((4,)), layers.Dense(5), layers.BatchNormalization())


def _renormalization():
    try:
        return layers.BatchNormalization(renorm=True)
    except ValueError:  # before Keras 3.13
        pytest.skip("this Keras has no renormalization")


@pytest.mark.parametrize("name", MODELS)
def test_in_one_batch_they_are_what_training_normalizes_by(name):
    make, shape = MODELS[name]
    model, x = other_statistics(make()), normal(32, *shape)
    before = model(x, training=False)  # a compiled composite has been traced
    trained = keras.models.clone_model(model) if name not in ("composite", "renorm") else None
    tt.calibrate(model, x)
    after = model(x, training=False)
    assert np.abs(after - before).max() > 1e-3
    if trained is not None:
        trained.set_weights(model.get_weights())
        np.testing.assert_allclose(after, trained(x, training=True), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(model(x[:1], training=False), after[:1], rtol=1e-4, atol=1e-4)  # no batch's own
    weights = model.get_weights()
    tt.calibrate(model, x)
    for again, first in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(again, first, rtol=1e-5, atol=1e-6)


def test_a_model_of_ones_own():
    model, x = Own(), normal(32, 4)
    model(x)
    norms = [part for part in model.block.parts if isinstance(part, layers.BatchNormalization)]
    assert sorted(tt.calibrate(model, x)) == sorted(norm.name for norm in norms)
    entered = x @ model.block.parts[0].kernel.numpy()
    np.testing.assert_allclose(norms[0].moving_mean, entered.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norms[1].moving_mean, np.ones(4), atol=1e-5)
    np.testing.assert_allclose(norms[1].moving_variance, 4 * np.ones(4), rtol=1e-2)


def test_each_step_of_a_sequence():
    x = normal(32, 6, 3)
    model = sequential(keras.Input((6, 3)), layers.TimeDistributed(layers.BatchNormalization()))
    tt.calibrate(model, x, 10)
    mean, variance = model.non_trainable_variables
    np.testing.assert_allclose(mean, x.mean((0, 1)), rtol=1e-4)
    np.testing.assert_allclose(variance, x.var((0, 1)), rtol=1e-4)


def test_masked_steps_do_not_count():
    x = normal(32, 6, 3)
    steps = np.arange(6) < RANDOM.integers(1, 7, (32, 1))
    x[~steps] = 0
    model = sequential(keras.Input((6, 3)), layers.Masking(), layers.BatchNormalization())
    tt.calibrate(model, x, 5)
    mean, variance = model.non_trainable_variables
    np.testing.assert_allclose(mean, x[steps].mean(0), rtol=1e-4)
    np.testing.assert_allclose(variance, x[steps].var(0), rtol=1e-4)
    statistics = [mean.numpy(), variance.numpy()]
    tt.calibrate(model, np.concatenate([x, np.zeros((9, 6, 3), "float32")]), 4)  # batches of nothing
    np.testing.assert_allclose([mean, variance], statistics, rtol=1e-4)


def test_large_means_cost_no_digits():
    x = RANDOM.normal(size=(64, 2)).astype("float32") + np.float32(1000)
    model = sequential(keras.Input((2,)), layers.BatchNormalization())
    tt.calibrate(model, x, 1)
    np.testing.assert_allclose(model.layers[0].moving_variance, x.astype(float).var(0), rtol=1e-5)


def test_nothing_else_changes():
    parts = layers.LSTM(6, stateful=True, return_sequences=True), layers.BatchNormalization(name="free")
    frozen = layers.BatchNormalization(name="frozen", trainable=False)
    model = sequential(keras.Input(batch_shape=(4, 5, 3)), *parts, layers.Dropout(0.5), frozen, layers.Dense(2))
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(normal(8, 5, 3), normal(8, 5, 2), batch_size=4, verbose=0)
    variables = [*model.variables, *model.optimizer.variables, *model.layers[0].states]
    before = [variable.numpy() for variable in variables]
    assert tt.calibrate(model, normal(8, 5, 3), 4) == ["free"]
    changed = {v.path for v, old in zip(variables, before, strict=True) if not np.array_equal(v, old)}
    assert changed == {each.path for each in model.get_layer("free").non_trainable_variables}
    assert "call" not in vars(model.get_layer("free"))
    assert not tf.config.functions_run_eagerly()
    model.fit(normal(8, 5, 3), normal(8, 5, 2), batch_size=4, verbose=0)


def two_inputs():
    one, two = keras.Input((3,), name="one"), keras.Input((2,), name="two")
    return keras.Model({"one": one, "two": two}, layers.BatchNormalization()(layers.Concatenate()([one, two])))


def test_data_of_any_kind():
    data = {"one": normal(20, 3), "two": normal(20, 2)}
    labels = np.zeros(20)

    class Sequence(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, number):
            return {name: array[5 * number : 5 * number + 5] for name, array in data.items()}, labels[:5]

    dataset = tf.data.Dataset.from_tensor_slices((data, labels)).batch(7)
    kinds = [data, dataset, dataset.map(lambda x, y: x), Sequence(), iter(dataset)]
    whole = np.concatenate(list(data.values()), 1)
    for kind in kinds:
        model = two_inputs()
        tt.calibrate(model, kind, 6)
        np.testing.assert_allclose(model.layers[-1].moving_mean, whole.mean(0), rtol=1e-4)
        np.testing.assert_allclose(model.layers[-1].moving_variance, whole.var(0), rtol=1e-4)


def test_pruned_calibrated_compacted():
    model, x = resnet20((8, 8, 3)), normal(32, 8, 8, 3)
    tt.calibrate(model, x)
    tt.prune(model, tt.Budget(multiply_adds=0.5))
    tt.calibrate(model, x)
    small = tt.compact(model)
    np.testing.assert_allclose(small(x), model(x), rtol=1e-3, atol=1e-4)
    for layer in small.layers:
        if isinstance(layer, layers.BatchNormalization):
            entered = keras.Model(small.input, layer.input)(x, training=False)
            np.testing.assert_allclose(layer.moving_mean, np.mean(entered, (0, 1, 2)), rtol=1e-3, atol=1e-3)


def test_without_normalizations_it_says_so(caplog):
    assert tt.calibrate(lenet(), np.zeros((2, 28, 28, 1))) == []
    assert "no batch normalization that trains" in caplog.text


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tt.calibrate("model", normal(2, 6)), TypeError, "a Keras model"),
        (lambda: tt.calibrate(chain(), normal(2, 6), 0), ValueError, "batch_size=0"),
        (lambda: tt.calibrate(chain(), 3.0), TypeError, "arrays, or batches"),
        (lambda: tt.calibrate(chain(), normal(0, 6)), ValueError, "at least one batch"),
        (lambda: tt.calibrate(chain(), tf.data.Dataset.from_tensors(normal(2, 6)).repeat()), ValueError, "that ends"),
        (lambda: tt.calibrate(chain(), iter([])), ValueError, "at least one batch"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_what_is_not_finite_changes_nothing():
    model, x = chain(), normal(20, 6)
    before = model.get_weights()
    x[3] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity at first, second"):
        tt.calibrate(model, x)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
