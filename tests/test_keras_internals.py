"""The private names that the package touches are all in this Keras, and they are what they were."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tf_terngrad import keras_internals as internals
from tf_terngrad.tflite.litert import operators


def chain():
    """A Sequential model, and the functional one in it."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.ReLU()])
    return model, internals.graph_of(model)


def version(text):
    return tuple(int(part) for part in text.split(".")[:2])


# What this Keras has


@pytest.mark.parametrize("name", internals.SINCE)
def test_what_is_newer_than_the_oldest_keras_is_there_since_the_release_that_is_named(name):
    found = dict(vars(keras.layers))
    for module in internals.versions._OPERATIONS:
        found |= vars(module)
    assert (name in found) == (version(keras.__version__) >= version(internals.SINCE[name]))
    assert (name in internals.absent()) == (name not in found)
    one_of = internals.layers if hasattr(keras.layers, name) else internals.operations
    assert one_of(name) == ([found[name]] if name in found else [])


def test_a_name_that_should_be_there_is_missed():
    with pytest.raises(AttributeError, match=r"Keras 3.* has no Dance. Name it in keras_internals.SINCE"):
        internals.layers("Dense", "Dance")
    assert internals.layers("Dense", "Conv2D") == [layers.Dense, layers.Conv2D]
    x = keras.Input((4,))
    assert isinstance(internals.history(keras.ops.absolute(x)).operation, internals.operation("Absolute"))


def test_the_layers_of_applications_are_those_of_its_models():
    x = np.ones((2, 3), "float32")
    assert internals.LayerScale(0.5, 3)(x).shape == internals.StochasticDepth(0.5)(x).shape == (2, 3)
    np.testing.assert_array_equal(internals.CustomScaleLayer(0.5)([x, x]), 1.5 * x)


# What is put around methods of Keras


@pytest.mark.parametrize("kind, name", internals.CHANGED, ids=lambda part: getattr(part, "__name__", part))
def test_a_method_that_is_changed_takes_what_keras_gives_it(kind, name):
    parameters = {
        "add_weight": ["self"],
        "apply": ["self", "grads", "trainable_variables"],
        "check_finite": ["self", "grads"],
        "save_own_variables": ["self", "store"],
        "fit": ["self"],
        "on_train_begin": ["self", "logs"],
        "on_train_end": ["self", "logs"],
        "on_epoch_begin": ["self", "epoch", "logs"],
        "on_epoch_end": ["self", "epoch", "logs"],
    }[name]
    assert list(inspect.signature(inspect.unwrap(getattr(kind, name))).parameters)[: len(parameters)] == parameters


def test_what_is_put_around_a_method_is_listed_and_put_once(monkeypatch):
    class Mine:
        def twice(self, x):
            """Doubles."""
            return 2 * x

    with pytest.raises(KeyError, match=r"Mine.twice is not in keras_internals.CHANGED"):
        internals.put_around(Mine, "twice", lambda method: method)
    monkeypatch.setitem(internals.CHANGED, (Mine, "twice"), "a test")

    def one_more(method):
        return lambda self, x: method(self, x) + 1

    for _ in range(2):
        internals.put_around(Mine, "twice", one_more)
    assert Mine().twice(3) == 7
    internals.put_around(Mine, "twice", lambda method: lambda self, x: 10 * method(self, x))
    assert Mine().twice(3) == 70 and Mine.twice.__doc__ == "Doubles."


# Graphs


def test_a_graph_is_a_model_that_is_nothing_else():
    class Own(keras.Model):
        def call(self, x):
            return x

    model, graph = chain()
    assert isinstance(graph, internals.Functional) and graph is not model
    assert internals.graph_of(graph) is graph
    assert internals.is_graph(model) and internals.is_graph(graph)
    assert not internals.is_graph(Own()) and not internals.is_graph(layers.Dense(2))
    assert not internals.is_graph(keras.Sequential([layers.Dense(2)]))  # not built: it has no graph yet


