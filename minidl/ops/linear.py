"""Linear ops. The law: the vjp is the adjoint A', and <Ax, y> = <x, A'y>.

They come in pairs, each the other's adjoint: expand and sum_to, getitem and scatter, pad and crop (pad with
negative widths), unfold and fold. An adjoint needs its input's shape, never its values, so a linear op
keeps no array alive: its vjp asks for `x_like` (shape, dtype, device), never for `x`.
"""

from __future__ import annotations

import builtins
import math
from functools import partial

import numpy as np

from minidl import backend, kernels
from minidl.autograd import Tensor, op
from minidl.backend import array_module
from minidl.kernels.windows import output_size, taps
from minidl.ops.bands import Bands

linear = partial(op, law="linear")

# ---- shape --------------------------------------------------------------------------------------


@linear(lambda g, x_like: sum_to(g, shape=x_like.shape), reach=lambda x, shape: x.expand(shape))
def expand(xp, x, *, shape):
    """x repeated along new leading axes and axes of size 1 (without a copy)."""
    return xp.broadcast_to(x, shape)


def _summed(x, axes):
    """Σ x over the axes, which stay with size 1. float16 is summed in float32."""
    wide = np.dtype(np.float32) if x.dtype == np.float16 else x.dtype
    return x.sum(axis=axes, dtype=wide, keepdims=True).astype(x.dtype, copy=False) if axes else x


@linear(lambda g, x_like: expand(g, shape=x_like.shape), reach=lambda x, shape: x.sum_to(shape))
def sum_to(xp, x, *, shape):
    """x summed over the axes along which `shape` would be expanded to x's shape."""
    lead = x.ndim - len(shape)
    axes = tuple(i for i in range(x.ndim) if i < lead or shape[i - lead] != x.shape[i])
    return _summed(x, axes).reshape(shape)


def _kept(shape, dims):
    return tuple(1 if i in dims else n for i, n in enumerate(shape))


@linear(lambda g, x_like, dims: expand(reshape(g, shape=_kept(x_like.shape, dims)), shape=x_like.shape),
        reach=lambda x, dims, keepdim: x.over(dims, keepdim))  # fmt: skip
def sum(xp, x, *, dims, keepdim):
    """Σ x over some axes, which stay with size 1 or disappear."""
    y = _summed(x, dims)
    return y if keepdim else y.reshape(tuple(n for i, n in enumerate(x.shape) if i not in dims))


@linear(lambda g, x_like: reshape(g, shape=x_like.shape), reach=lambda x, shape: x.reshape(shape))
def reshape(xp, x, *, shape):
    return x.reshape(shape)


@linear(lambda g, axes: permute(g, axes=tuple(np.argsort(axes))), reach=lambda x, axes: x.permute(axes))
def permute(xp, x, *, axes):
    """y.shape[i] = x.shape[axes[i]]."""
    return x.transpose(axes)


@linear(lambda g, widths: pad(g, widths=tuple((-a, -b) for a, b in widths)),
        reach=lambda x, widths: x.pad(widths))  # fmt: skip
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


@linear(lambda g, x_like, index: scatter(g, index=index, shape=x_like.shape),
        reach=lambda x, index: x[index])  # fmt: skip
def getitem(xp, x, *, index):
    """x[index], for anything NumPy can index with."""
    return x[index]


@linear(lambda g, index: getitem(g, index=index),
        reach=lambda x, index, shape: x.scatter(index, shape))  # fmt: skip
def scatter(xp, x, *, index, shape):
    """Zeros of that shape, with x added at [index]: an element that was chosen twice receives twice."""
    y = xp.zeros(shape, dtype=x.dtype)
    parts = index if isinstance(index, tuple) else (index,)
    if all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts):
        y[index] = x  # slices and integers choose each element once
    else:
        xp.add.at(y, index, x)
    return y


@linear(lambda g, x_like, index, dim: put_along(g, index=index, dim=dim, size=x_like.shape[dim]),
        reach=lambda x, index, dim: x.any_along(dim, index.shape[dim]))  # fmt: skip
