"""The codec in use: the native one where it was built and can serve, else its TensorFlow twin; one contract.

Where TensorFlow sees a GPU the twin serves, for it runs there: gradients become digits before they leave the device.

Each reads what the other wrote, but the twin sends more: only the native codec puts bytes into a Huffman code, where a
ternary digit takes 1.25 bits and less; the twin sends them as they are, 1.6 bits a digit. Words are alike.

`TF_TERNGRAD_CODEC=tensorflow` or `=native` in the environment chooses one; `implementation()` tells which it is.
"""

import functools
import os

import tensorflow as tf
from absl import logging

from tf_terngrad.ternary import native, twin


@functools.cache
def implementation() -> str:
    """Which codec encodes and decodes: "native" or "tensorflow".

    Raises:
        ValueError: TF_TERNGRAD_CODEC names neither.
        RuntimeError: it names the native codec, which is not there.
    """
    chosen = os.environ.get("TF_TERNGRAD_CODEC", "")
    if chosen not in ("", "native", "tensorflow"):
        raise ValueError(f"Expected TF_TERNGRAD_CODEC=native or tensorflow. Received: {chosen!r}")
    if chosen == "native" and native.library() is None:
        raise RuntimeError(f"TF_TERNGRAD_CODEC=native, but the native codec is not there: {native.reason()}")
    if not chosen and tf.config.get_visible_devices("GPU"):
        logging.info("TernGrad's codec runs as TensorFlow operations, on the GPU.")
        return "tensorflow"
    if not chosen and native.library() is None:
        logging.warning("TernGrad's codec runs as TensorFlow operations, slower: %s", native.reason())
        return "tensorflow"
    return chosen or "native"


def _serve(name):
    """The function of this name of whichever codec is in use."""

    @functools.wraps(getattr(twin, name))
    def serve(*args, **kwargs):
        return getattr(native if implementation() == "native" else twin, name)(*args, **kwargs)

    return serve


scale = _serve("scale")
ternarize = _serve("ternarize")
encode_bytes = _serve("encode_bytes")
encode_words = _serve("encode_words")
pack_bytes = _serve("pack_bytes")
unpack_bytes = _serve("unpack_bytes")
pack_words = _serve("pack_words")
unpack_words = _serve("unpack_words")
mean_of_bytes = _serve("mean_of_bytes")
mean_of_words = _serve("mean_of_words")
sum_bytes = _serve("sum_bytes")
add_bytes = _serve("add_bytes")
compress = _serve("compress")
decompress = _serve("decompress")