def test_nodes_come_in_an_order_in_which_they_can_be_computed():
    x = keras.Input((4,))
    first = layers.Dense(4, name="first")
    last = layers.Add(name="last")([first(x), layers.ReLU(name="middle")(first(x))])
    calls = internals.nodes(keras.Model(x, last))
    assert sorted(call.operation.name for call in calls) == ["first", "first", "last", "middle"]
    made = [x]
    for call in calls:
        assert all(any(tensor is other for other in made) for tensor in call.arguments.keras_tensors)
        made += call.outputs


def test_calls_are_found_from_the_tensors_that_they_made():
    x, layer = keras.Input((4,)), layers.Dense(3)
    once, twice = layer(x), layer(x)
    found = internals.history(twice)
    assert (found.operation, found.node_index, found.tensor_index) == (layer, 1, 0)
    assert internals.history(np.ones(3)) is None
    assert internals.call_of(layer, 0).args == (x,) and internals.history(once).node_index == 0
    copy = internals.without_calls(layers.ReLU())
    copy(x)
    assert len(copy._inbound_nodes) == 1


def test_structures_keep_the_nesting_of_inputs_and_outputs():
    x, y = keras.Input((4,), name="x"), keras.Input((4,), name="y")
    model = keras.Model({"x": x, "y": [y]}, {"sum": x + y})
    given, made = internals.structures_of(model)
    assert set(given) == {"x", "y"} and set(made) == {"sum"}


def test_an_operation_takes_a_name():
    x = keras.Input((4,))
    model = keras.Model(x, internals.named(internals.operation("Take")(axis=1), "mine")(x, [0, 2]))
    assert [call.operation.name for call in internals.nodes(model)] == model.output_names == ["mine"]
    clone = keras.Model.from_config(model.get_config())
    np.testing.assert_array_equal(clone(np.arange(4.0)[None]), [[0.0, 2.0]])


def test_whether_a_model_may_have_an_input_that_nothing_reads():
    x, y = keras.Input((4,)), keras.Input((4,))
    if old := version(keras.__version__) < (3, 14):
        with pytest.raises(ValueError, match="not connected"):
            keras.Model([x, y], layers.ReLU()(x))
    else:
        keras.Model([x, y], layers.ReLU()(x))
    assert internals.wants_reader(y) == old
    both = keras.Model([x, y], x + y)
    assert not internals.wants_reader(y)
    assert internals.may_lose_inputs(both) == (not old) and internals.may_lose_inputs(chain()[0])


def test_masks_travel_with_tensors():
    x = keras.Input((3,), dtype="int32")
    assert internals.mask_of(layers.Embedding(5, 2, mask_zero=True)(x)) is not None
    assert internals.mask_of(layers.Embedding(5, 2)(x)) is None


@pytest.mark.parametrize("key, shape", [(None, (1, 5, 3)), (slice(1, 3), (2, 3)), (Ellipsis, (5, 3)), (2, (3,))])
def test_a_symbolic_tensor_takes_a_key_alone(key, shape):
    tensor, get = keras.KerasTensor((5, 3)), keras.KerasTensor.__getitem__
    with internals.as_in_tensorflow():
        assert tensor[key].shape == np.ones((5, 3))[key].shape == shape
    assert keras.KerasTensor.__getitem__ is get


def test_a_symbolic_tensor_says_of_itself_what_tensors_of_tensorflow_say():
    symbolic, real = keras.KerasTensor((5, 3), "float16"), tf.ones((5, 3), "float16")
    before = dict(vars(keras.KerasTensor))
    with internals.as_in_tensorflow():
        for x in (symbolic, real):
            x.set_shape((5, 3))
            assert x.shape == x.get_shape() == (5, 3)
            assert x.shape.as_list() == [5, 3] and x.shape.rank == x.shape.ndims == len(x.shape) == 2
            assert x.dtype == x.dtype.base_dtype == tf.float16
            assert x.dtype.is_floating and not x.dtype.is_integer and x.dtype.name == "float16"
        assert type(keras.ops.cast(symbolic, symbolic.dtype)._dtype) is str
        assert type(keras.ops.relu(symbolic)._shape) is tuple
        with pytest.raises(AttributeError):
            _ = symbolic.shape.area
    assert dict(vars(keras.KerasTensor)) == before
    assert type(symbolic.shape) is tuple and type(symbolic.dtype) is str


