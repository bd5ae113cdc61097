"""nnU-Net's single rules, each a function of the fingerprint: spacing, shape, normalisation, first patch.

They are those of nnU-Net's second version (`default_experiment_planner.py`; Isensee et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minidl.data.geometry import ANISOTROPY, resampled_shape
from minidl.segment.plan.fingerprint import Fingerprint
from minidl.segment.plan.plan import Normalization
from minidl.segment.plan.topology import RULES, Topology

LARGEST_START = {2: 2048, 3: 256}  # edge of the square or cube that has the volume of the first patch
NONZERO_BELOW = 0.75  # share of the voxels inside the nonzero box under which only those are normalised


class Grid(NamedTuple):
    """What a configuration's images are resampled to: voxels of this spacing, and the median shape there."""

    spacing: tuple[float, ...]
    shape: tuple[int, ...]

    def without(self, axis: int) -> Grid:
        """The grid of the slices across an axis."""
        return Grid(
            self.spacing[:axis] + self.spacing[axis + 1 :], self.shape[:axis] + self.shape[axis + 1 :]
        )


def target_grid(fingerprint: Fingerprint) -> tuple[Grid, str]:
    """The spacing to which all images are resampled, their median shape there, and why.

    The median per axis; but where one axis is anisotropic, in voxel length and in number of voxels, its 10th
    percentile, which invents slices in most images rather than throwing away those of the finer ones.
    """
    spacings, shapes = np.array(fingerprint.spacings), np.array(fingerprint.shapes)
    spacing, shape = np.median(spacings, 0), np.median(shapes, 0)
    worst = int(spacing.argmax())
    others = np.arange(len(spacing)) != worst
    why = "the median of all images: half of them lose no detail"
    coarse = spacing[worst] > ANISOTROPY * spacing[others].max()
    if coarse and shape[worst] * ANISOTROPY < shape[others].min():
        why = (
            f"the median; but axis {worst} has few, long voxels (median {spacing[worst]:.3g} mm), and its "
            "10th percentile keeps the slices of the finer images"
        )
        finer = np.percentile(spacings[:, worst], 10)
        spacing[worst] = finer if finer >= spacing[others].max() else spacing[others].max() + 1e-5
    if (spacings == spacing).all():
        why = "all images have it: nothing is resampled"
    target = tuple(spacing.tolist())
    resampled = [
        resampled_shape(shape, spacing, target)
        for shape, spacing in zip(fingerprint.shapes, fingerprint.spacings)
    ]
    return Grid(target, tuple(int(n) for n in np.median(resampled, 0))), why


def normalizations(fingerprint: Fingerprint, channels: Sequence[str]) -> tuple[Normalization, ...]:
    """Per channel: by the dataset's foreground for one called CT, by each image itself for all others."""
    inside = fingerprint.kept < NONZERO_BELOW
    return tuple(
        Normalization("ct", i.percentile_00_5, i.percentile_99_5, i.mean, max(i.std, 1e-8))
        if name.strip().lower() == "ct"
        else Normalization("zscore", inside_nonzero=inside)
        for name, i in zip(channels, fingerprint.intensities, strict=True)
    )


def first_patch(grid: Grid) -> tuple[int, ...]:
    """The patch before any limit: as many millimetres along each axis, the volume of 256³ voxels (2048²
    pixels), and nowhere larger than the median image."""
    density = 1 / np.array(grid.spacing)
    dims = len(density)
    edges = density * (LARGEST_START[dims] ** dims / density.prod()) ** (1 / dims)
    return tuple(min(round(edge), n) for edge, n in zip(edges.tolist(), grid.shape))


def shrunk(topology: Topology, grid: Grid, rule: str) -> Topology | None:
    """The topology for a patch that is shorter along the axis that is longest relative to the median image,
    by the unit that the shorter patch needs; None if there is no smaller one."""
    patch = list(topology.patch)
    able = [i for i in range(len(patch)) if patch[i] > topology.unit[i]]
    if not able:
        return None
    axis = max(able, key=lambda i: (patch[i] / grid.shape[i], i))
    shorter = patch.copy()
    shorter[axis] -= topology.unit[axis]
    patch[axis] -= RULES[rule](grid.spacing, shorter).unit[axis]
    smaller = RULES[rule](grid.spacing, patch)
    return smaller if len(smaller.strides) > 1 else None
