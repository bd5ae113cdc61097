"""Prediction of images of any size by a sliding window.

Windows overlap by half; where they overlap, a Gaussian gives the middle of a window more weight than its
border, where the network sees less context (nnU-Net, Isensee et al. 2021). They move on along one axis, and
a row of logits is handed on as soon as no later window touches it: of the logits, which are many times as
large as the image, only the slab that windows still touch is ever in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np

import minidl
from minidl.backend import to_numpy
from minidl.data import Image
from minidl.data.augment import AUGMENTATIONS
from minidl.data.geometry import crop
from minidl.models import PlannedUNet
from minidl.segment.config import Config
from minidl.segment.plan.fingerprint import nonzero_box
from minidl.segment.preprocess import Preprocessing

OVERLAP = 0.5
AT_ONCE = 4  # windows that go through the network together, if they are small:
VOXELS_AT_ONCE = 2**20

Network = Callable[[np.ndarray], np.ndarray]  # (N, C, *patch) -> logits (N, classes, *patch)


# ---- windows ----------------------------------------------------------------------------------------


def window_starts(size: int, window: int, overlap: float = OVERLAP) -> list[int]:
    """Where windows begin along an axis: evenly spread, at most window·(1 - overlap) apart."""
    if size <= window:
        return [0]
    count = int(np.ceil((size - window) / (window * (1 - overlap)))) + 1
    return [int(np.round(i * (size - window) / (count - 1))) for i in range(count)]


@cache
def gaussian_window(window: tuple[int, ...]) -> np.ndarray:
    """Weights of a window: a Gaussian around voxel window // 2 with σ = window / 8, its maximum 1.

    It is cut off at 4 σ, and where it is cut the smallest weight inside is used, so that no voxel has
    weight 0.
    """
    weights = np.ones(window)
    for axis, n in enumerate(window):
        distance = np.abs(np.arange(n) - n // 2)
        sigma = n / 8
        line = np.where(distance <= int(4 * sigma + 0.5), np.exp(-0.5 * (distance / sigma) ** 2), 0)
        weights = weights * line.reshape([-1 if i == axis else 1 for i in range(len(window))])
    weights /= weights.max()
    weights[weights == 0] = weights[weights > 0].min()
    weights.flags.writeable = False  # one array serves every image
    return weights.astype(np.float32)


def window_rows(network: Network, image: np.ndarray, patch: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Logits of an image (C, *spatial), the weighted mean over overlapping windows, in blocks of rows.

    The blocks (classes, r, *rest) follow each other along the first spatial axis. An image smaller than the
    patch is padded with zeros on both sides.
    """
    size = image.shape[1:]
    margin = [max(p - n, 0) // 2 for n, p in zip(size, patch)]
    padded = [max(n, p) for n, p in zip(size, patch)]
    image = crop(image, [-m for m in margin], padded)
    weight = gaussian_window(patch)
    at_once = max(1, min(AT_ONCE, VOXELS_AT_ONCE // math.prod(patch)))
    step = max(1, VOXELS_AT_ONCE // math.prod(size[1:]))  # rows of a block
    first, *rest = (window_starts(n, p, OVERLAP) for n, p in zip(padded, patch))
    total: Any = None  # of the rows a .. a + p, as the weights are
    weights = np.zeros((patch[0], *padded[1:]), np.float32)
    for a, following in zip(first, [*first[1:], padded[0]]):
        windows = [(a, *starts) for starts in product(*rest)]
        for k in range(0, len(windows), at_once):
            batch = windows[k : k + at_once]
            logits = network(np.stack([crop(image, starts, patch) for starts in batch]))
            if total is None:
                total = np.zeros((logits.shape[1], *weights.shape), np.float32)
            for (_, *starts), window in zip(batch, logits):
                place = (slice(None), *(slice(b, b + p) for b, p in zip(starts, patch[1:])))
                total[(slice(None), *place)] += window * weight
                weights[place] += weight
        done = following - a
        end = min(done, margin[0] + size[0])
        for r in range(margin[0], end, step):
            part = slice(r, min(r + step, end))
            yield crop(total[:, part] / weights[part], margin[1:], size[1:])
        for array in (weights, *total):
            for row in range(patch[0] - done):  # one by one: a copy within an array would be made twice
                array[row] = array[row + done]
            array[max(patch[0] - done, 0) :] = 0


def sliding_window(network: Network, image: np.ndarray, patch: tuple[int, ...]) -> np.ndarray:
    """All logits (classes, *spatial) of an image (C, *spatial) at once."""
    return np.concatenate(list(window_rows(network, image, patch)), axis=1)


def tiled(
    network: Network,
    image: np.ndarray,
    tile: Sequence[int],
    halo: Sequence[tuple[int, int]],
    alignment: Sequence[int],
) -> np.ndarray:
    """The logits (classes, *spatial) of the whole image (C, *spatial), tile by tile and yet exactly.

    Every tile is read with all that its positions see around it, and what the network says of the rest is
    thrown away. `halo` and `alignment` are those that `minidl.receptive_field.analyze` finds for the network,
    which keeps the size of images. A network with `whole` layers, such as instance norms, has no such halo:
    its tiles would be normalised each by its own statistics.
    """
    size = image.shape[1:]
    for axis, (t, unit) in enumerate(zip(tile, alignment)):
        if t < 1 or t % unit:
            raise ValueError(
                f"tiled: tiles of {tuple(tile)} must be multiples of the alignment {tuple(alignment)}; "
                f"{t} along axis {axis} is not a multiple of {unit}"
            )
    result: Any = None
    for starts in product(*(range(0, n, t) for n, t in zip(size, tile))):
        inner = [slice(a, min(a + t, n)) for a, t, n in zip(starts, tile, size)]
        # Before the tile the halo is rounded up: where reading begins, the pattern of strides must begin too.
        outer = [
            slice(max(part.start - -(-before // unit) * unit, 0), min(part.stop + after, n))
            for part, (before, after), unit, n in zip(inner, halo, alignment, size)
        ]
        logits = network(image[(None, slice(None), *outer)])[0]
        if result is None:
            result = np.zeros((len(logits), *size), logits.dtype)
        kept = [slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer)]
        result[(slice(None), *inner)] = logits[(slice(None), *kept)]
    return result


def mirrored(network: Network) -> Network:
    """The mean of the logits over all 2^d reflections of an image (test-time augmentation)."""

    def mean(images: np.ndarray) -> np.ndarray:
        axes = range(2, images.ndim)
        total: Any = 0
        for flips in product((False, True), repeat=len(axes)):
            flipped = tuple(axis for axis, flip in zip(axes, flips) if flip)
            total = total + np.flip(network(np.flip(images, flipped)), flipped)
        return total / 2 ** len(axes)

    return mean


def as_network(model: PlannedUNet) -> Network:
    """The model as a function from images to logits, both NumPy arrays, without a graph.

    It computes where the model's parameters live.
    """

    @minidl.no_grad()
    def network(images: np.ndarray) -> np.ndarray:
        model.eval()
        where = next(model.parameters()).device
        logits = to_numpy(model(minidl.from_numpy(images).to(where)).array)
        model.train()
        return logits

    return network


def was_mirrored(config: Config) -> bool:
    """Whether a network saw mirrored images while it trained: if not, it does not know what they are."""
    return AUGMENTATIONS[config.augmentation].mirror > 0


# ---- images -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """A trained network of an ensemble, with its configuration."""

    network: Network
    config: Config

    def rows(self, image: Image, axis: int) -> Iterator[np.ndarray]:
        """Logits (K, *rest) of every place of an axis of the image, cut to what is not 0, as it was read."""
        config = self.config
        preprocessing = Preprocessing(config.configuration, config.slice_axis)
        prepared = np.moveaxis(preprocessing.prepare(image).array, axis + 1, 1)
        if len(config.patch) < len(image.spacing):  # a flat network: the rows are its images
            planes = (prepared[:, k] for k in range(prepared.shape[1]))
            blocks = (sliding_window(self.network, plane, config.patch)[:, None] for plane in planes)
        else:
            patch = (config.patch[axis], *config.patch[:axis], *config.patch[axis + 1 :])
            blocks = window_rows(partial(self._moved, axis), prepared, patch)  # type: ignore[assignment]
        return preprocessing.restore(blocks, image, axis)

    def _moved(self, axis: int, images: np.ndarray) -> np.ndarray:
        """The network, for images whose axis of that number has been put first."""
        return np.moveaxis(self.network(np.moveaxis(images, 2, axis + 2)), axis + 2, 2)


def predict_image(network: Network, image: Image, config: Config) -> np.ndarray:
    """The label map (*S) of an image (C, *S) as it was read; a 2-D network cuts volumes into slices."""
    return predict_ensemble([Member(network, config)], image)


def predict_ensemble(members: Sequence[Member], image: Image) -> np.ndarray:
    """The label map (*S) of an image (C, *S): the class with the highest mean probability over the members.

    They may differ in resolution, and in dimensions: all that is asked is that they know the same classes.
    """
    axis = common_axis(members, image)
    labels = np.zeros(image.spatial, np.uint8)
    places = np.moveaxis(labels[nonzero_box(image.array)], axis, 0)
    for place, rows in zip(places, zip(*(member.rows(image, axis) for member in members))):
        # The softmax of one network changes no order of its classes.
        scores = rows[0] if len(rows) == 1 else np.mean([_softmax(row) for row in rows], axis=0)
        place[...] = scores.argmax(0)
    return labels


def common_axis(members: Sequence[Member], image: Image) -> int:
    """The axis along which the members go through the image together: the one that flat networks slice."""
    axes = {member.config.slice_axis for member in members if len(member.config.patch) < len(image.spacing)}
    if len(axes) > 1:
        raise ValueError(
            f"predict_ensemble: flat networks that cut volumes across different axes, here "
            f"{' and '.join(sorted(map(str, axes)))}, cannot go through one together"
        )
    return (axes or {0}).pop() or 0


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(0))
    return exponentials / exponentials.sum(0)