def test_a_symbolic_tensor_can_be_told_its_sizes():
    tensor = layers.EinsumDense("abc,cd->abd", (None, 5))(keras.Input((3, 4)))
    assert tensor.shape == (None, None, 5)
    internals.set_shape(tensor, (None, 3, 5))
    assert tensor.shape == (None, 3, 5)


def test_layers_in_wrappers_are_found_too():
    inner = layers.LSTM(2)
    model = keras.Sequential([keras.Input((3, 4)), layers.Bidirectional(inner, name="both")])
    found = internals.all_layers(model)
    assert {"both", "forward_lstm", "backward_lstm"} <= {layer.name for layer in found} and found[0] is model


def test_no_model_runs_code_in_safe_mode():
    config = layers.Lambda(lambda x: x + 1).get_config()
    with pytest.raises(ValueError, match="Lambda"), internals.SafeModeScope(True):
        layers.Lambda.from_config(config)
    with internals.SafeModeScope(False):
        assert isinstance(layers.Lambda.from_config(config), layers.Lambda)


# Layers


def test_normalization_tells_the_axes_of_its_statistics():
    layer = layers.Normalization(axis=(1, -1))
    layer.build((None, 2, 3, 4))
    assert tuple(internals.statistics_axes(layer)) == (1, 3)


def test_attention_shows_its_projections_and_its_axes():
    layer = layers.MultiHeadAttention(2, 3)
    layer(np.ones((1, 4, 5)), np.ones((1, 4, 5)))
    parts = internals.attention_parts(layer)
    assert set(parts) == {"query", "key", "value", "output"}
    assert all(isinstance(part, layers.EinsumDense) for part in parts.values())
    assert tuple(internals.attention_axes(layer)) == (1,)
    grouped = layers.GroupQueryAttention(2, 2, 1)
    grouped(np.ones((1, 4, 5)), np.ones((1, 4, 5)))
    assert {"query", "key", "value", "output"} <= set(internals.attention_parts(grouped))
    assert tuple(internals.attention_axes(grouped)) == (1,)


# Training


def test_keras_reads_whether_compute_loss_takes_training():
    model, _ = chain()
    assert model._compute_loss_has_training_arg is True
    internals.note_compute_loss(model, False)
    model.compute_loss = lambda x=None, y=None, y_pred=None, sample_weight=None: keras.ops.sum(y_pred)
    model.compile("sgd")
    model.train_on_batch(np.ones((2, 4)), np.ones((2, 3)))


def test_an_optimizer_counts_batches_and_knows_its_variables():
    model, _ = chain()
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=2)
    model.compile(optimizer, "mse")
    for _ in range(2):
        model.train_on_batch(np.ones((2, 4)), np.ones((2, 3)))
    assert int(internals.batches_seen(optimizer)) == 2 and int(optimizer.iterations) == 1
    assert [v.path for v in internals.trainable_variables(optimizer)] == [v.path for v in model.trainable_variables]


@pytest.mark.parametrize("compiled", [True, False])
def test_a_graph_knows_whether_xla_compiles_it(compiled):
    seen = []

    @tf.function(jit_compile=compiled)
    def traced(x):
        seen.append(internals.in_xla(tf.compat.v1.get_default_graph()))
        return x + 1

    traced(tf.ones(2))
    assert seen == [compiled]


