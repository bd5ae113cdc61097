"""Windows: how many there are, the view of the input that each kernel tap meets, and places in planes."""

from __future__ import annotations

import math

import numpy as np

Column = slice | np.ndarray  # where windows find one of their samples along an axis


def output_size(size, kernel, stride, dilation):
    """The number of window positions per axis: (n - d·(k - 1) - 1) // s + 1 for a padded size n."""
    return [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(size, kernel, stride, dilation)]


def taps(x, kernel, outputs, stride, dilation):
    """For each kernel tap k, the view of x (..., *S) at stride·q + dilation·k for every output position q."""
    for k in np.ndindex(*kernel):
        yield k, x[(..., *(slice(d * i, d * i + s * (q - 1) + 1, s) if q else slice(0, 0)
                           for i, q, s, d in zip(k, outputs, stride, dilation)))]  # fmt: skip


def shifts(size, window, rows=None):
    """For each tap of a centred window: the tap, the positions whose neighbour is inside, the neighbours.

    Both are slices of an image of that size, `there` = `here` + offset; `rows` cuts `here` along the first
    axis.
    """
    bounds = [rows or (0, size[0]), *((0, n) for n in size[1:])]
    for tap in np.ndindex(*window):
        offsets = [t - w // 2 for t, w in zip(tap, window)]
        spans = [(max(a, -o), min(b, n - o)) for (a, b), n, o in zip(bounds, size, offsets)]
        if all(a < b for a, b in spans):
            here = tuple(slice(a, b) for a, b in spans)
            yield tap, here, tuple(slice(a + o, b + o) for (a, b), o in zip(spans, offsets))


def pick(xp, x, column: Column, dim: int):
    """x[column] along axis `dim`: a view for a slice."""
    if isinstance(column, slice):
        return x[(slice(None),) * dim + (column,)]
    return x.take(xp.asarray(column), axis=dim)


def in_planes(xp, index, size):
    """Flat indices (N, C, *Q) in planes of that size as flat indices in the whole array (N, C, *size)."""
    n, c = index.shape[:2]
    return index + xp.arange(n * c).reshape(n, c, *(1,) * (index.ndim - 2)) * math.prod(size)
