"""The averages of a step's gradients over all workers: fused into buckets, as digits or as floats.

Buckets are filled from the last variable backwards, as backpropagation makes the gradients: a bucket travels while the
gradients of the layers before it are still being computed. So each bucket shares its scales by an exchange of its own:
one for all of a step would have to wait for the last gradient.
"""

import dataclasses

import tensorflow as tf

from tf_terngrad.ternary import exchange
from tf_terngrad.ternary.partition import flatten, unflatten


@dataclasses.dataclass
class Bucket:
    """Gradients that travel together, by one route: their positions among all, and their bytes."""

    route: str
    positions: list
    bytes: int = 0


def average(gradients, names, settings, network, name="gradients"):
    """The averages or sums of all workers' gradients, bit-identical on all of them.

    Args:
        gradients: list of tensors, `tf.IndexedSlices` and None, alike on all workers.
        names: of their variables.
        settings: `Settings`.
        network: an `exchange.Transport`.
        name: of the exchange, the same on all workers.

    Returns:
        The list of averages. Of `tf.IndexedSlices`, each index that any worker has is there once, in rising order.
    """
    results = [None] * len(gradients)
    for number, bucket in enumerate(buckets(gradients, names, settings)):
        parts = [gradients[position] for position in bucket.positions]
        reduced = ROUTES[bucket.route](parts, settings, network, f"{name}.{number}")
        for position, value in zip(bucket.positions, reduced, strict=True):
            results[position] = value
    return results


def buckets(gradients, names, settings) -> list[Bucket]:
    """Which gradients travel together, the last ones first; each bucket has one route and one type."""
    found, filling = [], {}
    for position in reversed(range(len(gradients))):
        gradient = gradients[position]
        if gradient is None:
            continue
        route = settings.route(gradient, names[position])
        alone = isinstance(gradient, tf.IndexedSlices)
        size = 0 if alone else (gradient.shape.num_elements() or 0) * gradient.dtype.size
        bucket = filling.get((route, gradient.dtype))
        if bucket is None or bucket.bytes + size > settings.bucket_bytes or alone:
            bucket = filling[route, gradient.dtype] = Bucket(route, [])
            found.append(bucket)
        bucket.positions.append(position)
        bucket.bytes += size
    return found


def by_digits(parts, settings, network, name):
    """One exchange of digits."""
    step = settings.compression.next_step()
    means = exchange.average(parts, settings.compression, network, step, name)
    return [_reduced(mean, settings, network) for mean in means]


def by_floats(parts, settings, network, name):
    """One allreduce."""
    dtype, wire = parts[0].dtype, settings.wire(parts[0].dtype)
    flat, _ = flatten(parts)
    total = tf.cast(network.total(tf.cast(flat, wire), f"{name}.floats"), dtype)
    if settings.op == "average":
        total /= tf.cast(network.size(), dtype)
    return unflatten(total, parts)


def rows_by_digits(parts, settings, network, name):
    """The rows that any worker has, as digits."""
    (slices,) = parts
    mean = exchange.average_rows(slices, settings.compression, network, settings.compression.next_step(), name)
    return [tf.IndexedSlices(_reduced(mean.values, settings, network), mean.indices, mean.dense_shape)]


def rows_by_floats(parts, settings, network, name):
    """The rows that any worker has, in one allreduce."""
    (slices,) = parts
    block, indices = exchange.rows_of_all(slices, network, name)
    (block,) = by_floats([block], settings, network, name)
    return [tf.IndexedSlices(block, indices, slices.dense_shape)]


def _reduced(mean, settings, network):
    return mean if settings.op == "average" else mean * tf.cast(network.size(), mean.dtype)


ROUTES = {
    "digits": by_digits,
    "floats": by_floats,
    "rows of digits": rows_by_digits,
    "rows of floats": rows_by_floats,
}
