"""One answer for every kind of argument: what is an integer, a number, one of these. Errors of one grammar.

Every error says who was given what, what was expected, what came, and what to do where that is not plain:

    TernGrad: expected `levels` to be an integer from 1 to 127. Received: levels=200
"""

import math
import numbers
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

LARGEST_INTEGER = 2**63 - 1
LONGEST = 200  # characters of what came, in an error


def integer(
    value,
    name: str,
    owner: str,
    least: int = -LARGEST_INTEGER - 1,
    most: int = LARGEST_INTEGER,
    or_none: bool = False,
) -> int | None:
    """The value as Python's own integer; use it for every count, size and number of steps.

    Args:
        value: what a user gave. NumPy's integers are integers; True and 2.0 are not.
        name: of the argument.
        owner: the class, function or layer that was given it.
        least: the smallest that is taken.
        most: the largest.
        or_none: None is taken too, and returned.

    Raises:
        TypeError: it is no integer.
        ValueError: it is out of range.

    >>> integer(np.int64(2), "every", "SparsityMonitor", least=1)
    2
    >>> integer(0, "every", "SparsityMonitor", least=1)
    Traceback (most recent call last):
        ...
    ValueError: SparsityMonitor: expected `every` to be an integer of at least 1. Received: every=0
    """
    if value is None and or_none:
        return None
    expected = f"an integer{_range(least, most)}" + (", or None" if or_none else "")
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise TypeError(refusal(owner, name, expected, value))
    if not least <= value <= most:
        raise ValueError(refusal(owner, name, expected, value))
    return int(value)


def number(value, name: str, owner: str, least: float = 0.0, below: float = math.inf) -> float:
    """The value as Python's own float, finite and in [least, below); use it for every strength, share and tolerance.

    Args:
        value: what a user gave. NumPy's numbers are numbers; True, "1" and NaN are not.
        name: of the argument.
        owner: the class, function or layer that was given it.
        least: the smallest number that is taken.
        below: the number that all that are taken lie below.

    Raises:
        TypeError: it is no number.
        ValueError: it is NaN, infinite or out of range.

    >>> number(1, "strength", "FilterLasso")
    1.0
    >>> number(-1.0, "strength", "FilterLasso")
    Traceback (most recent call last):
        ...
    ValueError: FilterLasso: expected `strength` to be a finite number of at least 0. Received: strength=-1.0
    """
    expected = f"a finite number of at least {least:g}" + ("" if below == math.inf else f" and below {below:g}")
    result = _real(value, name, owner, expected)
    if not least <= result < below:
        raise ValueError(refusal(owner, name, expected, value))
    return result


def positive(value, name: str, owner: str) -> float:
    """The value as Python's own float, finite and above 0; use it where 0 has no meaning, as for a rate.

    Raises:
        TypeError: it is no number.
        ValueError: it is NaN, infinite, 0 or less.

    >>> positive(2.5, "clip", "TernGrad")
    2.5
    """
    expected = "a finite number above 0"
    result = _real(value, name, owner, expected)
    if result <= 0:
        raise ValueError(refusal(owner, name, expected, value))
    return result


