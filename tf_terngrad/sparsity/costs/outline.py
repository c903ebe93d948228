"""The TFLite file of a model with any number of members, in outline: its operators, and its sizes as functions."""

import dataclasses
import difflib
import itertools
import pathlib
import re
import tempfile

import numpy as np

from tf_terngrad.sparsity.costs import dims
from tf_terngrad.sparsity.costs.gates import gated
from tf_terngrad.sparsity.costs.probes import files

LONGEST = 8  # numbers that say a shape


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of an operator.

    Args:
        shape: a tuple of `Dim`.
        integers: the whole numbers that are stored of it, a tuple of `Dim`; None: none are.
        stored: the bytes of an element in the file; 0 of what is computed.
        scales: how many numbers of its quantization there are, a `Dim`.
        key: what is the same of all that read it, where it is stored.
    """

    shape: tuple
    integers: tuple | None
    stored: int
    scales: dims.Dim
    key: tuple

    @property
    def dims(self):
        """All sizes."""
        return (*self.shape, *(self.integers or ()), self.scales)


@dataclasses.dataclass
class Operator:
    """An operator of the file.

    Args:
        file: the `Opened` file that it was seen in.
        number: its place there; what a loop runs is part of it.
        tensors: its `Tensor`s by (graph, number): those of the graphs that it runs, too.
        owners: numbers of the structures that its sizes depend on.
        where: "always"; "whole" or "smaller", where it is in the file only if no owner, or any, has lost members.
        gates: numbers of the branches that it leaves with.
    """

    file: object
    number: int
    tensors: dict
    owners: frozenset
    where: str = "always"
    gates: frozenset = frozenset()

    @property
    def operator(self):
        """The operator as the file has it."""
        return self.file.graphs[0].operators[self.number]

    @property
    def kind(self):
        """Its name."""
        return self.file.kind(self.operator)

    @property
    def output(self):
        """The name of its first output, which tells of the layers that it comes from."""
        graph = self.file.graphs[0]
        return graph.tensors[self.operator.outputs[0]].name.decode() if len(self.operator.outputs) else ""

    def depends_on(self, everything):
        """The numbers of the structures that its being there depends on; `everything`: those of all."""
        own = set() if self.where == "always" else self.owners or set(everything)
        return {*own, *self.gates}

    def is_there(self, shares):
        """Whether the file has it where these shares of the structures stay."""
        if any(shares[gate] == 0 for gate in self.gates):
            return False
        is_whole = all(shares[owner] == 1 for owner in self.owners or range(len(shares)))
        return self.where == "always" or is_whole == (self.where == "whole")


class Outline:
    """The file of a model.

    Args:
        sizes: the `Sizes` of the model.
        quantize: as of `tt.tflite.convert`.

    Attributes:
        widths: the `Widths` of the model.
        operators: a list of `Operator`.
        files, shares: `Opened` files that were made of it, and the shares of the structures' members that each has; of
            the whole model first.
        bytes: of the file of the whole model.
    """

    def __init__(self, sizes, quantize=None):
        self.widths = dims.Widths(sizes)
        with tempfile.TemporaryDirectory() as folder:
            converted = files(sizes, quantize, pathlib.Path(folder))
            # Two points make a line, and a third says whether it is one.
            seen = list(itertools.islice(converted, 3))
            if _keys(seen[0][1]) != _keys(seen[1][1]):  # what the smaller ones alone have needs three of them, too
                seen.append(next(converted))
        shares, self.files = zip(*seen, strict=True)
        lengths = map(self.widths.at, shares)
        axes = range(len(self.widths.terms))
        self._lengths = np.array([[each.product((axis,)) for axis in axes] for each in lengths])
        self.operators = list(self._found())
        for number, structure in enumerate(sizes.structures):
            self._gate(number, structure, sizes.model.name)
        self.shares, self.bytes = shares, len(self.files[0].content)

    def _gate(self, number, structure, model):
        """Let the operators of a branch leave with it."""
        if structure.kind != "branch":
            return
        layers = {path.rpartition("/")[2] for path in structure.layers}
        gone = {id(file): gated(file, layers, model) for file in self.files}
        for operator in self.operators:
            if operator.number in gone[id(operator.file)]:
                operator.gates |= {number}

    def _found(self):
        """The operators: those that all files have, and where they differ, those of the whole model's and the others'.

        A layer normalization that loses channels, for one, needs further operators.
        """
        keys = [_keys(file) for file in self.files]
        rows = [{1: place} for place in range(len(keys[1]))]  # by file, the place of what the smaller ones have alike
        for number in range(2, len(keys)):
            for same, mine, theirs in _regions(keys[1], keys[number]):
                if same:
                    rows[mine[0]][number] = theirs[0]
        for same, mine, theirs in _regions(keys[0], keys[1]):
            found = self._operator({0: mine[0], **rows[theirs[0]]}) if same else None
            if found is not None:
                yield found
            else:
                yield from self._both(mine, [rows[each] for each in theirs])

    def _both(self, places, rows):
        """The operators of a part where the whole model's file and the others differ; its owners tell which it is."""
        smaller = [self._operator(row, "smaller") or self._operator({1: row[1]}, "smaller") for row in rows]
        owners = frozenset().union(*(operator.owners for operator in smaller))
        whole = [self._operator({0: place}, "whole") for place in places]
        return [dataclasses.replace(operator, owners=owners) for operator in (*whole, *smaller)]

    def _operator(self, row, where="always"):
        """The operator that lies at these places in files, by their numbers; None if its sizes are none of one."""
        numbers, first = list(row), next(iter(row))
        named = [_tensors(self.files[number], place) for number, place in row.items()]
        tensors = {
            key: self._tensor(numbers, [each[other] for each, other in zip(named, keys, strict=True)])
            for key, keys in zip(named[0], zip(*named, strict=True), strict=True)
        }
        if any(dim is None for tensor in tensors.values() for dim in tensor.dims):
            return None
        axes = {axis for tensor in tensors.values() for dim in tensor.dims for axis in dim.axes}
        owners = frozenset().union(*map(self.widths.owners, axes))
        return Operator(self.files[first], row[first], tensors, owners, where)

    def _tensor(self, numbers, seen):
        """A tensor that is these in the files of these numbers."""

        def functions(rows):
            ranks = set(map(len, rows))
            rows = rows if len(ranks) == 1 else rows[:1] * len(rows)
            return tuple(dims.found(sizes, self._lengths[numbers]) for sizes in zip(*rows, strict=True))

        file = self.files[numbers[0]]
        integers = [self.files[number].integers(tensor) for number, tensor in zip(numbers, seen, strict=True)]
        if integers[0] is None or len(set(map(len, integers))) > 1 or len(integers[0]) > LONGEST:
            integers = None  # none that sizes are part of, such as the shape that a RESHAPE makes
        data, shape = file.data(seen[0]), functions([list(tensor.shape) for tensor in seen])
        count = int(np.prod(seen[0].shape)) or 1
        scales = functions([[_scales(tensor)] for tensor in seen])[0]
        return Tensor(
            shape,
            None if integers is None else functions(list(map(list, integers))),
            0 if data is None else len(data) // count,
            scales,
            (id(file), seen[0].buffer),
        )


