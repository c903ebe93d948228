"""Many command lines that end early, each in a fork of one process that has loaded TensorFlow: that takes the longest.

As a script: python command_lines.py MODULE < JSON, a list of [folder, arguments]; prints a list of [exit code, output].
"""

import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]


def run_all(module, lines):
    """Run `python -m module` with each list of arguments in its folder; gives [exit code, all that it printed] of each.

    Args:
        module: such as "tools.benchmark_network", of this checkout.
        lines: pairs of a folder and arguments.
    """
    given = json.dumps([[str(folder), list(arguments)] for folder, arguments in lines])
    command = [sys.executable, __file__, module]
    done = subprocess.run(command, input=given, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _forked(module, folder, arguments):
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if not child:
            _become(module, folder, arguments, output.fileno())
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read()


def _become(module, folder, arguments, output):
    """Run the module in this process, which ends with it."""
    os.chdir(folder)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.argv = [module, *arguments]
    code = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT))
    import tf_terngrad  # noqa: F401  loads TensorFlow, and computes nothing, so that forks are safe

    print(json.dumps([_forked(sys.argv[1], *line) for line in json.load(sys.stdin)]))
