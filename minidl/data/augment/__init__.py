"""Augmentation: patches as they might have looked, so that a network learns what does not matter.

The table is that of nnU-Net's second version (Isensee et al. 2021; MIC-DKFZ/nnUNet 2.8, `nnUNetTrainer`):
each row is drawn by itself, so most patches see one or two changes and few see none. `elastic` adds the
elastic deformation of its first version, which the second has switched off.

Everything is drawn from the generator that is handed in, one per sample: a sample is the same whoever makes
it, in whichever order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from minidl.data.augment import intensity
from minidl.data.augment.spatial import Spatial, read


class Row(NamedTuple):
    """A change of intensity, how often it is made, and then in how many of the channels."""

    change: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    probability: float
    per_channel: float = 1.0


@dataclass(frozen=True)
class Augmentation:
    """What is done to patches, in this order: `spatial`, then the rows of `intensity`, then mirroring."""

    spatial: Spatial | None = None
    intensity: tuple[Row, ...] = ()
    mirror: float = 0.0  # the probability that an axis is reversed

    def patch(
        self,
        image: np.ndarray,
        label: np.ndarray,
        starts: Sequence[int],
        patch: Sequence[int],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The patch at `starts` of an image (C, *S) and its label, both changed alike in space.

        The label is a map (*S), or several (L, *S) on top of each other.
        """
        places = self.spatial.draw(patch, rng) if self.spatial else None
        image, label = read(image, label, starts, patch, places)
        for change, probability, per_channel in self.intensity:
            if rng.random() < probability:
                image = np.stack([change(x, rng) if rng.random() < per_channel else x for x in image])
        flips: Any = [slice(None, None, -1 if rng.random() < self.mirror else 1) for _ in patch]
        return image[(..., *flips)], label[(..., *flips)]


NNUNET = Augmentation(
    Spatial(rotation=0.2, scaling=0.2),
    (
        Row(intensity.gaussian_noise, 0.1),
        Row(intensity.gaussian_blur, 0.2, per_channel=0.5),
        Row(intensity.brightness, 0.15),
        Row(intensity.contrast, 0.15),
        Row(intensity.low_resolution, 0.25, per_channel=0.5),
        Row(intensity.gamma_of_inverse, 0.1),
        Row(intensity.gamma, 0.3),
    ),
    mirror=0.5,
)

AUGMENTATIONS = {
    "none": Augmentation(),
    "mirror": Augmentation(mirror=0.5),
    "nnunet": NNUNET,
    "elastic": replace(NNUNET, spatial=Spatial(elastic=0.2)),
}
