"""From whole cases to training batches: normalise, crop patches (a third of them around foreground),
mirror.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from minidl.data import Case, Image

FOREGROUND_SHARE = 1 / 3  # of the patches of a batch that are centred on a foreground voxel (nnU-Net)
REMEMBERED = 10_000  # foreground voxels per case and class among which a centre is drawn


def normalize(array: np.ndarray) -> np.ndarray:
    """Each channel of (C, *spatial) with mean 0 and standard deviation 1."""
    axes = tuple(range(1, array.ndim))
    mean, std = array.mean(axes, keepdims=True), array.std(axes, keepdims=True)
    return ((array - mean) / np.maximum(std, 1e-8)).astype(np.float32)


def normalized(case: Case) -> Case:
    """The case with its image normalised."""
    return replace(case, image=replace(case.image, array=normalize(case.image.array)))


def slice_axis(spacing: Sequence[float]) -> int:
    """The axis across which volumes are cut into slices: that of the thickest voxels, the last of equals."""
    return max(range(len(spacing)), key=lambda axis: (spacing[axis], axis))


def slices(case: Case) -> list[Case]:
    """A volume as its 2-D slices."""
    axis = slice_axis(case.image.spacing)
    spacing = tuple(s for i, s in enumerate(case.image.spacing) if i != axis)
    images = np.moveaxis(case.image.array, axis + 1, 0)
    labels = np.moveaxis(case.label.array, axis, 0)
    return [
        Case(f"{case.name}, slice {k}", Image(image, spacing), Image(label, spacing))
        for k, (image, label) in enumerate(zip(images, labels))
    ]


class Sampler:
    """Draws batches of patches: images (N, C, *patch) float32, labels (N, *patch) int64.

    Every batch depends on the seed and on how many were drawn before, on nothing else.
    """

    def __init__(self, cases: Sequence[Case], patch: tuple[int, ...], batch: int, mirror: bool, seed: int):
        self.cases, self.patch, self.batch, self.mirror = cases, patch, batch, mirror
        self.rng = np.random.default_rng(seed)
        self.foreground = [self._foreground(case.label.array) for case in cases]
        self.with_foreground = [i for i, found in enumerate(self.foreground) if found]

    def _foreground(self, label: np.ndarray) -> list[np.ndarray]:
        """Per foreground class that is there: some of its voxels, (n, dims)."""
        found = []
        for c in np.unique(label[label > 0]):
            voxels = np.argwhere(label == c)
            if len(voxels) > REMEMBERED:
                voxels = voxels[self.rng.choice(len(voxels), REMEMBERED, replace=False)]
            found.append(voxels)
        return found

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """The next batch."""
        forced = max(1, round(self.batch * FOREGROUND_SHARE)) if self.with_foreground else 0
        pairs = [self._patch(k >= self.batch - forced) for k in range(self.batch)]
        images, labels = zip(*pairs)
        return np.stack(images), np.stack(labels)

    def _patch(self, around_foreground: bool) -> tuple[np.ndarray, np.ndarray]:
        rng = self.rng
        i = int(rng.choice(self.with_foreground) if around_foreground else rng.integers(len(self.cases)))
        image, label = self.cases[i].image.array, self.cases[i].label.array
        centre = None
        if around_foreground:
            voxels = self.foreground[i][rng.integers(len(self.foreground[i]))]
            centre = voxels[rng.integers(len(voxels))]
        starts = []
        for axis, (n, p) in enumerate(zip(label.shape, self.patch)):
            if n <= p:
                starts.append(-((p - n) // 2))
            elif centre is None:
                starts.append(int(rng.integers(n - p + 1)))
            else:
                starts.append(int(np.clip(centre[axis] - p // 2, 0, n - p)))
        image, label = crop(image, starts, self.patch), crop(label, starts, self.patch)
        if self.mirror:
            flips = tuple(slice(None, None, -1 if rng.random() < 0.5 else 1) for _ in self.patch)
            image, label = image[(slice(None), *flips)], label[flips]
        return image, label.astype(np.int64)


def crop(array: np.ndarray, starts: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """The box of that size at `starts` of the last axes; what lies outside the array is 0."""
    lead = array.ndim - len(size)
    inside: Any = [slice(max(a, 0), min(a + p, n)) for a, p, n in zip(starts, size, array.shape[lead:])]
    if all(part.stop - part.start == p for part, p in zip(inside, size)):
        return array[(..., *inside)]
    box = np.zeros((*array.shape[:lead], *size), array.dtype)
    place: Any = [slice(part.start - a, part.stop - a) for part, a in zip(inside, starts)]
    box[(..., *place)] = array[(..., *inside)]
    return box
