"""The scripts in tools/ as modules."""

import importlib.util
import pathlib
import sys

from absl import flags

TOOLS = pathlib.Path(__file__).parents[1] / "tools"


def load(name):
    """A tool's module, made anew, and the only one with flags: tools have flags of the same names."""
    for other in TOOLS.glob("*.py"):
        for flag in flags.FLAGS.get_flags_for_module(f"{other.stem}_tool"):
            delattr(flags.FLAGS, flag.name)
    sys.path.insert(0, str(TOOLS))  # as a script has it: build_horovod.py runs before anything is installed
    specification = importlib.util.spec_from_file_location(f"{name}_tool", TOOLS / f"{name}.py")
    module = sys.modules[specification.name] = importlib.util.module_from_spec(
        specification
    )  # flags ask whose they are
    specification.loader.exec_module(module)
    sys.path.remove(str(TOOLS))
    return module
