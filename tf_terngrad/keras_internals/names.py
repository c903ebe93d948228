"""Names of operations, and of TensorFlow's functions."""

import collections
import contextlib
import inspect

from keras.src.backend.common import global_state  # where Keras counts the names that it makes up


def named(operation, name):
    """An operation under another name; those of Keras 3.10 take none when they are made."""
    operation.name = name
    return operation


@contextlib.contextmanager
def own_names():
    """Let what is made inside take names that count for nothing: names of the user's layers number on as before."""
    counts = global_state.get_global_attribute("object_name_uids", collections.defaultdict(int), set_to_default=True)
    before = dict(counts)
    try:
        yield
    finally:
        counts.clear()
        counts.update(before)


def public_name(function) -> str:
    """The name that users know a function of TensorFlow by, such as "tf.nn.relu"."""
    names = getattr(inspect.unwrap(function), "_tf_api_names", None)
    return f"tf.{(names or [function.__name__])[0]}"
