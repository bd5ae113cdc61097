"""Work on planes, on the CPU: pooling and gathering treat each (n, c) plane of (N, C, ...) by itself."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from minidl.kernels.threads import parallel
from minidl.kernels.windows import in_planes, pick

BLOCK = 1 << 19  # bytes of the first array that one task takes: with what it makes of them they fit the cache


def over_planes(function, out, *arrays):
    """Write function(*arrays) into `out`, all (N, C, ...), in blocks of planes on the threads.

    Of the arrays, but not of `out`, some may be (N, 1, ...): they serve all channels.
    """
    samples, channels = out.shape[:2]
    at_once = max(1, BLOCK * samples * channels // max(1, arrays[0].nbytes))
    n_step, c_step = max(1, at_once // max(1, channels)), max(1, min(at_once, channels))

    def run(start):
        n, c = (slice(first, first + step) for first, step in zip(start, (n_step, c_step)))
        out[n, c] = function(*(a[n, c] if a.shape[1] == channels else a[n] for a in arrays))

    parallel(run, [(n, c) for n in range(0, samples, n_step) for c in range(0, channels, c_step)])
    return out


def overwrite(y, places, x):
    """y[places] = x for vectors; of several values for one place the last stays: NumPy goes in order."""
    y[places] = x


# ---- max-pooling -----------------------------------------------------------------------------------


def max_indices(x, windows):
    """The flat index, in its (n, c) plane, of the maximum of x (N, C, *S) in each window.

    The first of equals, the last NaN. windows: for each axis a matrix (`Bands`) whose rows are the windows.
    One axis after the other, from the last to the first, so that the first of equals is the first in memory.
    """
    index = np.empty((*x.shape[:2], *(len(axis.index) for axis in windows)), dtype=np.int64)
    return over_planes(partial(_max_indices, windows=windows), index, x)


def _max_indices(value, windows):
    size, total = value.shape[2:], math.prod(value.shape[2:])
    place = np.arange(total, dtype=np.int32 if total < 2**31 else np.int64).reshape(1, 1, *size)
    may_be_nan = value.dtype.kind == "f" and bool(np.isnan(value).any())
    for i in reversed(range(len(size))):
        value, place = _max_along(value, place, windows[i], 2 + i, may_be_nan)
    return place


def _max_along(value, place, windows, dim, may_be_nan):
    """(value, place) of the maximum in each window along one axis: the first of equals, the last NaN."""
    shape = (*value.shape[:dim], len(windows.index), *value.shape[dim + 1 :])
    best, where = np.empty(shape, dtype=value.dtype), np.empty(shape, dtype=place.dtype)
    for rows, terms, _ in windows.runs:
        columns = [column for column, _ in terms]
        m, at = pick(np, value, columns[0], dim), pick(np, place, columns[0], dim)
        for column in columns[1:]:
            v, p = pick(np, value, column, dim), pick(np, place, column, dim)
            better = v > m
            if may_be_nan:
                better |= v != v
            m, at = np.maximum(m, v), at + (p - at) * better  # p where better, without a branch
        here = (slice(None),) * dim + (rows,)
        best[here], where[here] = m, at
    return best, where


def take_in_planes(x, index):
    """y[n, c, q] = x[n, c] at the flat index[n, c, q] in the plane *S: x (N, C, *S), index (N, C, *Q)."""
    return over_planes(_taken, np.empty(index.shape, x.dtype), x, index)


def _taken(x, index):
    return x.ravel().take(in_planes(np, index, x.shape[2:]))


def add_in_windows(x, index, *, windows, size):
    """y[n, c, k] = Σ_{q: index[n, c, q] = k} x[n, c, q]: x (N, C, *Q) -> (N, C, *size).

    windows: as above; the index of q is one of the samples of window q.
    """
    return over_planes(partial(_added, size=size), np.empty((*x.shape[:2], *size), x.dtype), x, index)


def _added(x, index, size):
    y = np.zeros((*x.shape[:2], *size), dtype=x.dtype)
    np.add.at(y.reshape(-1), in_planes(np, index, size).ravel(), x.ravel())
    return y
