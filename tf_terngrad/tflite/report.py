"""What a conversion gave: the file's size, its operators, and how far its outputs are from the Keras model's."""

import dataclasses

from tf_terngrad.console import plain_table


@dataclasses.dataclass(frozen=True)
class OutputCheck:
    """One output of the file beside the same output of the Keras model.

    Use it when one output of a file differs, and you want to know by how much: a `ConversionReport` has one for
    each.

    Attributes:
        name: Of the output.
        scale: max |Keras output| over the inputs checked.
        max_difference: max |file output - Keras output| over the same inputs.
        keras_accuracy: Share of the evaluation labels that the Keras model gets right; None without evaluation.
        file_accuracy: The same of the file.
    """

    name: str
    scale: float
    max_difference: float
    keras_accuracy: float | None = None
    file_accuracy: float | None = None

    @property
    def relative_difference(self):
        """max_difference / scale: 0 when both outputs are all zero, infinity when only Keras's is."""
        if self.max_difference == 0:
            return 0.0
        return self.max_difference / self.scale if self.scale else float("inf")

    @property
    def accuracy_lost(self):
        """keras_accuracy - file_accuracy, a share; None without evaluation."""
        return None if self.keras_accuracy is None else self.keras_accuracy - self.file_accuracy

    def __str__(self):
        text = f"max difference {self.max_difference:.2g} = {self.relative_difference:.2g} of scale {self.scale:.3g}"
        if self.keras_accuracy is not None:
            text += (
                f"; accuracy {100 * self.keras_accuracy:.2f} % -> {100 * self.file_accuracy:.2f} %"
                f" ({100 * self.accuracy_lost:.2f} points lost)"
            )
        return text


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """What `convert` wrote and how it compares with the Keras model; `str()` gives a table.

    Use it when you want to read what `convert` found: print it, or look at its fields.

    Attributes:
        path: Of the file, a string.
        quantize: None, "float16", "dynamic" or "int8".
        bytes: Size of the file.
        operators: Dict of operator name to count.
        custom: Names among them that are not stock TFLite operators.
        inputs: Dict of input name to shape, None where a dimension is free.
        checked_on: The inputs of the check in words: "8 random inputs".
        outputs: Tuple of `OutputCheck`.
        refused: Dict of a delegate ("GPU", "Qualcomm NPU", "Core ML") to the names of the operators that it is known to
            leave to the CPU, of the documents named in `tf_terngrad/tflite/delegates.py`; it may refuse more.
        static: Whether the size of every tensor is known before the file runs, which all these delegates need.
        input_types: Dict of input name to its type in the file, such as "float32" or "int8".
        recurrent: Dict of each recurrent layer to what it became: "fused", "unrolled" or "loop", with the reason.
        routes: Dict of route to (milliseconds, bytes), of those that were measured to choose.
    """

    path: str
    quantize: str | None
    bytes: int
    operators: dict
    custom: tuple
    inputs: dict
    checked_on: str
    outputs: tuple
    refused: dict = dataclasses.field(default_factory=dict)
    static: bool = True
    input_types: dict = dataclasses.field(default_factory=dict)
    recurrent: dict = dataclasses.field(default_factory=dict)
    routes: dict = dataclasses.field(default_factory=dict, compare=False)

    @property
    def max_difference(self):
        """The largest difference over all outputs."""
        return max(output.max_difference for output in self.outputs)

    @property
    def relative_difference(self):
        """The largest difference over all outputs, each relative to its scale."""
        return max(output.relative_difference for output in self.outputs)

    @property
    def accuracy_lost(self):
        """The largest accuracy lost over all evaluated outputs, a share; None without evaluation."""
        return max((o.accuracy_lost for o in self.outputs if o.accuracy_lost is not None), default=None)

    def __str__(self):
        measured = ", ".join(f"{route} {time:.3g} ms {size:,} bytes" for route, (time, size) in self.routes.items())
        rows = [
            ("file", self.path),
            ("weights", self.quantize or "float32"),
            ("bytes", f"{self.bytes:,}"),
            ("operators", format_operators(self.operators, self.custom)),
            *((f"layer '{name}'", became) for name, became in self.recurrent.items()),
            *([("routes", measured)] if self.routes else []),
            *((f"input '{name}'", self._input(name, shape)) for name, shape in self.inputs.items()),
            ("shapes", "static" if self.static else "free in part: GPU and NPU delegates need static ones"),
            *((name, self._refusal(names)) for name, names in self.refused.items()),
            ("checked on", self.checked_on),
            *((f"output '{output.name}'", str(output)) for output in self.outputs),
        ]
        return format_fields(rows)

    def _input(self, name, shape):
        return f"{shape} {self.input_types.get(name, '')}".strip()

    def _refusal(self, names):
        if set(names) == set(self.operators):
            return "refuses all operators"
        return f"refuses {', '.join(names)}" if names else "refuses no operator, as far as is known"


def format_operators(operators, custom):
    """Writes operators as "CONV_2D 2, SOFTMAX 1 (all stock)"."""
    counts = ", ".join(f"{name} {count}" for name, count in operators.items())
    return f"{counts} (not stock: {', '.join(custom)})" if custom else f"{counts} (all stock)"


def format_fields(rows):
    """Writes pairs of label and value, a line each, the values in one column."""
    return plain_table(["", ""], rows, text=[""])
