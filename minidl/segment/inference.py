"""Prediction of images of any size by a sliding window.

Windows overlap by half; where they overlap, a Gaussian gives the middle of a window more weight than its
border, where the network sees less context (nnU-Net, Isensee et al. 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from minidl.segment.sampling import crop, normalize, slice_axis

OVERLAP = 0.5
AT_ONCE = 4  # windows that go through the network together

Network = Callable[[np.ndarray], np.ndarray]  # (N, C, *patch) -> logits (N, classes, *patch)


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


def sliding_window(network: Network, image: np.ndarray, patch: tuple[int, ...]) -> np.ndarray:
    """Logits (classes, *spatial) of an image (C, *spatial): the weighted mean over overlapping windows."""
    size = image.shape[1:]
    margin = [max(p - n, 0) // 2 for n, p in zip(size, patch)]
    padded = [max(n, p) for n, p in zip(size, patch)]
    image = crop(image, [-m for m in margin], padded)
    weight = gaussian_window(patch)
    total: Any = None
    weights = np.zeros(padded, np.float32)
    windows = list(product(*(window_starts(n, p) for n, p in zip(padded, patch))))
    for first in range(0, len(windows), AT_ONCE):
        batch = windows[first : first + AT_ONCE]
        for starts, logits in zip(batch, network(np.stack([crop(image, starts, patch) for starts in batch]))):
            if total is None:
                total = np.zeros((len(logits), *padded), np.float32)
            place = tuple(slice(a, a + p) for a, p in zip(starts, patch))
            total[(slice(None), *place)] += logits * weight
            weights[place] += weight
    return crop(total / weights, margin, size)


def predict_image(
    network: Network, image: np.ndarray, spacing: Sequence[float], patch: tuple[int, ...]
) -> np.ndarray:
    """The label map (*spatial) of an image (C, *spatial) as it was read; a 2-D network cuts volumes into
    slices.
    """
    image = normalize(image)
    if image.ndim - 1 == len(patch):
        labels = sliding_window(network, image, patch).argmax(0)
    else:
        axis = slice_axis(spacing)
        planes = [
            sliding_window(network, plane, patch).argmax(0) for plane in np.moveaxis(image, axis + 1, 0)
        ]
        labels = np.stack(planes, axis)
    return labels.astype(np.uint8)
