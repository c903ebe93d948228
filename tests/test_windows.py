"""Zero taps of convolutions: a smaller or dilated kernel computes the same, and no tap that could leave stays."""

import itertools

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from keras import layers
from laws import check_fates, check_laws, randomize, sequential, shapes

import tf_terngrad as tt
from tf_terngrad.sparsity.remove import windows

KINDS = ("Conv", "DepthwiseConv", "SeparableConv", "grouped")


@pytest.fixture
def borders_pay(monkeypatch):
    """Small models are cheap: there borders would never pay."""
    monkeypatch.setattr(windows, "WORTH", 0)
    monkeypatch.setattr(windows, "WORTH_EACH", 0)


def convolution(kind, taps, **options):
    rank = len(taps)
    if kind == "grouped":
        return getattr(layers, f"Conv{rank}D")(6, taps, groups=2, **options)
    own = {"Conv": (5, taps), "DepthwiseConv": (taps,), "SeparableConv": (5, taps)}[kind]
    return getattr(layers, f"{kind}{rank}D")(*own, **options)


def network(convolution, sizes, name="slides"):
    """What is read and what reads can shrink."""
    convolution.name = name
    rank = len(sizes)
    first, last = (getattr(layers, f"Conv{rank}D")(count, 1, name=each) for count, each in ((4, "front"), (3, "back")))
    return sequential(keras.Input((*sizes, 2)), first, layers.ReLU(), convolution, layers.ReLU(), last)


def keep_taps(layer, places):
    """Zero all taps of a layer but those at these places of each axis."""
    kernel = getattr(layer, "depthwise_kernel", None) if "separable" in type(layer).__name__.lower() else layer.kernel
    mask = np.zeros(kernel.shape, bool)
    mask[np.ix_(*places, *map(np.arange, kernel.shape[-2:]))] = True
    kernel.assign(np.where(mask, kernel, 0))


@st.composite
def cases(draw):
    rank = draw(st.sampled_from([1, 2, 2, 3]))
    kind = draw(st.sampled_from(KINDS if rank < 3 else ("Conv", "grouped")))
    taps = [draw(st.integers(1, 5 if rank < 3 else 3)) for _ in range(rank)]
    if draw(st.booleans()):
        moves = {"strides": (draw(st.integers(1, 3)),) * rank}
    else:
        moves = {"dilation_rate": tuple(draw(st.integers(1, 2)) for _ in range(rank))}
    if rank == 3 and "strides" in moves:
        return kind, tuple(taps), {**moves, "padding": "valid"}, *_places_and_sizes(draw, taps)
    padding = draw(st.sampled_from(["same", "valid", "causal"] if (rank, kind) == (1, "Conv") else ["same", "valid"]))
    return kind, tuple(taps), {**moves, "padding": padding}, *_places_and_sizes(draw, taps)


def _places_and_sizes(draw, taps):
    places = []
    for count in taps:
        first, step = draw(st.integers(0, count - 1)), draw(st.integers(1, 3))
        places.append(np.arange(first, draw(st.integers(first + 1, count)), step))
    return places, [draw(st.integers(9, 12)) for _ in taps]


