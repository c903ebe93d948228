"""A TFLite file of one operator out of another file, with sizes of one's own."""

import copy
import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tf_terngrad.tflite.opened import FLOAT32, INTEGERS, packed

NUMBERS = np.random.default_rng(0).uniform(0.5, 1.5, 4096).astype(np.float32)  # no NaN comes of them, none is tiny


class Excerpt:
    """One operator with its tensors, and with the graphs that it runs.

    Args:
        file: an `Opened` file.
        number: of the operator in the file's first graph.
        shapes: the shapes of its tensors, by (graph, number of the tensor).
        integers: the whole numbers that are stored of some of them, likewise.
    """

    def __init__(self, file, number, shapes, integers):
        self._file, self._shapes, self._integers = file, shapes, integers
        self._operator = file.graphs[0].operators[number]

    @property
    def key(self) -> str:
        """What its time depends on, in words: the kind, its options and the tensors."""
        tensors = [
            f"{tensor.type}{':' if self._file.data(tensor) is None else '='}{'x'.join(map(str, self._shapes[place]))}"
            for place, tensor in self._tensors()
        ]
        numbers = [list(values) for _, values in sorted(self._integers.items())]
        options = self._operator.builtinOptions
        options = {} if options is None else vars(options)
        return f"{self._file.kind(self._operator)} {' '.join(tensors)} {numbers} {sorted(options.items())}"

    def content(self, copies=1) -> bytes:
        """The file: so many copies of the operator, which read the same inputs and have weights of their own."""
        model = schema.ModelT(version=3, description=b"", buffers=[schema.BufferT()], signatureDefs=[], metadata=[])
        model.operatorCodes = self._file.model.operatorCodes
        main = schema.SubGraphT([], [], [], [], b"main")
        model.subgraphs = [main]
        inner = {each: number for number, each in enumerate(self._inner, start=1)}
        read = {}
        for _ in range(copies):
            self._add(model, main, read, inner)
        for each in inner:
            model.subgraphs.append(self._inner_graph(model, each))
        return packed(model)

    @property
    def _inner(self):
        return self._file.inner_graphs(self._operator)

    def _tensors(self):
        return [(place, self._file.graphs[place[0]].tensors[place[1]]) for place in sorted(self._shapes)]

    def _add(self, model, main, read, inner):
        """A copy of the operator in the main graph."""
        new = copy.copy(self._operator)
        new.outputs = [self._tensor(model, main, (0, int(each))) for each in self._operator.outputs]
        new.inputs = [self._input(model, main, (0, int(each)), read) for each in self._operator.inputs]
        main.outputs += new.outputs
        if inner:
            new.builtinOptions = copy.copy(new.builtinOptions)
            for name, each in vars(self._operator.builtinOptions).items():
                setattr(new.builtinOptions, name, inner.get(each, each))
        main.operators.append(new)

    def _input(self, model, main, place, read):
        """The number of an input's tensor; of one that is left out, -1."""
        if place[1] < 0:
            return -1
        tensor = self._file.graphs[place[0]].tensors[place[1]]
        if self._file.data(tensor) is not None or tensor.isVariable:
            return self._tensor(model, main, place)
        if place not in read:
            read[place] = self._tensor(model, main, place)
            main.inputs.append(read[place])
        return read[place]

    def _inner_graph(self, model, number):
        """A graph that the operator runs, with its own sizes."""
        old = self._file.graphs[number]
        new = copy.copy(old)
        new.tensors = []
        for tensor in range(len(old.tensors)):
            self._tensor(model, new, (number, tensor))
        return new

    def _tensor(self, model, graph, place):
        """A tensor of its size, with what is stored of it; returns its number."""
        old = self._file.graphs[place[0]].tensors[place[1]]
        new = copy.copy(old)
        new.shape, new.shapeSignature = np.array(self._shapes[place], np.int32), None
        new.buffer = self._buffer(model, old, place)
        graph.tensors.append(new)
        return len(graph.tensors) - 1

    def _buffer(self, model, tensor, place):
        data = self._file.data(tensor)
        if data is None:
            return 0
        count = math.prod(self._shapes[place])
        if place in self._integers:
            data = np.array(self._integers[place], INTEGERS[tensor.type])
        elif tensor.type == FLOAT32:
            data = np.resize(NUMBERS, count)
        elif tensor.type in INTEGERS and math.prod(tensor.shape) != count:
            data = np.zeros(count, INTEGERS[tensor.type])  # indices: the first row is there in each table
        model.buffers.append(schema.BufferT(np.frombuffer(data.tobytes(), np.uint8)))
        return len(model.buffers) - 1
