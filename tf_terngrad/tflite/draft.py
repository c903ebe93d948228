"""A file that appears only when it is whole."""

import contextlib
import os
import pathlib


@contextlib.contextmanager
def replacing(path):
    """Yields a draft beside `path` that takes its place at the end, or vanishes if the body fails."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"Expected a file to write. Received: {path}, a folder.")
    if path.suffix != ".tflite":
        raise ValueError(f"Expected a file name that ends in .tflite. Received: path={path}.")
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.touch()
    except OSError as error:
        raise type(error)(
            f"Cannot write a file into the folder {path.parent}: {error.strerror}. Received: path={path}."
        ) from error
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
