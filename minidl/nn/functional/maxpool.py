"""Max-pooling: find where each window has its maximum, then gather there; and the inverse, which puts back.

The search is a kernel without a gradient. The gather is a linear op whose adjoint adds back, so pooling has
gradients of every order, and windows that share a maximum add up their cotangents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np

from minidl import kernels
from minidl.autograd import Tensor
from minidl.backend import array_module
from minidl.nn.functional.checks import Sizes, ntuple
from minidl.nn.functional.conv import of_rank
from minidl.nn.functional.windows import (
    adaptive_size,
    adaptive_windows,
    pool_geometry,
    pool_input,
    pool_positions,
)
from minidl.ops import linear
from minidl.ops.bands import Bands

# ---- where the maximum is ----------------------------------------------------------------------


@lru_cache(maxsize=256)
def _sliding(
    size: int, kernel: int, stride: int, padding: int, dilation: int, outputs: int, name: str
) -> Bands:
    """The samples that each window sees; a tap in the padding looks at the nearest one of them instead."""
    index = np.arange(outputs)[:, None] * stride - padding + np.arange(kernel) * dilation
    inside = (index >= 0) & (index < size)
    if not inside.any(1).all():
        raise ValueError(
            f"{name}: a window of kernel {kernel}, dilation {dilation} and padding {padding} misses "
            f"all of the {size} samples"
        )
    first = np.where(inside, index, size).min(1, keepdims=True)
    last = np.where(inside, index, -1).max(1, keepdims=True)
    return _windows(index.clip(first, last), size, Fraction(stride))


@lru_cache(maxsize=256)
def _adaptive(size: int, outputs: int) -> Bands:
    return _windows(adaptive_windows(size, outputs)[0], size)


def _windows(index: np.ndarray, size: int, advance: Fraction | None = None) -> Bands:
    """The samples that each window sees, (outputs, T), as a matrix of ones."""
    return Bands(index, np.ones(index.shape), size, advance)


def _pooled(
    input: Tensor, windows: Sequence[Bands], added: bool, return_indices: bool
) -> Tensor | tuple[Tensor, Tensor]:
    index = kernels.of(array_module(input.array)).max_indices(input.array, windows)
    y, where = linear.take_in_windows(input, index=index, windows=windows), Tensor(index)
    if added:
        y, where = y.squeeze(0), where.squeeze(0)
    return (y, where) if return_indices else y


# ---- pooling -----------------------------------------------------------------------------------


def max_pool_nd(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    rank: int,
    name: str,
) -> Tensor | tuple[Tensor, Tensor]:
    """y[n, c, q] = max_k x[n, c, stride·q + dilation·k - padding], where the padding holds -inf.

    input (N, C, *S) or (C, *S); stride defaults to kernel_size. The first of equal maxima is chosen and takes
    the gradient; a NaN is the maximum of its windows. With return_indices also the flat index of each
    maximum in its (n, c) plane, for `max_unpool`.
    """
    input, added = pool_input(input, rank, name)
    size = input.shape[2:]
    gaps = ntuple(dilation, rank, f"{name}: dilation", 1)
    geometry = (*pool_geometry(kernel_size, stride, padding, rank, name), gaps)
    outputs = pool_positions(size, *geometry, ceil_mode, name)
    windows = [_sliding(*axis, name) for axis in zip(size, *geometry, outputs)]
    return _pooled(input, windows, added, return_indices)


def adaptive_max_pool_nd(
    input: Tensor,
    output_size: int | Sequence[int | None] | None,
    return_indices: bool = False,
    *,
    rank: int,
    name: str,
) -> Tensor | tuple[Tensor, Tensor]:
    """The maxima of windows that divide each axis into `output_size` parts.

    Window q of Q covers the samples floor(q·S/Q) .. ceil((q + 1)·S/Q) - 1 of S; None stands for Q = S. The
    rest is as in `max_pool`.
    """
    input, added = pool_input(input, rank, name)
    outputs = adaptive_size(output_size, input.shape[2:], name)
    return _pooled(input, [_adaptive(*axis) for axis in zip(input.shape[2:], outputs)], added, return_indices)


# ---- unpooling ---------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _emptied(size: int, kernel: int, stride: int, padding: int, inputs: int) -> Bands:
    """The places that each of the inputs may have been taken from, along one axis of the output."""
    index = np.arange(inputs)[:, None] * stride - padding + np.arange(kernel)
    inside = (index >= 0) & (index < size)
    return Bands(index.clip(0, size - 1), inside.astype(np.float64), size, Fraction(stride))


def _unpooled_size(size, kernel, stride, padding, output_size, name):
    """output_size, if pooling makes `size` of it; by default the size that the windows just cover."""
    natural = tuple((n - 1) * s - 2 * p + k for n, k, s, p in zip(size, kernel, stride, padding))
    if output_size is None:
        return natural
    wanted = tuple(int(n) for n in output_size)
    if not len(size) <= len(wanted) <= len(size) + 2:
        raise ValueError(f"{name}: output_size needs {len(size)} numbers, got {wanted}")
    wanted = wanted[-len(size) :]
    if any(not n - s < w < n + s for w, n, s in zip(wanted, natural, stride)):
        raise ValueError(
            f"{name}: output_size {wanted} must differ from {natural} by less than the stride {stride} "
            f"for input {tuple(size)}"
        )
    return wanted


def max_unpool_nd(
    input: Tensor,
    indices: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
    *,
    rank: int,
    name: str,
) -> Tensor:
    """What `max_pool` left, put back where it was: zeros, with each value of the input at its flat index.

    input (N, C, *Q) or (C, *Q); `indices` is what `max_pool` returned under return_indices. The output has
    (Q - 1)·stride - 2·padding + kernel samples per axis; `output_size` picks one of the other sizes that
    pooling maps to Q. Of several values for one place the last stays. The gradient is PyTorch's, gathered at
    all the indices: a value that was overwritten has the gradient of the one that stayed.
    """
    input, added = pool_input(input, rank, name)
    if not isinstance(indices, Tensor) or indices.dtype.kind not in "iu":
        found = getattr(indices, "dtype", type(indices).__name__)
        raise TypeError(f"{name}: indices must be a Tensor of integers, got {found}")
    index = indices.array[None] if added else indices.array
    if index.shape != input.shape:
        raise ValueError(f"{name}: input {input.shape} and indices {index.shape} must have one shape")
    geometry = pool_geometry(kernel_size, stride, padding, rank, name)
    size = _unpooled_size(input.shape[2:], *geometry, output_size, name)
    total = math.prod(size)
    if min(size) < 1:
        raise ValueError(
            f"{name}: the output would have size {size} (input {input.shape}, padding {padding})"
        )
    # on a GPU to look is to wait
    if array_module(index) is np and index.size and not 0 <= index.min() <= index.max() < total:
        raise IndexError(f"{name}: indices {index.min()} .. {index.max()} leave the output of size {size}")
    windows = [_emptied(*axis) for axis in zip(size, *geometry, input.shape[2:])]
    y = linear.put_in_windows(input, index=index, windows=windows, size=size)
    return y.squeeze(0) if added else y


max_pool1d, max_pool2d, max_pool3d = (of_rank(max_pool_nd, n, f"max_pool{n}d") for n in (1, 2, 3))
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = (
    of_rank(adaptive_max_pool_nd, n, f"adaptive_max_pool{n}d") for n in (1, 2, 3)
)
max_unpool1d, max_unpool2d, max_unpool3d = (of_rank(max_unpool_nd, n, f"max_unpool{n}d") for n in (1, 2, 3))
