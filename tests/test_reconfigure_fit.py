"""What `fit` does goes on around a model that becomes smaller: callbacks, metrics, kinds of models and of training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from reconfiguring import BATCH, Zeroing, assert_same, compiled, images, network, trained

import tf_terngrad as tt


def reconfigured(model, *callbacks, optimizer=None, epochs=3, **options):
    """Train a model that shrinks twice; what left, and the history."""
    compiled(model, optimizer or keras.optimizers.SGD(0.1), **options)
    reconfigure = tt.callbacks.Reconfigure(every=1)
    before = model.count_params()
    history = trained(model, Zeroing(), reconfigure, *callbacks, epochs=epochs)
    assert len(reconfigure.gone) == 2 and model.count_params() < before
    return reconfigure.gone, history


# Callbacks


def test_checkpoints_history_monitors_and_schedules_see_the_smaller_model(tmp_path):
    model, rates = network(), []
    monitor = tt.callbacks.SparsityMonitor()
    callbacks = [
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
        keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=0, factor=0.1, min_delta=100.0),
        keras.callbacks.TensorBoard(tmp_path / "logs", histogram_freq=1),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: rates.append(float(model.optimizer.learning_rate))),
        monitor,
    ]
    _, history = reconfigured(model, *callbacks)
    np.testing.assert_allclose(rates, [0.05, 0.0025, 0.000125], rtol=1e-5)
    sizes = [keras.models.load_model(tmp_path / f"{epoch}.keras").count_params() for epoch in (1, 2, 3)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3 and sizes[-1] == model.count_params()
    assert history["filters"] == [12, 8, 8] and monitor.live["stem"] == model.get_layer("stem").filters == 4
    assert all(map(np.isfinite, history["loss"]))


def test_a_saved_model_is_the_smaller_one_and_trains_on_with_its_optimizer(tmp_path):
    model = network()
    reconfigured(model, optimizer=keras.optimizers.Adam(0.01))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for mine, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    x, y = images()
    loaded.get_layer("drop").rate = model.get_layer("drop").rate = 0.0
    for each in (model, loaded):
        each.run_eagerly = True
        each.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    np.testing.assert_allclose(model.predict(x, verbose=0), loaded.predict(x, verbose=0), atol=1e-5)


def test_checkpoints_of_tensorflow_find_the_new_weights_and_the_optimizer(tmp_path):
    model = network()
    reconfigured(model, optimizer=keras.optimizers.Adam(0.01))
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(str(tmp_path / "c"))
    expected = [variable.numpy() for variable in model.weights + model.optimizer.variables]
    for variable in model.weights + model.optimizer.variables:
        variable.assign(keras.ops.zeros_like(variable))
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).restore(path).assert_consumed()
    for variable, value in zip(model.weights + model.optimizer.variables, expected, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)


@pytest.mark.parametrize("lived", [False, True])
def test_best_weights_shrink_where_only_zeros_leave_and_are_sought_anew_otherwise(lived, caplog):
    model, stored = network(), []
    early = keras.callbacks.EarlyStopping("rise", mode="min", patience=5, restore_best_weights=True)

    class Rise(keras.callbacks.Callback):
        """The second epoch's value is the best; it has members that the third one has not, if they `lived`."""

        def on_epoch_end(self, epoch, logs=None):
            logs["rise"] = [2.0, 1.0, 3.0][epoch]
            if epoch == 2:
                stored.append(early.best_epoch)

    if lived:  # zeroed after the best weights were stored
        compiled(model, keras.optimizers.SGD(0.1))
        callbacks = [Rise(), early, Zeroing(), tt.callbacks.Reconfigure(at=[2])]
    else:
        compiled(model, keras.optimizers.SGD(0.1))
        callbacks = [Rise(), Zeroing(), early, tt.callbacks.Reconfigure(at=[2])]
    weights = {}
    callbacks.insert(
        3, keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: weights.update({e: model(images()[0])}))
    )
    trained(model, *callbacks)
    assert ("The best epoch is sought anew" in caplog.text) == lived
    np.testing.assert_allclose(model(images()[0]), weights[2 if lived else 1], atol=1e-5)
    assert early.best_epoch == (2 if lived else 1)


