"""Interpolation: separable and linear, so one banded matrix per axis, in any number of dimensions.

The adjoint is the transposed matrix; nothing here is special to a device, an order or a rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from minidl.autograd import Tensor
from minidl.nn.functional.checks import Sizes, ntuple
from minidl.ops import linear
from minidl.ops.bands import Bands


def _nearest(size: int, outputs: int, scale: float, align_corners: bool) -> Bands:
    index = np.minimum(np.floor(np.arange(outputs) * scale), size - 1).astype(np.intp)
    return Bands(index[:, None], np.ones((outputs, 1)), size)


def _linear(size: int, outputs: int, scale: float, align_corners: bool) -> Bands:
    if align_corners:
        at = np.arange(outputs) * ((size - 1) / (outputs - 1) if outputs > 1 else 0.0)
    else:
        at = np.maximum((np.arange(outputs) + 0.5) * scale - 0.5, 0)  # sample centres at i + 1/2
    low = np.minimum(np.floor(at), size - 1).astype(np.intp)
    high = np.minimum(low + 1, size - 1)
    fraction = np.where(low < size - 1, at - low, 0.0)
    return Bands(np.stack([low, high], 1), np.stack([1 - fraction, fraction], 1), size)


_KINDS: dict[str, tuple[Callable, tuple[int, ...]]] = {
    "nearest": (_nearest, (1, 2, 3)),
    "linear": (_linear, (1,)),
    "bilinear": (_linear, (2,)),
    "trilinear": (_linear, (3,)),
}


def interpolate(
    input: Tensor,
    size: Sizes | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """The input (N, C, *S) resampled to `size`, or to floor(S · scale_factor), per axis.

    mode: "nearest" in any rank, "linear" (1-D), "bilinear" (2-D), "trilinear" (3-D). align_corners=True maps the
    centres of the corner samples onto each other; by default sample i covers [i, i + 1], as for pixels.
    """
    rank = input.ndim - 2
    if mode not in _KINDS or rank not in _KINDS[mode][1]:
        fitting = [name for name, (_, ranks) in _KINDS.items() if rank in ranks]
        raise ValueError(
            f"interpolate: mode {mode!r} does not fit shape {input.shape}; modes that do: {fitting}"
        )
    if align_corners and mode == "nearest":
        raise ValueError("interpolate: align_corners has a meaning only for the linear modes")
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: give either size or scale_factor")
    if size is not None:
        outputs = ntuple(size, rank, "interpolate: size", 1)
        scales = [n / q for n, q in zip(input.shape[2:], outputs)]
    else:
        factors = [scale_factor] * rank if isinstance(scale_factor, (int, float)) else list(scale_factor)
        if len(factors) != rank or min(factors) <= 0:
            raise ValueError(f"interpolate: expected one positive scale_factor or {rank}, got {scale_factor}")
        outputs = tuple(int(n * f) for n, f in zip(input.shape[2:], factors))
        scales = [1 / f for f in factors]
    if min(outputs) < 1 or 0 in input.shape[2:]:
        raise ValueError(f"interpolate: cannot go from size {input.shape[2:]} to {outputs}")
    y = input
    for i, (n, q, scale) in enumerate(zip(input.shape[2:], outputs, scales)):
        if n != q or scale != 1:
            y = linear.resample(y, bands=_KINDS[mode][0](n, q, scale, bool(align_corners)), dim=2 + i)
    return y
