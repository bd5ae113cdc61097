"""Averages over windows: average pooling is linear and separable, so one banded matrix per axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minidl.autograd import Tensor
from minidl.nn.functional.checks import Sizes, batched, floating, ntuple
from minidl.nn.functional.conv import of_rank
from minidl.nn.functional.maxpool import max_pool_nd
from minidl.nn.functional.windows import adaptive_size, adaptive_windows, pool_geometry, pool_positions
from minidl.ops import linear, pointwise
from minidl.ops.bands import Bands


@lru_cache(maxsize=256)
def average_bands(
    size: int,
    kernel: int,
    stride: int,
    padding: int,
    outputs: int,
    count_include_pad: bool,
    total: bool = False,
) -> Bands:
    """The matrix of average pooling along one axis: 1/k, or 1 for the total, where a window has a sample."""
    start = np.arange(outputs)[:, None] * stride - padding
    index = start + np.arange(kernel)
    inside = (index >= 0) & (index < size)
    end = np.minimum(start + kernel, size + padding)  # a ceil_mode window may leave the padding
    count = end - start if count_include_pad else inside.sum(1, keepdims=True)
    return Bands(index.clip(0, size - 1), inside / (1 if total else np.maximum(count, 1)), size)


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
    """
    input, added = batched(input, rank, name)
    floating(name, input)
    size = input.shape[2:]
    geometry = pool_geometry(kernel_size, stride, padding, rank, name)
    if divisor_override == 0:
        raise ValueError(f"{name}: divisor_override must not be zero")
    outputs = pool_positions(size, *geometry, (1,) * rank, ceil_mode, name)
    y, total = input, divisor_override is not None
    for i, axis in enumerate(zip(size, *geometry, outputs)):
        y = linear.resample(y, bands=average_bands(*axis, bool(count_include_pad), total), dim=2 + i)
    if divisor_override is not None:
        y = y * (1 / divisor_override)
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
    mean = avg_pool_nd(input**norm_type, kernel_size, stride, 0, ceil_mode, rank=rank, name=name)
    total = mean * math.prod(ntuple(kernel_size, rank, f"{name}: kernel_size", 1))
    zero = total.detach() == 0
    return pointwise.where(zero, 0.0, pointwise.where(zero, 1.0, total) ** (1 / norm_type))


avg_pool1d, avg_pool2d, avg_pool3d = (of_rank(avg_pool_nd, n, f"avg_pool{n}d") for n in (1, 2, 3))
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (
    of_rank(adaptive_avg_pool_nd, n, f"adaptive_avg_pool{n}d") for n in (1, 2, 3)
)
lp_pool1d, lp_pool2d, lp_pool3d = (of_rank(lp_pool_nd, n, f"lp_pool{n}d") for n in (1, 2, 3))
