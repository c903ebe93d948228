"""Every optimizer of Keras goes on with a smaller model as it would have with the dead weights in place."""

import keras
import numpy as np
import pytest
from keras import layers, optimizers
from reconfiguring import assert_same, compiled

import tf_terngrad as tt

RELEASE = tuple(map(int, keras.__version__.split(".")[:2]))

ELEMENTWISE = {
    "Adadelta": lambda: optimizers.Adadelta(0.5),
    "Adagrad": lambda: optimizers.Adagrad(0.05),
    "Adam": lambda: optimizers.Adam(0.02, amsgrad=True),
    "AdamW": lambda: optimizers.AdamW(0.02, weight_decay=0.1),
    "Adamax": lambda: optimizers.Adamax(0.02),
    "Ftrl": lambda: optimizers.Ftrl(0.05, l1_regularization_strength=1e-3, l2_regularization_strength=1e-3, beta=0.1),
    "Lion": lambda: optimizers.Lion(0.005),
    "LossScaleOptimizer": lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.02), dynamic_growth_steps=3),
    "Nadam": lambda: optimizers.Nadam(0.02),
    "RMSprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "SGD": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
}
BY_NORMS = {
    "Lamb": lambda: optimizers.Lamb(0.02),
    "Adafactor": lambda: optimizers.Adafactor(0.05, epsilon_2=10.0, clip_threshold=1e9),
}
if hasattr(optimizers, "MultiOptimizer"):
    ELEMENTWISE |= {
        "MultiOptimizer": lambda: optimizers.MultiOptimizer(
            optimizers.OptimizerMap(
                optimizers.SGD(0.1, momentum=0.9),
                {"stem/.*": optimizers.Adam(0.02), "(hidden|other)/.*": optimizers.RMSprop(0.01, momentum=0.5)},
            )
        ),
        "MultiOptimizer, a new one for each weight": lambda: optimizers.LossScaleOptimizer(
            optimizers.MultiOptimizer(lambda weight: optimizers.Adam(0.01 if "kernel" in weight.path else 0.03))
        ),
    }
if hasattr(optimizers, "ScheduleFreeAdamW"):
    ELEMENTWISE["ScheduleFreeAdamW"] = lambda: optimizers.ScheduleFreeAdamW(0.05)
if RELEASE >= (3, 13):  # before, Muon fails with TensorFlow
    BY_NORMS["Muon"] = lambda: optimizers.Muon(0.02, rms_rate=None)


def network(hidden="sigmoid"):
    """Units without a bias, whose input leaves, and units that are not zero at zero."""
    keras.utils.set_random_seed(3)
    parts = [layers.Dense(6, "relu", use_bias=False, name="stem"), layers.Dense(6, hidden, name="hidden")]
    return keras.Sequential([keras.Input((8,)), *parts, layers.Dense(3, name="logits")])


def stepped(model):
    """A model after one more step."""
    x = np.random.default_rng(0).normal(size=(16, 8))
    model.train_on_batch(x, x[:, 0] > 0)
    return model


def without(model, members, first=0):
    """A model where some members of each structure but the first few are zero, and stay so."""
    for found in tt.structures(model)[first:]:
        found.zero(members)
    tt.hold(model)
    return model


def test_no_optimizer_of_keras_is_left_out():
    kinds = [each for each in vars(optimizers).values() if isinstance(each, type)]
    names = {each.__name__ for each in kinds if issubclass(each, optimizers.Optimizer)}
    assert names - {"Optimizer", "Muon"} == {name.partition(",")[0] for name in ELEMENTWISE | BY_NORMS} - {"Muon"}


