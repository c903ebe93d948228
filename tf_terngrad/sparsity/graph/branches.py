"""Residual branches: the layers that only one term of a sum needs."""

import dataclasses

from tf_terngrad.sparsity.graph.channels import Weight
from tf_terngrad.sparsity.graph.follow import Graph
from tf_terngrad.sparsity.rules import rule_for
from tf_terngrad.sparsity.rules.elementwise import Sum


@dataclasses.dataclass(frozen=True)
class Branch:
    """One term of a sum: the sum's path, its place among the calls, which of its inputs, and the weights of its own."""

    path: str
    index: int
    position: int
    weights: tuple


def find_branches(model, graph):
    """The branches of a model that add nothing when all their weights are zero.

    A branch is a term of a sum that is longer than the shortest term, the shortcut: all that only it uses, back to
    where the terms meet.
    """
    users = {}
    for call in graph.calls:
        for edge in call.inputs:
            users.setdefault(id(edge), []).append(call)
    candidates = [branch for index in range(len(graph.calls)) for branch in _longer_terms(graph, users, index)]
    if not candidates:
        return []
    blank = frozenset(id(weight.variable) for branch in candidates for weight in branch.weights)
    blanked = Graph(model, tolerance=0.0, blank=blank).calls
    return [branch for branch in candidates if blanked[branch.index].inputs[branch.position].is_zero]


def _longer_terms(graph, users, index):
    call = graph.calls[index]
    is_sum = isinstance(rule_for(call.layer), Sum) and len(call.inputs) > 1
    if not is_sum or any(edge.shape != call.output.shape or edge.masked for edge in call.inputs):
        return
    terms = [_used_only_for(graph, users, edge, index) for edge in call.inputs]
    for position, term in enumerate(terms):
        weights = _own_weights(graph, term)
        if weights and len(term) > min(map(len, terms)):
            yield Branch(call.path, index, position, tuple(weights))


def _used_only_for(graph, users, edge, index):
    """The calls whose results reach the model's output through this input of the sum alone."""
    consumer = graph.calls[index]
    if len(users[id(edge)]) > 1:
        return []
    outputs = {id(output) for output in graph.outputs}
    others = {id(other) for other in consumer.inputs if other is not edge}
    wanted, inside = {id(edge)}, {}
    for call in reversed(graph.calls[:index]):
        leaving = {id(output) for output in call.outputs}
        if not leaving & wanted or leaving & (outputs | others):
            continue
        used = [user for output in leaving for user in users.get(output, [])]
        if all(user is consumer or id(user) in inside for user in used):
            inside[id(call)] = call
            wanted.update(map(id, call.inputs))
    return list(inside.values())[::-1]


def _own_weights(graph, calls):
    """The weights of the layers that are called nowhere else, but for those that only learn what a layer sees."""
    inside = {id(call) for call in calls}
    shared = {id(call.layer) for call in graph.calls if id(call) not in inside}
    learned = {id(weight) for call in calls for weight in rule_for(call.layer).learned(call.layer)}
    return [
        graph.weights.get(id(variable), Weight(variable, call.path, "kernel"))
        for call in calls
        for variable in getattr(call.layer, "weights", [])
        if id(call.layer) not in shared and len(variable.shape) and id(variable) not in learned
    ]
