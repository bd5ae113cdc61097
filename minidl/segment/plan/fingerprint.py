"""The dataset's fingerprint: the few facts about its images from which nnU-Net's rules choose everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minidl.data import Case, Dataset
from minidl.data.dataset import listed, progress_bar
from minidl.data.images import DataError

VOXELS_PER_CASE = 10_000  # foreground voxels whose intensities are remembered


@dataclass(frozen=True)
class Intensities:
    """Of one channel, in the foreground of all cases: percentiles 0.5, 50 and 99.5, mean, deviation."""

    percentile_00_5: float
    median: float
    percentile_99_5: float
    mean: float
    std: float


@dataclass(frozen=True)
class Fingerprint:
    """Facts of a dataset. shapes (voxels) and spacings (mm) are per case and axis, after cropping to what is
    not 0 in every channel; kept is the share of the voxels that this leaves (the median over the cases).
    """

    shapes: tuple[tuple[int, ...], ...]
    spacings: tuple[tuple[float, ...], ...]
    kept: float
    class_shares: tuple[float, ...]  # of all voxels, per class
    intensities: tuple[Intensities, ...]  # per channel

    def __post_init__(self) -> None:
        if not self.shapes or len(self.shapes) != len(self.spacings):
            raise ValueError("needs the shape and the spacing of at least one case")
        if {len(axes) for axes in (*self.shapes, *self.spacings)} != {self.dims} or self.dims not in (2, 3):
            raise ValueError("all shapes and spacings must have the same 2 or 3 axes")

    @property
    def dims(self) -> int:
        return len(self.shapes[0])

    @property
    def cases(self) -> int:
        return len(self.shapes)


def nonzero_box(image: np.ndarray) -> tuple[slice, ...]:
    """The smallest box of an image (C, *S) outside of which every channel is 0; the whole if all is."""
    mask = (image != 0).any(0)
    box = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(tuple(i for i in range(mask.ndim) if i != axis)))
        box.append(slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, mask.shape[axis]))
    return tuple(box)


def take_fingerprint(dataset: Dataset, progress: bool = True) -> Fingerprint:
    """Read every case once, one at a time, and note its facts.

    Errors: DataError that lists every file that cannot be used.
    """
    shapes, spacings, kept, samples, problems = [], [], [], [], []
    counts = np.zeros(len(dataset.classes), np.int64)
    for i in progress_bar(range(len(dataset)), progress):
        try:
            case = dataset.load(i)
        except DataError as error:
            problems.append(str(error))
            continue
        box = nonzero_box(case.image.array)
        shape = tuple(part.stop - part.start for part in box)
        shapes.append(shape)
        spacings.append(tuple(float(s) for s in case.image.spacing))
        kept.append(float(np.prod(shape) / np.prod(case.image.spatial)))
        counts += np.bincount(case.label.array.ravel(), minlength=len(counts))
        samples.append(_foreground(case, seed=i))
    if problems:
        raise DataError(f"{dataset.folder}: {len(problems)} problems:\n  " + listed(problems, "\n  "))
    return Fingerprint(
        tuple(shapes), tuple(spacings), float(np.median(kept)),
        tuple(float(share) for share in counts / counts.sum()),
        _intensities(samples),
    )  # fmt: skip


def _foreground(case: Case, seed: int) -> np.ndarray:
    """Intensities (C, n) of foreground voxels; of many, a random part that depends on the seed alone."""
    values = case.image.array[:, case.label.array > 0]
    if values.shape[1] > VOXELS_PER_CASE:
        chosen = np.random.default_rng(seed).choice(values.shape[1], VOXELS_PER_CASE, replace=False)
        values = values[:, chosen]
    return values


def _intensities(samples: Sequence[np.ndarray]) -> tuple[Intensities, ...]:
    values = np.concatenate(samples, axis=1, dtype=np.float64)
    if not values.shape[1]:
        raise DataError("take_fingerprint: no label has any foreground: there is nothing to learn")
    percentiles = np.percentile(values, (0.5, 50, 99.5), axis=1)
    facts = np.stack([*percentiles, values.mean(1), values.std(1)], axis=1)  # (C, 5)
    return tuple(Intensities(*row) for row in facts.tolist())
