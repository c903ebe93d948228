"""The TFLite files of a model with several numbers of members: what its file is learned from."""

import contextlib
import itertools

import keras
import numpy as np

from tf_terngrad.keras_internals import calls_forgotten
from tf_terngrad.sparsity.remove.plan import Kept, Plan
from tf_terngrad.sparsity.remove.rebuild import Builder
from tf_terngrad.tflite.arguments import checked_ports
from tf_terngrad.tflite.candidates import candidates
from tf_terngrad.tflite.converter import float32
from tf_terngrad.tflite.draw import draw
from tf_terngrad.tflite.modes import mode_of
from tf_terngrad.tflite.opened import Opened
from tf_terngrad.tflite.recurrent import ROUTES, stateless
from tf_terngrad.tflite.whole import Whole

FEW = 4  # members of a structure that may all stay in a smaller model


def files(sizes, quantize, folder):
    """Convert a model and then smaller ones, without an end.

    Args:
        sizes: the `Sizes` of the model.
        quantize: as of `tt.tflite.convert`.
        folder: where files may be measured, a `pathlib.Path`.

    Yields:
        Pairs of the shares of the structures' members that stay, and the `Opened` file; the whole model first.
    """
    random, route, before = np.random.default_rng(0), None, []
    full = [each.size for each in sizes.structures]
    for number in itertools.count():
        counts = _counts(sizes.structures, random, before) if number else full
        before += [counts] if number else []
        model = _with_members(sizes, counts)
        route, content = _converted(model, sizes.input_shapes, quantize, route, folder / f"{number}.tflite")
        yield np.append(np.array(counts, float) / np.maximum(full, 1), 1.0), Opened.of(content)


def _counts(structures, random, before):
    """Numbers of members, so that a size tells which structure it comes from: as few as can be are there twice.

    Neither in one of the models, nor of one structure in several models; of a few members all may stay.
    """
    counts = []
    for number, structure in enumerate(structures):
        allowed = np.arange(max(1, structure.size // 2), structure.size + (structure.size <= FEW))
        used = {each[number] for each in before}
        free = [count for count in allowed if count not in used] or allowed
        counts.append(int(random.choice([count for count in free if count not in counts] or free)))
    return counts


def _with_members(sizes, counts):
    """The model with the first members of each structure, and with random weights.

    The converter keeps equal constants once, so the biases of a model that is not trained yet, all zero, would seem to
    cost nothing.
    """
    stay = np.ones(len(sizes.graph.units), bool)
    for units, count in zip(sizes.members, counts, strict=True):
        stay[units[count:]] = False
    kept = Kept(sizes.graph, stay)
    model = Builder(sizes.graph, Plan(kept, frozenset(sizes.graph.sites), (), (), (), ())).build()
    random = np.random.default_rng(sum(counts))
    for variable in model.weights:
        if keras.backend.is_float_dtype(variable.dtype):
            variable.assign(np.abs(random.normal(0.1, 0.01, variable.shape)))
    return model


def _converted(model, input_shapes, quantize, route, path):
    """The route that recurrent layers took, the fastest at first (None: none had a choice), and the file's content."""
    mode, calls = mode_of(quantize), contextlib.ExitStack()
    with calls:
        for each in (calls_forgotten, float32, stateless):
            calls.enter_context(each(model))
        inputs, outputs = checked_ports(model)
        inputs = [type(port)(port.name, shape, port.dtype) for port, shape in zip(inputs, input_shapes, strict=True)]
        shipped = Whole(model, inputs, outputs)
        arrays = draw(model, inputs, 1)
        taken = candidates(shipped, mode, arrays if mode.needs_calibration else None, route or "auto", path, arrays)[0]
    kinds = {outcome.kind for outcome in taken.became.values()}
    return (taken.route if ROUTES[taken.route].became in kinds else None), taken.content
