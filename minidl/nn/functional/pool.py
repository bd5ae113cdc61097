"""Averages over windows: average pooling is linear and separable, so one banded matrix per axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import to_device
from minidl.nn.functional.checks import Sizes, batched, floating, ntuple
from minidl.nn.functional.conv import of_rank
from minidl.nn.functional.maxpool import max_pool_nd
from minidl.nn.functional.windows import (
    adaptive_size,
    adaptive_windows,
    pool_geometry,
    pool_input,
    pool_positions,
)
from minidl.ops import elementary, linear, pointwise
from minidl.ops.bands import Bands


def window_counts(
    size: int, kernel: int, stride: int, padding: int, outputs: int, count_include_pad: bool
) -> np.ndarray:
    """How many samples each window along one axis counts, (outputs,)."""
    start = np.arange(outputs) * stride - padding
    end = np.minimum(start + kernel, size + padding)  # a ceil_mode window may leave the padding
    if not count_include_pad:
        start, end = start.clip(0), end.clip(max=size)
    return np.maximum(end - start, 1)


@lru_cache(maxsize=256)
def total_bands(size: int, kernel: int, stride: int, padding: int, outputs: int) -> Bands:
    """The matrix of the sums over windows along one axis: 1 where a window has a sample."""
    index = np.arange(outputs)[:, None] * stride - padding + np.arange(kernel)
    inside = (index >= 0) & (index < size)
    return Bands(index.clip(0, size - 1), inside.astype(np.float64), size, Fraction(stride))


@lru_cache(maxsize=256)
def average_bands(
    size: int, kernel: int, stride: int, padding: int, outputs: int, count_include_pad: bool
) -> Bands:
    """The matrix of average pooling along one axis: 1/k where a window has a sample."""
    total = total_bands(size, kernel, stride, padding, outputs)
    count = window_counts(size, kernel, stride, padding, outputs, count_include_pad)
    return Bands(total.index, total.weight / count[:, None], size, total.advance)


@lru_cache(maxsize=256)
def adaptive_bands(size: int, outputs: int) -> Bands:
    """The matrix of adaptive average pooling along one axis."""
    index, inside = adaptive_windows(size, outputs)
    return Bands(index, inside / inside.sum(1, keepdims=True), size)


def avg_pool_nd(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    rank: int,
    name: str,
) -> Tensor:
    """y[n, c, q] = mean_k x[n, c, stride·q + k - padding], where the padding holds 0.

    input (N, C, *S) or (C, *S); stride defaults to kernel_size. The mean counts the padding unless
    count_include_pad is False; divisor_override replaces the number of samples by which the sum is divided.
    The means of int64 are cut to integers, towards 0.
    """
    input, added = pool_input(input, rank, name)
    whole = input.dtype == np.int64
    if not whole:
        floating(name, input)
    size = input.shape[2:]
    geometry = pool_geometry(kernel_size, stride, padding, rank, name)
    if divisor_override == 0:
        raise ValueError(f"{name}: divisor_override must not be zero")
    outputs = pool_positions(size, *geometry, (1,) * rank, ceil_mode, name)
    axes = list(zip(size, *geometry, outputs))
    divisor: Any = divisor_override
    if whole and divisor is None:
        counts = np.ix_(*(window_counts(*axis, count_include_pad) for axis in axes))
        divisor = Tensor(to_device(math.prod(counts), input.device))
    y = input
    for i, axis in enumerate(axes):
        bands = average_bands(*axis, bool(count_include_pad)) if divisor is None else total_bands(*axis)
        y = linear.resample(y, bands=bands, dim=2 + i)
    if divisor is not None:
        y = elementary.div(y, divisor, rounding_mode="trunc" if whole else None)
    return y.squeeze(0) if added else y


def adaptive_avg_pool_nd(
    input: Tensor, output_size: int | Sequence[int | None] | None, *, rank: int, name: str
) -> Tensor:
    """The means over windows that divide each axis into `output_size` parts: (N, C, *S) -> (N, C, *Q).

    The input may be (C, *S). Window q of Q covers the samples floor(q·S/Q) .. ceil((q + 1)·S/Q) - 1 of S;
    None stands for Q = S.
    """
    input, added = batched(input, rank, name)
    floating(name, input)
    y = input
    for i, (n, q) in enumerate(zip(input.shape[2:], adaptive_size(output_size, input.shape[2:], name))):
        if q == 1:
            y = y.mean(2 + i, keepdim=True)
        elif q != n:
            y = linear.resample(y, bands=adaptive_bands(n, q), dim=2 + i)
    return y.squeeze(0) if added else y


def lp_pool_nd(
    input: Tensor,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
    *,
    rank: int,
    name: str,
) -> Tensor:
    """y[n, c, q] = (Σ_k x[n, c, stride·q + k]^p)^(1/p) for p = norm_type.

    input (N, C, *S) or (C, *S); p = 1 gives the sum, p = inf the maximum of |x|. The power is that of x, not
    of |x|: an odd p can make a negative sum, whose root is NaN. A window whose sum is 0 has the gradient 0.
    """
    if norm_type == 0:
        raise ValueError(f"{name}: norm_type must not be zero")
    if math.isinf(norm_type):
        sign = math.copysign(1, norm_type)
        x = input.abs() * sign
        extreme: Any = max_pool_nd(x, kernel_size, stride, 0, 1, ceil_mode, rank=rank, name=name)
        return extreme * sign
    mean = avg_pool_nd(input ** float(norm_type), kernel_size, stride, 0, ceil_mode, rank=rank, name=name)
    total = mean * math.prod(ntuple(kernel_size, rank, f"{name}: kernel_size", 1))
    zero = total.detach() == 0
    return pointwise.where(zero, 0.0, pointwise.where(zero, 1.0, total) ** (1 / norm_type))


avg_pool1d, avg_pool2d, avg_pool3d = (of_rank(avg_pool_nd, n, f"avg_pool{n}d") for n in (1, 2, 3))
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (
    of_rank(adaptive_avg_pool_nd, n, f"adaptive_avg_pool{n}d") for n in (1, 2, 3)
)
lp_pool1d, lp_pool2d, lp_pool3d = (of_rank(lp_pool_nd, n, f"lp_pool{n}d") for n in (1, 2, 3))