@pytest.mark.parametrize("make", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_one_that_moves_each_weight_by_its_own_gradients_gives_the_same_weights(make, doubles):
    whole, model = (without(stepped(compiled(network(), make(), metrics=[])), [0, 3]) for _ in range(2))
    (gone,) = tt.reconfigure(model)
    assert list(gone.values()) == [[0, 3]] * 3
    assert_same(stepped(model), stepped(whole), rtol=1e-6)
    assert len(model.optimizer.variables) == len(whole.optimizer.variables)
    for mine, theirs in zip(model.optimizer.variables, whole.optimizer.variables, strict=True):
        assert mine.shape or mine.numpy() == theirs.numpy()


def dead_from_the_beginning(optimizer):
    """A network after a step, with members that never had a gradient; features have, though nobody reads them."""
    return stepped(compiled(without(network(hidden="relu"), [0, 3], first=1), optimizer, metrics=[]))


@pytest.mark.parametrize("make", BY_NORMS.values(), ids=BY_NORMS)
def test_one_that_looks_at_whole_weights_gives_the_same_if_the_dead_have_no_gradient(make, doubles):
    whole, model = (dead_from_the_beginning(make()) for _ in range(2))
    assert tt.reconfigure(model) == [{"stem": [0, 3], "hidden": [0, 3]}]
    assert_same(stepped(model), stepped(whole), rtol=1e-6)


@pytest.mark.parametrize("clip, factor", [(1e9, (6 / 4) ** 0.5), (1e-3, 1.0)])
def test_adafactor_steps_farther_by_the_root_of_the_share_that_stays_unless_it_clips(clip, factor, doubles):
    """Its steps are relative to the root mean square of a weight, and it clips that of a step."""
    lengths = []
    for reconfigure in (lambda model: None, tt.reconfigure):
        model = dead_from_the_beginning(optimizers.Adafactor(0.01, clip_threshold=clip))
        reconfigure(model)
        kernel = model.get_layer("logits").kernel
        before = kernel.numpy()
        stepped(model)
        lengths.append(np.linalg.norm(kernel.numpy() - before))
    np.testing.assert_allclose(lengths[1], factor * lengths[0], rtol=1e-6)


def test_what_adafactor_keeps_of_rows_and_columns_is_that_of_the_smaller_matrix(doubles):
    model = stepped(compiled(network(), optimizers.Adafactor(0.05), metrics=[]))
    moments = {each.name: each.numpy() for each in model.optimizer.variables if each.name.endswith("velocity")}
    tt.structures(model)[1].zero([2, 5])
    assert tt.reconfigure(model)
    (stem,) = (each for each in model.optimizer.variables if each.name.endswith("stem_kernel_velocity"))
    np.testing.assert_array_equal(stem, moments[stem.name][:, [0, 1, 3, 4]])
    before = stem.numpy()
    model.optimizer.beta_2_decay = -1e3  # a step that forgets nothing and learns nothing: only the product is new
    stepped(model)
    np.testing.assert_allclose(stem, before, rtol=1e-6)


SECOND_WEIGHTS = {name: ELEMENTWISE[name] for name in ("ScheduleFreeAdamW",) if name in ELEMENTWISE} | {
    "Ftrl": lambda: optimizers.Ftrl(0.05),
    "averages": lambda: optimizers.SGD(0.05, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=1),
}


def attention(optimizer):
    """An attention after a step, with a key dimension that is zero."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((3, 8))
    outputs = layers.MultiHeadAttention(2, 4, use_bias=False, name="attention")(inputs, inputs)
    model = keras.Model(inputs, outputs)
    model.compile(optimizer, "mse", run_eagerly=True)
    x = np.random.default_rng(0).normal(size=(4, 3, 8))
    model.train_on_batch(x, x)
    next(found for found in tt.structures(model) if found.kind == "key").zero([0])
    return model


def without_gradients(model):
    """A model after a step without gradients."""
    weights = model.trainable_variables
    model.optimizer.apply([keras.ops.zeros_like(each) for each in weights], weights)
    return model


@pytest.mark.parametrize("make", SECOND_WEIGHTS.values(), ids=SECOND_WEIGHTS)
def test_what_a_weight_is_computed_from_is_multiplied_as_it_is(make, doubles):
    """Queries of an attention that loses key dimensions are larger, and stay so where no gradient moves them."""
    whole, model = attention(make()), attention(make())
    assert tt.reconfigure(model)
    fates = {fate.new.path: fate for fate in tt.fates(model)}
    assert [path for path, fate in fates.items() if np.any(fate.factor != 1)] == ["attention/query/kernel"]
    for old, new in zip(without_gradients(whole).weights, without_gradients(model).weights, strict=True):
        fate = fates[new.path]
        np.testing.assert_allclose(new, (fate.factor * old.numpy())[np.ix_(*fate.kept)], rtol=1e-6, err_msg=new.path)
