"""Interpolation: separable and linear, so one banded matrix per axis, in any number of dimensions.

The adjoint is the transposed matrix; nothing here is special to a device, an order or a rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from minidl.autograd import Tensor
from minidl.nn.functional.checks import Sizes, floating, ntuple
from minidl.nn.functional.pool import adaptive_bands
from minidl.ops import elementary, linear
from minidl.ops.bands import Bands

# ---- one matrix per axis -----------------------------------------------------------------------
# Sample i is the centre of the cell [i, i + 1], so output i lies at scale · (i + 1/2) - 1/2 in the input.
# Under align_corners it lies at scale · i, where the scale maps the last output onto the last sample.


def _places(size: int, outputs: int, scale: float, align_corners: bool) -> np.ndarray:
    i = np.arange(outputs)
    if align_corners:
        return i * ((size - 1) / (outputs - 1) if outputs > 1 else 0.0)
    return (i + 0.5) * scale - 0.5


def _nearest(
    size: int,
    outputs: int,
    scale: float,
    align_corners: bool,
    precision: type = np.float32,
    offset: float = 0.0,
) -> Bands:
    """floor(scale · i), where every rounding is PyTorch's: at an edge it decides which sample is chosen."""
    i = np.arange(outputs)
    at = (i + offset) * float(precision(scale)) - offset  # rounded once, as by a fused multiply-add
    at = at.astype(precision).clip(0) + precision(offset)
    index = np.floor(at.astype(np.float32)).astype(np.intp).clip(0, size - 1)
    return Bands(index[:, None], np.ones((outputs, 1)), size)


def _nearest_exact(
    size: int, outputs: int, scale: float, align_corners: bool, precision: type = np.float32
) -> Bands:
    """floor(scale · (i + 1/2)): the sample in whose cell the centre of the output's cell lies."""
    return _nearest(size, outputs, scale, align_corners, precision, offset=0.5)


def _linear(size: int, outputs: int, scale: float, align_corners: bool) -> Bands:
    """A straight line between neighbouring samples, level beyond the first and the last."""
    at = _places(size, outputs, scale, align_corners).clip(0, size - 1)
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, size - 1)
    fraction = at - low
    return Bands(np.stack([low, high], 1), np.stack([1 - fraction, fraction], 1), size)


def cubic_weights(t: Any, a: float = -0.75) -> list:
    """Keys' cubic convolution kernel at the distances t + 1, t, 1 - t, 2 - t, for t in [0, 1].

    R. Keys, Cubic convolution interpolation for digital image processing, IEEE Trans. ASSP 29 (1981).
    """

    def near(s: Any) -> Any:
        return ((a + 2) * s - (a + 3)) * s * s + 1  # |s| <= 1

    def far(s: Any) -> Any:
        return ((a * s - 5 * a) * s + 8 * a) * s - 4 * a  # 1 <= |s| <= 2

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _cubic(size: int, outputs: int, scale: float, align_corners: bool) -> Bands:
    """A piecewise cubic through four samples; beyond the border the border sample is repeated."""
    at = _places(size, outputs, scale, align_corners)
    low = np.floor(at).astype(np.intp)
    index = low[:, None] + np.arange(-1, 3)
    return Bands(index.clip(0, size - 1), np.stack(cubic_weights(at - low), 1), size)


def _triangle(s: np.ndarray) -> np.ndarray:
    return np.maximum(1 - s, 0)


def _keys(s: np.ndarray) -> np.ndarray:
    far, near, *_ = cubic_weights(np.where(s < 1, s, s - 1), a=-0.5)
    return np.where(s < 1, near, np.where(s < 2, far, 0))


# How far each kernel reaches, and its values at distances s >= 0.
_KERNELS: dict[Callable, tuple[int, Callable]] = {_linear: (1, _triangle), _cubic: (2, _keys)}


def _antialiased(kind: Callable, size: int, outputs: int, scale: float, align_corners: bool) -> Bands:
    """The kernel widened by the scale where the image shrinks, so that every sample counts; as in Pillow."""
    reach, kernel = _KERNELS[kind]
    if align_corners:
        scale = (size - 1) / (outputs - 1) if outputs > 1 else 0.0
    width = max(scale, 1.0)
    centre = scale * (np.arange(outputs) + 0.5)[:, None]
    first = np.maximum((centre - reach * width + 0.5).astype(np.intp), 0)
    end = np.minimum((centre + reach * width + 0.5).astype(np.intp), size)
    index = first + np.arange(max(int((end - first).max()), 1))
    weight = np.where(index < end, kernel(abs(index - centre + 0.5) / width), 0)
    return Bands(index.clip(0, size - 1), weight / weight.sum(1, keepdims=True), size)


_KINDS: dict[str, tuple[Callable, tuple[int, ...]]] = {
    "nearest": (_nearest, (1, 2, 3)),
    "nearest-exact": (_nearest_exact, (1, 2, 3)),
    "linear": (_linear, (1,)),
    "bilinear": (_linear, (2,)),
    "trilinear": (_linear, (3,)),
    "cubic": (_cubic, (1,)),
    "bicubic": (_cubic, (2,)),
    "tricubic": (_cubic, (3,)),
    "area": (lambda size, outputs, *_: adaptive_bands(size, outputs), (1, 2, 3)),
}


