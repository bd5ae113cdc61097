"""Banded matrices that act along one axis: what interpolation, average pooling and padding are made of.

Each output sample is a weighted sum of a few input samples, y_i = Σ_t weight[i, t] · x[index[i, t]], with
the same number T of terms for every output (short rows are filled up with weight 0). The transposed matrix
is of the same kind, so the adjoint needs no scatter.

Most rows only repeat the row before them, a step further on: 2i, 2i + 1 in pooling by 2. Such a *run* of
rows reads strided slices of x, which is as fast as memory allows; what is irregular is gathered.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np

from minidl.kernels.windows import Column, pick

LONGEST_PERIOD, MOST_RUNS = 8, 16
NEGLIGIBLE = 1e-7  # a weight that rounding left where there should be none


def _progression(start: int, step: int, count: int) -> slice:
    """start, start + step, ... as a slice; with step 0 the one element, which broadcasting then repeats."""
    if step == 0:
        return slice(start, start + 1)
    stop = start + step * count
    return slice(start, stop if stop >= 0 else None, step)


def _runs_of_period(index: np.ndarray, period: int) -> list[tuple[slice, list[Column]]]:
    """Rows period · j + phase, cut wherever the step from row to row changes."""
    found = []
    for phase in range(min(period, len(index))):
        rows = index[phase::period]
        steps = np.diff(rows, axis=0)
        regular, step = (steps == steps[:, :1]).all(1).tolist(), steps[:, 0].tolist()
        start = 0
        while start < len(rows):
            end = start + 1
            while end < len(rows) and regular[end - 1] and step[end - 1] == step[start]:
                end += 1
            across = step[start] if end > start + 1 else 1
            columns: list[Column] = [_progression(c, across, end - start) for c in rows[start].tolist()]
            first = phase + period * start
            found.append((slice(first, phase + period * (end - 1) + 1, period), columns))
            start = end
    return found


def runs(index: np.ndarray) -> list[tuple[slice, list[Column]]]:
    """The rows of `index` (outputs, T) as runs: (rows, for each term where these rows find it)."""
    shortest = min(
        (_runs_of_period(index, period) for period in range(1, LONGEST_PERIOD + 1)),
        key=len,
    )
    return shortest if len(shortest) <= MOST_RUNS else [(slice(None), list(index.T))]


Term = tuple[Column, np.ndarray | float]  # where it is, and its weight: one number, or one for each row


class Run(NamedTuple):
    """Rows of a matrix that differ only in where they read: y[rows] = factor · Σ_t weight_t · x[column_t]."""

    rows: slice
    terms: list[Term]
    factor: float  # equal weights are applied once, after the sum


@dataclass(frozen=True, eq=False)
class Bands:
    """A matrix of `size` columns given by its rows: `index` (outputs, T) and `weight` (outputs, T).

    `advance`: how far the terms move from one row to the next, on average and away from the borders; None
    stands for size / outputs.
    """

    index: np.ndarray
    weight: np.ndarray
    size: int
    advance: Fraction | None = None

    @property
    def support(self) -> np.ndarray:
        """Which terms count, (outputs, T)."""
        return abs(self.weight) > NEGLIGIBLE

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
        index[columns[::-1]] = rows[::-1, None]  # a row's filling repeats its first term
        index[columns, place], weight[columns, place] = rows, weights
        return Bands(index, weight, len(self.index), 1 / self.advance if self.advance else None)

    @cached_property
    def runs(self) -> list[Run]:
        """The runs of the rows, without the terms of weight 0."""
        weighted = []
        for rows, columns in runs(self.index):
            terms: list[Term] = []
            for column, weight in zip(columns, self.weight[rows].T):
                if weight.any():
                    terms.append((column, float(weight[0]) if (weight == weight[0]).all() else weight))
            factor = terms[0][1] if terms else 1.0
            if isinstance(factor, float) and all(isinstance(w, float) and w == factor for _, w in terms):
                weighted.append(Run(rows, [(column, 1.0) for column, _ in terms], factor))
            else:
                weighted.append(Run(rows, terms, 1.0))
        return weighted

    def apply(self, xp, x, dim: int):
        """B x along axis `dim`. float16 is summed in float32; dtypes without fractions need weights of 1."""
        dim %= x.ndim
        wide = np.dtype(np.float32) if x.dtype == np.float16 else x.dtype
        along = (-1,) + (1,) * (x.ndim - dim - 1)
        y = xp.empty((*x.shape[:dim], len(self.index), *x.shape[dim + 1 :]), dtype=wide)
        for rows, terms, factor in self.runs:
            part = pick(xp, y, rows, dim)
            if not terms:
                part[...] = 0
            for t, (column, weight) in enumerate(terms):
                term = pick(xp, x, column, dim)
                if isinstance(weight, np.ndarray):
                    term = term * xp.asarray(weight.astype(wide)).reshape(along)
                elif weight != 1:
                    term = term * wide.type(weight)
                if t == 0:
                    part[...] = term
                else:
                    part += term
            if factor != 1:
                part *= wide.type(factor)
        return y.astype(x.dtype, copy=False)
