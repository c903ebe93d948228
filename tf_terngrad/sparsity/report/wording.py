"""Numbers and changes as people read them."""

import math

_WORDS = {"": ("fewer", "more"), "bytes": ("smaller", "larger"), "ms": ("faster", "slower"), "s": ("faster", "slower")}


def number(value, unit=""):
    """A number with its unit; None is unknown.

    >>> [number(2293000), number(1732032, "bytes"), number(0.9, "%"), number(None)]
    ['2,293,000', '1.73 MB', '0.90 %', '?']
    """
    if value is None:
        return "?"
    if unit == "bytes":
        power = 0 if abs(value) < 1000 else min(3, int(math.log10(abs(value)) // 3))
        return f"{value / 1000**power:{'.0f' if power == 0 else '.3g'}} {('bytes', 'kB', 'MB', 'GB')[power]}"
    if unit == "%":
        return f"{value:.2f} %"
    text = f"{value:,}" if isinstance(value, int) or abs(value) >= 1e4 else f"{value:.3g}"
    return f"{text} {unit}".strip()


def change(before, after, unit=""):
    """How a number changed, in words.

    >>> [change(2293000, 40000), change(0.9, 1.0, "%"), change(5.0, 1.0, "ms")]
    ['57× fewer', '+0.10 points', '5.0× faster']
    >>> change(0.303, 0.304, "ms")
    'about the same'
    """
    if before is None or after is None or math.isnan(before) or math.isnan(after):
        return ""
    if before == after:
        return "unchanged"
    if unit == "%":
        return f"{after - before:+.2f} points"
    if before <= 0 or after <= 0:
        return f"{after - before:+,.4g} {unit}".strip()
    ratio = max(before, after) / min(before, after)
    if ratio < 1.05:
        return "about the same"
    word = _WORDS.get(unit, ("lower", "higher"))[after > before]
    return f"{ratio:.{0 if ratio >= 20 else 1}f}\N{MULTIPLICATION SIGN} {word}"


def share(before, after):
    """What is left, in percent.

    >>> [share(200, 50), share(0, 0), share(None, 1)]
    ['25 %', '', '']
    """
    if not before or after is None:
        return ""
    percent = 100 * after / before
    return f"{percent:.{0 if percent >= 9.95 or percent == 0 else 1}f} %"


def end(name, length):
    """The end of a name that is too long for its place, for names begin with the models around a layer.

    >>> [end("encoder/block_1/attention", 18), end("attention", 18)]
    ['…block_1/attention', 'attention']
    """
    return name if len(name) <= length else f"…{name[1 - length :]}"


def size(shape):
    """The shape of a matrix; nothing is left of an empty one.

    >>> [size((50, 500)), size((0, 0))]
    ['50 × 500', 'removed']
    """
    return " \N{MULTIPLICATION SIGN} ".join(f"{length:,}" for length in shape) if all(shape) else "removed"
