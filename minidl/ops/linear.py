"""Linear ops. The law: the vjp is the adjoint A', and <Ax, y> = <x, A'y>.

They come in pairs, each the other's adjoint: expand and sum_to, getitem and scatter, pad and crop (pad with
negative widths), unfold and fold. An adjoint needs its input's shape, never its values, so a linear op
keeps no array alive: its vjp asks for `x_like` (shape, dtype, device), never for `x`.
"""

from __future__ import annotations

import builtins
from functools import partial

import numpy as np

from minidl import backend
from minidl.autograd import Tensor, op
from minidl.kernels.windows import output_size, taps
from minidl.ops.bands import Bands

linear = partial(op, law="linear")

# ---- shape --------------------------------------------------------------------------------------


@linear(lambda g, x_like: sum_to(g, shape=x_like.shape))
def expand(xp, x, *, shape):
    """x repeated along new leading axes and axes of size 1 (without a copy)."""
    return xp.broadcast_to(x, shape)


def _summed(x, axes):
    """Σ x over the axes, which stay with size 1. float16 is summed in float32."""
    wide = np.dtype(np.float32) if x.dtype == np.float16 else x.dtype
    return x.sum(axis=axes, dtype=wide, keepdims=True).astype(x.dtype, copy=False) if axes else x


@linear(lambda g, x_like: expand(g, shape=x_like.shape))
def sum_to(xp, x, *, shape):
    """x summed over the axes along which `shape` would be expanded to x's shape."""
    lead = x.ndim - len(shape)
    axes = tuple(i for i in range(x.ndim) if i < lead or shape[i - lead] != x.shape[i])
    return _summed(x, axes).reshape(shape)


def _kept(shape, dims):
    return tuple(1 if i in dims else n for i, n in enumerate(shape))


@linear(lambda g, x_like, dims: expand(reshape(g, shape=_kept(x_like.shape, dims)), shape=x_like.shape))
def sum(xp, x, *, dims, keepdim):
    """Σ x over some axes, which stay with size 1 or disappear."""
    y = _summed(x, dims)
    return y if keepdim else y.reshape(tuple(n for i, n in enumerate(x.shape) if i not in dims))


@linear(lambda g, x_like: reshape(g, shape=x_like.shape))
def reshape(xp, x, *, shape):
    return x.reshape(shape)


@linear(lambda g, axes: permute(g, axes=tuple(np.argsort(axes))))
def permute(xp, x, *, axes):
    """y.shape[i] = x.shape[axes[i]]."""
    return x.transpose(axes)


@linear(lambda g, widths: pad(g, widths=tuple((-a, -b) for a, b in widths)))
def pad(xp, x, *, widths):
    """Zeros added before and after each axis; a negative width crops instead, which is the adjoint."""
    kept = x[tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, widths))]
    added = [(max(a, 0), max(b, 0)) for a, b in widths]
    if not any(map(any, added)):
        return kept
    y = xp.zeros([n + a + b for n, (a, b) in zip(kept.shape, added)], dtype=x.dtype)
    y[tuple(slice(a, a + n) for n, (a, b) in zip(kept.shape, added))] = kept
    return y


# ---- choosing elements -------------------------------------------------------------------------


@linear(lambda g, x_like, index: scatter(g, index=index, shape=x_like.shape))
def getitem(xp, x, *, index):
    """x[index], for anything NumPy can index with."""
    return x[index]


@linear(lambda g, index: getitem(g, index=index))
def scatter(xp, x, *, index, shape):
    """Zeros of that shape, with x added at [index]: an element that was chosen twice receives twice."""
    y = xp.zeros(shape, dtype=x.dtype)
    parts = index if isinstance(index, tuple) else (index,)
    if all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts):
        y[index] = x  # slices and integers choose each element once
    else:
        xp.add.at(y, index, x)
    return y


@linear(lambda g, x_like, index, dim: put_along(g, index=index, dim=dim, size=x_like.shape[dim]))
def take_along(xp, x, *, index, dim):
    """y[..., i, ...] = x[..., index[..., i, ...], ...] along one axis; the other axes have equal sizes."""
    return xp.take_along_axis(x, index, axis=dim)


@linear(lambda g, index, dim: take_along(g, index=index, dim=dim))
def put_along(xp, x, *, index, dim, size):
    """y[..., index[..., i, ...], ...] += x[..., i, ...] into zeros, with `size` elements along dim."""
    x, index = xp.moveaxis(x, dim, -1), xp.moveaxis(index, dim, -1)
    rows = xp.arange(int(np.prod(x.shape[:-1]))).reshape(*x.shape[:-1], 1)
    y = xp.zeros(rows.size * size, dtype=x.dtype)
    xp.add.at(y, (rows * size + index).ravel(), x.ravel())
    return xp.moveaxis(y.reshape(*x.shape[:-1], size), -1, dim)


def _part(g: Tensor, k: int, xs_like: tuple, dim: int) -> Tensor:
    """The cotangent of the k-th of the arrays: its part of g."""
    start = builtins.sum(x.shape[dim] for x in xs_like[:k])
    return getitem(g, index=(slice(None),) * dim + (slice(start, start + xs_like[k].shape[dim]),))


@linear(_part)
def cat(xp, *xs, dim):
    """The arrays one after another along an axis."""
    return xp.concatenate(xs, axis=dim)


# ---- sums over windows and along axes ----------------------------------------------------------


@linear(lambda g, dim, reverse: cumsum(g, dim=dim, reverse=not reverse))
def cumsum(xp, x, *, dim, reverse):
    """y_i = Σ_{j <= i} x_j, or the sum of what follows, Σ_{j >= i} x_j, where reversed."""
    if not reverse:
        return xp.cumsum(x, axis=dim, dtype=x.dtype)
    return xp.flip(xp.cumsum(xp.flip(x, dim), axis=dim, dtype=x.dtype), dim)


@linear(lambda g, x_like, **geometry: fold(g, size=x_like.shape[2:], **geometry))
def unfold(xp, x, *, kernel, stride, dilation):
    """All windows of x (N, C, *S) as (N, C, *K, *Q): y[..., k, q] = x[..., stride·q + dilation·k]."""
    outputs = output_size(x.shape[2:], kernel, stride, dilation)
    y = xp.empty((*x.shape[:2], *kernel, *outputs), dtype=x.dtype)
    for k, view in taps(x, kernel, outputs, stride, dilation):
        y[(slice(None), slice(None), *k)] = view
    return y


@linear(lambda g, size, **geometry: unfold(g, **geometry))
def fold(xp, x, *, size, kernel, stride, dilation):
    """Windows (N, C, *K, *Q) added back where they came from: (N, C, *size)."""
    outputs = x.shape[2 + len(kernel) :]
    y = xp.zeros((*x.shape[:2], *size), dtype=x.dtype)
    for k, view in taps(y, kernel, outputs, stride, dilation):
        view += x[(slice(None), slice(None), *k)]
    return y


@linear(lambda g, bands, dim: resample(g, bands=bands.T, dim=dim))
def resample(xp, x, *, bands: Bands, dim):
    """y = B x along one axis, B a banded matrix: interpolation, average pooling, and their adjoints."""
    return bands.apply(xp, x, dim)


# ---- dtype and device --------------------------------------------------------------------------


@linear(lambda g, x_like: cast(g, dtype=x_like.dtype))
def cast(xp, x, *, dtype):
    return x.astype(dtype, copy=False)


@linear(lambda g, x_like: to_device(g, target=x_like.device))
def to_device(xp, x, *, target):
    return backend.to_device(x, target)
