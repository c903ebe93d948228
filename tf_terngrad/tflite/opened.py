"""The content of a TFLite file as objects that can be read and changed, and back to bytes."""

import copy
import dataclasses

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tf_terngrad.tflite.litert import BUILTIN_NAMES

INTEGERS = {schema.TensorType.INT32: np.int32, schema.TensorType.INT64: np.int64}
FLOAT32 = schema.TensorType.FLOAT32


@dataclasses.dataclass(frozen=True)
class Opened:
    """A TFLite file.

    Args:
        model: the flatbuffer as objects of its schema.
        content: of the file, bytes.
    """

    model: schema.ModelT
    content: bytes

    @classmethod
    def of(cls, content: bytes):
        """The objects of a file's content."""
        return cls(schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0)), content)

    @property
    def graphs(self):
        """The graph of the file, and behind it those of its loops and branches."""
        return self.model.subgraphs

    def kind(self, operator):
        """The name of an operator."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return BUILTIN_NAMES.get(number) if code.customCode is None else code.customCode.decode()

    def data(self, tensor):
        """What is stored of a tensor, an array of bytes; None of what is computed."""
        return self.model.buffers[tensor.buffer].data

    def integers(self, tensor):
        """The whole numbers stored of a tensor, such as the shape that a RESHAPE makes; None: it has none."""
        data = self.data(tensor)
        if data is None or tensor.type not in INTEGERS:
            return None
        return np.frombuffer(bytes(data), INTEGERS[tensor.type])

    def inner_graphs(self, operator):
        """The numbers of the graphs that an operator runs, such as the body of a loop."""
        options = vars(operator.builtinOptions) if operator.builtinOptions else {}
        return [number for name, number in options.items() if name.endswith("SubgraphIndex")]


def packed(model: schema.ModelT) -> bytes:
    """The content of the file of these objects."""
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def table_bytes(file: Opened) -> int:
    """The bytes of a file that its operators and tensors take, without what is stored of these."""
    graphs = file.model.subgraphs
    empty = [schema.SubGraphT([], [], [], [], graph.name) for graph in graphs]
    with_all, without = (
        packed(_with(file.model, subgraphs=held, buffers=[], signatureDefs=[])) for held in (graphs, empty)
    )
    return len(with_all) - len(without)


def _with(model, **fields):
    new = copy.copy(model)
    for name, value in fields.items():
        setattr(new, name, value)
    return new
