"""The fully connected CRF of Krähenbühl and Koltun (2011), "Efficient Inference in Fully Connected CRFs with
Gaussian Edge Potentials", by mean-field inference; as the last layers of a network it is Zheng et al.'s
CRF-as-RNN (2015).

The energy of a labelling x is Σ_i U_i(x_i) + Σ_{i<j} Σ_m μ_m(x_i, x_j) k_m(f_i, f_j): what the network says
of each voxel alone, and a cost for labels that differ between voxels that are near (smoothness) or near and
alike (appearance). Mean field approximates its distribution by independent voxels Q, and repeats

    Q <- softmax(-U - Σ_m μ_m K_m Q)

with K_m Q the sum over all other voxels, which is a Gaussian filter: `filters.py` has four of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

import minidl
from minidl import nn
from minidl.autograd import Tensor
from minidl.crf.filters import Exact, Lattice, Separable, Windowed, constant, positions

Filter = Callable[[Tensor], Tensor]

METHODS = ("exact", "window", "lattice")
NORMALIZATIONS = ("symmetric", "before", "after", "none")
TINY = 1e-20
CUT = 5  # standard deviations, where a Gaussian of positions is cut off in whole images


def normalized(
    kernel: Filter, like: Tensor, normalization: str = "symmetric", self_term: bool = True
) -> Filter:
    """K, rows summing to about 1: D^-½ K D^-½ "symmetric", K D^-1 "before", D^-1 K "after"; D = diag(K1).

    Without `self_term` a voxel is not its own neighbour: K loses its diagonal, which is 1.
    """
    others = kernel if self_term else lambda q: kernel(q) - q
    if normalization == "none":
        return others
    total = others(minidl.ones_like(like[:, :1])) + TINY
    if normalization == "symmetric":
        scale = minidl.rsqrt(total)
        return lambda q: scale * others(scale * q)
    return (lambda q: others(q / total)) if normalization == "before" else lambda q: others(q) / total


def mean_field(logits: Tensor, messages: Sequence[Filter], iterations: int) -> Tensor:
    """Logits of the Q after so many updates: t <- logits - Σ message(softmax(t)), all voxels at once.

    logits (N, L, *S) are -U up to a number per voxel; the Q that it starts with is their softmax.
    """
    t = logits
    for _ in range(iterations):
        q = minidl.softmax(t, 1)
        t = logits
        for message in messages:
            t = t - message(q)
    return t


class DenseCRF(nn.Module):
    """A fully connected CRF behind a network: logits (N, L, *S), image (N, C, *S) -> logits (N, L, *S).

    - `method`: "exact" sums over all pairs (small images only), "window" over pairs within `window` voxels
      along each axis (differentiable to any order: train it behind a network), "lattice" over all pairs
      approximately.
    - `smoothness` = (θ_γ, w): neighbours within a distance of about θ_γ share labels, with strength w.
    - `appearance` = (θ_α, θ_β, w): the same within θ_α for voxels whose image values differ by about θ_β or
      less. Either may be None. Distances are in the unit of the `spacing` given to `forward`, 1 where none
      is.
    - `compatibility` μ, the cost of a label beside another: None is Potts, -1 for equal labels and 0 for
      others (the same, up to a number per voxel, as 1 for unequal ones); (L,) is the diagonal of μ, (L, L)
      all of it.
    - `normalization`: "symmetric", "before", "after" or "none" (see `normalized`); `self_term`: whether a
      voxel counts among its own neighbours. The defaults are those of the authors' program.

    The bandwidths and weights are parameters, kept as logarithms (they stay positive); so is a given μ.
    """

    def __init__(
        self,
        method: str = "window",
        *,
        window: int | Sequence[int] = 11,
        iterations: int = 5,
        smoothness: tuple[float, float] | None = (3.0, 3.0),
        appearance: tuple[float, float, float] | None = (80.0, 13.0, 10.0),
        compatibility: Sequence | np.ndarray | None = None,
        normalization: str = "symmetric",
        self_term: bool = True,
    ):
        super().__init__()
        for name, value, known in (
            ("method", method, METHODS),
            ("normalization", normalization, NORMALIZATIONS),
        ):
            if value not in known:
                raise ValueError(f"DenseCRF: {name} must be one of {', '.join(known)}, got {value!r}")
        if method == "lattice" and not self_term:
            raise ValueError(
                'DenseCRF: the lattice cannot leave out the self term; use method="window" or "exact"'
            )
        taps = [window] if isinstance(window, int) else list(window)
        if not all(isinstance(n, int) and n > 0 and n % 2 for n in taps):
            raise ValueError(f"DenseCRF: window must be odd and positive, got {window}")
        if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 0:
            raise ValueError(f"DenseCRF: iterations must be a whole number, 0 or more, got {iterations!r}")
        self.method, self.window, self.iterations = method, window, iterations
        self.normalization, self.self_term = normalization, self_term
        self.log_smoothness = _log_parameter("smoothness", smoothness, 2)
        self.log_appearance = _log_parameter("appearance", appearance, 3)
        self.compatibility = None
        if compatibility is not None:
            values = np.asarray(compatibility, np.float32)
            if values.ndim not in (1, 2) or values.shape != (len(values),) * values.ndim:
                raise ValueError(f"DenseCRF: compatibility must be (L,) or (L, L), got shape {values.shape}")
            self.compatibility = nn.Parameter(minidl.tensor(values))

    def forward(self, logits: Tensor, image: Tensor, spacing: Sequence[float] | None = None) -> Tensor:
        """Errors: ValueError where logits, image, spacing, window and compatibility do not fit together."""
        size = logits.shape[2:]
        rank = len(size)
        spacing = [1.0] * rank if spacing is None else spacing
        window = [self.window] * rank if isinstance(self.window, int) else list(self.window)
        if rank < 1 or image.shape[2:] != size or image.shape[0] != logits.shape[0]:
            raise ValueError(
                f"DenseCRF: logits (N, L, *S) and image (N, C, *S) differ: {logits.shape}, {image.shape}"
            )
        if len(spacing) != rank or len(window) != rank or min(spacing) <= 0:
            raise ValueError(
                f"DenseCRF: {rank}-D images need {rank} positive spacings and window sizes, "
                f"got {spacing}, {window}"
            )
        if self.compatibility is not None and len(self.compatibility) != logits.shape[1]:
            raise ValueError(
                f"DenseCRF: compatibility has {len(self.compatibility)} labels, logits {logits.shape[1]}"
            )
        kernels = self._kernels(image.to(logits.dtype), spacing, window)
        return mean_field(logits, [self._message(*kernel, logits) for kernel in kernels], self.iterations)

    def _kernels(
        self, image: Tensor, spacing: Sequence[float], window: Sequence[int]
    ) -> list[tuple[Filter, Tensor]]:
        """The Gaussian filters, each with its weight."""
        size = image.shape[2:]
        found: list[tuple[Filter, Tensor]] = []
        if self.log_smoothness is not None:
            bandwidth, weight = minidl.exp(self.log_smoothness).to(image.dtype)
            reach = window if self.method == "window" else [2 * n - 1 for n in size]
            if self.method == "lattice":  # beyond 5 σ a weight is below 4e-6
                far = [math.ceil(CUT * bandwidth.item() / step) for step in spacing]
                reach = [min(2 * k + 1, n) for k, n in zip(far, reach)]
            found.append((Separable(spacing, bandwidth, reach), weight))
        if self.log_appearance is not None:
            near, alike, weight = minidl.exp(self.log_appearance).to(image.dtype)
            if self.method == "window":
                found.append((Windowed(image, spacing, near, alike, window), weight))
            else:
                where = constant(positions(size, spacing)[None, ::-1], image).expand(
                    len(image), -1, *image.shape[2:]
                )
                features = minidl.cat([where / near, image / alike], 1)
                found.append(((Exact if self.method == "exact" else Lattice)(features), weight))
        return found

    def _message(self, kernel: Filter, weight: Tensor, logits: Tensor) -> Filter:
        """q -> weight · μ · K q."""
        kernel = normalized(kernel, logits, self.normalization, self.self_term)
        mu = self.compatibility
        if mu is None:
            return lambda q: -weight * kernel(q)
        costs = mu.to(logits.dtype) if mu.ndim == 2 else minidl.diag(mu.to(logits.dtype))
        return lambda q: weight * minidl.einsum("kl,nl...->nk...", costs, kernel(q))


def _log_parameter(name: str, values: Sequence[float] | None, count: int) -> nn.Parameter | None:
    if values is None:
        return None
    if len(values) != count or not all(v > 0 and math.isfinite(v) for v in values):
        raise ValueError(f"DenseCRF: {name} must be {count} positive numbers or None, got {values}")
    return nn.Parameter(minidl.tensor(np.log(np.asarray(values, np.float32))))
