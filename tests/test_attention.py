"""Heads, key and value dimensions leave attention layers, exactly."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from laws import check_laws, check_random_zeros, check_widths, outputs_of, random_members, randomize, structure, zero

import tf_terngrad as tt

Multi, Grouped = layers.MultiHeadAttention, layers.GroupQueryAttention
WIDTH, STEPS = 12, 6


def attending(attend, others=False):
    """A model in which what enters attention, and what reads it, can shrink."""
    keras.utils.set_random_seed(1)
    inputs = [keras.Input((STEPS, 5))]
    x = y = layers.Dense(WIDTH, name="front")(inputs[0])
    if others:
        inputs.append(keras.Input((4, 3)))
        y = layers.Dense(WIDTH, name="other")(inputs[1])
    found = attend(x, y)
    found = found if isinstance(found, (list, tuple)) else [found]
    return randomize(keras.Model(inputs, [layers.Dense(3)(layers.Flatten()(each)) for each in found]))


def images(x):
    return layers.Reshape((2, 3, WIDTH))(x)


def twice(x, _):
    layer = Multi(4, 3, output_shape=WIDTH)
    return layer(x, x) + layer(layers.Dense(WIDTH)(x), x)


def masked(x, _):
    return Multi(4, 3)(x, x, attention_mask=ops.cast(ops.tril(ops.ones((1, STEPS, STEPS))), "bool"))


CASES = {
    "self": lambda x, _: Multi(4, 3)(x, x),
    "cross": lambda x, y: Multi(4, 3, value_dim=2)(x, y),
    "keys of their own": lambda x, _: Multi(3, 4)(x, x, layers.Dense(7)(x)),
    "no bias": lambda x, _: Multi(3, 4, use_bias=False)(x, x),
    "causal": lambda x, _: Multi(3, 4)(x, x, use_causal_mask=True),
    "dropout": lambda x, _: Multi(3, 4, dropout=0.3)(x, x),
    "scores": lambda x, _: Multi(3, 4)(x, x, return_attention_scores=True),
    "an output of its own width": lambda x, _: Multi(3, 4, output_shape=5)(x, x),
    "an output of two axes": lambda x, _: Multi(3, 4, output_shape=(2, 3))(x, x),
    "over rows and columns": lambda x, _: Multi(3, 4)(images(x), images(x)),
    "over columns": lambda x, _: Multi(3, 4, attention_axes=(2,))(images(x), images(x)),
    "residual": lambda x, _: x + Multi(3, 4)(x, x),
    "called twice": twice,
    "masked": masked,
    "grouped": lambda x, _: Grouped(3, 4, 2)(x, x),
    "grouped, cross": lambda x, y: Grouped(3, 4, 2)(x, y),
    "grouped, residual": lambda x, _: x + Grouped(3, 4, 2, use_bias=False)(x, x, use_causal_mask=True),
    "one group": lambda x, _: Grouped(3, 4, 1)(x, x),
    "a group each": lambda x, _: Grouped(3, 4, 4)(x, x),
}
if "use_gate" in Multi(1, 1).get_config():
    CASES |= {
        "gate": lambda x, _: Multi(3, 4, use_gate=True)(x, x),
        "grouped, gate": lambda x, _: Grouped(3, 4, 2, use_gate=True)(x, x),
    }


@pytest.mark.filterwarnings("ignore:.*every channel is dead", "ignore:.*one dead channel is kept")
@pytest.mark.parametrize("name", CASES)
def test_what_is_zero_leaves_and_nothing_else(name):
    model = attending(CASES[name], others="cross" in name)
    weights = model.get_weights()
    check_widths(model, random_members(3))
    for seed in (1, 2):
        model.set_weights(weights)
        check_random_zeros(model, seed)


def sizes(model, name="attention"):
    """Heads, key and value dimensions."""
    layer = model.get_layer(name)
    return layer.num_heads, layer.key_dim, layer.value_dim


def named(**options):
    return attending(lambda x, _: Multi(4, 6, name="attention", **options)(x, x))


def test_the_structures_of_a_layer_and_their_members():
    found = {each.name: (each.kind, each.size) for each in tt.structures(named(value_dim=5))}
    assert found["attention heads"] == ("head", 4)
    assert found["attention key dimensions"] == ("key", 6)
    assert found["attention value dimensions"] == ("value", 5)
    assert found["attention"] == ("unit", WIDTH)
    heads = structure(named(), "attention heads")
    assert str(heads).startswith("attention heads: 4 heads — attention/query: kernel[:, i, :], bias[i, :];")
    assert heads.born == ("attention",)


def test_the_scale_of_the_scores_stays_that_of_the_old_width():
    model = named()
    structure(model, "attention key dimensions").zero([0, 4])
    small = check_laws(model)
    assert sizes(small) == (4, 4, 6)
    query = model.get_layer("attention").query_dense
    fate = next(fate for fate in tt.fates(small) if fate.old is query.kernel)
    assert fate.factor == pytest.approx((4 / 6) ** 0.5)
    np.testing.assert_allclose(fate.new, fate.factor * query.kernel.numpy()[:, :, [1, 2, 3, 5]], rtol=1e-6)


def test_a_key_that_is_the_same_at_every_step_leaves_with_its_bias():
    """It adds the same to all scores of a query, which softmax does not see; a query that is the same does not."""
    model = named()
    zero(model.get_layer("attention").key_dense.kernel, 2, [1])
    assert sizes(check_laws(model)) == (4, 5, 6)
    model = named()
    zero(model.get_layer("attention").query_dense.kernel, 2, [1])
    assert sizes(check_laws(model)) == (4, 6, 6)


def test_keys_that_are_the_same_at_every_step_of_one_call_serve_another_one():
    inputs = keras.Input((STEPS, 5))
    layer = Multi(2, 3, name="attention", output_shape=WIDTH)
    nothing, varied = layers.Dense(WIDTH, use_bias=False, name="nothing")(inputs), layers.Dense(WIDTH)(inputs)
    x = layer(varied, nothing) + layer(nothing, varied) + layer(varied, varied)
    model = randomize(keras.Model(inputs, layers.Dense(3)(x)))
    zero(model.get_layer("nothing").kernel, 1, range(WIDTH))
    assert sizes(check_laws(model)) == (2, 3, 3)


def test_a_head_that_emits_a_constant_is_folded_into_the_bias():
    model = named()
    zero(model.get_layer("attention").value_dense.kernel, 1, [0, 2])
    assert np.abs(model.get_layer("attention").value_dense.bias.numpy()[[0, 2]]).min() > 0
    assert sizes(check_laws(model)) == (2, 6, 6)


def test_so_is_a_dimension_of_all_heads_and_where_no_step_may_be_attended_to():
    inputs, mask = keras.Input((STEPS, 5)), keras.Input((STEPS, STEPS), dtype="bool")
    x = Multi(4, 6, name="attention")(inputs, inputs, attention_mask=mask)
    model = randomize(keras.Model([inputs, mask], layers.Dense(3)(x)))
    zero(model.get_layer("attention").value_dense.kernel, 2, [3])
    zero(model.get_layer("attention").value_dense.kernel, 1, [1])
    small = tt.compact(model)
    assert sizes(small) == (3, 6, 5)
    rng = np.random.default_rng(0)
    given = [rng.normal(size=(2, STEPS, 5)).astype("float32"), rng.random((2, STEPS, STEPS)) < 0.5]
    given[1][:, 0] = False
    np.testing.assert_allclose(outputs_of(small, given)[0], outputs_of(model, given)[0], atol=1e-5)


def test_without_a_bias_to_hold_it_a_constant_stays():
    model = named(use_bias=False)
    zero(model.get_layer("attention").value_dense.kernel, 1, [0])  # zero, without a bias
    assert sizes(check_laws(model)) == (3, 6, 6)


def test_a_layer_of_which_no_head_adds_anything_leaves_a_sum():
    inputs = keras.Input((STEPS, WIDTH))
    x = Multi(4, 3, name="attention")(inputs, inputs)
    model = randomize(keras.Model(inputs, layers.Dense(3)(inputs + x)))
    structure(model, "attention heads").zero(range(4))
    zero(model.get_layer("attention").output_dense.bias, 0, range(WIDTH))
    small = check_laws(model)
    assert not any(isinstance(layer, Multi) for layer in small.layers)


def test_a_mask_for_each_head_keeps_the_heads():
    inputs, mask = keras.Input((STEPS, 5)), keras.Input((4, STEPS, STEPS), dtype="bool")
    model = keras.Model([inputs, mask], Multi(4, 3, name="attention")(inputs, inputs, attention_mask=mask))
    assert "attention heads: 4 frozen — attention: its mask has one for each head" in str(tt.structures(model))


def test_a_mask_of_numbers_for_each_head_leaves_with_its_head():
    mask = np.random.default_rng(0).random((1, 4, STEPS, STEPS)) < 0.7
    model = attending(lambda x, _: Multi(4, 3, name="attention")(x, x, attention_mask=mask))
    assert check_widths(model, random_members(0)).get_layer("attention").num_heads == 3


def test_a_mask_over_rows_and_columns_has_none_for_each_head():
    inputs, mask = keras.Input((2, 3, 5)), keras.Input((2, 3, 2, 3), dtype="bool")
    x = Multi(4, 3, name="attention")(inputs, inputs, attention_mask=mask)
    model = randomize(keras.Model([inputs, mask], layers.Dense(3)(x)))
    assert check_widths(model, random_members(0)).get_layer("attention").num_heads == 3


@pytest.mark.parametrize("kind", [layers.Attention, layers.AdditiveAttention])
def test_a_constant_stays_where_a_mask_of_the_queries_makes_it_zero(kind):
    seen = np.ones((2, STEPS), bool)
    try:
        kind()([np.ones((2, STEPS, 4), "float32")] * 2, mask=[seen, seen])
    except tf.errors.InvalidArgumentError:
        pytest.skip("this release of Keras raises where its Attention is given masks")
    inputs = keras.Input((STEPS,), dtype="int32")
    x = layers.Embedding(20, 5, mask_zero=True)(inputs)
    x = kind()([layers.Dense(4)(x), layers.Dense(WIDTH, name="value")(x), layers.Dense(4)(x)])
    model = randomize(keras.Model(inputs, layers.Dense(3)(x)))
    zero(model.get_layer("value").kernel, 1, [0, 1])
    check_laws(model)


def test_quantized_and_changed_layers_stay():
    model = attending(lambda x, _: Multi(2, 3, name="attention")(x, x))
    model.get_layer("attention").query_dense.enable_lora(1)
    assert "quantized and LoRA layers are left as they are" in str(tt.structures(model))
    small = check_laws(model)
    assert sizes(small) == (2, 3, 3)
    assert small.get_layer("attention").query_dense.lora_enabled


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_in_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        check_widths(attending(CASES["self"]), random_members(0))
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.filterwarnings("ignore:.*every channel is dead")
def test_training_finds_heads_and_the_small_model_trains_on():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, STEPS, 5)).astype("float32")
    y = x[:, :, :1].mean(1)
    inputs = keras.Input(x.shape[1:])
    h = layers.Dense(WIDTH)(inputs)
    h = h + Multi(4, 6, name="attention")(h, h)
    model = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(h)))
    tt.sparsify(model, strength=0.05, kinds=["head", "key", "value"])
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9), "mse")
    model.fit(x, y, batch_size=32, epochs=25, verbose=0)
    small = check_laws(model)
    attention = [layer for layer in small.layers if isinstance(layer, Multi)]
    assert not attention or attention[0].num_heads < 4
    small.compile("adam", "mse")
    assert np.isfinite(small.fit(x, y, verbose=0).history["loss"]).all()
