"""Rotation, scaling and elastic deformation: patches that are read from a deformed grid.

All three say where in the image each voxel of the patch lies, so they become one map of coordinates and one
interpolation, whatever is drawn. Only that part of the image is read in which the coordinates fall: nothing
has to be cut out larger than needed, and nothing is lost at the borders of a rotated patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minidl.backend import array_module, ndimage
from minidl.data.geometry import ANISOTROPY, crop


@dataclass(frozen=True)
class Spatial:
    """How often and how strongly patches are deformed.

    rotation, scaling and elastic are probabilities. Objects shrink by a factor from `scales`, the same along
    all axes. The elastic displacement is noise from U(-α, α) smoothed by a Gaussian of σ voxels: with the
    ranges here up to 3 voxels in standard deviation in 2-D and 2 in 3-D.
    """

    rotation: float = 0.2
    scaling: float = 0.2
    elastic: float = 0.0
    scales: tuple[float, float] = (0.7, 1.4)
    alphas: tuple[float, float] = (0, 200)
    alphas_3d: tuple[float, float] = (0, 900)
    sigmas: tuple[float, float] = (9, 13)

    def draw(self, patch: Sequence[int], rng: np.random.Generator) -> np.ndarray | None:
        """Coordinates (dims, *patch) relative to the middle of the patch; None where nothing is deformed.

        A patch that is more than three times as long as thick is a stack of slices: it is rotated and scaled
        within the slices only ("dummy 2-D").
        """
        dims, thin = len(patch), thin_axis(patch)
        matrix, displacement = np.eye(dims), None
        in_plane = [axis for axis in range(dims) if axis != thin]
        if rng.random() < self.rotation:
            turned = in_plane if thin is not None else list(range(dims))
            matrix[np.ix_(turned, turned)] = rotation([patch[axis] for axis in turned], rng)
        if rng.random() < self.scaling:
            matrix[:, in_plane] *= rng.uniform(*self.scales)
        if rng.random() < self.elastic:
            displacement = self._displacement(patch, in_plane, rng)
        elif np.array_equal(matrix, np.eye(dims)):
            return None
        grid = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in patch), indexing="ij"))
        if displacement is not None:
            grid += displacement
        return np.einsum("ij,j...->i...", matrix, grid).astype(np.float32)

    def _displacement(
        self, patch: Sequence[int], axes: Sequence[int], rng: np.random.Generator
    ) -> np.ndarray:
        from scipy import ndimage as host

        alpha = rng.uniform(*(self.alphas if len(axes) == 2 else self.alphas_3d))
        sigma = [rng.uniform(*self.sigmas) if axis in axes else 0 for axis in range(len(patch))]
        field = np.zeros((len(patch), *patch))
        for axis in axes:
            noise = np.fft.rfftn(rng.uniform(-alpha, alpha, patch))
            field[axis] = np.fft.irfftn(
                host.fourier_gaussian(noise, sigma, n=patch[-1]), s=patch, axes=range(len(patch))
            )
        return field


def thin_axis(patch: Sequence[int]) -> int | None:
    """The axis that is too short to turn the others into it; None where all may mix."""
    thin = min(range(len(patch)), key=lambda axis: patch[axis])
    return thin if len(patch) == 3 and max(patch) > ANISOTROPY * patch[thin] else None


def rotation(patch: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """A random rotation: by at most 180° in 2-D (15° for long patches), by at most 30° about each axis in
    3-D.
    """
    if len(patch) == 2:
        largest = 180 if max(patch) <= 1.5 * min(patch) else 15
        return _turn(2, (0, 1), rng.uniform(-largest, largest))
    about = [_turn(3, plane, rng.uniform(-30, 30)) for plane in ((1, 2), (0, 2), (0, 1))]
    return about[2] @ about[1] @ about[0]


def _turn(dims: int, plane: tuple[int, int], degrees: float) -> np.ndarray:
    angle, matrix = np.radians(degrees), np.eye(dims)
    matrix[np.ix_(plane, plane)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix


def read(
    image: np.ndarray,
    label: np.ndarray,
    starts: Sequence[int],
    patch: Sequence[int],
    places: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The patch (C, *patch) and its label (*patch), or several (L, *patch), at `starts`, or at `places`
    around its middle.

    Images are interpolated linearly, as in nnU-Net's second version: cubic splines take 4 to 5 times as long.
    A label is the class whose indicator, interpolated linearly, is the largest. Outside the image both are 0.
    """
    if places is None:
        return crop(image, starts, patch), crop(label, starts, patch)
    middle = np.array([a + (p - 1) / 2 for a, p in zip(starts, patch)]).reshape(-1, *[1] * len(patch))
    places = places + middle.astype(np.float32)
    axes = tuple(range(1, places.ndim))
    low = np.floor(places.min(axes)).astype(int)
    size = np.ceil(places.max(axes)).astype(int) + 1 - low  # each place lies between two voxels of the box
    image, label = crop(image, low, size), crop(label, low, size)
    xp = array_module(image)
    places = xp.asarray(places - low.reshape(middle.shape).astype(np.float32))

    def interpolate(array: np.ndarray) -> np.ndarray:
        return ndimage(xp).map_coordinates(array, places, order=1, mode="constant")

    def deform(label: np.ndarray) -> np.ndarray:
        values = xp.unique(label)
        deformed = xp.full(tuple(patch), values[0], label.dtype)
        best = interpolate((label == values[0]).astype(np.float32)) if len(values) > 1 else None
        for value in values[1:]:
            share = interpolate((label == value).astype(np.float32))
            deformed = xp.where(share > best, value, deformed)
            best = xp.maximum(share, best)
        return deformed

    image = xp.stack([interpolate(channel) for channel in image])
    return image, deform(label) if label.ndim == len(patch) else xp.stack([deform(part) for part in label])
