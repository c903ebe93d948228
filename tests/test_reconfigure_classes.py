"""Classes with a `call` and a `train_step` of their own stay what they are; their layers become smaller in place."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from reconfiguring import BATCH, assert_same

import tf_terngrad as tt


def data():
    x = np.random.default_rng(0).normal(size=(2 * BATCH, 8)).astype("float32")
    return x, (x[:, 0] > 0).astype("int32")


class Block(layers.Layer):
    """Two layers that add to what they are given."""

    def __init__(self, width):
        super().__init__()
        self.parts = [layers.Dense(5, activation="relu"), layers.Dense(width)]
        self.norm = layers.BatchNormalization()

    def call(self, x, training=False):
        y = x
        for part in self.parts:
            y = part(y)
        return x + self.norm(y, training=training)


class Step(keras.Model):
    """The style of Keras's guides: a loss of its own in `train_step`, and a tracker of it."""

    def __init__(self):
        super().__init__(name="own")
        self.stem = layers.Dense(6, activation="relu", name="stem")
        self.heads = {"logits": layers.Dense(2), "none": None}
        self.tracker = keras.metrics.Mean(name="loss")

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            logits = self(x, training=True)
            errors = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
            loss = keras.ops.mean(errors) + sum(self.losses)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self.note(loss)

    def note(self, loss):
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}

    @property
    def metrics(self):
        return [self.tracker]


class Own(Step):
    """Layers as attributes, in a list, in a dictionary, in a layer of the user's and in a nested model."""

    def __init__(self):
        super().__init__()
        self.block = Block(6)
        self.tail = keras.Sequential([layers.Dense(7, activation="sigmoid"), layers.Dense(6, activation="relu")])

    def call(self, x, training=False):
        x = self.stem(keras.ops.tanh(x))
        x = self.block(x, training=training)
        return self.heads["logits"](self.tail(keras.ops.relu(x)))


def built(kind=Own):
    keras.utils.set_random_seed(3)
    model = kind()
    model(data()[0])
    return model


def trained(model, *callbacks, epochs=3, eager=True):
    if not model.compiled:
        model.compile(keras.optimizers.Adam(0.02), run_eagerly=eager)
    options = {"batch_size": BATCH, "epochs": epochs, "shuffle": False, "verbose": 0}
    return model.fit(*data(), callbacks=list(callbacks), **options).history


class Zeroing(keras.callbacks.Callback):
    """After each of the first two epochs, zeroes a member of each width, and holds it."""

    def on_epoch_end(self, epoch, logs=None):
        for found in tt.structures(self.model):
            if epoch < 2 and found.kind not in ("branch", "input"):
                found.zero([np.argmax(found.norms())])
        tt.hold(self.model)


def test_it_trains_on_as_if_nothing_had_left(doubles):
    runs = []
    for callbacks in ([Zeroing()], [Zeroing(), tt.callbacks.Reconfigure(every=1)]):
        model = built()
        parts = [model.stem, *model.block.parts, model.block.norm, model.tail, model.heads["logits"]]
        runs.append((model, trained(model, *callbacks)))
    (whole, expected), (model, history) = runs
    assert [each["epoch"] for each in callbacks[1].gone] == [1, 2]
    now = [model.stem, *model.block.parts, model.block.norm, model.tail, model.heads["logits"]]
    assert type(model) is Own and all(mine is before for mine, before in zip(now, parts, strict=True))
    assert (model.stem.units, model.block.parts[0].units, model.tail.layers[0].units) == (4, 3, 5)
    assert model.stem.kernel.shape == (8, 4) and model.stem.kernel is model.weights[0]
    assert_same(model, whole, rtol=1e-6)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-6)


@pytest.mark.parametrize("method", ["proximal", "subgradient"])
def test_a_penalty_counts_once_on_layers_that_change_and_on_those_that_do_not(method):
    models = []
    for reconfigure in (lambda model: None, tt.reconfigure):
        model = built()
        sparsity = tt.sparsify(model, 1e-2, method=method)
        trained(model, epochs=1)
        bias = model.tail.layers[0].bias
        found = (each for each in sparsity.structures if any(piece.variable is bias for piece in each.slices))
        next(found).zero([0, 3])
        tt.hold(model)
        kernel = model.stem.kernel
        reconfigure(model)
        assert model.stem.kernel is kernel
        trained(model, epochs=1)
        models.append(model)
    whole, model = models
    assert model.tail.layers[0].units == 5
    assert_same(model, whole, rtol=1e-4)


