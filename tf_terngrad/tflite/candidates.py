"""The files that a model could become, one for each route of its recurrent layers, and which of them is taken."""

import dataclasses
import pathlib

from tf_terngrad.tflite.converter import ConversionError, flatbuffer, trace
from tf_terngrad.tflite.latency import compare_latency
from tf_terngrad.tflite.recurrent import ROUTES, recurrent_layers, routed

UNROLLED_STEPS = 128  # of all layers together: beyond, the conversion takes long and the file grows
NEAR = 1.1  # files within this ratio of the fastest are as fast; the smallest of them is taken
MEASURED = {"warmup": 3, "runs": 20, "min_seconds": 0.1}
TAKEN = {"fused": "fused", "unroll": "unrolled", "loop": "loop"}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A file's content, its route, what its recurrent layers became, and its latency if it was measured."""

    route: str
    content: bytes
    became: dict
    latency: float | None = None


def candidates(shipped, quantize, calibration, recurrent, draft):
    """Converts a model by the routes that `recurrent` allows.

    Args:
        shipped: A `Whole` or a `Stream`.
        quantize: A key of `QUANTIZE`.
        calibration: A list of arrays in the order of its inputs, for int8.
        recurrent: "auto" or a key of `ROUTES`.
        draft: A path beside which files may be measured.

    Returns:
        A list of `Candidate`, the best first.

    Raises:
        ConversionError: TensorFlow Lite refuses the model by every route, or the route takes none of its layers.
    """
    model = shipped.model

    def traced_by(route):
        with routed(model, route) as traced:
            return trace(model, shipped.inputs, shipped.outputs), traced

    def content(function):
        return flatbuffer(model, function, shipped.inputs, quantize, calibration)

    if recurrent == "auto" and recurrent_layers(model) and quantize != "int8":
        found = _by_every_route(traced_by, content)
        return _best_first(found, draft) if len(found) > 1 else found
    route = "unroll" if recurrent == "auto" else recurrent
    function, traced = traced_by(route)
    if recurrent != "auto":
        _check_taken(model, route, traced.became)
    return [Candidate(route, content(function), traced.became)]


def _by_every_route(traced_by, content):
    found, seen, errors, steps = [], [], [], 0
    for route in ROUTES:  # the loop first: it counts the steps
        if route == "unroll" and steps > UNROLLED_STEPS:
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
    if became and TAKEN[route] not in _kinds(became).values():
        reasons = "; ".join(f"{name}: {what}" for name, what in became.items())
        raise ConversionError(f"recurrent='{route}' fits no layer of model '{model.name}'. {reasons}.")


def _kinds(became):
    return {name: what.split()[0] for name, what in became.items()}


def _best_first(found, draft):
    """Measures the files in turns; the smallest of those that are as fast as the fastest comes first."""
    paths = [draft.with_name(f"{draft.name}.{candidate.route}") for candidate in found]
    try:
        for path, candidate in zip(paths, found, strict=True):
            path.write_bytes(candidate.content)
        medians = [report.median for report in compare_latency(paths, **MEASURED).reports]
    finally:
        for path in paths:
            pathlib.Path(path).unlink(missing_ok=True)
    found = [dataclasses.replace(one, latency=median) for one, median in zip(found, medians, strict=True)]
    fastest = min(medians)

    def rank(candidate):
        near = candidate.latency <= NEAR * fastest
        return (not near, len(candidate.content) if near else candidate.latency)

    return sorted(found, key=rank)
