"""Pooling: max-pooling is a gather at the chosen indices, average pooling a banded matrix per axis."""

from __future__ import annotations

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import array_module
from minidl.kernels.windows import output_size, taps
from minidl.nn.functional.checks import Sizes, batched, ntuple
from minidl.nn.functional.conv import of_rank
from minidl.ops import linear
from minidl.ops.bands import Bands


def _positions(size, kernel, stride, padding, dilation, ceil_mode, name):
    """The number of windows per axis; with ceil_mode also the last one that starts inside input or left padding."""
    padded = [n + 2 * p for n, p in zip(size, padding)]
    outputs = output_size(padded, kernel, stride, dilation)
    if ceil_mode:
        for i, (n, k, s, p, d) in enumerate(zip(padded, kernel, stride, padding, dilation)):
            outputs[i] = -(-(n - d * (k - 1) - 1) // s) + 1
            if (outputs[i] - 1) * s >= size[i] + p:  # would start in the right padding
                outputs[i] -= 1
    if min(outputs) < 1:
        raise ValueError(
            f"{name}: kernel {tuple(kernel)} with dilation {tuple(dilation)} is larger than the input "
            f"{tuple(size)} with padding {tuple(padding)}"
        )
    return outputs


def _geometry(kernel_size, stride, padding, rank, name):
    kernel = ntuple(kernel_size, rank, f"{name}: kernel_size", 1)
    stride = kernel if stride is None or stride == () else ntuple(stride, rank, f"{name}: stride", 1)
    padding = ntuple(padding, rank, f"{name}: padding")
    if any(2 * p > k for p, k in zip(padding, kernel)):
        raise ValueError(f"{name}: padding {padding} must be at most half of kernel_size {kernel}")
    return kernel, stride, padding


def max_indices(xp, x, kernel, stride, padding, dilation, outputs):
    """Per window the flat index (into the unpadded plane) of its maximum: the first of equals, and NaN wins."""
    size = x.shape[2:]
    # What a window covers beyond the input, on the left and on the right, holds -inf.
    after = [max((q - 1) * s + d * (k - 1) + 1 - n - p, 0)
             for q, s, d, k, n, p in zip(outputs, stride, dilation, kernel, size, padding)]  # fmt: skip
    lowest = -xp.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    widths = [(0, 0), (0, 0), *zip(padding, after)]
    padded = xp.pad(x, widths, constant_values=lowest) if any(map(any, widths)) else x
    plane = np.full([n + p + a for n, p, a in zip(size, padding, after)], -1, np.int64)
    plane[tuple(slice(p, p + n) for p, n in zip(padding, size))] = np.arange(np.prod(size)).reshape(size)
    plane = xp.asarray(plane)
    best = index = None
    for (_, value), (_, place) in zip(
        taps(padded, kernel, outputs, stride, dilation),
        taps(plane, kernel, outputs, stride, dilation),
    ):
        if best is None:
            best, index = value, xp.broadcast_to(place, value.shape)
            continue
        better = ((value > best) | ((value != value) & (best == best)) | (index < 0)) & (place >= 0)
        best, index = xp.where(better, value, best), xp.where(better, place, index)
    return index


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

    input (N, C, *S) or (C, *S); stride defaults to kernel_size. The first of equal maxima is chosen and takes the
    gradient. With return_indices also the flat index of each maximum in its (n, c) plane, for `max_unpool`.
    """
    input, added = batched(input, rank, name)
    kernel, stride, padding = _geometry(kernel_size, stride, padding, rank, name)
    dilation = ntuple(dilation, rank, f"{name}: dilation", 1)
    outputs = _positions(input.shape[2:], kernel, stride, padding, dilation, ceil_mode, name)
    index = max_indices(array_module(input.array), input.array, kernel, stride, padding, dilation, outputs)
    planes = input.shape[:2]
    flat = input.reshape(*planes, int(np.prod(input.shape[2:])))
    y = linear.take_along(flat, index=index.reshape(*planes, int(np.prod(outputs))), dim=2)
    y, where = y.reshape(*planes, *outputs), Tensor(index)
    if added:
        y, where = y.squeeze(0), where.squeeze(0)
    return (y, where) if return_indices else y


def average_bands(
    size: int, kernel: int, stride: int, padding: int, outputs: int, count_include_pad: bool
) -> Bands:
    """The matrix of average pooling along one axis: weight 1/k where the window covers the input."""
    start = np.arange(outputs)[:, None] * stride - padding
    index = start + np.arange(kernel)
    inside = (index >= 0) & (index < size)
    end = np.minimum(start + kernel, size + padding)  # a ceil_mode window may leave the padding
    count = end - start if count_include_pad else inside.sum(1, keepdims=True)
    return Bands(np.clip(index, 0, size - 1), inside / np.maximum(count, 1), size)


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

    input (N, C, *S) or (C, *S). The mean counts the padding unless count_include_pad is False;
    divisor_override replaces the number of samples by which the sum is divided.
    """
    input, added = batched(input, rank, name)
    kernel, stride, padding = _geometry(kernel_size, stride, padding, rank, name)
    if divisor_override == 0:
        raise ValueError(f"{name}: divisor_override must not be zero")
    outputs = _positions(input.shape[2:], kernel, stride, padding, (1,) * rank, ceil_mode, name)
    y = input
    for i, geometry in enumerate(zip(input.shape[2:], kernel, stride, padding, outputs)):
        bands = average_bands(*geometry, count_include_pad)
        if divisor_override is not None:
            bands = Bands(bands.index, (bands.weight > 0) * 1.0, bands.size)
        y = linear.resample(y, bands=bands, dim=2 + i)
    if divisor_override is not None:
        y = y * (1 / divisor_override)
    return y.squeeze(0) if added else y


max_pool1d, max_pool2d, max_pool3d = (of_rank(max_pool_nd, n, f"max_pool{n}d") for n in (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = (of_rank(avg_pool_nd, n, f"avg_pool{n}d") for n in (1, 2, 3))
