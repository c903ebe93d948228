"""Taps of convolutions that are zero at all filters and channels: a smaller kernel, or a dilated one, without them.

A shape fibre (SSL, Wen et al., 2016) is a tap at one input channel. Where all that stays of a tap is zero, and such
taps form a border of the kernel, or are all but every second, third, ... one, the layer computes the same with fewer
taps. The window then begins elsewhere; if the layer's own padding does not make up for that, a border of zeros in
front of it does, or one that is cropped.
"""

import collections
import dataclasses
import itertools
import math

import keras
import numpy as np

from tf_terngrad.sparsity.graph.fits import misfits
from tf_terngrad.sparsity.remove.settings import is_stock

WORTH = 100_000  # multiply-adds that a border has to save: 2 µs on a CPU, what an operation more costs in a TFLite file
WORTH_EACH = 8  # and for each number that it copies: depthwise convolutions are as fast with it as without


@dataclasses.dataclass(frozen=True)
class Slide:
    """How a window moves along one axis: it reads x[i * stride + t * dilation - front] at tap t, for output i.

    Args:
        taps: how many.
        dilation, stride: in positions of the input.
        padding: "valid", "same" or "causal".
    """

    taps: int
    dilation: int
    stride: int
    padding: str

    def front(self, size):
        """How many zeros stand in front of an input of this size."""
        if self.padding == "same":
            return max((self.count(size) - 1) * self.stride + self.reach - size, 0) // 2
        return self.reach - 1 if self.padding == "causal" else 0

    def count(self, size):
        """How many outputs there are."""
        length = size - self.reach + 1 if self.padding == "valid" else size
        return -(-length // self.stride)

    @property
    def reach(self):
        """From the first input that an output reads to the last one."""
        return (self.taps - 1) * self.dilation + 1

    def without(self, first, last):
        """The same without so many of the first taps, and of the last ones."""
        return dataclasses.replace(self, taps=self.taps - first - last)

    def stays_itself(self, first, last, sizes):
        """Whether it computes the same without these taps, if they are zero, with the padding that it has."""
        small = self.without(first, last)
        return all(
            small.count(size) == self.count(size) and small.front(size) == self.front(size) - first * self.dilation
            for size in sizes
        )

    def border(self, first, last, size):
        """What "valid" padding without these taps needs at both ends of an input: zeros, or if negative, less of it."""
        front = self.front(size) - first * self.dilation
        reach = self.without(first, last).reach
        least = (self.count(size) - 1) * self.stride + reach - size - front  # up to stride - 1 more change nothing
        return front, max(least, min(0, least + self.stride - 1))


@dataclasses.dataclass(frozen=True)
class Window:
    """What becomes of a convolution's kernel.

    Args:
        path: of the layer.
        kernel: the variable.
        taps: by axis of space, the positions of the taps that stay; in equal steps.
        settings: those of the layer's configuration that change.
        borders: by site of a call, what is put in front of and behind each axis of its input; a negative number is
            cropped.
    """

    path: str
    kernel: keras.Variable
    taps: tuple
    settings: dict
    borders: dict

    def __str__(self):
        before, after = ("x".join(map(str, size)) for size in (self.kernel.shape[:-2], map(len, self.taps)))
        dilation = "x".join(map(str, self.settings["dilation_rate"]))
        dilated = f", dilated {dilation}" if set(dilation) > {"1", "x"} or dilation not in ("1", "1x1", "1x1x1") else ""
        return f"{self.path}: kernel {before} -> {after}{dilated}"


def find_windows(graph, kept, sites) -> dict:
    """The `Window`s of the layers that have zero taps which can leave, by id of the layer."""
    calls = collections.defaultdict(list)
    for call in graph.calls:
        if call.site in sites and call.rule.window(call.layer) is not None:
            calls[id(call.layer)].append(call)
    found = {key: _window(graph, kept, several) for key, several in calls.items()}
    return {key: window for key, window in found.items() if window}


def _window(graph, kept, calls):
    """The window of a layer that is called so; None where none of its taps can leave."""
    layer, kernel = calls[0].layer, calls[0].rule.window(calls[0].layer)
    alive = _alive(graph, kept, kernel)
    if alive is None or alive.all() or not alive.any() or not _may_change(graph, layer, kernel):
        return None
    places = [np.unique(axis) for axis in np.nonzero(alive)]
    slides = [Slide(*each, layer.padding) for each in zip(alive.shape, layer.dilation_rate, layer.strides, strict=True)]
    sizes = [_sizes(calls, axis, slide.stride) for axis, slide in enumerate(slides)]
    ends = [_ends(*each) for each in zip(slides, places, sizes, strict=True)]
    whole = [(int(place[0]), slide.taps - 1 - int(place[-1])) for slide, place in zip(slides, places, strict=True)]
    settings, borders = {"padding": layer.padding}, {}
    if ends != whole and _pays(graph, kept, calls, slides, ends, whole):
        settings, borders, ends = {"padding": "valid"}, _borders(calls, slides, whole), whole
    steps = [1 if max(layer.strides) > 1 else _step(*each) for each in zip(slides, places, ends, strict=True)]
    taps = [
        np.arange(first, slide.taps - last, step)
        for slide, (first, last), step in zip(slides, ends, steps, strict=True)
    ]
    if all(len(stay) == size for stay, size in zip(taps, alive.shape, strict=True)):
        return None
    settings["kernel_size"] = tuple(map(len, taps))
    rates = zip(taps, steps, layer.dilation_rate, strict=True)
    settings["dilation_rate"] = tuple(1 if len(stay) == 1 else step * rate for stay, step, rate in rates)
    return Window(calls[0].path, kernel, tuple(taps), settings, borders)


def _alive(graph, kept, kernel):
    """Which taps have a weight that is not zero, among the channels and filters that stay; None: not known."""
    weight = graph.weights.get(id(kernel))
    if weight is None:
        return None
    array = graph.value(kernel)
    rank = array.ndim - 2
    stay = kept.along(weight, array.shape)[rank:]
    part = array[(..., *np.ix_(*stay))]
    return (np.abs(part) > graph.tolerance).any((-2, -1))


def _may_change(graph, layer, kernel):
    """Whether a kernel is the layer's alone, and nothing needs its size."""
    if len(layer.kernel_size) == 3 and layer.padding == "same" and max(layer.strides) > 1:
        return False  # where strides are longer than windows, TensorFlow's Conv3D begins elsewhere than its others
    return (
        _is_alone(graph, kernel)
        and is_stock(layer)
        and not any(misfits(kernel, axis) for axis in range(len(kernel.shape) - 2))
    )


def _is_alone(graph, kernel):
    return len(graph.weights[id(kernel)].holders) == 1 and id(kernel) not in graph.read_elsewhere


def have_shared_kernels(graph):
    """Whether the kernel of a convolution is read by others too, which a smaller model may have made into two."""
    kernels = [call.rule.window(call.layer) for call in graph.calls]
    return any(id(each) in graph.weights and not _is_alone(graph, each) for each in kernels if each is not None)


def _space(call):
    """The axes of a call's input that the window slides along."""
    first = 1 if call.layer.data_format == "channels_last" else 2
    return range(first, first + len(call.layer.kernel_size))


def _sizes(calls, axis, stride):
    """How long the input may be: what is open may be of any size, and the padding depends on its rest alone."""
    known = {call.inputs[0].shape[_space(call)[axis]] for call in calls}
    return {size for size in known if size} | (set(range(10**6, 10**6 + stride)) if None in known else set())


def _ends(slide, places, sizes):
    """How many zero taps can leave at both ends with the padding that the layer has: the most."""
    pairs = itertools.product(range(places[0] + 1), range(slide.taps - places[-1]))
    return max((pair for pair in pairs if slide.stays_itself(*pair, sizes)), key=sum)


def _step(slide, places, ends):
    """The largest step in which all living taps lie, from the first that stays to the last."""
    first, last = ends[0], slide.taps - 1 - ends[1]
    return math.gcd(last - first, *(int(place) - first for place in places)) or 1


def _pays(graph, kept, calls, slides, ends, whole):
    """Whether all zero taps at the ends should leave, which needs a border, and not only those that need none."""
    sizes = [[call.inputs[0].shape[axis] for axis in _space(call)] for call in calls]
    if any(None in size for size in sizes) or not all(map(_takes_border, calls)):
        return False
    kernel = calls[0].rule.window(calls[0].layer)
    stay = [len(each) for each in kept.along(graph.weights[id(kernel)], kernel.shape)[-2:]]
    taps = [math.prod(s.without(*pair).taps for s, pair in zip(slides, each, strict=True)) for each in (ends, whole)]
    outputs = sum(math.prod(s.count(n) for s, n in zip(slides, size, strict=True)) for size in sizes)
    saved = outputs * (taps[0] - taps[1]) * math.prod(stay)
    copied = sum(math.prod(size) for size in sizes) * stay[0] * getattr(calls[0].layer, "groups", 1)
    return saved >= max(WORTH, WORTH_EACH * copied)


def _takes_border(call):
    """Whether a layer may stand in front of a call: a step of a `TimeDistributed` is one layer."""
    of_model = isinstance(call.site, int) or call.site[1] == "layer"
    flat = len(call.layer.kernel_size) == 1 and call.layer.data_format == "channels_first"  # Cropping1D knows no such
    return of_model and not flat


def _borders(calls, slides, ends):
    """By site, what a call's input gets in front of and behind each axis."""
    return {
        call.site: tuple(
            slide.border(*pair, call.inputs[0].shape[axis])
            for slide, pair, axis in zip(slides, ends, _space(call), strict=True)
        )
        for call in calls
    }


def with_border(tensor, border, layer, name):
    """A tensor with zeros around it, or less of it, for a convolutional layer; `name`: of what does it."""
    rank = len(border)
    options = {} if rank == 1 else {"data_format": layer.data_format}
    for kind, amounts in (
        ("Cropping", [tuple(max(-end, 0) for end in ends) for ends in border]),
        ("ZeroPadding", [tuple(max(end, 0) for end in ends) for ends in border]),
    ):
        if any(map(any, amounts)):
            make = getattr(keras.layers, f"{kind}{rank}D")
            amounts = amounts[0] if rank == 1 else tuple(amounts)
            tensor = make(amounts, name=f"{name}_{kind.lower()}", dtype=layer.dtype_policy, **options)(tensor)
    return tensor
