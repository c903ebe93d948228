"""The command `tf-terngrad`: what can leave a saved model, the smaller model, its TFLite file, and what it gains.

Each module in `tf_terngrad/cli/commands` is one of its sub-commands.
"""

import argparse
import importlib
import os
import pkgutil
import sys
import warnings

import tf_terngrad
from tf_terngrad.cli import commands
from tf_terngrad.cli.files import first_line

DONE, REFUSED, USAGE = 0, 1, 2
"""The exit codes: it did what was asked; it could not, and says why; the command line was wrong."""


def main(arguments=None) -> int:
    """Run a sub-command; use it as `tf-terngrad` in a shell, or from a program with a list of arguments.

    Args:
        arguments: those behind the name of the program; None: those of this process.

    Returns:
        The exit code: 0 done, 1 refused or failed with one sentence on the standard error.

    Raises:
        SystemExit: the arguments make no sense (2), or they asked for help (0).

    Example:

    ```python
    from tf_terngrad.cli import main

    main(["structures", "model.keras"])
    ```
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a locale without "→" is no reason to fail
    given, unknown = parser().parse_known_args(_with_hyphens(sys.argv[1:] if arguments is None else arguments))
    if unknown:
        given.parser.error(f"unrecognized arguments: {' '.join(unknown)}")  # with the command's own usage
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _say_warning
            given.run(given)
            sys.stdout.flush()
    except argparse.ArgumentError as error:  # what argparse itself cannot check
        given.parser.error(str(error))
    except KeyboardInterrupt:
        return 130  # as shells have it
    except BrokenPipeError:  # as in `tf-terngrad ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # a layer of a user's own raises whatever it likes
        if given.traceback:
            raise
        print(f"tf-terngrad {given.command}: {_told(error)}", file=sys.stderr)
        return REFUSED
    return DONE


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line, with all sub-commands."""
    whole = argparse.ArgumentParser(
        "tf-terngrad",
        description="Make trained Keras models smaller and faster, and ship them as TFLite files.",
        epilog="Exit codes: 0 done; 1 refused or failed, with one sentence on the standard error; 2 wrong usage.\n"
        "More about a command: tf-terngrad COMMAND --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"%(prog)s {tf_terngrad.__version__}")
    choices = whole.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for command in _commands():
        name = command.__name__.rpartition(".")[2].replace("_", "-")
        summary, _, rest = command.__doc__.partition("\n\n")
        summary = " ".join(summary.split())
        one = choices.add_parser(
            name, help=summary, description=f"{summary}\n\n{rest}".strip(), formatter_class=_Help, allow_abbrev=False
        )
        command.add_arguments(one)
        one.add_argument("--traceback", action="store_true", help="show where an error comes from, for a bug report")
        one.set_defaults(run=command.run, parser=one)
    return whole


class _Help(argparse.RawDescriptionHelpFormatter):
    """Examples stay as they are written; each option tells its default, if it has one."""

    def _get_help_string(self, action):
        if action.default in (None, False, [], argparse.SUPPRESS):
            return action.help
        shown = ",".join(map(str, action.default)) if isinstance(action.default, (list, tuple)) else "%(default)s"
        return f"{action.help} (default: {shown})"


def _commands():
    """The modules of the sub-commands."""
    for module in pkgutil.iter_modules(commands.__path__):
        yield importlib.import_module(f"{commands.__name__}.{module.name}")


def _with_hyphens(arguments):
    """The arguments with --round_to as --round-to, for train.py has the former."""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        yield name.replace("_", "-") + equals + value if name.startswith("--") else argument


def _told(error):
    """An error in one sentence. What this package and the system raise on purpose needs no name of a class."""
    expected = isinstance(error, (OSError, ValueError, TypeError)) or type(error).__module__.startswith("tf_terngrad")
    sentence = first_line(error)
    return sentence if expected else f"{type(error).__name__}: {sentence}"


def _say_warning(message, *_, **__):
    if issubclass(message.__class__, UserWarning):
        print(f"warning: {first_line(message)}", file=sys.stderr)
