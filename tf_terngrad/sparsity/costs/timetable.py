"""Times of TFLite operators on the machine at hand, measured once and kept in the user's cache folder."""

import functools
import hashlib
import json
import pathlib
import platform
import re

import ai_edge_litert
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tf_terngrad.console import tracked
from tf_terngrad.files import cache_folder, write
from tf_terngrad.sparsity import in_vain
from tf_terngrad.tflite.opened import packed
from tf_terngrad.tflite.stopwatch import milliseconds, processor_time

FORM = 1  # of the file; another number when what is measured changes
TOGETHER = 25  # operators that are measured in turns


class Timetable:
    """The milliseconds of operators, by what they depend on.

    Several processes may fill the file at once: each writes it whole, with what it found there and what it measured.

    Args:
        path: of the file.
    """

    def __init__(self, path):
        self._path = pathlib.Path(path)
        self._times = self._read()

    @classmethod
    def of_this_machine(cls):
        """That of this processor and these versions."""
        return cls(cache_folder() / "latency" / f"{_machine()}.json")

    def measure(self, excerpts, what) -> None:
        """Measure what is not there yet, with a progress bar.

        Args:
            excerpts: a list of `Excerpt`.
            what: is done, for the bar.
        """
        missing = list({excerpt.key: excerpt for excerpt in excerpts if excerpt.key not in self._times}.values())
        parts = [missing[start : start + TOGETHER] for start in range(0, len(missing), TOGETHER)]
        for part in tracked(parts, what) if parts else ():
            times = _measured(part)
            self._times |= {excerpt.key: time for excerpt, time in zip(part, times, strict=True)}
            self._write()

    def __getitem__(self, excerpt):
        return self._times[excerpt.key]

    def _read(self):
        """What the file holds; nothing, where it is damaged or none."""
        try:
            held = json.loads(self._path.read_text())
            times = held["milliseconds"]
            right = held["form"] == FORM and all(isinstance(time, float) and time >= 0 for time in times.values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        return times if right else {}

    def _write(self):
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._times = self._read() | self._times
        write(self._path, json.dumps({"form": FORM, "milliseconds": self._times}, indent=0).encode())


def _measured(excerpts):
    try:
        return milliseconds(excerpts, _idle())
    except (RuntimeError, ValueError) as error:
        if len(excerpts) > 1:
            return [time for excerpt in excerpts for time in _measured([excerpt])]
        reason, key = str(error).strip().splitlines()[0], excerpts[0].key
        in_vain.say(f"Latency: an operator that LiteRT cannot run alone counts as no time: {key}: {reason}")
        return [0.0]


@functools.cache
def _idle():
    """Milliseconds of a run of a file that does next to nothing: a sum of two numbers."""
    return processor_time(packed(_sum_of_two()))


def _sum_of_two():
    tensors = [schema.TensorT(np.array([1], np.int32), name=name) for name in (b"x", b"y", b"sum")]
    operator = schema.OperatorT(
        0, [0, 1], [2], schema.BuiltinOptions.AddOptions, schema.AddOptionsT(fusedActivationFunction=0)
    )
    add = schema.OperatorCodeT(schema.BuiltinOperator.ADD, None, 1, schema.BuiltinOperator.ADD)
    graph = schema.SubGraphT(tensors, [0, 1], [2], [operator], b"main")
    return schema.ModelT(3, [add], [graph], b"", [schema.BufferT()])


def _machine():
    """A name for what times depend on: the processor with its instruction sets, and LiteRT's version."""
    text = _processor()
    name = re.sub(r"\W+", "-", text.splitlines()[0]).strip("-").lower() if text else platform.machine()
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}-litert-{ai_edge_litert.__version__}"


def _processor():
    """The processor's name, and below it what Linux tells of what it can."""
    try:
        told = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    fields = (
        re.search(rf"^{name}\s*: (.*)$", told, re.MULTILINE) for name in ("model name", "model", "(?:flags|Features)")
    )
    return "\n".join(found.group(1) for found in fields if found)
