"""The command lines in tools/ as modules."""

import importlib.util
import pathlib
import sys

TOOLS = pathlib.Path(__file__).parents[1] / "tools"


def load(name):
    """A tool's module, made anew: tools define flags, whose names other modules may have."""
    sys.path.insert(0, str(TOOLS))
    specification = importlib.util.spec_from_file_location(f"{name}_tool", TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    sys.path.remove(str(TOOLS))
    return module
