"""What a file is worth, and why there is none: numbers and sentences of result tables."""

import re

import numpy as np


def error_percent(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of examples whose largest logit, (count, classes), is not the label's, (count,), in percent."""
    return 100 * float(np.mean(logits.argmax(-1) != labels))


def reason(error: Exception) -> str:
    """The kind of an error and the first sentence that says something; Keras puts one about the layer before it."""
    kind = type(error).__name__
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()] or ["no reason given"]
    line = next((line for line in lines if line.startswith(f"{kind}: ")), lines[0]).removeprefix(f"{kind}: ")
    # TensorFlow's converter says first where in the graph it is.
    line = re.sub(r"^<unknown>:0: error: (loc\(.*\)+: )?", "", line)
    return f"{kind}: {line.split('. ')[0].rstrip('.')}"
