"""What the command lines share: a saved model and a file to write, accepted or refused in one sentence."""

import os
import pathlib
import zipfile

import keras


def load_model(path):
    """Loads a Keras model for inference; a tool that imports tf_terngrad finds its layers and regularizers in it.

    Args:
        path: Of a .keras or .h5 file.

    Returns:
        The model.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is not whole, or Keras cannot load it.
    """
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"Expected a saved Keras model. Received: {path}, which does not exist or is no file.")
    if path.endswith(".keras") and not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a whole .keras file: it is truncated, or something else.")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever the code of a layer raises
        raise ValueError(f"Keras cannot load {path}: {first_line(error)}") from error


def check_target(path, suffixes, sources, overwrite):
    """Refuses, before any work is done, a file that cannot be written or must not be replaced.

    Args:
        path: Of the file to write.
        suffixes: How its name may end.
        sources: Paths that the same command reads, which it never replaces; None among them is no file.
        overwrite: Whether it may replace another file.

    Raises:
        ValueError: Its name does not end as it should, or it is one of the sources.
        FileExistsError: It exists, and `overwrite` is false.
        NotADirectoryError: Its folder does not exist.
    """
    path = pathlib.Path(path)
    if path.suffix not in suffixes:
        raise ValueError(f"Expected a file name that ends in {' or '.join(suffixes)}. Received: {path}")
    if not path.absolute().parent.is_dir():
        raise NotADirectoryError(f"Cannot write {path}: there is no folder {path.parent}.")
    if path.exists() and any(os.path.exists(source) and path.samefile(source) for source in filter(None, sources)):
        raise ValueError(f"{path} is read by this command and cannot be written by it. Choose another name.")
    if path.is_dir() or (path.exists() and not overwrite):
        raise FileExistsError(f"{path} exists. Choose another name, or give --overwrite to replace a file.")


def first_line(error):
    """The first line of an error's message, or its type where there is no message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
