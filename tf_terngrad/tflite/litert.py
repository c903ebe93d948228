"""A TFLite file in LiteRT: open it, list its operators, run it."""

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
from collections import Counter

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tf_terngrad.tflite.ports import Port

BUILTIN_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


@contextlib.contextmanager
def quiet():
    """Hides what native code writes to stderr meanwhile: the converter and LiteRT narrate there, in any log level."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with tempfile.TemporaryFile() as hidden:
            os.dup2(hidden.fileno(), 2)
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator of a TFLite file: its name, whether it is stock, whether it touches float32, its inputs' ranks."""

    name: str
    stock: bool
    floating: bool
    ranks: tuple


def operators(path):
    """Counts the operators of a TFLite file.

    Args:
        path: Of the file; `Runner(path)` tells whether the file is whole, this function trusts it.

    Returns:
        The pair (operators, custom): a dict of name to count, most frequent first, and the tuple of the names among
        them that are not stock TFLite operators (TensorFlow's own carry the prefix "Flex").
    """
    found = list(walk(path))
    custom = {operator.name for operator in found if not operator.stock}
    return dict(Counter(operator.name for operator in found).most_common()), tuple(sorted(custom))


def float_operators(path):
    """Names the operators of a TFLite file that read or write float32, but for those that convert from or to it."""
    return tuple(sorted({operator.name for operator in walk(path) if operator.floating} - {"QUANTIZE", "DEQUANTIZE"}))


def walk(path):
    """Yields every `Operator` of a TFLite file."""
    model = _model(path)
    for graph in _graphs(model):
        tensors = list(map(graph.Tensors, range(graph.TensorsLength())))
        for operator in map(graph.Operators, range(graph.OperatorsLength())):
            inputs = [operator.Inputs(i) for i in range(operator.InputsLength())]
            used = inputs + [operator.Outputs(i) for i in range(operator.OutputsLength())]
            name, stock = _operator_name(model.OperatorCodes(operator.OpcodeIndex()))
            # An input of number -1 is left out, as the bias of a FULLY_CONNECTED may be.
            floating = any(tensors[i].Type() == schema.TensorType.FLOAT32 for i in used if i >= 0)
            yield Operator(name, stock, floating, tuple(tensors[i].ShapeLength() if i >= 0 else 0 for i in inputs))


def has_free_shapes(path):
    """Whether the size of a tensor of a TFLite file is known only when the file runs."""
    return any(
        size < 0
        for graph in _graphs(_model(path))
        for tensor in map(graph.Tensors, range(graph.TensorsLength()))
        for size in map(tensor.ShapeSignature, range(tensor.ShapeSignatureLength()))
    )


def _model(path):
    return schema.Model.GetRootAs(pathlib.Path(path).read_bytes(), 0)


def _graphs(model):
    return map(model.Subgraphs, range(model.SubgraphsLength()))


def _operator_name(code):
    # Files of before 2020 keep the code in an 8-bit field; the wider field is zero there.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    if number == schema.BuiltinOperator.CUSTOM:
        return code.CustomCode().decode(), False
    return BUILTIN_NAMES.get(number, f"BUILTIN_{number}"), number in BUILTIN_NAMES


_PREPARE = "import sys; from ai_edge_litert.interpreter import Interpreter; Interpreter(sys.argv[1]).allocate_tensors()"


def aborts(path):
    """Whether LiteRT, instead of raising an error, ends the process that prepares this file: tried in another one."""
    if not sys.executable:
        return False  # inside of another program there is no Python to try it with
    return subprocess.run([sys.executable, "-c", _PREPARE, str(path)], capture_output=True, check=False).returncode < 0


class Runner:
    """Runs a TFLite file with LiteRT on the CPU.

    Args:
        path: Of the file.
        threads: How many threads LiteRT may use.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a whole TFLite file, or it needs operators that LiteRT does not have.

    Attributes:
        inputs: A list of `Port`, named as in the file's signature, else by tensor.
        outputs: A list of `Port`.
    """

    def __init__(self, path, threads=1):
        if not pathlib.Path(path).is_file():
            raise FileNotFoundError(f"Expected a TFLite file. Received: {path}, which does not exist or is no file.")
        try:
            with quiet():
                self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        except ValueError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"{path} is not a whole TFLite file that LiteRT can run: {reason}") from error
        self._path = path
        self.inputs, self._input_indices = self._ports("input")
        self.outputs, self._output_indices = self._ports("output")
        self._shapes = None

    def _ports(self, side):
        signatures = self._interpreter.get_signature_list()
        if signatures:
            signature = self._interpreter.get_signature_runner(next(iter(signatures)))
            details = getattr(signature, f"get_{side}_details")()
        else:
            details = {detail["name"]: detail for detail in getattr(self._interpreter, f"get_{side}_details")()}
        ports = [
            Port(name, tuple(None if size < 0 else int(size) for size in detail["shape_signature"]), detail["dtype"])
            for name, detail in details.items()
        ]
        ports = [Port(port.name, port.shape, np.dtype(port.dtype).name) for port in ports]
        return ports, [detail["index"] for detail in details.values()]

    @property
    def batch(self):
        """How many examples one run takes; None when the file leaves it free."""
        return next((port.shape[0] for port in self.inputs if port.shape and port.shape[0] is not None), None)

    def feed(self, arrays):
        """Sets the inputs of the next `invoke`: a list of arrays in the order of `inputs`."""
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes:
            self._allocate(shapes)
        for index, array in zip(self._input_indices, arrays, strict=True):
            self._interpreter.set_tensor(index, array)

    def _allocate(self, shapes):
        for index, shape, port in zip(self._input_indices, shapes, self.inputs, strict=True):
            if shape != port.shape:
                self._interpreter.resize_tensor_input(index, shape)
        try:
            with quiet():
                self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"LiteRT cannot run {self._path} on inputs of shapes {shapes}: {reason}") from error
        self._shapes = shapes

    @property
    def examples(self):
        """How many examples the next `invoke` takes."""
        return self._shapes[0][0]

    def invoke(self):
        """Runs the file once on the inputs fed."""
        self._interpreter.invoke()

    def fetch(self):
        """Returns the outputs of the last `invoke`, a list of arrays in the order of `outputs`."""
        return [self._interpreter.get_tensor(index) for index in self._output_indices]

    def run(self, arrays, chunk=32):
        """Returns the outputs for any number of examples, `batch` at a time, or `chunk` when the batch is free."""
        examples, size = len(arrays[0]), self.batch or min(chunk, len(arrays[0]))
        results = []
        for start in range(0, examples, size):
            # A short last batch is filled up with copies of the last example.
            rows = np.minimum(np.arange(start, start + size), examples - 1)
            self.feed([array[rows] for array in arrays])
            self.invoke()
            results.append(self.fetch())
        return [np.concatenate(parts)[:examples] for parts in zip(*results, strict=True)]
