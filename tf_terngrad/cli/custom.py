"""A user's own module, whose layers a saved model has."""

import importlib
import importlib.util
import os
import pathlib
import sys


def custom_objects(name: str) -> dict:
    """Run a user's module, and give the classes and functions that it defines, by name.

    Registered ones (`keras.saving.register_keras_serializable`) and rules (`tt.register_rule`) are registered by that.

    Args:
        name: of a module that Python finds, also in the current folder; or the path of a .py file.

    Raises:
        ValueError: there is no such module, or it fails; the sentence says how.
    """
    try:
        module = _from_file(pathlib.Path(name)) if name.endswith(".py") else _by_name(name)
    except Exception as error:  # a module may raise anything
        raise ValueError(f"--custom={name} cannot be imported: {type(error).__name__}: {error}") from error
    return {
        key: value
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    }


def _from_file(path):
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is no file")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(specification)
    with _found_in(path.absolute().parent):
        specification.loader.exec_module(module)
    return module


def _by_name(name):
    with _found_in(pathlib.Path.cwd()):
        return importlib.import_module(name)


class _found_in:
    """A context manager: modules in this folder are found too, as by `python -m`."""

    def __init__(self, folder):
        self._folder = os.fspath(folder)

    def __enter__(self):
        sys.path.append(self._folder)

    def __exit__(self, *_):
        sys.path.remove(self._folder)