def test_calls_that_are_made_meanwhile_are_forgotten():
    model, graph = chain()
    first, last = model.layers
    with internals.calls_forgotten(model):
        last(first(keras.Input((4,))))
        assert len(first._inbound_nodes) == 2
    assert len(first._inbound_nodes) == len(first._outbound_nodes) == len(last._inbound_nodes) == 1
    assert first.output is graph.layers[1].output


def test_the_converter_keeps_scales_where_it_is_told_to(tmp_path):
    scaled = tf.function(lambda x: tf.matmul(x * tf.constant([1.0, 2.0]), tf.constant([[1.0], [3.0]])))
    function = scaled.get_concrete_function(tf.TensorSpec((1, 2)))
    found = []
    for change in (lambda converter: None, internals.keep_scales_before_matmuls):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
        change(converter)
        (tmp_path / "m.tflite").write_bytes(converter.convert())
        found.append(set(operators(tmp_path / "m.tflite")[0]))
    assert found == [{"FULLY_CONNECTED"}, {"MUL", "FULLY_CONNECTED"}]


def test_a_constant_gets_another_number_while_its_graph_is_traced():
    @tf.function(input_signature=[tf.TensorSpec(())])
    def sum_of(x):
        constant = tf.constant(2.0)
        internals.set_constant(constant.op, np.float32(5.0))
        return x + constant

    assert float(sum_of(1.0)) == 6.0


# Copies


def test_training_notes_nothing_else_on_a_model():
    def functional():
        inputs = keras.Input((3,))
        return keras.Model(inputs, layers.Dense(2)(inputs))

    model, fresh = functional(), functional()
    model.compile("adam", "mse", metrics=["mae"])
    for train in (model.fit, model.evaluate):
        train(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    model.predict(np.ones((4, 3)), verbose=0)
    assert set(vars(model)) - set(vars(fresh)) <= set(internals.TRAINING)


def test_a_compiled_function_is_made_of_another_one():
    compiled = tf.function(lambda x: x + 1, jit_compile=False)
    other = internals.traced_anew(compiled, lambda x: x + 2)
    assert (int(compiled(1)), int(other(1))) == (2, 3) and type(other) is type(compiled)


def test_a_blank_model_becomes_one_when_it_gets_a_graph():
    class Own(keras.Model):
        def __init__(self, width):
            raise AssertionError("the class's own constructor is not called")

    inputs = keras.Input((3,))
    blank = internals.blank_model(type("Functional", (Own, internals.Functional), {}))
    internals.Functional.__init__(blank, inputs, layers.Dense(2)(inputs))
    assert blank(np.ones((1, 3))).shape == (1, 2) and isinstance(blank, Own)
    assert internals.functional_like_constructor(keras.Model) and not internals.functional_like_constructor(Own)


# How a training begins


def test_a_training_begins_at_an_epoch_with_metrics_that_are_built():
    model, _ = chain()
    model.compile("sgd", "mse", metrics=["mae"])
    seen = []
    internals.begin_at(model, 2)
    note = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch))
    x, y = np.ones((2, 4), "float32"), np.ones((2, 3), "float32")
    internals.build_metrics(model, (x, y, tf.experimental.Optional.empty(None)))
    assert len(model.metrics_variables) == 4 and not any(variable.numpy() for variable in model.metrics_variables)
    model.fit(x, y, epochs=4, verbose=0, callbacks=[note])
    internals.begin_at(model, 0)
    model.fit(x, y, verbose=0, callbacks=[note])
    assert seen == [2, 3, 0]


def test_random_numbers_without_a_seed_have_a_state():
    model, _ = chain()
    (state,) = internals.seed_states(model)
    before = state.numpy()
    keras.random.uniform((1,))
    assert internals.seed_states(model)[0] is state and (state.numpy() != before).any()
    assert len(internals.seed_states(keras.Sequential([keras.Input((2,)), layers.Dropout(0.5)]))) == 2
