"""Changes of the grey values of a channel (*S): what another scanner might have made of it.

Every function takes one channel and a generator, draws how strong it is, and returns a new array. The label
is not asked: none of them moves anything.
"""

from __future__ import annotations

import numpy as np

from minidl.backend import array_module, ndimage
from minidl.data.augment.spatial import thin_axis


def gaussian_noise(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """x + ε, ε of a standard deviation from U(0, 0.1)."""
    sigma = np.float32(rng.uniform(0, 0.1))
    return x + array_module(x).asarray(sigma * rng.standard_normal(x.shape, dtype=np.float32))


def gaussian_blur(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """x smoothed by a Gaussian of σ from U(0.5, 1) voxels along each axis."""
    return ndimage(array_module(x)).gaussian_filter(x, rng.uniform(0.5, 1, x.ndim).tolist(), mode="reflect")


def brightness(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """x · f, f from 0.75 to 1.25."""
    return x * _factor(rng, 0.75, 1.25)


def contrast(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """mean + (x - mean) · f, f from 0.75 to 1.25, held between the old minimum and maximum."""
    mean = x.mean()
    return ((x - mean) * _factor(rng, 0.75, 1.25) + mean).clip(x.min(), x.max())


def low_resolution(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """x at a share U(0.5, 1) of its resolution (nearest), brought back linearly; not along a thin axis."""
    xp, share, thin = array_module(x), rng.uniform(0.5, 1), thin_axis(x.shape)
    coarse, zoom = x, []
    for axis, n in enumerate(x.shape):
        q = n if axis == thin else max(1, round(n * share))
        coarse = coarse.take(xp.asarray(((np.arange(q) + 0.5) * n / q).astype(int)), axis)
        zoom.append(n / q)
    return ndimage(xp).zoom(coarse, zoom, order=1, mode="nearest", grid_mode=True)


def gamma(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """min + range · ((x - min) / range)^γ, γ from 0.7 to 1.5, with the old mean and standard deviation."""
    low, mean, std = x.min(), x.mean(), x.std()
    extent = np.maximum(x.max() - low, np.float32(1e-7))
    y = ((x - low) / extent) ** _factor(rng, 0.7, 1.5) * extent + low
    return (y - y.mean()) * (std / np.maximum(y.std(), np.float32(1e-8))) + mean


def gamma_of_inverse(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`gamma` of -x, inverted again: it spreads the bright grey values instead of the dark ones."""
    return -gamma(-x, rng)


def _factor(rng: np.random.Generator, low: float, high: float) -> np.float32:
    """Below and above 1 equally often: U(low, 1) or U(1, high)."""
    return np.float32(rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high))
