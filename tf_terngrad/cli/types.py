"""The kinds of values that options take; what does not fit is refused with the usage."""

import argparse
import math
from collections.abc import Callable


def integer(least: int, most: int | None = None) -> Callable[[str], int]:
    """Whole numbers from `least` to `most`."""
    expected = f"a whole number of at least {least}" + ("" if most is None else f" and at most {most}")

    def read(text):
        value = _number(int, text, expected)
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"expected {expected}. Received: {text}")
        return value

    return read


def number(least: float = 0.0, above: float = -math.inf) -> Callable[[str], float]:
    """Finite numbers of at least `least`, and above `above`."""
    expected = f"a number above {above:g}" if above >= least else f"a number of at least {least:g}"

    def read(text):
        value = _number(float, text, expected)
        if not (value >= least and value > above and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"expected {expected}. Received: {text}")
        return value

    return read


def names(text: str) -> list[str]:
    """Names with commas between them, at least one."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError("expected at least one name; several with commas between them")
    return found


def _number(kind, text, expected):
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {expected}. Received: {text}") from None
