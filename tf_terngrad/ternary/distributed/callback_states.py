"""What callbacks remember, such as the best loss of EarlyStopping: the attributes that training changes."""

import copy
import numbers

import keras
import numpy as np

_NOT_THEIRS = {"model", "_model", "params", "_params"}


def remembered(callbacks) -> dict:
    """The attributes of callbacks that are plain: numbers, texts, arrays, and lists, tuples or dicts of those.

    Args:
        callbacks: those of a `fit`; bars of progress, and callbacks that exchange something, have nothing to keep.

    Returns:
        By the class of a callback and its number among those of the class (other workers may have fewer callbacks),
        copies of its attributes, by name.
    """
    found, seen = {}, {}
    for callback in callbacks:
        kind = type(callback).__name__
        seen[kind] = seen.get(kind, -1) + 1
        if not isinstance(callback, keras.callbacks.ProgbarLogger) and not hasattr(callback, "process_set"):
            found[kind, seen[kind]] = {
                name: copy.deepcopy(value)
                for name, value in vars(callback).items()
                if name not in _NOT_THEIRS and _is_plain(value)
            }
    return found


def changed(before: dict, now: dict) -> dict:
    """What is not as it was before: the rest was given by the user, and may differ between workers, as verbose does.

    >>> changed({("EarlyStopping", 0): {"wait": 0, "patience": 3}}, {("EarlyStopping", 0): {"wait": 1, "patience": 3}})
    {('EarlyStopping', 0): {'wait': 1}}
    """
    return {
        which: {
            name: value
            for name, value in attributes.items()
            if name not in before.get(which, {}) or not _are_same(value, before[which][name])
        }
        for which, attributes in now.items()
    }


def remind(callbacks, known: dict) -> None:
    """Give callbacks what `changed` has told of those on another worker, or before."""
    seen = {}
    for callback in callbacks:
        kind = type(callback).__name__
        seen[kind] = seen.get(kind, -1) + 1
        for name, value in known.get((kind, seen[kind]), {}).items():
            setattr(callback, name, copy.deepcopy(value))


def _is_plain(value):
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    if isinstance(value, np.ndarray):
        return value.dtype != object
    return value is None or isinstance(value, (numbers.Number, np.generic, str, bytes))


def _are_same(one, other):
    if isinstance(one, (list, tuple)) and type(one) is type(other):
        return len(one) == len(other) and all(map(_are_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_same(one[name], other[name]) for name in one)
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return type(one) is type(other) and one == other
