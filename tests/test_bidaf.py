"""BiDAF keeps the laws of compaction: each of its sets of hidden units has all its readers, and leaves alone."""

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from laws import check_laws, randomize, shapes, structure, zero_members

import tf_terngrad as tt
from models.bidaf import SETS, bidaf
from tf_terngrad.tflite.litert import Runner

UNITS, EMBEDDING, LETTERS, WORDS, CHARACTERS = 6, 5, 7, 30, 12
LENGTHS = 9, 6


def network(**options):
    keras.utils.set_random_seed(0)
    sizes = {"units": UNITS, "characters": CHARACTERS, "embedding": EMBEDDING, "letters": LETTERS}
    return randomize(bidaf(WORDS, **sizes, **options))


def texts(seed=0, count=5, lengths=LENGTHS):
    """Contexts and questions of all lengths, with zeros behind them."""
    rng, inputs = np.random.default_rng(seed), []
    for longest in lengths:
        there = np.arange(longest) < rng.integers(1, longest + 1, (count, 1))
        inputs.append(rng.integers(1, WORDS, (count, longest)) * there)
        inputs.append(rng.integers(1, CHARACTERS, (count, longest, LETTERS)) * there[..., None])
    return [each.astype("int32") for each in inputs]


def logits(model, inputs):
    """What a model says of each word that is there."""
    found = keras.ops.convert_to_numpy(model(inputs))
    return np.moveaxis(found, 1, -1)[inputs[0] > 0].astype(np.float64)


def difference(model, other, inputs):
    """The largest difference, relative to the scale of the logits of words that are there."""
    ours, theirs = logits(model, inputs), logits(other, inputs)
    return np.abs(ours - theirs).max() / np.abs(ours).max()


def widths(model):
    return {found.name: found.size for found in tt.structures(model)}


def zero_some(model, seed):
    """Zero some members of each structure, never all; returns how many stay."""
    rng, sizes = np.random.default_rng(seed), widths(model)
    zeroed = zero_members(model, lambda found: rng.choice(found.size, rng.integers(0, found.size), replace=False))
    return {name: size - len(zeroed[name]) for name, size in sizes.items()}


# The network


def test_its_weights_are_those_of_the_paper():
    counts = {layer.name: layer.count_params() for layer in bidaf(vocabulary=2).layers}
    lstm = {
        name: 2 * 4 * (entering * 100 + 100 * 100 + 100)
        for name, entering in zip(SETS[::2], (800, 200, 1400), strict=True)
    }
    for name, expected in lstm.items():
        assert counts[name.partition("/")[0]] == expected
    assert counts["reading"] == 2 * 4 * (200 * 100 + 100 * 100 + 100)
    assert counts["spelling"] == 5 * 8 * 100 + 100
    assert counts["start"] == counts["end"] == 800 + 200 + 1
    assert sum(counts.values()) - counts["words"] == 2_571_503


def by_hand(model, inputs):
    """The attention flow and the logits of the words that are there, of one question, from the layers' own outputs."""
    context, spelled, question, spelling = (each[:1] for each in inputs)
    context, spelled = context[:, : (context > 0).sum()], spelled[:, : (context > 0).sum()]
    question, spelling = question[:, : (question > 0).sum()], spelling[:, : (question > 0).sum()]

    def layer(name, x):
        return keras.ops.convert_to_numpy(model.get_layer(name)(x))

    def encode(words, letters):
        x = np.concatenate([layer("words", words), layer("spelling", layer("characters", letters)).max(2)], -1)
        for number in (1, 2):
            gate = layer(f"highway{number}_gate", x)
            x = gate * layer(f"highway{number}", x) + (1 - gate) * x
        return layer("reading", x)[0]

    def softmax(x):
        return np.exp(x - x.max(-1, keepdims=True)) / np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)

    h, u = encode(context, spelled), encode(question, spelling)
    weights = [layer.get_weights() for layer in map(model.get_layer, ("similarity_context", "similarity_question"))]
    both = model.get_layer("similarity_both").get_weights()[0]
    row = np.concatenate([weights[0][0], weights[1][0], both[:, None]])[:, 0]
    pairs = [[np.concatenate([one, other, one * other]) @ row + weights[0][1][0] for other in u] for one in h]
    similarity = np.array(pairs)
    asked, told = softmax(similarity) @ u, softmax(similarity.max(1)) @ h
    flow = np.concatenate([h, asked, h * asked, h * told], -1)
    g1 = layer("g1", layer("g0", flow[None]))[0]
    start = layer("start", np.concatenate([g1, flow], -1)[None])[0, :, 0]
    chosen = softmax(start) @ g1
    g2 = layer("g2", np.concatenate([flow, g1, np.tile(chosen, (len(h), 1)), g1 * chosen], -1)[None])[0]
    return np.stack([start, layer("end", np.concatenate([g2, flow], -1)[None])[0, :, 0]], -1)


def test_the_logits_by_hand():
    model, inputs = network(), texts()
    expected = by_hand(model, inputs)
    np.testing.assert_allclose(logits(model, [each[:1] for each in inputs]), expected, atol=1e-5)


