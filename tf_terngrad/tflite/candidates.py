"""The files that a model could become, one for each route of its recurrent layers, and which of them is taken."""

import dataclasses
import pathlib

import numpy as np

from tf_terngrad.tflite.converter import ConversionError, flatbuffer, trace
from tf_terngrad.tflite.latency import compare_latency
from tf_terngrad.tflite.recurrent import ROUTES, recurrent_layers, routed

AUTO = "auto"  # the route that is measured to be the fastest
SMALLEST = "smallest"  # the route whose file is
CHOICES = (AUTO, SMALLEST)
UNROLLED_STEPS = 128  # of all layers together: beyond, the conversion takes long and the file grows
NEAR = 1.1  # files within this ratio of the fastest are as fast; the smallest of them is taken
MEASURED = {"warmup": 3, "runs": 20, "min_seconds": 0.1}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A file's content, its route's name, the `Outcome` of each recurrent layer, its latency if it was measured."""

    route: str
    content: bytes
    became: dict
    latency: float | None = None


def candidates(shipped, mode, calibration, recurrent, draft, arrays):
    """Converts a model by the routes that `recurrent` allows.

    Args:
        shipped: A `Whole` or a `Stream`.
        mode: A `QuantizationMode`.
        calibration: A list of arrays in the order of its inputs, if the mode needs them.
        recurrent: "auto", "smallest" or a key of `ROUTES`.
        draft: A path beside which files may be measured.
        arrays: A list of the whole model's inputs, to measure on.

    Returns:
        A list of `Candidate`, the best first.

    Raises:
        ConversionError: TensorFlow Lite refuses the model by every route, or the one asked for takes none of its
            layers.
    """
    model = shipped.model

    def traced_by(route):
        with routed(model, route) as traced:
            return trace(model, shipped.inputs, shipped.outputs, calibration), traced

    def content(function):
        return flatbuffer(model, function, shipped.inputs, mode, calibration)

    if recurrent in CHOICES and recurrent_layers(model):
        found = _by_every_route([name for name in ROUTES if name in mode.routes], traced_by, content)
        if recurrent == SMALLEST:
            return sorted(found, key=lambda candidate: len(candidate.content))
        return _fastest_first(found, draft, _one_run(shipped, arrays)) if len(found) > 1 else found
    route = mode.routes[0] if recurrent in CHOICES else recurrent  # all are the same without recurrent layers
    function, traced = traced_by(route)
    if recurrent not in CHOICES:
        _check_taken(model, route, traced.became)
    return [Candidate(route, content(function), traced.became)]


def _by_every_route(routes, traced_by, content):
    """The files of all routes, each kind once; a route whose file grows with the steps is left out where others do."""
    found, seen, errors, steps = [], [], [], 0
    for route in routes:
        if ROUTES[route].grows and steps > UNROLLED_STEPS and found:
            continue
        function, traced = traced_by(route)
        steps = max(steps, traced.steps)
        if _kinds(traced.became) in seen:
            continue
        seen.append(_kinds(traced.became))
        try:
            found.append(Candidate(route, content(function), traced.became))
        except ConversionError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return found


def _check_taken(model, route, became):
    if became and ROUTES[route].became not in _kinds(became).values():
        reasons = "; ".join(f"{name}: {what}" for name, what in became.items())
        raise ConversionError(f"recurrent='{route}' fits no layer of model '{model.name}'. {reasons}.")


def _kinds(became):
    return {name: outcome.kind for name, outcome in became.items()}


def _one_run(shipped, arrays):
    """The inputs of one run of the file, by name."""
    return {
        port.name: array[np.arange(port.shape[0] or 1) % len(array)]
        for port, array in zip(shipped.inputs, shipped.calibration(arrays), strict=True)
    }


def _fastest_first(found, draft, inputs):
    """Measures the files in turns; the smallest of those that are as fast as the fastest comes first."""
    paths = [draft.with_name(f"{draft.name}.{candidate.route}") for candidate in found]
    try:
        for path, candidate in zip(paths, found, strict=True):
            path.write_bytes(candidate.content)
        medians = [report.median for report in compare_latency(paths, inputs=inputs, **MEASURED).reports]
    finally:
        for path in paths:
            pathlib.Path(path).unlink(missing_ok=True)
    found = [dataclasses.replace(one, latency=median) for one, median in zip(found, medians, strict=True)]
    fastest = min(medians)

    def rank(candidate):
        near = candidate.latency <= NEAR * fastest
        return (not near, len(candidate.content) if near else candidate.latency)

    return sorted(found, key=rank)
