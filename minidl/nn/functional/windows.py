"""The geometry of pooling: how many windows there are along each axis, and what each of them sees."""

from __future__ import annotations

import numpy as np

from minidl.autograd import Tensor
from minidl.kernels.windows import output_size
from minidl.nn.functional.checks import Sizes, batched, ntuple

Axes = tuple[int, ...]  # one number per axis


def pool_input(input: Tensor, rank: int, name: str) -> tuple[Tensor, bool]:
    """`batched` for pooling, which as in PyTorch needs a channel, though not a sample."""
    input, added = batched(input, rank, name)
    if not input.shape[1]:
        raise ValueError(f"{name}: the input has no channels: shape {input.shape[added:]}")
    return input, added


def pool_geometry(
    kernel_size: Sizes, stride: Sizes | None, padding: Sizes, rank: int, name: str
) -> tuple[Axes, Axes, Axes]:
    """(kernel, stride, padding) with one integer per axis; stride defaults to kernel_size."""
    kernel = ntuple(kernel_size, rank, f"{name}: kernel_size", 1)
    steps = kernel if stride is None or stride in ((), []) else ntuple(stride, rank, f"{name}: stride", 1)
    widths = ntuple(padding, rank, f"{name}: padding")
    if any(2 * p > k for p, k in zip(widths, kernel)):
        raise ValueError(f"{name}: padding {widths} must be at most half of kernel_size {kernel}")
    return kernel, steps, widths


def pool_positions(size, kernel, stride, padding, dilation, ceil_mode, name):
    """The number of windows per axis; with ceil_mode also a last one that the input does not fill."""
    padded = [n + 2 * p for n, p in zip(size, padding)]
    if ceil_mode:
        room = [n + s - 1 for n, s in zip(padded, stride)]
        outputs = [
            q - ((q - 1) * s >= n + p)  # it must start in the input or the left padding
            for q, n, s, p in zip(output_size(room, kernel, stride, dilation), size, stride, padding)
        ]
    else:
        outputs = output_size(padded, kernel, stride, dilation)
    if min(outputs) < 1:
        raise ValueError(
            f"{name}: kernel {tuple(kernel)} with dilation {tuple(dilation)} is larger than the input "
            f"{tuple(size)} with padding {tuple(padding)}"
        )
    return outputs


def adaptive_size(wanted, size, name):
    """The number of windows per axis; None stands for the number of samples."""
    sizes = (wanted,) * len(size) if wanted is None or isinstance(wanted, int) else tuple(wanted)
    sizes = tuple(n if q is None else q for q, n in zip(sizes, size)) if len(sizes) == len(size) else sizes
    if 0 in size:
        raise ValueError(f"{name}: the input has an axis of size 0: {tuple(size)}")
    return ntuple(sizes, len(size), f"{name}: output_size")


def adaptive_windows(size: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """(index, inside), each (outputs, T): the samples that each of `outputs` equal parts of the axis touches.

    Window q covers floor(q·size/outputs) .. ceil((q + 1)·size/outputs) - 1. A shorter window repeats its last
    sample, where `inside` is False.
    """
    q = np.arange(outputs)
    start, end = q * size // outputs, -((q + 1) * -size // outputs)
    index = start[:, None] + np.arange(max((end - start).max(initial=1), 1))
    return np.minimum(index, end[:, None] - 1), index < end[:, None]