@pytest.mark.parametrize("pays", [True, False])
@hypothesis.given(cases())
@hypothesis.settings(max_examples=12, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_the_same_is_computed_and_nothing_more_can_leave(monkeypatch, pays, case):
    for name in ("WORTH", "WORTH_EACH"):
        monkeypatch.setattr(windows, name, 0 if pays else 10**9)
    kind, taps, options, places, sizes = case
    model = network(convolution(kind, taps, **options), sizes)
    keep_taps(model.get_layer("slides"), places)
    small = check_laws(model, must_vary=False)
    check_fates(model, small)
    left = small.get_layer("slides")
    assert np.prod(left.kernel_size) <= np.prod(taps)
    if pays:
        strided = max(options.get("strides", [1])) > 1
        assert left.kernel_size == tuple(
            place[-1] - place[0] + 1 if strided else len(place) for place in places
        )  # no zero tap is left but between those that live under a stride
    else:
        assert not any("border" in layer.name for layer in small.layers)


@hypothesis.given(
    st.integers(1, 7), st.integers(1, 3), st.integers(1, 4), st.sampled_from(["same", "valid", "causal"]), st.data()
)
@hypothesis.settings(max_examples=50)
def test_a_slide_without_taps_by_numpy(taps, dilation, stride, padding, data):
    dilation = dilation if stride == 1 else 1
    slide = windows.Slide(taps, dilation, stride, padding)
    size = data.draw(st.integers(slide.reach, slide.reach + 9))
    first = data.draw(st.integers(0, taps - 1))
    last = data.draw(st.integers(0, taps - 1 - first))
    random = np.random.default_rng(0)
    x, weights = random.normal(size=size), random.normal(size=taps)
    weights[:first] = weights[taps - last :] = 0
    whole = _slid(x, weights, slide.front(size), slide, slide.count(size))
    small, part = slide.without(first, last), weights[first : taps - last]
    front, back = slide.border(first, last, size)
    cropped = x[max(-front, 0) : size + min(back, 0)]
    padded = np.pad(cropped, (max(front, 0), max(back, 0)))
    valid = windows.Slide(small.taps, dilation, stride, "valid")
    assert valid.count(len(padded)) == slide.count(size)
    np.testing.assert_allclose(_slid(padded, part, 0, valid, slide.count(size)), whole, atol=1e-12)
    if slide.stays_itself(first, last, {size}):
        np.testing.assert_allclose(_slid(x, part, small.front(size), small, small.count(size)), whole, atol=1e-12)
    layer = keras.layers.Conv1D(1, taps, stride, padding, dilation_rate=dilation, use_bias=False)
    layer.build((None, size, 1))
    layer.kernel.assign(weights[:, None, None])
    np.testing.assert_allclose(np.ravel(layer(x[None, :, None].astype("float32"))), whole, rtol=1e-4, atol=1e-4)


def _slid(x, weights, front, slide, count):
    """A window over zeros beyond both ends, one output after the other."""
    far = np.pad(x, 99)
    starts = [99 - front + output * slide.stride for output in range(count)]
    return np.array([sum(w * far[s + t * slide.dilation] for t, w in enumerate(weights)) for s in starts])


@pytest.mark.parametrize("kind", KINDS)
def test_an_inner_square_leaves_with_no_border(kind):
    model = network(convolution(kind, (5, 5), padding="same"), (8, 8))
    keep_taps(model.get_layer("slides"), ([1, 2, 3], [1, 2, 3]))
    small = check_laws(model)
    left = small.get_layer("slides")
    assert left.kernel_size == (3, 3) and left.padding == "same" and len(small.layers) == len(model.layers)


def test_every_second_tap_is_a_dilated_kernel():
    model = network(layers.Conv2D(5, (5, 3), padding="same"), (8, 8))
    keep_taps(model.get_layer("slides"), ([0, 2, 4], [1]))
    left = check_laws(model).get_layer("slides")
    assert (left.kernel_size, left.dilation_rate, left.padding) == ((3, 1), (2, 1), "same")


def test_sizes_that_are_open():
    image = keras.Input((None, None, 2))
    model = randomize(
        keras.Model(image, layers.Conv2D(3, 1)(layers.Conv2D(4, 5, 2, padding="same", name="slides")(image)))
    )
    keep_taps(model.get_layer("slides"), ([1, 2, 3], [1, 2]))
    left = check_laws(model).get_layer("slides")
    assert left.kernel_size == (3, 3)  # of the second axis a zero stays, for a border could not be of any size
    for size in range(5, 12):
        x = np.random.default_rng(0).normal(size=(2, size, size + 1, 2)).astype("float32")
        np.testing.assert_allclose(tt.compact(model)(x), model(x), rtol=1e-4, atol=1e-5)


def test_conv3d_with_strides_keeps_its_padding():
    model = network(layers.Conv3D(5, 2, 3, padding="same"), (9, 9, 9))
    keep_taps(model.get_layer("slides"), ([0],) * 3)
    assert check_laws(model).get_layer("slides").kernel_size == (2, 2, 2)


def test_channels_first(borders_pay):
    image = keras.Input((2, 9, 9))
    convolution = layers.Conv2D(4, 3, padding="same", data_format="channels_first", name="slides")
    model = randomize(keras.Model(image, layers.Conv2D(3, 1, data_format="channels_first")(convolution(image))))
    keep_taps(convolution, ([0], [0, 1]))
    small = tt.compact(model)  # no CPU runs it
    cropping, padding, left = small.layers[1:4]
    assert left.kernel_size == (1, 2) and left.padding == "valid"
    assert cropping.cropping == ((0, 1), (0, 0)) and padding.padding == ((1, 0), (1, 0))
    assert cropping.data_format == padding.data_format == "channels_first"


def test_a_layer_that_is_called_on_images_of_two_sizes(borders_pay):
    shared = layers.Conv2D(4, 4, 2, padding="same", name="slides")
    inputs = [keras.Input((size, size, 2)) for size in (8, 9)]
    outputs = [layers.GlobalMaxPooling2D()(shared(x)) for x in inputs]
    model = randomize(keras.Model(inputs, layers.Dense(3)(layers.Concatenate()(outputs))))
    keep_taps(shared, ([2, 3], [0, 1]))
    assert check_laws(model).get_layer("slides").kernel_size == (2, 2)


def test_inside_of_wrappers_and_models(borders_pay):
    inner = keras.Sequential([keras.Input((8, 8, 2)), layers.Conv2D(4, 3, padding="same", name="slides")])
    sequence = keras.Input((5, 8, 8, 2))
    lone = layers.Conv2D(2, 5, padding="same", name="lone")
    x = layers.TimeDistributed(inner)(layers.TimeDistributed(lone)(sequence))
    model = randomize(keras.Model(sequence, layers.Dense(3)(layers.Flatten()(x))))
    keep_taps(inner.get_layer("slides"), ([0], [1, 2]))
    keep_taps(lone, ([1, 2], [2]))  # a step can have no border
    small = check_laws(model)
    assert {(1, 2, 2, 4), (3, 1, 2, 2)} <= {*shapes(small)}


def test_after_training_further_another_border_can_leave(borders_pay):
    model = network(layers.Conv2D(5, 5, padding="same"), (8, 8))
    for places in (([1, 2, 3, 4],) * 2, ([0, 1], [1, 2])):
        keep_taps(model.get_layer("slides"), places)
        model = check_laws(model)
    assert model.get_layer("slides").kernel_size == (2, 2)


def test_behind_a_kernel_of_one_tap_constants_pass():
    model = network(layers.Conv2D(5, 3, padding="same"), (8, 8))
    keep_taps(model.get_layer("slides"), ([1], [1]))
    front = model.get_layer("front")
    front.kernel.assign(np.where(np.arange(4) == 2, 0, front.kernel))
    front.bias.assign(np.ones(4))  # filter 2 is one everywhere: before a padded window it has to stay
    small = check_laws(model)
    assert small.get_layer("slides").kernel.shape == (1, 1, 3, 5)


def test_what_needs_the_size_keeps_it(borders_pay):
    class Table(keras.constraints.Constraint):
        def __call__(self, w):
            return w * np.ones((3, 3, 1, 1), "float32")

    def constrained(constraint):
        model = network(layers.Conv2D(5, 3, padding="same", kernel_constraint=constraint), (8, 8))
        keep_taps(model.get_layer("slides"), ([1], [1]))
        return check_laws(model).get_layer("slides").kernel_size

    assert constrained(Table()) == (3, 3)
    assert constrained(keras.constraints.MaxNorm(1e3)) == (1, 1)


def test_a_kernel_that_something_else_reads_stays():
    model = network(layers.Conv2D(5, 3, padding="same"), (8, 8))
    slides = model.get_layer("slides")
    keep_taps(slides, ([1], [1]))
    reads = layers.Lambda(lambda x: x * slides.kernel[0, 0, 0, 0])
    whole = keras.Model(model.inputs, reads(model.outputs[0]))
    small = tt.compact(whole)
    assert small.get_layer("slides").kernel_size == (3, 3)


def test_what_shape_lasso_makes_zero():
    """A target that an inner window computes: the taps around it die."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    x = random.normal(size=(256, 8, 8, 1)).astype("float32")
    target = keras.layers.Conv2D(3, (1, 3), padding="same", use_bias=False)
    y = np.asarray(target(x))
    convolution = layers.Conv2D(
        3, 5, padding="same", use_bias=False, kernel_regularizer=tt.regularizers.ShapeLasso(0.01), name="slides"
    )
    model = keras.Sequential([keras.Input((8, 8, 1)), convolution])
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(x, y, epochs=20, batch_size=32, verbose=0, callbacks=[tt.callbacks.ZeroSmallWeights(1e-3)])
    small = tt.compact(model)
    assert small.get_layer("slides").kernel_size == (1, 3)
    np.testing.assert_allclose(small(x[:4]), model(x[:4]), rtol=1e-4, atol=1e-5)


def test_a_plan_and_a_report_say_so():
    model = network(layers.Conv2D(5, 5, padding="same"), (8, 8))
    keep_taps(model.get_layer("slides"), ([1, 3], [2]))
    assert "slides: kernel 5x5 -> 2x1, dilated 2x1" in str(tt.compact(model, dry_run=True))
    small = tt.compact(model)
    report = str(tt.compare(model, small))
    line = next(line for line in report.splitlines() if line.startswith("slides"))
    assert "5x5 → 2x1" in line
    assert "8.0 %" in line


@pytest.mark.filterwarnings("ignore:.*does not support masking")
@pytest.mark.parametrize("padding", ["same", "causal"])
def test_where_a_mask_enters(borders_pay, padding):
    steps = keras.Input((7, 3))
    convolution = layers.Conv1D(4, 3, padding=padding, name="slides")
    model = randomize(keras.Model(steps, layers.LSTM(5)(convolution(layers.Masking()(steps)))))
    keep_taps(convolution, ([0, 1],))
    small = check_laws(model)
    x = np.random.default_rng(0).normal(size=(2, 7, 3)).astype("float32")
    x[:, 4:] = 0
    np.testing.assert_allclose(small(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_it_is_counted_when_a_border_pays(padding):
    image = keras.Input((32, 32, 32))
    model = keras.Model(image, layers.Conv2D(32, 3, padding=padding, name="slides")(image))
    keep_taps(model.get_layer("slides"), ([0, 1], [0, 1, 2]))
    assert tt.compact(model).get_layer("slides").kernel_size == (2, 3)
    image = keras.Input((4, 4, 2))
    model = keras.Model(image, layers.Conv2D(2, 3, padding=padding, name="slides")(image))
    keep_taps(model.get_layer("slides"), ([0, 1], [0, 1, 2]))
    assert tt.compact(model).get_layer("slides").kernel_size == (3, 3)


def test_all_pairs_of_ends_of_three_taps(borders_pay):
    for first, last in itertools.product(range(3), repeat=2):
        if first + last < 3:
            model = network(layers.Conv1D(5, 3, padding="same"), (7,))
            keep_taps(model.get_layer("slides"), (np.arange(first, 3 - last),))
            assert check_laws(model).get_layer("slides").kernel_size == (3 - first - last,)


def test_no_more_is_cropped_than_has_to_be():
    assert windows.Slide(3, 1, 2, "valid").border(1, 0, 8) == (-1, 0)  # what a stride leaves over stays there
    assert windows.Slide(3, 1, 1, "valid").border(1, 0, 8) == (-1, 0)
    assert windows.Slide(3, 1, 1, "valid").border(0, 1, 8) == (0, -1)
    assert windows.Slide(5, 2, 1, "same").border(1, 2, 8) == (2, 0)
