"""Boxes and grids: cutting, padding and resampling arrays whose last axes are space."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minidl.backend import array_module

ANISOTROPY = 3  # voxels longer than this many times their shortest edge are slices rather than voxels


def crop(array: np.ndarray, starts: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """The box of that size at `starts` of the last axes; what lies outside the array is 0."""
    lead = array.ndim - len(size)
    inside: Any = [
        slice(max(a, 0), max(min(a + p, n), 0)) for a, p, n in zip(starts, size, array.shape[lead:])
    ]
    if all(part.stop - part.start == p for part, p in zip(inside, size)):
        return array[(..., *inside)]
    box = array_module(array).zeros((*array.shape[:lead], *size), array.dtype)
    if all(part.stop > part.start for part in inside):
        place: Any = [slice(part.start - a, part.stop - a) for part, a in zip(inside, starts)]
        box[(..., *place)] = array[(..., *inside)]
    return box


def slice_axis(spacing: Sequence[float]) -> int:
    """The axis across which volumes are cut into slices: that of the thickest voxels, the last of equals."""
    return max(range(len(spacing)), key=lambda axis: (spacing[axis], axis))


def resampled_shape(
    shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]
) -> tuple[int, ...]:
    """How many voxels of the target spacing cover the same extent, at least one per axis."""
    return tuple(max(1, round(n * old / new)) for n, old, new in zip(shape, spacing, target))


def coarse_axis(*spacings: Sequence[float]) -> int | None:
    """The axis along which the first anisotropic spacing is too coarse to interpolate; None if none is."""
    for spacing in spacings:
        if max(spacing) > ANISOTROPY * min(spacing):
            return slice_axis(spacing)
    return None


def resample(array: np.ndarray, shape: Sequence[int], order: int, nearest: int | None = None) -> np.ndarray:
    """The array (..., *S) on a grid of another shape (..., *shape) that covers the same extent.

    Splines of the given order (1 is linear, 3 cubic) in float32; order 0 along the axis `nearest`. Place i of
    q lies at (i + 1/2) n/q - 1/2, the convention of voxels as little boxes, and beyond the border the last
    voxel is repeated.

    A spline through the voxels of a line depends linearly on them, and splines in N dimensions are products
    of those in one: so resampling is one matrix product per axis.
    """
    lead = array.ndim - len(shape)
    for axis, q in enumerate(shape, start=lead):
        n = array.shape[axis]
        if n == q:
            continue
        if axis - lead == nearest or order == 0:
            array = array.take(((np.arange(q) + 0.5) * n / q).astype(int), axis)
        else:
            matrix = _resampling_matrix(n, q, order)
            array = np.moveaxis(
                np.tensordot(matrix, array.astype(np.float32, copy=False), (1, axis)), 0, axis
            )
    return np.ascontiguousarray(array)


@lru_cache(64)
def _resampling_matrix(n: int, q: int, order: int) -> np.ndarray:
    """(q, n): column j is the interpolated line of n voxels of which only voxel j is 1."""
    from scipy import ndimage

    places = (np.arange(q) + 0.5) * n / q - 0.5
    lines = [ndimage.map_coordinates(unit, places[None], order=order, mode="nearest") for unit in np.eye(n)]
    return np.stack(lines, axis=1).astype(np.float32)


def resample_labels(label: np.ndarray, shape: Sequence[int], nearest: int | None = None) -> np.ndarray:
    """A label map (*S) on another grid: the class whose indicator, resampled linearly, is the largest.

    Borders stay smooth, where taking the nearest label would make stairs.
    """
    if tuple(label.shape) == tuple(shape):
        return label
    result = np.zeros(tuple(shape), label.dtype)
    best = np.zeros(tuple(shape), np.float32)
    for value in np.unique(label):
        share = resample((label == value).astype(np.float32), shape, 1, nearest)
        closer = share > best
        best[closer], result[closer] = share[closer], value
    return result
