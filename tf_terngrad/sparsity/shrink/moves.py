"""What belongs to variables goes along with what stays of them: arrays of their shapes, and slices of structures."""

import dataclasses

import numpy as np


class Moves:
    """Where each variable of a model went when the model became smaller.

    Args:
        fates: the `Fate`s, while the old variables are still there.
    """

    def __init__(self, fates):
        pairs = [(fate, fate.old) for fate in fates if fate.old is not None]
        self._held = [old for _, old in pairs]  # or another variable could get the id of one that has left
        self._fates = {id(old): fate for fate, old in pairs}
        self._old = {id(fate.new): old for fate, old in pairs if fate.new is not None}

    def new(self, variable):
        """What became of a variable: itself if it is none of the model's; None if it has left."""
        fate = self._fates.get(id(variable))
        return fate.new if fate else variable

    def old(self, variable):
        """What a variable was; itself if it is none of the model's."""
        return self._old.get(id(variable), variable)

    def kept(self, variable, array):
        """What stays of an array of a variable's shape, in that shape; nothing if the variable has left."""
        fate = self._fates.get(id(variable))
        return array if fate is None or not np.ndim(array) else array[np.ix_(*fate.kept)]

    def array(self, variable, array):
        """What stays of an array of a variable's shape, in the shape of the new one.

        Args:
            variable: the old one, which has not left.
            array: a NumPy array.
        """
        return self.kept(variable, array).reshape(self.new(variable).shape)

    def scaled(self, variable, array):
        """As `array`, and multiplied where the variable was: a query, where key dimensions have left."""
        fate = self._fates.get(id(variable))
        return self.array(variable, array if fate is None else array * np.asarray(fate.factor, array.dtype))

    def structure(self, structure):
        """What stays of a `Structure` (None: nothing), and a mask of its members that do."""
        pieces = [(piece, *self._stay(piece)) for piece in structure.slices]
        stays = np.logical_or.reduce([members for *_, members in pieces])
        if not stays.any():
            return None, stays
        slices = tuple(self._slice(piece, new, stays) for piece, new, _ in pieces if new is not None)
        return dataclasses.replace(structure, size=int(stays.sum()), slices=slices), stays

    def _stay(self, piece):
        """What became of the variable of a slice, and which members it still has."""
        new = self.new(piece.variable)
        kept = self._kept(piece) if new is not None else []
        return new, np.isin(piece.indices, kept).any(1)

    def _kept(self, piece):
        fate = self._fates.get(id(piece.variable))
        return np.arange(piece.variable.shape[piece.axis]) if fate is None else fate.kept[piece.axis]

    def _slice(self, piece, new, stays):
        """The same members in the new variable; of a branch, whatever the other structures have left of it."""
        kept, indices = self._kept(piece), piece.indices[stays]
        there = np.isin(indices, kept)
        positions = np.searchsorted(kept, indices[there]).reshape(len(indices), -1)
        axis = piece.axis if len(new.shape) == len(piece.variable.shape) else len(new.shape) - 1  # see `Fate.kept`
        return dataclasses.replace(piece, variable=new, axis=axis, indices=positions)