def take_along(xp, x, *, index, dim):
    """y[..., i, ...] = x[..., index[..., i, ...], ...] along one axis; the other axes have equal sizes.

    An index of size 1 in the axes between the first and dim serves all of them.
    """
    y = xp.empty((*x.shape[:dim], index.shape[dim], *x.shape[dim + 1 :]), dtype=x.dtype)
    kernels.of(xp).over_planes(_taken, *(_around(a, dim) for a in (y, x, index)))
    return y


@linear(lambda g, index, dim: take_along(g, index=index, dim=dim),
        reach=lambda x, index, dim, size: x.any_along(dim, size))  # fmt: skip
def put_along(xp, x, *, index, dim, size):
    """y[..., index[..., i, ...], ...] += x[..., i, ...] into zeros, with `size` elements along dim."""
    return _written(xp.add.at, x, index, dim, size)


@linear(lambda g, index, dim: take_along(g, index=index, dim=dim),
        reach=lambda x, index, dim, size: x.any_along(dim, size))  # fmt: skip
def overwrite_along(xp, x, *, index, dim, size):
    """`put_along` with = in place of +=: of several values for one place the last stays.

    The vjp is PyTorch's, the cotangent gathered at every index. It is the adjoint where all indices differ;
    where they do not, a value that was overwritten receives the cotangent of the one that stayed.
    """
    return _written(kernels.of(xp).overwrite, x, index, dim, size)


@linear(lambda g, x_like, index, windows:
        add_in_windows(g, index=index, windows=windows, size=x_like.shape[2:]),
        reach=lambda x, index, windows: x.windows(windows))  # fmt: skip
def take_in_windows(xp, x, *, index, windows):
    """y[n, c, q] = x[n, c] at the flat index[n, c, q] in the plane *S, in the window of q: x (N, C, *S).

    `windows` has the 0-1 matrix of the windows along each axis, where the adjoint looks for its terms.
    """
    return kernels.of(xp).take_in_planes(x, index)


@linear(lambda g, index, windows: take_in_windows(g, index=index, windows=windows),
        reach=lambda x, index, windows, size: x.put_in_windows(index, windows, size))  # fmt: skip
def add_in_windows(xp, x, *, index, windows, size):
    """y[n, c] += x[n, c, q] at the flat index[n, c, q], in the window of q, into zeros.

    x (N, C, *Q) -> (N, C, *size).
    """
    return kernels.of(xp).add_in_windows(x, index, windows=windows, size=size)


@linear(lambda g, index: _taken_in_planes(g, index),
        reach=lambda x, index, windows, size: x.put_in_windows(index, windows, size))  # fmt: skip
def put_in_windows(xp, x, *, index, windows, size):
    """y[n, c] = x[n, c, q] at the flat index[n, c, q], zero elsewhere: x (N, C, *Q) -> (N, C, *size).

    Of several values for one place the last stays; the vjp is PyTorch's, as in `overwrite_along`.
    An index may lie outside of its window: `windows` is only told to those who ask what q may reach.
    """
    planes = x.shape[:2]
    flat, places = (a.reshape(*planes, math.prod(x.shape[2:])) for a in (x, index))
    y = overwrite_along.forward(xp, flat, index=places, dim=2, size=math.prod(size))
    return y.reshape(*planes, *size)


def _taken_in_planes(g: Tensor, index) -> Tensor:
    """The cotangent at each index in its plane, wherever that is."""
    planes = g.shape[:2]
    flat = reshape(g, shape=(*planes, math.prod(g.shape[2:])))
    taken = take_along(flat, index=index.reshape(*planes, math.prod(index.shape[2:])), dim=2)
    return reshape(taken, shape=index.shape)


def _around(a, dim):
    """The first axis, those between it and dim as one, dim, and those after it as one."""
    first = a.shape[0] if dim else 1
    return a.reshape(first, math.prod(a.shape[1:dim]), a.shape[dim], math.prod(a.shape[dim + 1 :]))


def _places(index, shape):
    """Indices along the third of four axes as indices into the flattened array of that shape."""
    xp, (n, c, size, after) = array_module(index), shape
    if xp is not np or (index.size and int(index.min()) < 0):  # on a GPU to look is to wait
        index = xp.where(index < 0, index + size, index)
    row = xp.arange(n * c).reshape(n, c, 1, 1) * (size * after) + xp.arange(after)
    return (index * after if after > 1 else index) + row


