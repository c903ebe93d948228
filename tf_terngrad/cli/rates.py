"""Rates of networks as people write them."""

import re


def bits_per_second(text: str) -> float | None:
    """A rate as Linux's tc writes it, in bits a second; use it for options such as --links.

    Args:
        text: "100mbit" or "1gbit"; "unlimited" gives None.

    Raises:
        ValueError: it is written in another way; so is "mbps", which tc takes for bytes.

    >>> bits_per_second("100mbit")
    100000000.0
    """
    if text == "unlimited":
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg])bit", text)
    if not found or not float(found[1]):
        raise ValueError(f"Expected a rate such as 100mbit, 1gbit or unlimited. Received: {text!r}")
    return float(found[1]) * {"k": 1e3, "m": 1e6, "g": 1e9}[found[2]]
