"""Sums over the neighbourhood of every voxel, with weights that differ from voxel to voxel.

    T(w, q, u) = Σ w[n, d, i] · q[n, l, i + d] · u[n, l, i]        d: an offset in the window, i + d in the
    image

    local_sum(w, q) = ∂T/∂u,  local_spread(w, u) = ∂T/∂q,  local_dot(q, u) = ∂T/∂w

One block of rows at a time stays in a core's cache while all offsets pass over it; threads share the blocks.
The clear version stands in `reference.py`. Shapes: w (N, *window, *S), q and u (N, L, *S).
"""

from __future__ import annotations

import math

import numpy as np

from minidl.kernels.threads import parallel
from minidl.kernels.windows import shifts

BLOCK = 1 << 16  # elements of a block: 256 KiB in float32


def _wide(*arrays):
    """float16 is summed in float32."""
    return [a.astype(np.float32) if a.dtype == np.float16 else a for a in arrays]


def _blocks(n, channels, size):
    """(sample, first row, last row) of every block; rows run along the first spatial axis."""
    rows = max(1, BLOCK // max(1, channels * math.prod(size[1:])))
    return [(i, a, min(a + rows, size[0])) for i in range(n) for a in range(0, size[0], rows)]


def _part(buffer, shape):
    return buffer[: math.prod(shape)].reshape(shape)


def local_sum(w, q):
    dtype = q.dtype
    w, q = _wide(w, q)
    (n, channels, *size), window = q.shape, w.shape[1 : 1 + q.ndim - 2]
    u = np.zeros_like(q)

    def work(block):
        i, *rows = block
        buffer = np.empty(channels * (rows[1] - rows[0]) * math.prod(size[1:]), q.dtype)
        for tap, here, there in shifts(size, window, rows):
            neighbours, target = q[(i, slice(None), *there)], u[(i, slice(None), *here)]
            product = np.multiply(w[(i, *tap, *here)], neighbours, out=_part(buffer, neighbours.shape))
            target += product

    parallel(work, _blocks(n, channels, size))
    return u.astype(dtype, copy=False)


def local_spread(w, u):
    dtype = u.dtype
    w, u = _wide(w, u)
    (n, channels, *size), window = u.shape, w.shape[1 : 1 + u.ndim - 2]
    q = np.zeros_like(u)

    def work(block):
        i, *rows = block
        buffer = np.empty(channels * (rows[1] - rows[0]) * math.prod(size[1:]), u.dtype)
        for tap, here, there in shifts(size, window, rows):
            opposite = tuple(n - 1 - t for n, t in zip(window, tap))  # leads from there to here
            source, target = u[(i, slice(None), *there)], q[(i, slice(None), *here)]
            product = np.multiply(w[(i, *opposite, *there)], source, out=_part(buffer, source.shape))
            target += product

    parallel(work, _blocks(n, channels, size))
    return q.astype(dtype, copy=False)


def local_dot(q, u, *, window):
    dtype = q.dtype
    q, u = _wide(q, u)
    n, channels, *size = q.shape
    w = np.zeros((n, *window, *size), q.dtype)

    def work(block):
        i, *rows = block
        buffer = np.empty(channels * (rows[1] - rows[0]) * math.prod(size[1:]), q.dtype)
        for tap, here, there in shifts(size, window, rows):
            neighbours, centres = q[(i, slice(None), *there)], u[(i, slice(None), *here)]
            product = np.multiply(neighbours, centres, out=_part(buffer, neighbours.shape))
            np.add.reduce(product, axis=0, out=w[(i, *tap, *here)])

    parallel(work, _blocks(n, channels, size))
    return w.astype(dtype, copy=False)
