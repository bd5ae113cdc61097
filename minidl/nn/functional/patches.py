"""Samples moved between space and channels: sliding patches as columns, and blocks of pixels as channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from minidl.autograd import Tensor
from minidl.kernels.windows import output_size as positions
from minidl.nn.functional.checks import Sizes, batched, ntuple
from minidl.ops import linear

# ---- sliding patches ---------------------------------------------------------------------------


def _rank(*sizes: Sizes) -> int:
    """As many axes as a sequence names; 2 where all sizes are plain integers."""
    return next((len(size) for size in sizes if not isinstance(size, int)), 2)


def _geometry(name: str, rank: int, kernel: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes) -> tuple:
    """(the static arguments of `linear.unfold`, the widths of the padding)."""
    geometry = dict(
        kernel=ntuple(kernel, rank, f"{name}: kernel_size", 1),
        stride=ntuple(stride, rank, f"{name}: stride", 1),
        dilation=ntuple(dilation, rank, f"{name}: dilation", 1),
    )
    padding = ntuple(padding, rank, f"{name}: padding")
    return geometry, ((0, 0), (0, 0), *((p, p) for p in padding))


def _places(name: str, size: Sequence[int], geometry: dict, widths: tuple) -> list[int]:
    """The number of patches along each axis."""
    padded = [n + a + b for n, (a, b) in zip(size, widths[2:])]
    outputs = positions(padded, **geometry)
    if min(outputs) < 1:
        raise ValueError(
            f"{name}: kernel {geometry['kernel']} with dilation {geometry['dilation']} is larger than "
            f"the size {tuple(size)}, {tuple(padded)} with padding"
        )
    return outputs


def unfold(
    input: Tensor, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
) -> Tensor:
    """Each window of the input as a column: (N, C, *S) -> (N, C·ΠK, L), or (C, *S) -> (C·ΠK, L).

    y[n, (c, k), q] = x[n, c, stride·q + dilation·k - padding], zero in the padding; L counts the positions q.
    kernel_size says how many axes there are: one integer is 2-D, a sequence 1-D, 2-D or 3-D.
    """
    rank = _rank(kernel_size)
    geometry, widths = _geometry("unfold", rank, kernel_size, dilation, padding, stride)
    input, added = batched(input, rank, "unfold")
    outputs = _places("unfold", input.shape[2:], geometry, widths)
    windows = linear.unfold(linear.pad(input, widths=widths), **geometry)
    n, channels = input.shape[:2]
    y = windows.reshape(n, channels * math.prod(geometry["kernel"]), math.prod(outputs))
    return y.squeeze(0) if added else y


def fold(
    input: Tensor,
    output_size: Sizes,
    kernel_size: Sizes,
    dilation: Sizes = 1,
    padding: Sizes = 0,
    stride: Sizes = 1,
) -> Tensor:
    """The adjoint of `unfold`, (N, C·ΠK, L) -> (N, C, *output_size): columns added back where they came from.

    fold(unfold(x)) multiplies each sample by the number of windows that see it. The input may be (C·ΠK, L).
    output_size and kernel_size say how many axes there are: integers are 2-D, a sequence 1-D, 2-D or 3-D.
    """
    rank = _rank(kernel_size, output_size)
    geometry, widths = _geometry("fold", rank, kernel_size, dilation, padding, stride)
    size = ntuple(output_size, rank, "fold: output_size", 1)
    input, added = batched(input, 1, "fold")
    outputs = _places("fold", size, geometry, widths)
    (n, rows, columns), kernel = input.shape, geometry["kernel"]
    taps, count = math.prod(kernel), math.prod(outputs)
    if rows % taps or columns != count:
        raise ValueError(
            f"fold: expected input (N, C * {taps}, {count}) for output_size {size}, padding {padding} and "
            f"{geometry}, got {input.shape}"
        )
    windows = input.reshape(n, rows // taps, *kernel, *outputs)
    padded = tuple(s + a + b for s, (a, b) in zip(size, widths[2:]))
    y = linear.fold(windows, size=padded, **geometry)
    y = linear.pad(y, widths=tuple((-a, -b) for a, b in widths))
    return y.squeeze(0) if added else y


# ---- blocks of pixels --------------------------------------------------------------------------


def _check_blocks(name: str, input: Tensor, factor: int) -> None:
    if not isinstance(input, Tensor) or input.ndim < 3:
        raise ValueError(f"{name}: expected input (*, C, H, W), got {getattr(input, 'shape', input)}")
    if not isinstance(factor, int) or factor < 1:
        raise ValueError(f"{name}: the factor must be an integer of at least 1, got {factor}")


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Groups of r² channels become blocks of r x r pixels: (*, C·r², H, W) -> (*, C, H·r, W·r).

    y[c, r·i + a, r·j + b] = x[c·r² + r·a + b, i, j]: up-sampling that a convolution before it can learn.
    """
    r = upscale_factor
    _check_blocks("pixel_shuffle", input, r)
    *lead, channels, h, w = input.shape
    if channels % r**2:
        raise ValueError(f"pixel_shuffle: {channels} channels, not a multiple of {r}² (shape {input.shape})")
    blocks = input.reshape(math.prod(lead), channels // r**2, r, r, h, w)
    return blocks.permute(0, 1, 4, 2, 5, 3).reshape(*lead, channels // r**2, h * r, w * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of `pixel_shuffle`, (*, C, H·r, W·r) -> (*, C·r², H, W): it loses nothing."""
    r = downscale_factor
    _check_blocks("pixel_unshuffle", input, r)
    *lead, channels, h, w = input.shape
    if h % r or w % r:
        raise ValueError(f"pixel_unshuffle: {h} x {w} pixels do not divide into blocks of {r} x {r}")
    blocks = input.reshape(math.prod(lead), channels, h // r, r, w // r, r)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(*lead, channels * r**2, h // r, w // r)
