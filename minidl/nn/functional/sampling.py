"""Sampling an image anywhere: `grid_sample` reads it at a grid of points, `affine_grid` makes such a grid.

What is read is a weighted sum of the samples around each point. The samples are gathered, and the weights are
ordinary functions of the point, so both have gradients of every order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from itertools import product

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import array_module
from minidl.nn.functional.checks import floating, same_dtype, widened
from minidl.nn.functional.resize import cubic_weights
from minidl.ops import elementary, linear, logic, pointwise

FAR = 1e9  # samples from the image: what is further away is moved here, since infinity has no floor
_MODES = ("bilinear", "nearest", "bicubic")
_PADDING_MODES = ("zeros", "border", "reflection")


# ---- coordinates -------------------------------------------------------------------------------
# One axis at a time: x holds positions in samples, 0 for the centre of the first, n - 1 for that of the last.


def _held(x: Tensor, n: int) -> Tensor:
    """x held in [0, n - 1]; on and beyond its ends the derivative is 0."""
    return pointwise.where((x > 0) & (x < n - 1), x, x.detach().clamp(0, n - 1))


def _mirrored(x: Tensor, n: int, align_corners: bool) -> Tensor:
    """x reflected between the outer edges of the border samples, or their centres (align_corners)."""
    low, span = (0.0, n - 1) if align_corners else (-0.5, n)
    if span == 0:
        return x * 0.0
    distance = x.detach() - low
    outside = distance < 0
    distance = distance.abs()
    flips = elementary.floor(distance / span)
    rest = distance - flips * span
    odd = elementary.remainder(flips, 2) == 1
    slope = pointwise.where(odd, -1.0, 1.0) * pointwise.where(outside, -1.0, 1.0)
    mirrored = pointwise.where(odd, span - rest, rest) + low
    return mirrored + (x - x.detach()) * slope


def _inside(x: Tensor, n: int, padding_mode: str, align_corners: bool) -> Tensor:
    """x led back to the image as the padding mode says; under "zeros" it stays where it is."""
    if padding_mode == "reflection":
        x = _mirrored(x, n, align_corners)
    return x if padding_mode == "zeros" else _held(x, n)


def _positions(grid: Tensor, n: int, align_corners: bool) -> Tensor:
    """From [-1, 1] to samples. NaN counts as -1, and infinity as far away."""
    grid = pointwise.where(logic.isnan(grid), -1.0, grid)
    x = (grid + 1.0) * ((n - 1) / 2) if align_corners else (grid + 1.0) * (n / 2) - 0.5
    return x.clamp(-FAR, FAR)


# ---- what a point sees along one axis ----------------------------------------------------------


def _taps(x: Tensor, n: int, mode: str, inside: Callable) -> list[tuple[Tensor, Tensor]]:
    """The samples around x, each with its weight: (index, an integer in [0, n - 1]; weight).

    `inside` leads the point back to the image, in bicubic mode each of the samples around it.
    """
    if mode != "bicubic":
        x = inside(x)
    if mode == "nearest":
        nearest = elementary.round(x.detach())
        found = [(nearest, x * 0.0 + 1.0)]  # in all directions the derivative is 0
    else:
        low = elementary.floor(x.detach())
        t = x - low
        found = [(low, 1.0 - t), (low + 1.0, t)]
        if mode == "bicubic":
            found = [(inside(low + float(k)), weight) for k, weight in enumerate(cubic_weights(t), -1)]
    return [
        (at.clamp(0, n - 1).long(), pointwise.where((at >= 0) & (at < n), weight, 0.0))
        for at, weight in found
    ]


# ---- grids -------------------------------------------------------------------------------------


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """The input read at the points of a grid: y[n, c, q] = x[n, c] at the place grid[n, q].

    input (N, C, H, W) and grid (N, *Q, 2), or (N, C, D, H, W) and (N, *Q, 3), Q with as many axes as the
    image; the result is (N, C, *Q). A point is (x, y) or (x, y, z), so its first number belongs to the last
    axis; -1 and 1 are the outer edges of the border samples, or their centres under align_corners=True.

    mode: "bilinear" (which is trilinear in 3-D), "nearest", or "bicubic" (2-D only). padding_mode: "zeros"
    outside the image, its "border" samples repeated, or its "reflection". NaN in the grid counts as -1.
    """
    same_dtype("grid_sample", input=input, grid=grid)
    _check_grid(input, grid, mode, padding_mode)
    size, places = input.shape[2:], grid.shape[1:-1]
    (n, c), q, total = input.shape[:2], math.prod(places), math.prod(size)
    points = widened(grid).reshape(n, q, len(size))
    taps = []
    for s, point in zip(size, reversed(points.unbind(-1))):
        inside = partial(_inside, n=s, padding_mode=padding_mode, align_corners=bool(align_corners))
        taps.append(_taps(_positions(point, s, bool(align_corners)), s, mode, inside))
    flat = widened(input).reshape(n, c, total)
    parts = []
    for corner in product(*taps):
        index, weight = corner[0]
        for s, (at, w) in zip(size[1:], corner[1:]):
            index, weight = index * s + at, weight * w
        seen = linear.take_along(flat, index=index.unsqueeze(1).array, dim=2)
        parts.append(seen * weight.unsqueeze(1))
    return reduce(pointwise.add, parts).to(input.dtype).reshape(n, c, *places)


def _check_grid(input: Tensor, grid: Tensor, mode: str, padding_mode: str) -> None:
    rank, shapes = input.ndim - 2, f"(input {input.shape}, grid {grid.shape})"
    floating("grid_sample", input)
    if rank not in (2, 3):
        raise ValueError(f"grid_sample: expected input (N, C, H, W) or (N, C, D, H, W) {shapes}")
    if grid.ndim != rank + 2 or grid.shape[0] != input.shape[0] or grid.shape[-1] != rank:
        raise ValueError(f"grid_sample: expected a grid of {rank + 2} axes, N first and {rank} last {shapes}")
    if 0 in input.shape[2:]:
        raise ValueError(f"grid_sample: the input has an axis of size 0 {shapes}")
    if mode not in _MODES or (mode == "bicubic" and rank == 3):
        raise ValueError(
            f"grid_sample: mode must be one of {_MODES}, bicubic in 2-D only, got {mode!r} {shapes}"
        )
    if padding_mode not in _PADDING_MODES:
        raise ValueError(f"grid_sample: padding_mode must be one of {_PADDING_MODES}, got {padding_mode!r}")


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The grid for `grid_sample` that an affine map makes: grid[n, q] = theta[n] · (x, y, 1) or (x, y, z, 1).

    theta (N, 2, 3) and size (N, C, H, W) give (N, H, W, 2); theta (N, 3, 4) and (N, C, D, H, W) give
    (N, D, H, W, 3). q runs over the samples of the output, whose outer edges (or the centres of whose border
    samples, under align_corners=True) have the coordinates -1 and 1.
    """
    floating("affine_grid", theta)
    size = tuple(int(s) for s in size)
    rank = len(size) - 2
    if rank not in (2, 3) or min(size) < 1:
        raise ValueError(
            f"affine_grid: size must be (N, C, H, W) or (N, C, D, H, W), all positive, got {size}"
        )
    if theta.shape != (size[0], rank, rank + 1):
        raise ValueError(
            f"affine_grid: size {size} needs theta of shape {(size[0], rank, rank + 1)}, got {theta.shape}"
        )
    axes = [_centres(s, bool(align_corners)) for s in size[2:]]
    places = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(size[2:])], -1)
    base = Tensor(array_module(theta.array).asarray(places.reshape(1, -1, rank + 1).astype(theta.dtype)))
    return (base @ theta.mT).reshape(size[0], *size[2:], rank)


def _centres(n: int, align_corners: bool) -> np.ndarray:
    """The coordinates of n samples: -1 and 1 are the ends of the axis, or its first and last sample."""
    if align_corners:
        return np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
    return (2 * np.arange(n) + 1) / n - 1