def test_what_is_behind_the_words_changes_nothing():
    model, inputs = network(), texts()
    longer = [np.pad(each, [(0, 0), (0, 3), *[(0, 0)] * (each.ndim - 2)]) for each in inputs]
    np.testing.assert_allclose(logits(model, inputs), logits(model, longer), atol=1e-6)
    found = keras.ops.convert_to_numpy(model(longer))
    probabilities = np.exp(found) / np.exp(found).sum(-1, keepdims=True)
    assert probabilities[np.repeat(longer[0][:, None] == 0, 2, 1)].max() < 1e-30


def test_vectors_of_words_that_were_trained_elsewhere_stay():
    vectors = np.random.default_rng(0).normal(size=(WORDS, EMBEDDING))
    model = network(vectors=vectors)
    np.testing.assert_allclose(model.get_layer("words").get_weights()[0], vectors, rtol=1e-6)
    assert not model.get_layer("words").trainable_variables
    zero_some(model, 0)
    assert not tt.compact(model).get_layer("words").trainable_variables


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="at least 5 letters"):
        bidaf(letters=4)
    with pytest.raises(ValueError, match=r"vectors of shape \(7, 100\)\. Received: \(3, 100\)"):
        bidaf(7, vectors=np.zeros((3, 100)))


# Its structures

READERS = {  # of a unit of each set, how many rows in which layers
    "g0": {"g1/forward_g1": 1, "g1/backward_g1": 1},
    "g1": {"start": 1, "g2/forward_g2": 3, "g2/backward_g2": 3},  # as g1, as the weighted sum, and as their product
    "g2": {"end": 1},
}


@pytest.mark.parametrize("name", SETS)
def test_each_set_has_all_its_readers(name):
    found = structure(network(), name)
    assert (found.kind, found.size, found.born) == ("hidden", UNITS, (name,))
    rows = {piece.path: piece.indices.shape[1] for piece in found.slices if piece.reads and piece.path != name}
    assert rows == READERS[name.partition("/")[0]]
    gates = [piece.indices.shape[1] for piece in found.slices if piece.path == name and not piece.reads]
    assert gates == [4, 4, 4]  # columns of both kernels, and of the bias
    assert [piece.path for piece in found.slices if piece.reads and piece.path == name] == [name]


def test_the_size_of_a_group_is_the_papers_and_the_rows_it_forgot():
    model = bidaf(vocabulary=2)
    sizes = {}
    for name in SETS:
        found = structure(model, name)
        sizes[name] = sum(
            np.prod(each.variable.shape) // each.variable.shape[each.axis] * each.indices.shape[1]
            for each in found.slices
        )
    paper = dict(zip(SETS, (4800, 4800, 3201, 3201, 6401, 6401), strict=True))
    biases = 4  # which the paper leaves out
    forgotten = {name: 2 * 400 if name.startswith("g1") else 0 for name in SETS}
    assert sizes == {name: paper[name] + biases + forgotten[name] for name in SETS}


# The laws


@hypothesis.settings(max_examples=5)
@hypothesis.given(st.integers(0, 999))
def test_zeroed_members_leave_and_nothing_else_changes(seed):
    model = network()
    expected = zero_some(model, seed)
    small = check_laws(model, must_vary=False)
    assert widths(small) == expected
    assert difference(model, small, texts(seed)) <= 1e-5


@pytest.mark.parametrize("name", SETS)
def test_a_unit_that_is_silent_leaves_whatever_reads_it(name):
    model = network()
    layer, way = name.split("/")
    cell = getattr(model.get_layer(layer), f"{way.partition('_')[0]}_layer").cell
    for weight in (cell.kernel, cell.recurrent_kernel, cell.bias):
        array = weight.numpy()
        array[..., 2 * UNITS + 1] = 0  # its candidate
        weight.assign(array)
    small = check_laws(model, must_vary=False)
    assert widths(small) == {**widths(model), name: UNITS - 1}
    assert difference(model, small, texts()) <= 1e-5


def test_a_smaller_network_is_a_file_that_needs_no_package(tmp_path):
    model = network()
    zero_some(model, 3)
    small = tt.compact(model)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    assert shapes(loaded) == shapes(small)
    assert difference(model, loaded, texts()) <= 1e-5


def test_mixed_precision():
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        model = network()
        expected = zero_some(model, 5)
        small = tt.compact(model)
        assert widths(small) == expected
        assert difference(model, small, texts()) <= 2e-2
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


def test_a_file_of_tflite_gives_the_same_logits(tmp_path):
    model = network(context=LENGTHS[0], question=LENGTHS[1])
    zero_some(model, 4)
    small = tt.compact(model)
    tt.tflite.convert(small, tmp_path / "small.tflite")
    runner, inputs = Runner(tmp_path / "small.tflite"), texts(1)
    order = [tensor.name for tensor in small.inputs]
    given = dict(zip(order, inputs, strict=True))
    (found,) = runner.run([given[port.name] for port in runner.inputs])
    assert difference(small, lambda _: found, inputs) <= 1e-5