def test_weights_of_a_checkpoint_and_of_early_stopping_fit(tmp_path):
    model = built()
    callbacks = [
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True),
        keras.callbacks.EarlyStopping("loss", patience=3, restore_best_weights=True),
    ]
    trained(model, Zeroing(), tt.callbacks.Reconfigure(every=1), *callbacks, epochs=2, eager=False)
    before = model.get_weights()
    model.load_weights(tmp_path / "2.weights.h5")
    assert [each.shape for each in model.get_weights()] == [each.shape for each in before]
    tt.compact(model).save(tmp_path / "small.keras")
    x, _ = data()
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "small.keras")(x), model(x), atol=1e-5)


# What needs another call


class Literal(Step):
    def call(self, x, training=False):
        x = keras.ops.reshape(self.stem(x), (-1, 2, 3))
        return self.heads["logits"](keras.ops.reshape(x, (-1, 6)))


class Scaled(Step):
    """It goes by the width, which a smaller graph cannot: it keeps the number that was."""

    def call(self, x, training=False):
        x = self.stem(x)
        return self.heads["logits"](x / keras.ops.sqrt(float(x.shape[-1])))


class Table(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], initializer="ones")

    def call(self, x):
        return x * self.scale


class OwnWeights(Step):
    def __init__(self):
        super().__init__()
        self.table = Table()

    def call(self, x, training=False):
        return self.heads["logits"](self.table(self.stem(x)))


class NamesALayer(Own):
    def note(self, loss):
        return super().note(loss + 1e-3 * keras.ops.mean(self.stem.kernel))


class Asks(Own):
    def test_step(self, data):
        return [self.evaluated(layer) for layer in self.layers]


REFUSED = {
    "a number of the old width": (Literal, "`call`"),
    "a number that follows the width": (Scaled, "`call` gives '.*divide' something else"),
    "weights of a layer of the user's": (OwnWeights, r"layer 'table' \(Table\) holds weights of its own"),
    "a method that uses a layer": (NamesALayer, "its own train_step uses 'stem' by itself"),
    "a method that uses all layers": (Asks, "its own test_step uses 'layers' by itself"),
}


@pytest.mark.parametrize("kind, message", REFUSED.values(), ids=REFUSED)
def test_what_needs_another_call_is_refused_before_training_and_nothing_has_changed(kind, message):
    model, (x, _) = built(kind), data()
    expected, weights = model(x), model.weights
    with pytest.raises(ValueError, match=message):
        trained(model, tt.callbacks.Reconfigure(every=1))
    assert all(mine is before for mine, before in zip(model.weights, weights, strict=True))
    assert model.stem.units == 6 and model.optimizer.iterations == 0
    np.testing.assert_array_equal(model(x), expected)


class Normed(Step):
    """Units that may leave behind a width that may not, for it is normalized."""

    def __init__(self):
        super().__init__()
        self.norm, self.hidden = layers.LayerNormalization(name="norm"), layers.Dense(5, "relu", name="hidden")

    def call(self, x, training=False):
        return self.heads["logits"](self.hidden(self.norm(self.stem(x))))


def test_only_what_sparsify_is_on_has_to_be_able_to_leave():
    with pytest.raises(ValueError, match="layer 'norm' would not be a LayerNormalization any more"):
        trained(built(Normed), tt.callbacks.Reconfigure(every=1))
    model = built(Normed)
    sparsity = tt.sparsify(model, 1e-3, include=["hidden"])
    assert [each.name for each in sparsity.structures] == ["hidden"]
    sparsity.structures[0].zero([1, 4])
    trained(model, tt.callbacks.Reconfigure(every=1), epochs=2)
    assert (model.hidden.units, model.stem.units) == (3, 6)


def test_a_model_that_the_first_batch_builds_is_checked_after_the_first_epoch():
    model = Scaled()
    with pytest.raises(ValueError, match="`call` gives"):
        trained(model, tt.callbacks.Reconfigure(at=[3]))
    assert model.optimizer.iterations == 2
    assert len(trained(Own(), tt.callbacks.Reconfigure(at=[1]), epochs=1)["loss"]) == 1


def test_what_turns_out_later_is_said_and_training_goes_on(monkeypatch, caplog):
    monkeypatch.setattr("tf_terngrad.sparsity.shrink.callback.rehearse", lambda model: None)
    model = built(Scaled)
    tt.structures(model)[1].zero([0])
    tt.hold(model)
    reconfigure = tt.callbacks.Reconfigure(every=1)
    assert len(trained(model, reconfigure)["loss"]) == 3
    assert model.stem.units == 6 and reconfigure.gone == [] and "Nothing left: " in caplog.text


def test_a_layer_keeps_its_last_member():
    model = built()
    bias = model.block.parts[0].bias
    found = next(found for found in tt.structures(model) if any(piece.variable is bias for piece in found.slices))
    found.zero(range(found.size))
    assert tt.reconfigure(model) == [{found.name: list(range(1, found.size))}]
    assert model.block.parts[0].units == 1
