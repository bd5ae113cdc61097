"""Max-pooling on a GPU: launches the kernels of `pool.cu`.

Dtypes that CUDA C has no kernel for (integers) go the way of `reference.py`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from minidl.backend import array_module
from minidl.kernels import reference
from minidl.kernels.cuda_module import BLOCK, MACROS, blocks, check_size, function

POOL = np.dtype([(name, np.int32, 3) for name in ("size", "outputs", "step")])  # struct Pool of pool.cu


def max_indices(x, windows):
    """The flat index, in its (n, c) plane, of the maximum of x (N, C, *S) in each window."""
    if x.dtype not in MACROS:
        return reference.max_indices(x, windows)
    xp = array_module(x)
    index = xp.empty((*x.shape[:2], *(len(axis.index) for axis in windows)), np.int64)
    spans, step = _samples(tuple(windows))
    pool = _pool(x.shape[2:], index.shape[2:], step)
    _launch("max_indices", x.dtype, index, _whole(x), xp.asarray(spans), index.size, pool)
    return index


def take_in_planes(x, index):
    """y[n, c, q] = x[n, c] at the flat index[n, c, q] in the plane *S."""
    if x.dtype not in MACROS:
        return reference.take_in_planes(x, index)
    y = array_module(x).empty(index.shape, x.dtype)
    pool = _pool(x.shape[2:], index.shape[2:], ())
    _launch("take_in_planes", x.dtype, y, _whole(x), _whole(index, np.int64), y.size, pool)
    return y


def add_in_windows(x, index, *, windows, size):
    """y[n, c, k] = Σ_{q: index[n, c, q] = k} x[n, c, q]: x (N, C, *Q) -> (N, C, *size)."""
    if x.dtype not in MACROS:
        return reference.add_in_windows(x, index, windows=windows, size=size)
    xp = array_module(x)
    y = xp.empty((*x.shape[:2], *size), x.dtype)
    spans, pool = xp.asarray(_seen_by(tuple(windows))), _pool(size, x.shape[2:], ())
    _launch("add_in_windows", x.dtype, y, _whole(x), _whole(index, np.int64), spans, y.size, pool)
    return y


def _launch(name, dtype, out, x, *arguments):
    for array in out, x:
        check_size(name, array.shape)
    function("pool.cu", name, **MACROS[dtype])(blocks(out.size), (BLOCK,), (out, x, *arguments))


def _whole(array, dtype=None):
    return array_module(array).ascontiguousarray(array, dtype=dtype)


def _three(values):
    """With 1 for each axis that is missing."""
    return (*(1,) * (3 - len(values)), *values)


def _pool(*values):
    """Sizes, outputs and steps as a `struct Pool`."""
    return np.array([tuple(map(_three, values))], POOL)


@lru_cache(maxsize=256)
def _samples(windows):
    """The span of samples of each window, one axis after another, and the step from sample to sample."""
    found = [np.stack([axis.index.min(1), axis.index.max(1) + 1], 1) for axis in windows]
    return _table(found), tuple(int(np.diff(axis.index).max(initial=1)) for axis in windows)


@lru_cache(maxsize=256)
def _seen_by(windows):
    """The span of windows that see each sample, one axis after another; begin > end where none does."""
    found = []
    for axis in windows:
        begin, end = np.full(axis.size, len(axis.index)), np.zeros(axis.size, int)
        rows = np.broadcast_to(np.arange(len(axis.index))[:, None], axis.index.shape)
        np.minimum.at(begin, axis.index, rows)
        np.maximum.at(end, axis.index, rows + 1)
        found.append(np.stack([begin, end], 1))
    return _table(found)


def _table(spans):
    missing = [np.array([[0, 1]])] * (3 - len(spans))
    return np.concatenate([*missing, *spans]).astype(np.int32)
