"""From an image as it was read to what the network sees, and from its logits back to a label map.

Cut to what is not 0, normalise, resample to the spacing of the configuration: the same steps, in this order
(nnU-Net's), in training and in prediction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from minidl.data import Case, Image
from minidl.data.geometry import coarse_axis, resample, resample_labels, resampled_shape
from minidl.segment.plan import Configuration, Normalization
from minidl.segment.plan.fingerprint import nonzero_box
from minidl.segment.rows import resample_rows

SMALLEST_STD = 1e-8  # an image of one grey value becomes 0


def normalize(image: np.ndarray, rules: Sequence[Normalization]) -> np.ndarray:
    """Each channel of (C, *S) by its own rule, float32."""
    inside = np.ones(image.shape[1:], bool)
    if any(rule.inside_nonzero for rule in rules):
        from scipy import ndimage

        inside = ndimage.binary_fill_holes((image != 0).any(0))
    result = np.empty(image.shape, np.float32)
    for x, y, rule in zip(image, result, rules, strict=True):
        # In place, step by step: of a large image there is no room for temporary copies.
        if rule.scheme == "ct":
            np.clip(x, rule.lower, rule.upper, out=y)
            y -= rule.mean
            y /= rule.std
            continue
        of = x[inside] if rule.inside_nonzero else x
        if of.size:
            np.subtract(x, of.mean(), out=y)
            y /= max(of.std(), SMALLEST_STD)
        if rule.inside_nonzero:
            y[~inside] = 0
    return result


class Preprocessing:
    """What a configuration asks of images: `prepare` for the network, `restore` for its logits.

    A flat network works on the slices of a volume across `slice_axis`, along which nothing is resampled. In a
    cascade the last channel of the images is the label map of the first stage.
    """

    def __init__(self, configuration: Configuration, slice_axis: int | None):
        self.rules, self.spacing = configuration.normalization, configuration.spacing
        self.slice_axis, self.cascaded = slice_axis, configuration.previous is not None

    def _target(self, image: Image) -> tuple[float, ...]:
        """The spacing along each axis of the image."""
        target = list(self.spacing)
        if len(image.spacing) > len(target):
            axis = self._across(image)
            target.insert(axis, image.spacing[axis])
        return tuple(target)

    def _across(self, image: Image) -> int:
        if self.slice_axis is None or self.slice_axis >= len(image.spacing):
            raise ValueError(
                f"Preprocessing: a network for {len(self.spacing)}-D images got {len(image.spacing)}-D, "
                "and its configuration does not say across which axis to slice"
            )
        return self.slice_axis

    def _grid(self, image: Image) -> tuple[tuple[slice, ...], tuple[int, ...], int | None]:
        """The box of the image that is kept, its shape once resampled, the axis not to interpolate along."""
        box, target = nonzero_box(image.array), self._target(image)
        kept = [part.stop - part.start for part in box]
        return box, resampled_shape(kept, image.spacing, target), coarse_axis(image.spacing, target)

    def prepare(self, image: Image) -> Image:
        """The image (C, *S) as the network sees it, on its own grid (C, *S')."""
        box, shape, nearest = self._grid(image)
        array = image.array[(slice(None), *box)]
        if not self.cascaded:
            prepared = resample(normalize(array, self.rules), shape, 3, nearest)
        else:
            prepared = resample(normalize(array[:-1], self.rules), shape, 3, nearest)
            prepared = np.concatenate([prepared, resample_labels(array[-1], shape, nearest)[None]])
        return Image(prepared, self._target(image))

    def prepare_case(self, case: Case) -> Case:
        """The case with its image prepared and its label on the same grid."""
        box, shape, nearest = self._grid(case.image)
        label = resample_labels(case.label.array[box], shape, nearest)
        image = self.prepare(case.image)
        return replace(case, image=image, label=Image(label, image.spacing))

    def restore(self, blocks: Iterable[np.ndarray], image: Image, axis: int) -> Iterator[np.ndarray]:
        """Logits on the image's own grid, from those on the network's: row after row of an axis, in the box
        of the image that is not 0. The blocks (K, r, *rest) have that axis in front of the others.
        """
        box, shape, nearest = self._grid(image)
        kept = [part.stop - part.start for part in box]
        return resample_rows(blocks, shape[axis], kept, axis, nearest)

    def slices(self, image: Image) -> np.ndarray:
        """A volume (C, *S) as its slices (n, C, *plane)."""
        return np.moveaxis(image.array, self._across(image) + 1, 0)

    def slice_case(self, case: Case) -> list[Case]:
        """A volume with its label as 2-D cases."""
        axis = self._across(case.image)
        labels = np.moveaxis(case.label.array, axis, 0)
        return [
            Case(f"{case.name}, slice {k}", Image(image, self.spacing), Image(label, self.spacing))
            for k, (image, label) in enumerate(zip(self.slices(case.image), labels))
        ]