def _scales(tensor):
    quantization = tensor.quantization
    return 0 if quantization is None or quantization.scale is None else len(quantization.scale)


def _keys(file):
    """What each operator of a file's graph has in common with the same one of another file."""
    return [_key(file, operator) for operator in file.graphs[0].operators]


def _key(file, operator):
    outputs = [file.graphs[0].tensors[output] for output in operator.outputs]
    names = tuple(re.sub(r"\d+$", "", output.name.decode()) for output in outputs)
    return (file.kind(operator), len(operator.inputs), *names, *(len(output.shape) for output in outputs))


def _regions(first, second):
    """Parts of two lists: whether they are the same there, and the numbers in each; one by one where they are."""
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    for tag, start, stop, begin, end in matcher.get_opcodes():
        if tag == "equal":
            yield from ((True, [start + step], [begin + step]) for step in range(stop - start))
        else:
            yield False, range(start, stop), range(begin, end)


def _tensors(file, number):
    """The tensors that an operator reads and makes, and those of the graphs that it runs, by (graph, number)."""
    operator = file.graphs[0].operators[number]
    used = [int(each) for each in (*operator.inputs, *operator.outputs) if each >= 0]
    found = {(0, each): file.graphs[0].tensors[each] for each in used}
    for inner in file.inner_graphs(operator):
        found |= {(inner, each): tensor for each, tensor in enumerate(file.graphs[inner].tensors)}
    return found
