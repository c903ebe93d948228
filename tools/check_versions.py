"""Runs the laws in a fresh environment for each of several pairs of TensorFlow and Keras, and prints a table of them.

    python tools/check_versions.py                                  # all pairs; docs/versions.md has the table
    python tools/check_versions.py --pair=2.20.0,3.12.4 --horovod   # one pair, and Horovod built and tried for it
    python tools/check_versions.py --pair=2.21.0,3.14.1 --keep      # any other pair; the environment stays

It runs a copy of this checkout with what `pip install` takes for the pair. The first pair is the lower end of every
range in setup.py, the last one what tools/constraints.txt names. Python alone is needed to start it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]

LOWEST = [
    "numpy==1.26.4",
    "ai-edge-litert==2.1.0",
    "absl-py==2.1.0",
    "matplotlib==3.10.8",  # earlier ones warn of the pyparsing that pip takes with them
    "rich==13.0.0",
    "h5py==3.11.0",
]
"""The lower ends of setup.py's other ranges; they go with the oldest pair."""

PAIRS = {
    ("2.19.1", "3.10.0"): LOWEST,
    ("2.20.0", "3.12.4"): [],
    ("2.21.0", "3.13.2"): [],
    ("2.21.0", "3.15.1"): ["--constraint", str(CHECKOUT / "tools" / "constraints.txt")],
}
"""By versions of TensorFlow and Keras: what else pip is told."""

LAWS = {
    "private names": ["keras_internals", "private_names"],
    "compaction": ["compact", "structures", "rules", "operations", "random_graphs", "random_zeros"],
    "attention": [
        *("attention", "attention_by_hand", "attention_mask", "attention_mask_compact", "attention_mask_learning"),
        *("transformers", "learned_transformers", "grids"),
        *("normalization", "normalization_by_hand", "bidaf"),
    ],
    "users' models": [
        *("open", "open_kernels", "open_sizes", "open_training", "closed", "noise", "composites", "tensorflow_calls"),
        *("masks", "masks_nested", "masks_closed"),
        *("carry", "classes", "ties", "functions", "subclasses", "trainable"),
    ],
    "learning": ["sparsify", "hooks", "regularizers", "metrics", "dead", "frozen_weights", "replicas"],
    "TFLite": ["tflite_convert", "tflite_recurrent", "tflite_examples", "tflite_start", "tflite_draw"],
    "codec": ["codec", "packing"],
}
"""By column of the table: the files of tests."""

HOROVOD = {"Horovod": ["distributed_optimizer"]}

OLD_WARNINGS = {
    "The structure of `inputs` doesn't match the expected structure": "UserWarning",  # 3.10, of models that it loads
    "__array__ implementation doesn't accept a copy keyword": "DeprecationWarning",  # with NumPy 2, as it reads weights
}
"""Warnings of older releases of Keras about themselves, by their beginning, which the strict tests would fail on."""

ABSENT = "from tf_terngrad import keras_internals as k; print(', '.join(k.absent()))"
VERSIONS = "import importlib.metadata as m; print(*map(m.version, ('numpy', 'ai-edge-litert')))"


class Failed(RuntimeError):
    """A step of setting up an environment failed."""


