"""Which structures of a model a user means: by their kinds, and by names of layers with wildcards."""

import fnmatch

from tf_terngrad import checks
from tf_terngrad.sparsity.structure import KINDS, LEARNED, NO_WIDTH


def choose(found, kinds=None, include=None, exclude=None, owner="sparsify"):
    """The structures of the given kinds and names; `owner`: the function that was given these.

    Raises:
        TypeError: for what is no list of texts.
        ValueError: for an unknown kind, for a name that matches nothing, and if nothing is left.
    """
    known = tuple(dict.fromkeys([*KINDS, *(structure.kind for structure in found)]))  # a rule may name its own
    kinds = [checks.one_of(kind, known, "kinds", owner) for kind in _listed(kinds, "kinds", owner, known)]
    include, exclude = _listed(include, "include", owner, ["*"]), _listed(exclude, "exclude", owner, ())

    def matches(structure, patterns):
        names = (structure.name, *structure.born)
        return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)

    if not found:
        raise ValueError(
            f"{owner}: nothing of this model can be removed. Change what the reasons name, or say with "
            f"tt.register_rule what a layer does. {_known(found)}"
        )
    for pattern in (*include, *exclude):
        if not any(matches(structure, [pattern]) for structure in found):
            raise ValueError(f"{owner}: no layer or structure matches {pattern!r}. {_known(found)}")
    chosen = [
        structure
        for structure in found
        if structure.kind in kinds and matches(structure, include) and not matches(structure, exclude)
    ]
    if not chosen:
        raise ValueError(f"{owner}: no structure is left. {_known(found)}")
    return chosen


def widths(found):
    """The kinds that are widths of layers: what a budget takes from unless it is told which."""
    return list(dict.fromkeys(each.kind for each in found if each.kind not in (*NO_WIDTH, *LEARNED)))


def _listed(value, name, owner, otherwise):
    """The texts of an argument that may be None."""
    return otherwise if value is None else checks.strings(value, name, owner)


def _known(found):
    """What a model has, for an error."""
    names = ", ".join(f"{structure.name} ({structure.kind})" for structure in found) or "none"
    frozen = "; ".join(str(entry) for entry in found.frozen) or "none"
    return f"Structures: {names}. Frozen: {frozen}."
