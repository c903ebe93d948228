"""The laws that compaction keeps on every model, and what tests need to try them."""

import warnings

import hypothesis
import keras
import numpy as np
from keras import layers, ops

from tf_terngrad.keras_internals import all_layers, graph_of, structures_of
from tf_terngrad.sparsity.compact import compact
from tf_terngrad.sparsity.remove.fates import fates
from tf_terngrad.sparsity.structures import structures

TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}


def randomize(model, seed=0):
    """Non-zero biases, shifts, scales, means, variances and slopes everywhere, mild enough for signals to survive."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        name, shape = weight.name, tuple(weight.shape)
        if not keras.backend.is_float_dtype(weight.dtype) or "kernel" in name or "embeddings" in name or not shape:
            continue
        positive = any(part in name for part in ("variance", "gamma", "scale"))
        weight.assign(rng.uniform(0.5, 1.5, shape) if positive else rng.normal(0, 0.2, shape))
    for layer in all_layers(model):
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()
    return model


def fresh_inputs(model, seed=0, batch=4):
    """Random inputs of a model, in the structure it takes."""
    rng = np.random.default_rng(seed)

    def draw(tensor):
        shape = (batch, *(size or 6 for size in tensor.shape[1:]))
        if keras.backend.is_float_dtype(tensor.dtype):
            return ops.convert_to_tensor(rng.normal(size=shape), tensor.dtype)
        return ops.convert_to_tensor(rng.integers(0, 5, shape), tensor.dtype)

    return keras.tree.map_structure(draw, structures_of(graph_of(model))[0])


def outputs_of(model, inputs):
    """The outputs as arrays in float64."""
    return [np.asarray(ops.convert_to_numpy(y), np.float64) for y in keras.tree.flatten(model(inputs, training=False))]


def difference(expected, got):
    """max |difference| relative to the scale of the expected output."""
    return float(np.abs(expected - got).max() / max(np.abs(expected).max(), 1e-12)) if expected.size else 0.0


def varies(array):
    """Whether an output depends on the example."""
    return np.abs(array - array[:1]).max() > 1e-3 * np.abs(array).max()


def snapshot(model):
    """What a model is: configuration and weights."""
    return written(model), [(weight.path, np.array(weight.numpy())) for weight in model.weights]


def written(model):
    """A model's configuration; None: a part of it has none."""
    try:
        with warnings.catch_warnings(action="ignore"):  # Keras warns of a lambda
            return model.to_json()
    except (NotImplementedError, TypeError):
        return None


def ports(model):
    """Names, shapes and types of what enters and leaves."""
    model = graph_of(model)
    return (
        [(tensor._keras_history.operation.name, tuple(tensor.shape), tensor.dtype) for tensor in model.inputs],
        [
            (name, tuple(tensor.shape), tensor.dtype)
            for name, tensor in zip(model.output_names, model.outputs, strict=True)
        ],
        keras.tree.map_structure(lambda tensor: tensor.dtype, structures_of(model)),
    )


def shapes(model):
    """The shape of each weight."""
    return [tuple(weight.shape) for weight in model.weights]


def check_laws(model, must_vary=True, **options):
    """Compact a model and assert: same outputs, untouched, idempotent, names, shapes and types stay, stock Keras."""
    before = snapshot(model)
    small = compact(model, **options)
    after = snapshot(model)
    assert before[0] == after[0]
    for (path, old), (_, new) in zip(before[1], after[1], strict=True):
        np.testing.assert_array_equal(old, new, err_msg=path)
    inputs = fresh_inputs(model, seed=1)
    for expected, got in zip(outputs_of(model, inputs), outputs_of(small, inputs), strict=True):
        assert expected.shape == got.shape
        assert np.isfinite(expected).all()
        assert varies(expected) or not must_vary, "the outputs do not depend on the inputs: the test shows nothing"
        assert difference(expected, got) <= TOLERANCE[keras.mixed_precision.dtype_policy().compute_dtype]
    assert ports(model) == ports(small)
    again = compact(small, **options)
    assert shapes(again) == shapes(small)
    assert len(again.layers) == len(small.layers)
    assert not any(type(layer).__module__.startswith("tf_terngrad") for layer in all_layers(small))
    if before[0] is not None:  # what can be written can be when it is smaller
        assert "tf_terngrad" not in written(small)
    return small


