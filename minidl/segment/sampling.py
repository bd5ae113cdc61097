"""From whole cases to training batches: patches, a third of them around foreground, augmented."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minidl.data import Case, DataError
from minidl.data.augment import Augmentation

FOREGROUND_SHARE = 1 / 3  # of the patches of a batch that are centred on a foreground voxel (nnU-Net)
REMEMBERED = 10_000  # foreground voxels per case and class among which a centre is drawn


class Sampler:
    """Batches of patches by their number: images (N, C, *patch) float32, labels (N, *patch) int64.

    Every sample has a random generator of its own, started from (seed, step, place in the batch): it is the
    same whichever thread makes it, whatever was made before, and after a resumed start.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        patch: tuple[int, ...],
        batch: int,
        augmentation: Augmentation,
        seed: int,
    ):
        self.cases, self.patch, self.size = cases, patch, batch
        self.augmentation, self.seed = augmentation, seed
        self.foreground = [self._foreground(i, case.label.array) for i, case in enumerate(cases)]
        self.with_foreground = [i for i, found in enumerate(self.foreground) if found]
        self.forced = max(1, round(batch * FOREGROUND_SHARE)) if self.with_foreground else 0

    def _foreground(self, i: int, label: np.ndarray) -> list[np.ndarray]:
        """Per foreground class that is there: some of its voxels, (n, dims)."""
        rng = np.random.default_rng((self.seed, 0, i))  # steps count from 1
        found = []
        for c in np.unique(label[label > 0]):
            voxels = np.flatnonzero(label == c)
            if len(voxels) > REMEMBERED:
                voxels = rng.choice(voxels, REMEMBERED, replace=False)
            found.append(np.stack(np.unravel_index(voxels, label.shape), axis=1).astype(np.int32))
        return found

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of a step, which counts from 1; its last third is centred on foreground."""
        pairs = [self._sample(step, k, k >= self.size - self.forced) for k in range(self.size)]
        images, labels = zip(*pairs)
        return np.stack(images), np.stack(labels).astype(np.int64)

    def _sample(self, step: int, k: int, around_foreground: bool) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((self.seed, step, k))
        i = int(rng.choice(self.with_foreground) if around_foreground else rng.integers(len(self.cases)))
        case, centre = self.cases[i], None
        if around_foreground:
            voxels = self.foreground[i][rng.integers(len(self.foreground[i]))]
            centre = voxels[rng.integers(len(voxels))]
        try:
            return self._patch(case, self._starts(case.image.spatial, centre, rng), rng)
        except Exception as error:  # raised in another thread: say which case it was
            raise DataError(f"{case.name}: no patch could be made of it in step {step}: {error!r}") from error

    def _patch(
        self, case: Case, starts: Sequence[int], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        return self.augmentation.patch(case.image.array, case.label.array, starts, self.patch, rng)

    def _starts(self, shape: Sequence[int], centre: np.ndarray | None, rng: np.random.Generator) -> list[int]:
        """Where the patch begins: around the centre or anywhere, inside the image where it fits."""
        starts = []
        for axis, (n, p) in enumerate(zip(shape, self.patch)):
            if n <= p:
                starts.append(-((p - n) // 2))
            elif centre is None:
                starts.append(int(rng.integers(n - p + 1)))
            else:
                starts.append(int(np.clip(centre[axis] - p // 2, 0, n - p)))
        return starts