# Kinds of training


def test_several_steps_at_once_in_a_compiled_graph_with_validation_and_class_weights():
    model = network()
    compiled(model, keras.optimizers.SGD(0.1), run_eagerly=False, jit_compile=False, steps_per_execution=2)
    reconfigure = tt.callbacks.Reconfigure(at=[1])
    x, y = images()
    history = trained(
        model,
        Zeroing(),
        reconfigure,
        validation_data=(x, y, np.ones(len(x))),
        class_weight={0: 1.0, 1: 2.0, 2: 1.0},
    )
    assert len(reconfigure.gone) == 1 and model.get_layer("stem").filters == 6
    assert history["val_loss"][-1] == pytest.approx(model.evaluate(x, y, verbose=0)[0], rel=1e-5)


def test_predictions_that_were_traced_before_are_traced_anew():
    model = network()
    compiled(model, keras.optimizers.SGD(0.1), run_eagerly=False, jit_compile=False)
    x, _ = images()
    model.predict(x, verbose=0)
    tt.structures(model)[0].zero([0, 1])
    expected = model(x)
    assert tt.reconfigure(model)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = network()
        reconfigured(model, optimizer=keras.optimizers.Adam(0.01))
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        assert model.compute_dtype == model.get_layer("stem").compute_dtype == "float16"
        assert int(model.optimizer.inner_optimizer.iterations) == int(model.optimizer.iterations) == 6
    finally:
        keras.config.set_dtype_policy("float32")


# Kinds of models


def test_a_chain_stays_a_chain_and_attributes_of_the_users_stay():
    model = keras.Sequential(
        [keras.Input((6, 6, 3)), layers.Conv2D(8, 3, name="stem"), layers.Flatten(), layers.Dense(3, name="logits")]
    )
    model.labels = ["low", "middle", "high"]
    reconfigured(model)
    assert type(model) is keras.Sequential and model.labels == ["low", "middle", "high"]
    assert [layer.name for layer in model.layers] == ["stem", "flatten", "logits"]