@lru_cache(maxsize=256)
def _matrix(
    mode: str,
    size: int,
    outputs: int,
    scale: float,
    align_corners: bool,
    antialias: bool,
    precision: type,
) -> Bands:
    kind, _ = _KINDS[mode]
    geometry = (size, outputs, scale, align_corners)
    if mode.startswith("nearest"):
        bands = kind(*geometry, precision)
    else:
        bands = _antialiased(kind, *geometry) if antialias else kind(*geometry)
    return bands if align_corners else replace(bands, advance=Fraction(scale).limit_denominator(1000))


# ---- interpolate -------------------------------------------------------------------------------


def interpolate(
    input: Tensor,
    size: Sizes | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """The input (N, C, *S) resampled to `size`, or to floor(S · scale_factor), per axis.

    mode: "nearest", "nearest-exact" and "area" (means over cells) in any rank; "linear", "bilinear" and
    "trilinear", "cubic", "bicubic" and "tricubic" in 1, 2 and 3 dimensions. align_corners=True maps the
    centres of the corner samples onto each other; by default sample i covers [i, i + 1].
    recompute_scale_factor=True takes the scale from the two sizes, not from scale_factor, where rounding
    makes them differ. antialias=True widens the kernels of the linear and cubic modes where the image
    shrinks. Images of uint8 stay uint8, rounded after each axis, the last one first, halves up; PyTorch,
    whose weights are integers there, may differ by 1.
    """
    if not isinstance(input, Tensor):
        raise TypeError(f"interpolate: input must be a Tensor, got {type(input).__name__}")
    rank = input.ndim - 2
    if mode not in _KINDS or rank not in _KINDS[mode][1]:
        fitting = [name for name, (_, ranks) in _KINDS.items() if rank in ranks]
        raise ValueError(
            f"interpolate: mode {mode!r} does not fit shape {input.shape}; modes that do: {fitting}"
        )
    if _KINDS[mode][0] not in _KERNELS and (align_corners is not None or antialias):
        option = "antialias" if antialias else "align_corners"
        raise ValueError(
            f"interpolate: {option} has a meaning only for the linear and cubic modes, not for {mode!r}"
        )
    in_bytes = input.dtype == np.uint8 and not mode.startswith("nearest")
    if not in_bytes and not mode.startswith("nearest"):
        floating("interpolate", input)
    outputs, scales = _outputs(input, size, scale_factor, mode == "area" or bool(recompute_scale_factor))
    if size is not None and recompute_scale_factor:
        raise ValueError(
            f"interpolate: recompute_scale_factor has a meaning with scale_factor, not with size {size}"
        )
    precision = np.float64 if input.dtype == np.float64 else np.float32
    options = (bool(align_corners), bool(antialias), precision)
    y = input.to(np.float32) if in_bytes else input
    order = reversed(range(rank)) if in_bytes else _cheapest_first(input.shape[2:], outputs)
    for i in order:
        n, q, scale = input.shape[2 + i], outputs[i], scales[i]
        if n != q or scale != 1:
            y = linear.resample(y, bands=_matrix(mode, n, q, scale, *options), dim=2 + i)
            if in_bytes:
                y = elementary.clamp(elementary.floor(y + 0.5), 0, 255)
    return y.to(input.dtype)


def _outputs(
    input: Tensor, size: Sizes | None, scale_factor: float | Sequence[float] | None, recompute: bool
) -> tuple[tuple[int, ...], list[float]]:
    """(output size, samples of the input per sample of the output), per axis."""
    inputs = input.shape[2:]
    rank = len(inputs)
    if (size is None) == (scale_factor is None):
        raise ValueError(f"interpolate: give either size or scale_factor, got {size} and {scale_factor}")
    factors: list[float] = []
    if scale_factor is None:
        outputs = ntuple(size, rank, "interpolate: size", 1)
    else:
        factors = [scale_factor] * rank if isinstance(scale_factor, (int, float)) else list(scale_factor)
        if len(factors) != rank or not all(0 < f < math.inf for f in factors):
            raise ValueError(f"interpolate: expected one positive scale_factor or {rank}, got {scale_factor}")
        outputs = tuple(int(n * f) for n, f in zip(inputs, factors))
    if min(outputs) < 1 or 0 in inputs:
        raise ValueError(f"interpolate: cannot go from size {inputs} to {outputs}")
    if recompute or not factors:
        return outputs, [n / q for n, q in zip(inputs, outputs)]
    return outputs, [1 / f for f in factors]


def _cheapest_first(inputs: Sequence[int], outputs: Sequence[int]) -> list[int]:
    """The axes in the order of the work: shrinking ones first, growing ones from the last to the first."""
    return sorted(range(len(inputs)), key=lambda i: (outputs[i] / inputs[i], -i * (outputs[i] > inputs[i])))
