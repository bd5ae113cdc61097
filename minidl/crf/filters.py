"""The sum over all other voxels, y_i = Σ_j k(f_i, f_j) q_j with the Gaussian k(f, h) = exp(-|f - h|² / 2),
four ways.

| filter | sums over | cost for P voxels | differentiable |
|---|---|---|---|
| `Exact` | every pair | P² | yes |
| `Separable` | pairs within a window; features are positions | P · window, axis by axis | yes |
| `Windowed` | pairs within a window (ConvCRF, Teichmann and Cipolla 2018) | P · window^rank | yes |
| `Lattice` | every pair, approximately (Adams et al. 2010) | P · features² | in q only, never recorded |

Each is made once for an image and then applied to a q of shape (N, L, *S) as often as mean field asks.
Positions count in units of the spacing, so that bandwidths are lengths (millimetres in a scan).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import minidl
from minidl.autograd import Tensor
from minidl.backend import array_module, to_numpy
from minidl.crf.lattice import PermutohedralLattice
from minidl.ops import bilinear

LARGEST_EXACT = 20_000  # voxels: the matrix of all pairs then takes 1.6 GB in float32


def positions(
    size: Sequence[int], spacing: Sequence[float], origin: Sequence[int] | None = None
) -> np.ndarray:
    """The coordinates of all voxels, (rank, *S), in the unit of the spacing, from the voxel `origin` on."""
    origin = origin or [0] * len(size)
    lines = [(np.arange(n) - o) * s for n, s, o in zip(size, spacing, origin)]
    return np.stack(np.meshgrid(*lines, indexing="ij"))


def constant(values: np.ndarray, like: Tensor) -> Tensor:
    """Numbers made on the host, as a tensor beside another one."""
    return Tensor(array_module(like.array).asarray(values.astype(like.dtype)))


class Exact:
    """Every pair: the definition, as a matrix of P × P numbers. Features (N, D, *S), bandwidths divided out.

    ValueError for images of more than 20,000 voxels; `Windowed` and `Lattice` are made for those.
    """

    def __init__(self, features: Tensor):
        n, dims, *size = features.shape
        count = int(np.prod(size))
        if count > LARGEST_EXACT:
            raise ValueError(
                f"Exact: {'x'.join(map(str, size))} has {count} voxels, more than {LARGEST_EXACT}; "
                'use method="window" or method="lattice"'
            )
        columns = features.reshape(n, dims, count)
        difference = columns.unsqueeze(3) - columns.unsqueeze(2)
        self.matrix = minidl.exp(-0.5 * (difference * difference).sum(1))

    def __call__(self, q: Tensor) -> Tensor:
        return (q.flatten(2) @ self.matrix).reshape(*q.shape)


class Separable:
    """Features that are positions: the Gaussian of a distance is a product over axes, so one at a time.

    `bandwidth` is the Gaussian's σ, in the unit of the spacing; `window` counts voxels along each axis, odd.
    """

    def __init__(self, spacing: Sequence[float], bandwidth: Tensor, window: Sequence[int]):
        self.lines = []
        for axis, (step, taps) in enumerate(zip(spacing, window)):
            distance = constant((np.arange(taps) - taps // 2) * step, bandwidth) / bandwidth
            along = [-1 if k == axis else 1 for k in range(len(window))]
            self.lines.append(minidl.exp(-0.5 * distance * distance).reshape(1, 1, *along))

    def __call__(self, q: Tensor) -> Tensor:
        planes = q.reshape(-1, 1, *q.shape[2:])
        ones = (1,) * len(self.lines)
        for line in self.lines:
            padding = tuple(n // 2 for n in line.shape[2:])
            planes = bilinear.conv(planes, line, stride=ones, padding=padding, dilation=ones, groups=1)
        return planes.reshape(*q.shape)


class Windowed:
    """Pairs at most half a window apart, each with its exact weight: the convolutional CRF.

    The features are the positions, divided by `position_bandwidth`, and the image (N, C, *S), divided by
    `image_bandwidth`. Memory: one weight per voxel and tap, N · window^rank · P numbers.
    """

    def __init__(
        self,
        image: Tensor,
        spacing: Sequence[float],
        position_bandwidth: Tensor,
        image_bandwidth: Tensor,
        window: Sequence[int],
    ):
        window, batch, size = tuple(window), image.shape[0], image.shape[2:]
        look = image / image_bandwidth
        squares = (look * look).sum(1, keepdim=True)
        # |f_i - f_j|² = |f_i|² + |f_j|² - 2 f_i·f_j, for all offsets at once
        here = squares.reshape(batch, *(1,) * len(window), *size)
        there = bilinear.local_dot(squares, minidl.ones_like(squares), window=window)
        apart = minidl.relu(here + there - 2 * bilinear.local_dot(look, look, window=window))
        offsets = positions(window, spacing, [w // 2 for w in window])
        lengths = constant((offsets**2).sum(0).reshape(1, *window, *(1,) * len(size)), image)
        self.weights = minidl.exp(-0.5 * (apart + lengths / position_bandwidth**2))

    def __call__(self, q: Tensor) -> Tensor:
        return bilinear.local_sum(self.weights, q)


class Lattice:
    """Every pair, approximately, by the permutohedral lattice: for whole images, in inference.

    Features are (N, D, *S), bandwidths divided out. RuntimeError where q is being recorded.
    """

    def __init__(self, features: Tensor):
        self.lattices = [
            PermutohedralLattice(to_numpy(sample).reshape(len(sample), -1).T) for sample in features.array
        ]

    def __call__(self, q: Tensor) -> Tensor:
        if minidl.is_grad_enabled() and q.requires_grad:
            raise RuntimeError('Lattice: has no derivative; train with method="window", or use no_grad()')
        xp = array_module(q.array)
        samples = [
            lattice(to_numpy(sample).reshape(len(sample), -1).T).T.reshape(sample.shape)
            for lattice, sample in zip(self.lattices, q.array)
        ]
        return Tensor(xp.asarray(np.stack(samples).astype(q.dtype)))
