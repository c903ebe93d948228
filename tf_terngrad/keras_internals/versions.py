"""Which layers and operations this Keras has, and since which release those are there that an older one lacks."""

import importlib

import keras

# The classes of operations, as `Absolute` of `keras.ops.absolute`: a graph's nodes are their instances.
_MODULES = ("numpy", "nn", "core", "math", "image", "linalg", "einops")
_OPERATIONS = [importlib.import_module(f"keras.src.ops.{name}") for name in _MODULES]
# `relu` is an operation of its own, and so is a quantizer's rounding.
_OPERATIONS += map(importlib.import_module, ("keras.src.activations.activations", "keras.src.quantizers.quantizers"))

_NEWER = {
    "3.11": ("Cbrt", "Deg2rad", "Heaviside"),
    "3.12": ("Gcd", "Hypot", "IsIn", "Isneginf", "Isposinf", "Isreal", "Lcm", "Logaddexp2", "ReversibleEmbedding"),
    "3.13": (
        *(f"Adaptive{kind}Pooling{rank}D" for kind in ("Average", "Max") for rank in (1, 2, 3)),
        *("AdaptiveAveragePool", "AdaptiveMaxPool", "ArraySplit", "Ldexp"),
    ),
    "3.14": (
        *("DepthToSpace", "SpaceToDepth", "Dstack", "Hsplit", "Vsplit", "Fliplr", "Flipud", "Fmod", "I0", "Nextafter"),
        *("Nanargmax", "Nanargmin", "Nancumprod", "Nancumsum", "Nanmax", "Nanmean", "Nanmedian", "Nanmin", "Nanprod"),
        *("Nanstd", "Nansum", "Nanvar", "Ptp", "Rad2deg", "Sinc"),
    ),
    "3.15": ("Dsplit", "Erfc", "Fabs", "Fmax", "Fmin"),
}

SINCE = {name: release for release, names in _NEWER.items() for name in names}
"""By name of a layer or an operation that not every supported Keras has: the release it came with."""


def layers(*names) -> list:
    """The classes of layers of these names that this Keras has; a name it should have, and lacks, is an error."""
    return _present([keras.layers], names)


def operations(*names) -> list:
    """The classes of operations of these names that this Keras has; a name it should have, and lacks, is an error."""
    return _present(_OPERATIONS, names)


def operation(name) -> type:
    """The class of one operation that every supported Keras has."""
    (found,) = operations(name)
    return found


def any_layers(*names) -> list:
    """The classes of layers of these names that this Keras has, of whatever release each of them is."""
    return [vars(keras.layers)[name] for name in names if name in vars(keras.layers)]


def any_operations(*names) -> list:
    """The classes of operations of these names that this Keras has, of whatever release each of them is."""
    return [vars(module)[name] for module in _OPERATIONS for name in names if name in vars(module)]


def absent() -> list:
    """Names of the layers and operations that the package can work with, and that this Keras is too old for."""
    return [name for name in SINCE if _is_newer(name)]


def older_than(release) -> bool:
    """Whether this Keras is older than a release, such as "3.14"."""
    return _release(keras.__version__) < _release(release)


def _present(modules, names):
    found = {name: next((vars(m)[name] for m in modules if name in vars(m)), None) for name in names}
    absent = [name for name, value in found.items() if value is None and not _is_newer(name)]
    if absent:
        raise AttributeError(f"Keras {keras.__version__} has no {', '.join(absent)}. Name it in keras_internals.SINCE.")
    return [value for value in found.values() if value is not None]


def _is_newer(name):
    return name in SINCE and older_than(SINCE[name])


def _release(version):
    return tuple(int(part) for part in version.split(".")[:2])
