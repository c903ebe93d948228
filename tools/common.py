"""What the command lines share: a saved model, loaded or refused in one sentence."""

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


def first_line(error):
    """The first line of an error's message, or its type where there is no message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