def run(command, log, folder):
    """Run a command, its output into a log file too; returns the output."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": ""}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    with log.open("a", encoding="utf-8") as file:
        print("$", *command, done.stdout, done.stderr, sep="\n", file=file)
    return done


def must(command, log, folder):
    """Run a command that has to succeed; returns what it prints."""
    done = run(command, log, folder)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command[:6]))} ... failed; the log: {log}")
    return done.stdout.strip()


def set_up(folder, pair, options, log):
    """A copy of the checkout and an environment for it; returns the paths of the copy and of that Python."""
    checkout, environment = folder / "checkout", folder / "venv"
    shutil.rmtree(folder, ignore_errors=True)
    unwanted = shutil.ignore_patterns(".*", "runs", "build", "dist", "*.egg-info", "*.so", "__pycache__")
    shutil.copytree(CHECKOUT, checkout, ignore=unwanted)
    venv.create(environment, with_pip=True)
    python = str(environment / "bin" / "python")
    pinned = [f"tensorflow=={pair[0]}", f"keras=={pair[1]}", *options]
    must(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", f"{checkout}[test]", *pinned],
        log,
        folder,
    )
    # The tests run on the copy, and one of them wants to see models load where this package is not installed.
    must([python, "-m", "pip", "uninstall", "-q", "-y", "tf_terngrad"], log, folder)
    return checkout, python


def outcome(python, names, log, checkout):
    """What the tests of these files came to, such as "40 passed", and whether all did."""
    files = [f"tests/test_{name}.py" for name in names]
    ignored = [part for text, kind in OLD_WARNINGS.items() for part in ("-W", f"ignore:{text}:{kind}")]
    done = run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ignored, *files], log, checkout)
    told = re.findall(r"\d+ (?:passed|failed|errors?|skipped)", (done.stdout.splitlines() or [""])[-1])
    return ", ".join(told) or "did not run", done.returncode == 0


def check(pair, options, arguments):
    """One pair; returns the row of the table, and whether everything passed."""
    folder = Path(arguments.folder).absolute() / "tensorflow-{}-keras-{}".format(*pair)
    log = folder.with_suffix(folder.suffix + ".log")
    folder.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    started = time.monotonic()
    checkout, python = set_up(folder, pair, options, log)
    told = must([python, "setup.py", "-q", "build_ext", "--inplace"], log, checkout)
    native = (checkout / "tf_terngrad" / "ternary" / "_native.so").is_file()
    row = {"TensorFlow": pair[0], "Keras": pair[1]}
    row |= dict(zip(("NumPy", "LiteRT"), must([python, "-c", VERSIONS], log, checkout).split(), strict=True))
    row["native codec"] = "builds" if native else f"no: {told}"
    laws = LAWS | (HOROVOD if arguments.horovod else {})
    passed = native
    if arguments.horovod:
        must([python, "tools/build_horovod.py"], log, checkout)
    for name, files in laws.items():
        row[name], good = outcome(python, files, log, checkout)
        passed = passed and good
    row["not in this Keras"] = must([python, "-c", ABSENT], log, checkout) or "nothing"
    row["minutes"] = f"{(time.monotonic() - started) / 60:.0f}"
    if passed and not arguments.keep:
        shutil.rmtree(folder)
    return row, passed


def table(rows):
    """Rows, dicts with the same keys, as a table of Markdown."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([row[name] for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main():
    """Reads the command line; ends with 1 if a law does not hold, or an environment cannot be set up."""
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=about)
    parser.add_argument("--pair", action="append", help="TensorFlow's and Keras's versions, as 2.20.0,3.12.4; or more")
    parser.add_argument("--horovod", action="store_true", help="build Horovod too (10 minutes a pair) and try it")
    parser.add_argument("--folder", default=CHECKOUT / "build" / "versions", help="where the environments are made")
    parser.add_argument("--keep", action="store_true", help="keep environments in which everything passed")
    arguments = parser.parse_args()
    pairs = [tuple(pair.split(",")) for pair in arguments.pair] if arguments.pair else list(PAIRS)
    rows, passed = [], True
    try:
        for pair in pairs:
            print("TensorFlow {}, Keras {} ...".format(*pair), file=sys.stderr)
            row, good = check(pair, PAIRS.get(pair, []), arguments)
            rows.append(row)
            passed = passed and good
    except Failed as failure:
        sys.exit(f"check_versions: {failure}")
    print(table(rows))
    sys.exit(0 if passed else f"check_versions: not everything passed; the logs are in {arguments.folder}")


if __name__ == "__main__":
    main()
