"""What the commands read and write: saved models, arrays and targets, accepted or refused in one sentence."""

import json
import os
import pathlib
import re
import zipfile

import h5py
import keras
import numpy as np

from tf_terngrad.cli.custom import custom_objects
from tf_terngrad.console import doing

HDF5 = (".h5", ".hdf5")
_UNKNOWN = re.compile(r"(?:Could not locate (?:class|function)|Unknown \w+:) '([\w>.]+)'")
_SAVE_AGAIN = "Save the model again, with model.save('model.keras')"


def add_model_arguments(parser) -> None:
    """Add the options of every command that loads a model."""
    parser.add_argument(
        "--custom",
        metavar="MODULE",
        help="a Python module, or file.py, that defines the model's own layers; it is run. Needed where Keras does not "
        "know a layer",
    )
    parser.add_argument(
        "--unsafe",
        action="store_true",
        help="run Python code that is stored in the model's file, as that of a Lambda layer. Such code can do whatever "
        "you can do on this machine: use it only for files from people whom you trust",
    )


def load_model(path, arguments) -> keras.Model:
    """Load a Keras model for inference; it runs no code that is stored in the file, unless asked to.

    Args:
        path: of a .keras or .h5 file.
        arguments: those of `add_model_arguments`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not whole or holds no model, it holds code, or Keras cannot load it.
    """
    path = pathlib.Path(path)
    objects = custom_objects(arguments.custom) if arguments.custom else None
    config = _config(path)
    layer = None if arguments.unsafe else _layer_with_code(config)
    if layer is not None:
        raise ValueError(_code_refused(path, f"its layer '{layer}'"))
    try:
        with doing(f"Loading {path}"):
            return keras.models.load_model(path, objects, compile=False, safe_mode=not arguments.unsafe)
    except Exception as error:  # Keras raises whatever the code of a layer raises
        raise ValueError(_why(path, error)) from error


def load_arrays(path) -> dict[str, np.ndarray]:
    """Load arrays by name; a .npy gives one, named "array". Nothing in the file is run.

    Args:
        path: of a .npz or .npy file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a whole file of arrays.
    """
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"Expected a .npz or .npy file. Received: {path}, which does not exist or is no file")
    try:
        content = np.load(path)
        return {"array": content} if isinstance(content, np.ndarray) else dict(content)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a whole .npz or .npy file: {first_line(error)}") from error


def check_target(path, suffixes, sources, overwrite) -> None:
    """Refuse, before any work is done, a file that cannot be written or must not be replaced.

    Args:
        path: of the file to write.
        suffixes: how its name may end.
        sources: paths that the same command reads, which it never replaces; None among them is no file.
        overwrite: whether it may replace another file.

    Raises:
        ValueError: its name does not end as it should, or it is one of the sources.
        FileExistsError: it exists, and `overwrite` is false.
        NotADirectoryError: its folder does not exist.
    """
    path = pathlib.Path(path)
    if path.suffix not in suffixes:
        raise ValueError(f"Expected the name of a file to write that ends in {' or '.join(suffixes)}. Received: {path}")
    if not path.absolute().parent.is_dir():
        raise NotADirectoryError(f"Cannot write {path}: there is no folder {path.parent}. Make it first")
    if path.exists() and any(os.path.exists(source) and path.samefile(source) for source in filter(None, sources)):
        raise ValueError(f"{path} is read by this command and cannot be written by it. Choose another name")
    if path.is_dir():
        raise FileExistsError(f"{path} exists and is a folder. Choose another name")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists. Choose another name, or give --overwrite to replace it")


def first_line(error) -> str:
    """The first line of an error's message, or its type where there is no message."""
    if isinstance(error, OSError) and error.filename is None and len(error.args) == 2:
        return str(error.args[1])  # without "[Errno 28]"
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _config(path):
    """What a saved model's file says of the model, as JSON has it."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder, perhaps a SavedModel, which Keras 3 cannot load. {_SAVE_AGAIN}")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Expected the .keras or .h5 file of a saved Keras model")
    if path.suffix == ".keras":
        return _config_of_archive(path)
    if path.suffix in HDF5:
        return _config_of_hdf5(path)
    raise ValueError(f"Expected a saved Keras model, model.keras or model.h5. Received: {path}")


def _config_of_archive(path):
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is not a whole .keras file: it is truncated, or something else") from error
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is an archive that holds no Keras model. {_SAVE_AGAIN}") from error


def _config_of_hdf5(path):
    try:
        with h5py.File(path) as file:
            config = file.attrs.get("model_config")
    except OSError as error:
        raise ValueError(f"{path} is not a whole HDF5 file: it is truncated, or something else") from error
    if config is None:
        raise ValueError(f"{path} holds weights without the model that they are of. {_SAVE_AGAIN}")
    return json.loads(config)


def _layer_with_code(config, name=None):
    """The name of a layer whose Python code a file holds; None if there is none.

    Keras refuses such code too; but not every version of it does so for .h5 files.
    """
    if isinstance(config, dict):
        inner = config.get("config")
        name = inner.get("name", name) if isinstance(inner, dict) else name
        old_code = isinstance(inner, dict) and inner.get("function_type") == "lambda"
        if config.get("class_name") == "__lambda__" or old_code:
            return name or "Lambda"
        config = list(config.values())
    if not isinstance(config, list):
        return None
    return next((found for part in config if (found := _layer_with_code(part, name)) is not None), None)


def _why(path, error):
    """Why Keras could not load a file, and what would help."""
    texts = [str(each) for each in (error, error.__cause__, error.__context__) if each is not None]
    unknown = next((found for found in map(_UNKNOWN.search, texts) if found), None)
    if unknown:
        return (
            f"{path} holds '{unknown[1]}', which Keras does not know. "
            "Name the Python file that defines it: --custom=layers.py"
        )
    if any("safe_mode" in text for text in texts):
        return _code_refused(path, "a layer")
    return f"Keras cannot load {path}: {first_line(error)}"


def _code_refused(path, layer):
    return (
        f"{path}: {layer} is Python code that is stored in the file, and code can do anything on this machine. "
        "If you trust whoever made the file, add --unsafe"
    )
