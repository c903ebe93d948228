"""The averages of a step's gradients over all workers: fused into buckets, as digits or as floats.

Buckets are filled from the last variable backwards, as backpropagation makes the gradients: one of floats, or of digits
with private scales, travels while the gradients of the layers before it are still being computed. Scales that workers
share are found first, those of all digits of a step by one exchange; then a bucket travels while others are encoded.
"""

import dataclasses

import tensorflow as tf

from tf_terngrad.ternary import exchange
from tf_terngrad.ternary.partition import flatten, unflatten


@dataclasses.dataclass
class Bucket:
    """Gradients that travel together, by one route: their positions among all, and their bytes."""

    name: str
    route: str
    positions: list
    bytes: int = 0

    @property
    def digits(self) -> bool:
        """Whether they travel as digits."""
        return self.route in ("digits", "rows of digits")

    @property
    def rows(self) -> bool:
        """Whether it is a `tf.IndexedSlices`, alone."""
        return self.route.startswith("rows")


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
    found = buckets(gradients, names, settings, name)
    values, indices = list(gradients), {}
    for bucket in found:
        if bucket.rows:
            (position,) = bucket.positions
            values[position], indices[position] = exchange.rows_of_all(gradients[position], network, bucket.name)
    parts = [[values[position] for position in bucket.positions] for bucket in found]
    for bucket, reduced in zip(found, _reduced(found, parts, settings, network, name), strict=True):
        for position, value in zip(bucket.positions, reduced, strict=True):
            values[position] = value
    for position, rows in indices.items():
        values[position] = tf.IndexedSlices(values[position], rows, gradients[position].dense_shape)
    return values


def buckets(gradients, names, settings, name="gradients") -> list[Bucket]:
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
            bucket = filling[route, gradient.dtype] = Bucket(f"{name}.{len(found)}", route, [])
            found.append(bucket)
        bucket.positions.append(position)
        bucket.bytes += size
    return found


def _reduced(found, parts, settings, network, name):
    """The averages or sums of each bucket's tensors."""
    digits = [(bucket, tensors) for bucket, tensors in zip(found, parts, strict=True) if bucket.digits]
    of_digits = iter(_by_digits(digits, settings, network, name))
    return [
        next(of_digits) if bucket.digits else _by_floats(tensors, settings, network, bucket.name)
        for bucket, tensors in zip(found, parts, strict=True)
    ]


def _by_digits(loads, settings, network, name):
    """One exchange of digits for each (bucket, tensors), after one of the scales of all."""
    if not loads:
        return []
    groups = []
    for bucket, tensors in loads:
        compression = settings.compression
        if bucket.rows:
            compression = exchange.for_rows(compression, tensors[0].shape)
        groups.append(exchange.Group(tensors, compression, bucket.name))
    means = exchange.average_groups(groups, network, settings.compression.next_step(), name)
    if settings.op == "average":
        return means
    return [[mean * tf.cast(network.size(), mean.dtype) for mean in group] for group in means]


def _by_floats(tensors, settings, network, name):
    """One allreduce."""
    dtype, wire = tensors[0].dtype, settings.wire(tensors[0].dtype)
    flat, _ = flatten(tensors)
    total = tf.cast(network.total(tf.cast(flat, wire), f"{name}.floats"), dtype)
    if settings.op == "average":
        total /= tf.cast(network.size(), dtype)
    return unflatten(total, tensors)
