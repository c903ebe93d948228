"""The averages of a step's gradients over all workers: tensors that travel together are a fusion, of digits or floats.

Fusions are filled from the last variable backwards, as backpropagation makes the gradients: one of floats, or of digits
with private scales, travels while the gradients of the layers before it are still being computed. Scales that workers
share are found first, those of all digits of a step by one exchange; then a fusion travels while others are encoded.
"""

import dataclasses

import tensorflow as tf

from tf_terngrad.ternary import exchange
from tf_terngrad.ternary.distributed.settings import Route
from tf_terngrad.ternary.partition import flatten, unflatten


@dataclasses.dataclass
class Fusion:
    """Gradients that travel together, by one route: their positions among all, and their bytes. Rows travel alone."""

    name: str
    label: str
    route: Route
    positions: list
    bytes: int = 0


def average(gradients, names, settings, network, step, name="gradients"):
    """The averages or sums of all workers' gradients, bit-identical on all of them.

    Args:
        gradients: list of tensors, `tf.IndexedSlices` and None, alike on all workers.
        names: of their variables.
        settings: `Settings`.
        network: a `Transport`.
        step: integer scalar, of the random bits; another one each time.
        name: of the exchange, the same on all workers.

    Returns:
        The list of averages. Of `tf.IndexedSlices`, each index that any worker has is there once, in rising order.
    """
    found = fusions(gradients, names, settings, name)
    values, indices = list(gradients), {}
    for fusion in found:
        if fusion.route.rows:
            (position,) = fusion.positions
            values[position], indices[position] = exchange.rows_of_all(gradients[position], network, fusion.name)
    parts = [[values[position] for position in fusion.positions] for fusion in found]
    for fusion, reduced in zip(found, _reduced(found, parts, settings, network, step, name), strict=True):
        for position, value in zip(fusion.positions, reduced, strict=True):
            values[position] = value
    for position, rows in indices.items():
        values[position] = tf.IndexedSlices(values[position], rows, gradients[position].dense_shape)
    return values


def fusions(gradients, names, settings, name="gradients") -> list[Fusion]:
    """Which gradients travel together, the last ones first; each fusion has one route and one type."""
    found, filling = [], {}
    for position in reversed(range(len(gradients))):
        gradient = gradients[position]
        if gradient is None:
            continue
        route = settings.route(gradient, names[position])
        size = 0 if route.rows else (gradient.shape.num_elements() or 0) * gradient.dtype.size
        fusion = filling.get((route, gradient.dtype))
        if fusion is None or fusion.bytes + size > settings.fusion_bytes or route.rows:
            number = len(found)
            fusion = filling[route, gradient.dtype] = Fusion(f"{name}.{number}", f"fusion.{number}", route, [])
            found.append(fusion)
        fusion.positions.append(position)
        fusion.bytes += size
    return found


def _reduced(found, parts, settings, network, step, name):
    """The averages or sums of each fusion's tensors."""
    digits = [(fusion, tensors) for fusion, tensors in zip(found, parts, strict=True) if fusion.route.digits]
    of_digits = iter(_by_digits(digits, settings, network, step, name))
    return [
        next(of_digits) if fusion.route.digits else _by_floats(tensors, settings, network, fusion.name)
        for fusion, tensors in zip(found, parts, strict=True)
    ]


def _by_digits(found, settings, network, step, name):
    """One exchange of digits for each (fusion, tensors), after one of the scales of all."""
    if not found:
        return []
    fused = []
    for fusion, tensors in found:
        compression = settings.compression
        if fusion.route.rows:
            compression = exchange.for_rows(compression, tensors[0].shape)
        fused.append(exchange.Fused(tensors, compression, fusion.name, fusion.label))
    means = exchange.average_fused(fused, network, step, name)
    if settings.op == "average":
        return means
    return [[mean * tf.cast(network.size(), mean.dtype) for mean in part] for part in means]


def _by_floats(tensors, settings, network, name):
    """One allreduce."""
    dtype, wire = tensors[0].dtype, settings.wire(tensors[0].dtype)
    flat, _ = flatten(tensors)
    total = tf.cast(network.total(tf.cast(flat, wire), f"{name}.floats"), dtype)
    if settings.op == "average":
        total /= tf.cast(network.size(), dtype)
    return unflatten(total, tensors)
