"""Which operators of a TFLite file leave with a residual branch."""

import re


def gated(file, layers, model) -> set:
    """The numbers of the operators of a file's graph that leave with layers.

    Those leave that the layers became, that only they read or feed, and the sum that loses its term.

    Args:
        file: an `Opened` file.
        layers: names of the layers that leave.
        model: the name of the model, with which the names in the file begin.
    """
    graph = file.graphs[0]
    readers, makers = _links(graph)
    gone = {number for number, operator in enumerate(graph.operators) if layers & _named(graph, operator, model)}
    if not gone:
        return set()
    size = -1
    while size != len(gone):
        size = len(gone)
        for number, operator in enumerate(graph.operators):
            made = [makers[int(each)] for each in operator.inputs if int(each) in makers]
            unread = all(readers.get(int(each), {None}) <= gone for each in operator.outputs)
            fed = made and set(made) <= gone
            if unread or fed:
                gone.add(number)
    ends = {
        reader for number in gone for each in graph.operators[number].outputs for reader in readers.get(int(each), ())
    }
    return gone | {number for number in ends if number is not None and file.kind(graph.operators[number]) == "ADD"}


def _links(graph):
    """By tensor, the operators that read it, and the one that makes it; None stands for who runs the file."""
    readers = {int(each): {None} for each in graph.outputs}
    makers = dict.fromkeys(map(int, graph.inputs))
    for number, operator in enumerate(graph.operators):
        for each in operator.inputs:
            readers.setdefault(int(each), set()).add(number)
        makers |= {int(each): number for each in operator.outputs}
    return readers, makers


def _named(graph, operator, model):
    """The names of layers in those of an operator's outputs."""
    return {name for each in operator.outputs for name in names_of(graph.tensors[each].name.decode(), model)}


def names_of(output, model):
    """The names in that of a tensor, such as layers; a model that is traced again is numbered throughout."""
    names = re.split("[/;]", output)
    return names if names[0] == model else [re.sub(r"_\d+$", "", name) for name in names]
