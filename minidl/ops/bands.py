"""Banded matrices that act along one axis: what interpolation and average pooling are made of.

Each output sample is a weighted sum of a few neighbouring input samples, y_i = Σ_t weight[i, t] · x[index[i, t]],
with the same number T of terms for every output (short rows are filled up with weight 0). The transposed matrix is
of the same kind, so the adjoint needs no scatter, and both run on any device as T gathers and additions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Bands:
    """A matrix of `size` columns given by its rows: `index` (outputs, T) and `weight` (outputs, T)."""

    index: np.ndarray
    weight: np.ndarray
    size: int

    @property
    def dense(self) -> np.ndarray:
        """The matrix itself, (outputs, size)."""
        matrix = np.zeros((len(self.index), self.size))
        np.add.at(matrix, (np.arange(len(self.index))[:, None], self.index), self.weight)
        return matrix

    @cached_property
    def T(self) -> Bands:
        """The transposed matrix, as bands."""
        rows = np.repeat(np.arange(len(self.index)), self.index.shape[1])
        columns, weights = self.index.ravel(), self.weight.ravel()
        used = weights != 0
        order = np.argsort(columns[used], kind="stable")
        columns, rows, weights = columns[used][order], rows[used][order], weights[used][order]
        counts = np.bincount(columns, minlength=self.size)
        terms = max(int(counts.max(initial=0)), 1)
        place = np.arange(len(columns)) - np.repeat(np.cumsum(counts) - counts, counts)
        index, weight = np.zeros((self.size, terms), np.intp), np.zeros((self.size, terms))
        index[columns, place], weight[columns, place] = rows, weights
        return Bands(index, weight, len(self.index))

    def apply(self, xp, x, dim: int):
        """B x along axis `dim`."""
        shape = [-1 if i == dim % x.ndim else 1 for i in range(x.ndim)]
        wide = np.float32 if x.dtype == np.float16 else x.dtype
        y = None
        for index, weight in zip(self.index.T, self.weight.T):
            if not weight.any() and y is not None:
                continue
            part = x.take(xp.asarray(index), axis=dim)
            if not (weight == 1).all():
                part = part * xp.asarray(weight.astype(wide)).reshape(shape)
            y = part if y is None else y + part
        return y.astype(x.dtype, copy=False)