def flag(value, name: str, owner: str) -> bool:
    """The value as Python's own Boolean; use it for every switch.

    Raises:
        TypeError: it is neither True nor False.

    >>> flag(np.True_, "share_scales", "TernGrad")
    True
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(refusal(owner, name, "True or False", value))
    return bool(value)


def instance(value, kind: type, name: str, owner: str):
    """Check that an argument is an object of a class of this package, and give it back.

    Raises:
        TypeError: it is of another one.
    """
    if not isinstance(value, kind):
        raise TypeError(refusal(owner, name, f"a tt.{kind.__name__}", value))
    return value


def one_of(value, choices, name: str, owner: str):
    """The one of some that equals the value; use it for every argument that names a way to do something.

    Raises:
        ValueError: it is none of them.

    >>> one_of("sum", ("average", "sum"), "op", "DistributedOptimizer")
    'sum'
    """
    choices = tuple(choices)
    for choice in choices:
        # NumPy's strings are strings; True is not 1, and an array is compared with nothing.
        alike = type(value) is type(choice) or (isinstance(value, str) and isinstance(choice, str))
        if alike and value == choice:
            return choice
    raise ValueError(refusal(owner, name, f"one of {', '.join(map(repr, choices))}", value))


def strings(value, name: str, owner: str, or_one: bool = False) -> tuple:
    """The texts of a list; use it for every list of names or patterns.

    Args:
        value: what a user gave: texts in a list, a tuple, a set or an array. A text alone is no list of its letters.
        name: of the argument.
        owner: the class, function or layer that was given it.
        or_one: a text alone is taken too, as the only one.

    Raises:
        TypeError: it is no list, or holds what is no text.

    >>> strings(["conv*", "dense"], "include", "sparsify")
    ('conv*', 'dense')
    >>> strings("conv", "include", "sparsify")
    Traceback (most recent call last):
        ...
    TypeError: sparsify: expected `include` to be a list of strings. Received: include='conv'. Write include=['conv']
    """
    if isinstance(value, str) and or_one:
        return (value,)
    items = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (None,)
    if not all(isinstance(item, str) for item in items):
        expected = "a string or a list of strings" if or_one else "a list of strings"
        remedy = f"Write {name}=[{value!r}]" if isinstance(value, str) else ""
        raise TypeError(refusal(owner, name, expected, value, remedy))
    return items


def own_name(registry: dict, item, argument: str, owner: str) -> None:
    """Refuse an object whose name stands for another one; use it before a registry takes an object by its name.

    Args:
        registry: name -> object.
        item: an object with a `name`.
        argument: the name of the argument that it was given as.
        owner: the function or class that was given it.

    Raises:
        ValueError: the registry has another object under its name.
    """
    if registry.get(item.name, item) != item:
        taken = ", ".join(map(repr, registry))
        raise ValueError(refusal(owner, argument, f"one with a name of its own, none of {taken}", item))


def refusal(owner: str, name: str, expected: str, received, remedy: str = "") -> str:
    """The sentence of an error: who, what was expected, what came, and what to do.

    >>> refusal("compact", "round_to", "an integer of at least 1", 0, "Use 8 for most accelerators.")
    'compact: expected `round_to` to be an integer of at least 1. Received: round_to=0. Use 8 for most accelerators.'
    """
    return f"{owner}: expected `{name}` to be {expected}. Received: {name}={_shown(received)}" + (
        remedy and f". {remedy}"
    )


def expect(good, *message) -> list:
    """Refuse what can only be told when it runs, eagerly and in a graph, with a message that reads as one.

    Args:
        good: boolean scalar, a tensor.
        message: texts and tensors, one after the other.

    Returns:
        The operations of a graph that check it, for `tf.control_dependencies`; none where it was checked already.

    Raises:
        tf.errors.InvalidArgumentError: it is not good. In a graph, when that runs.
    """
    if not tf.executing_eagerly():
        return [tf.debugging.Assert(good, message, summarize=8)]
    if not good:
        raise tf.errors.InvalidArgumentError(None, None, " ".join(map(_text, message)))
    return []


def _real(value, name, owner, expected):
    """The value as Python's float, if it is a finite number and no larger than a float can be."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(refusal(owner, name, expected, value))
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ValueError(refusal(owner, name, expected, value))
    return result


def _shown(received):
    """The value as Python writes it, on one line, and not all of a long one: an array, a list, a page of text."""
    text = " ".join(map(str.strip, repr(received).splitlines()))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."


def _range(least, most):
    if most < LARGEST_INTEGER:
        return f" from {least} to {most}"
    return f" of at least {least}" if least > -LARGEST_INTEGER - 1 else ""


def _text(part) -> str:
    return part if isinstance(part, str) else np.array2string(np.asarray(part), threshold=8)