def zero_members(model, chosen):
    """Zero members of each structure, those that `chosen(structure)` gives; returns them by the structure's name."""
    dead = {}
    for structure in structures(model):
        if structure.kind != "branch":
            members = np.asarray(chosen(structure), np.int64)
            structure.zero(members)
            dead[structure.name] = members
    return dead


def check_random_members(model, seed):
    """Zero a third of the members of each structure of a model, and assert the laws and that exactly these leave."""
    model = compact(model)
    hypothesis.assume(all(map(varies, outputs_of(model, fresh_inputs(model, seed=1)))))
    hypothesis.assume([found for found in structures(model) if found.kind != "branch"])
    check_widths(model, random_members(seed))


def check_random_zeros(model, seed):
    """Zero slices of weights wherever they lie, and some members, and assert the laws."""
    random_zeros(model, seed)
    check_laws(model, must_vary=False)


def random_zeros(model, seed):
    """Zero slices of weights wherever they lie, and some members."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if rng.random() < 0.5 and len(weight.shape) > 1:
            axis = int(rng.integers(-2, 0))
            zero(weight, axis, rng.random(weight.shape[axis]) < 0.5)
    zero_members(model, random_members(seed, fraction=0.2))


def random_members(seed, fraction=1 / 3):
    """A function that picks a share of the members of a structure, never all."""
    rng = np.random.default_rng(seed)
    return lambda structure: rng.choice(structure.size, int(structure.size * fraction), replace=False)


def expected_shapes(model, found, dead):
    """The shape of each weight once the dead members of each structure have left, by arithmetic on the slices."""
    stay = {id(weight): [set(range(size)) for size in weight.shape] for weight in model.weights}
    for structure in found:
        for piece in structure.slices:
            if id(piece.variable) in stay:  # what a recurrent layer keeps from batch to batch is no weight
                stay[id(piece.variable)][piece.axis] -= {*piece.indices[dead[structure.name]].ravel().tolist()}
    return [tuple(map(len, axes)) for axes in stay.values()]


def check_widths(model, chosen):
    """Zero whole members and assert the laws and that exactly these have left. The model must have no idle members."""
    found = [structure for structure in structures(model) if structure.kind != "branch"]
    assert shapes(compact(model)) == shapes(model), "something is idle before anything is zero"
    dead = zero_members(model, chosen)
    small = check_laws(model)
    assert sorted(shapes(small)) == sorted(expected_shapes(model, found, dead))
    return small


def kept_values(fate):
    """What stays of the old variable, in the shape of the new one."""
    old = fate.old.numpy()
    array = old[np.ix_(*fate.kept)] if old.shape else old
    assert array.shape == tuple(fate.new.shape) or fate.new.name == "embeddings"
    return array.reshape(fate.new.shape)


def check_fates(model, small):
    """Every variable has one fate; old values at the kept positions are the new values, but for folded biases."""
    found = {id(fate.old): fate for fate in fates(small) if fate.old is not None}
    assert set(found) >= {id(weight) for weight in model.weights}
    for weight in model.weights:
        fate = found[id(weight)]
        assert len(fate.kept) == len(weight.shape)
        if fate.new is None:
            assert all(len(positions) == 0 for positions in fate.kept)
            continue
        assert fate.new.trainable == weight.trainable
        expected = kept_values(fate)
        if not fate.folded:
            np.testing.assert_array_equal(expected, fate.new.numpy())
    new = {id(fate.new) for fate in fates(small) if fate.new is not None}
    assert new >= {id(weight) for weight in small.weights}
    assert all(fate.folded for fate in fates(small) if fate.old is None)


def around(layer, shape):
    """A model in which what enters and what leaves the layer can shrink."""
    inputs = keras.Input(shape)
    x = layer(layers.Dense(shape[-1], "relu", name="front")(inputs))
    x = layers.Flatten()(x) if len(x.shape) > 2 else x
    return randomize(keras.Model(inputs, layers.Dense(3, name="reader")(x)))


def sequential(*parts, seed=0):
    """A Sequential model with non-zero biases."""
    return randomize(keras.Sequential([*parts]), seed)


def zero(weight, axis, indices):
    """Zero positions of one axis of a weight, and nothing else of their structure."""
    array = np.array(weight.numpy())
    np.moveaxis(array, axis, 0)[indices] = 0
    weight.assign(array)


def structure(model, name):
    """The structure of that name."""
    return next(found for found in structures(model) if found.name == name)