class Counted(keras.Model):
    """A class over a graph, with a step and a metric of its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.steps = keras.metrics.Sum(name="steps")

    def train_step(self, data):
        logs = super().train_step(data)
        self.steps.update_state(1.0)
        return {**logs, "stem": keras.ops.max(keras.ops.abs(self.get_layer("stem").kernel))}


def test_a_class_over_a_graph_keeps_its_step():
    plain = network()
    model = Counted(plain.inputs, plain.outputs)
    _, history = reconfigured(model)
    assert isinstance(model, Counted) and history["steps"] == [1.0, 1.0, 1.0] and len(history["stem"]) == 3


class TwoRates(keras.Model):
    """A class over a graph with an optimizer for its head, another one for its body, and an object for both."""

    def compile(self, *args, heads, **options):
        super().compile(*args, **options)
        self.heads = {"all": heads}
        self.same = self.optimizer

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            prediction = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=prediction)
        weights, count = self.trainable_variables, len(self.trainable_variables) - 4
        gradients = tape.gradient(loss, weights)
        self.optimizer.apply(gradients[:count], weights[:count])
        self.heads["all"].apply(gradients[count:], weights[count:])
        return self.compute_metrics(x, y, prediction)


def test_optimizers_that_a_class_keeps_go_along():
    models = []
    for callbacks in ([Zeroing()], [Zeroing(), tt.callbacks.Reconfigure(every=1)]):
        plain = network()
        plain.get_layer("drop").rate = 0.0
        model = TwoRates(plain.inputs, plain.outputs)
        compiled(model, keras.optimizers.SGD(0.05, momentum=0.9), heads=keras.optimizers.Adam(0.01))
        trained(model, *callbacks)
        models.append(model)
    whole, model = models
    assert [each["epoch"] for each in callbacks[1].gone] == [1, 2]
    assert len(model.heads["all"].variables) == len(whole.heads["all"].variables) == 2 + 2 * 4
    assert_same(model, whole, rtol=1e-3, atol=1e-5)


def test_a_class_with_a_call_becomes_a_graph():
    class Net(keras.Model):
        def __init__(self):
            super().__init__(name="net")
            self.stem = layers.Conv2D(8, 3, activation="relu")
            self.head = layers.Dense(3)

        def call(self, x):
            return self.head(keras.ops.mean(self.stem(x), (1, 2)))

    model = Net()
    x, _ = images()
    model(x)
    reconfigured(model, optimizer=keras.optimizers.Adam(0.01))
    assert model.weights[0].shape[-1] == 4 and model(x).shape == (len(x), 3)


def test_nested_models_several_outputs_and_a_part_that_is_sparsified_alone():
    inputs = keras.Input((6, 6, 3))
    inner = keras.Sequential(
        [keras.Input((6, 6, 3)), layers.Conv2D(8, 3, activation="relu", name="stem")], name="inner"
    )
    x = layers.GlobalAveragePooling2D()(inner(inputs))
    model = keras.Model(inputs, [layers.Dense(3, name="first")(x), layers.Dense(2, name="second")(x)])
    sparsity = tt.sparsify(model, 1e-6, kinds=["filter"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", [loss, "mse"], loss_weights=[1.0, 0.5], run_eagerly=True)
    x, y = images()
    model.fit(x, [y, x[:, 0, 0, :2]], epochs=3, verbose=0, callbacks=[Zeroing(), tt.callbacks.Reconfigure(every=1)])
    assert model.get_layer("inner").output.shape[-1] == sparsity.groups == 4
    assert model.weights[0].path == "inner/stem/kernel"


# What `sparsify` put on the model


def test_several_penalties_go_on_and_can_be_released():
    model = network()
    filters = tt.sparsify(model, ratio=0.2, kinds=["filter", "width"])
    units = tt.sparsify(model, 1e-4, kinds=["unit"], method="subgradient")
    filters_before, units_before = filters.groups, units.groups
    reconfigured(model, optimizer=keras.optimizers.SGD(0.1))
    strength = float(filters.strength)
    assert strength > 0 and not filters.waits_for_loss
    assert (filters.groups, units.groups) == (filters_before - filters.left, units_before - units.left)
    assert filters.left and units.left
    for found in filters.structures + units.structures:
        assert (found.norms() > 0).all()
        assert all(any(piece.variable is each for each in model.variables) for piece in found.slices)
    units.release()
    filters.strength.assign(10.0)
    trained(model, epochs=2)
    assert all((found.norms() == 0).any() for found in filters.structures)
    filters.release()
    before = filters.groups
    assert tt.reconfigure(model)
    assert filters.groups < before and all(found.size for found in filters.structures)


def test_what_is_held_stays_held_in_the_smaller_model():
    model = network()
    held = tt.hold(model)
    tt.structures(model)[0].zero([0, 1])
    held = tt.hold(model)
    compiled(model, keras.optimizers.SGD(0.1, momentum=0.9))
    hidden = next(found for found in held.structures if found.name == "hidden")
    assert tt.reconfigure(model)
    hidden = next(found for found in held.structures if found.name == "hidden")
    hidden.zero([3])
    second = tt.hold(model)
    trained(model, epochs=1)
    assert (hidden.norms() == 0).tolist() == [member == 3 for member in range(hidden.size)]
    assert second.groups == held.groups


def test_a_budget_is_met_as_it_would_have_been():
    models = []
    for callbacks in ([], [tt.callbacks.Reconfigure(every=1)]):
        model = network()
        sparsity = tt.sparsify(model, budget=tt.Budget(multiply_adds=0.4))
        compiled(model, keras.optimizers.SGD(0.1, momentum=0.5))
        trained(model, *callbacks, epochs=8)
        assert sparsity.budgeted.is_met
        models.append((model, sparsity))
    (whole, _), (model, sparsity) = models
    assert len(callbacks[0].gone) > 1 and sparsity.left > 3
    assert_same(model, whole, rtol=1e-3, atol=1e-5)
