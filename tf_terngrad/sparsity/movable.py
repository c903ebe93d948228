"""Which structures training can take members out of, where some layers are frozen."""


def why_fixed(structure):
    """Why training cannot take members out of a structure, a sentence; empty if it can.

    A member leaves if nothing reads it, or if what makes it is zero. So frozen weights fix it where they are on both
    sides; where it is also summed without weights, those that make it are enough.
    """
    frozen = [piece for piece in structure.penalized if not piece.variable.trainable]
    if not frozen:
        return ""
    if len(frozen) == len(structure.penalized):
        return "none of its weights trains"
    if structure.kind == "branch":  # all of it has to be zero to add nothing
        return f"{_layers(frozen)} in it {_do_not(frozen)} train"
    makers = [piece for piece in frozen if not piece.reads]
    readers = [piece for piece in frozen if piece.reads]
    if makers and readers:
        return f"{_layers(makers)} and its reader {_layers(readers)} do not train"
    if makers and structure.summed:
        return f"{_layers(makers)} {_do_not(makers)} train, and its members are summed without weights"
    return ""


def _layers(pieces):
    """The paths of the layers, the first three of many."""
    paths = list(dict.fromkeys(piece.path for piece in pieces))
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _do_not(pieces):
    return "does not" if len({piece.path for piece in pieces}) == 1 else "do not"