def _taken(x, index):
    return x.ravel().take(_places(index, x.shape))


def _written(write, x, index, dim, size):
    """Zeros with `size` elements along dim, into which write(y, places, values) puts x."""
    xp = array_module(x)

    def planes(x, index):
        shape = (*x.shape[:2], size, x.shape[3])
        y = xp.zeros(math.prod(shape), dtype=x.dtype)
        write(y, _places(index, shape).ravel(), x.ravel())
        return y.reshape(shape)

    y = xp.empty((*x.shape[:dim], size, *x.shape[dim + 1 :]), dtype=x.dtype)
    kernels.of(xp).over_planes(planes, *(_around(a, dim) for a in (y, x, index)))
    return y


def last_source(xp, places, size):
    """For each of `size` places: which of the places[0], places[1], ... is the last to name it.

    They are counted from 1; a place that none of them names has 0.
    """
    last = xp.zeros(size, dtype=np.int64)
    kernels.of(xp).overwrite(last, places, xp.arange(1, places.size + 1))
    return last


def _part(g: Tensor, k: int, xs_like: tuple, dim: int) -> Tensor:
    """The cotangent of the k-th of the arrays: its part of g."""
    start = builtins.sum(x.shape[dim] for x in xs_like[:k])
    return getitem(g, index=(slice(None),) * dim + (slice(start, start + xs_like[k].shape[dim]),))


@linear(_part, reach=lambda *xs, dim: xs[0].cat(xs, dim))
def cat(xp, *xs, dim):
    """The arrays one after another along an axis."""
    return xp.concatenate(xs, axis=dim)


# ---- sums over windows and along axes ----------------------------------------------------------


@linear(lambda g, dim, reverse: cumsum(g, dim=dim, reverse=not reverse),
        reach=lambda x, dim, reverse: x.cumsum(dim, reverse))  # fmt: skip
def cumsum(xp, x, *, dim, reverse):
    """y_i = Σ_{j <= i} x_j, or the sum of what follows, Σ_{j >= i} x_j, where reversed."""
    if not reverse:
        return xp.cumsum(x, axis=dim, dtype=x.dtype)
    return xp.flip(xp.cumsum(xp.flip(x, dim), axis=dim, dtype=x.dtype), dim)


@linear(lambda g, x_like, **geometry: fold(g, size=x_like.shape[2:], **geometry),
        reach=lambda x, **geometry: x.unfold(**geometry))  # fmt: skip
def unfold(xp, x, *, kernel, stride, dilation):
    """All windows of x (N, C, *S) as (N, C, *K, *Q): y[..., k, q] = x[..., stride·q + dilation·k]."""
    outputs = output_size(x.shape[2:], kernel, stride, dilation)
    y = xp.empty((*x.shape[:2], *kernel, *outputs), dtype=x.dtype)
    for k, view in taps(x, kernel, outputs, stride, dilation):
        y[(slice(None), slice(None), *k)] = view
    return y


@linear(lambda g, size, **geometry: unfold(g, **geometry), reach=lambda x, **geometry: x.fold(**geometry))
def fold(xp, x, *, size, kernel, stride, dilation):
    """Windows (N, C, *K, *Q) added back where they came from: (N, C, *size)."""
    outputs = x.shape[2 + len(kernel) :]
    y = xp.zeros((*x.shape[:2], *size), dtype=x.dtype)
    for k, view in taps(y, kernel, outputs, stride, dilation):
        view += x[(slice(None), slice(None), *k)]
    return y


@linear(lambda g, bands, dim: resample(g, bands=bands.T, dim=dim),
        reach=lambda x, bands, dim: x.resample(bands, dim))  # fmt: skip
def resample(xp, x, *, bands: Bands, dim):
    """y = B x along one axis, B a banded matrix: interpolation, average pooling, and their adjoints."""
    return bands.apply(xp, x, dim)


# ---- dtype and device --------------------------------------------------------------------------


@linear(lambda g, x_like: cast(g, dtype=x_like.dtype), reach=lambda x, dtype: x)
def cast(xp, x, *, dtype):
    return x.astype(dtype, copy=False)


@linear(lambda g, x_like: to_device(g, target=x_like.device), reach=lambda x, target: x)
def to_device(xp, x, *, target):
    return backend.to_device(x, target)
