"""The effective receptive field: how much the samples of the theoretical field really count.

Luo, Li, Urtasun and Zemel 2016 (arXiv 1701.04128): the derivatives of a middle output, averaged over inputs
or initialisations, look like a Gaussian in the theoretical field. For n layers of k equal taps its standard
deviation is sqrt(n (k² - 1) / 12), so with depth it grows as sqrt(n) while the field grows as n. Training
widens it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from minidl.autograd import Tensor
from minidl.nn import Module
from minidl.receptive_field.measured import gradient
from minidl.receptive_field.trace import Model, Output, as_input

THRESHOLD = 1 - 0.9545  # of the peak: what Luo et al. count as inside


@dataclass(frozen=True, eq=False)
class EffectiveField:
    """The mean |dy/dx| over the input, an array (*S), for y at one position."""

    map: np.ndarray

    def count(self, threshold: float = THRESHOLD) -> int:
        """How many samples have more than this share of the largest value."""
        return int((self.map > threshold * self.map.max()).sum())

    def size(self, threshold: float = THRESHOLD) -> float:
        """The edge of a cube of as many samples as `count`."""
        return self.count(threshold) ** (1 / self.map.ndim)

    def profile(self, axis: int) -> np.ndarray:
        """The sum over the other axes, as a share of the whole: it adds up to 1."""
        others = tuple(i for i in range(self.map.ndim) if i != axis % self.map.ndim)
        return self.map.sum(axis=others) / self.map.sum()

    @cached_property
    def center(self) -> tuple[float, ...]:
        """Per axis the mean of the profile, in samples."""
        return tuple(float(self.profile(i) @ np.arange(n)) for i, n in enumerate(self.map.shape))

    @cached_property
    def sigma(self) -> tuple[float, ...]:
        """Per axis the standard deviation of the profile, in samples: that of the Gaussian that fits it."""
        return tuple(
            math.sqrt(self.profile(i) @ (np.arange(n) - self.center[i]) ** 2)
            for i, n in enumerate(self.map.shape)
        )

    def gaussian(self, axis: int) -> np.ndarray:
        """The Gaussian of the same mean and standard deviation, where the profile has its samples."""
        x = np.arange(self.map.shape[axis]) - self.center[axis]
        density = np.exp(-0.5 * (x / max(self.sigma[axis], 1e-12)) ** 2)
        return density / density.sum()

    def misfit(self, axis: int) -> float:
        """Half the summed difference of profile and Gaussian: 0 where equal, 1 where nowhere the same."""
        return float(0.5 * np.abs(self.profile(axis) - self.gaussian(axis)).sum())


def effective(
    models: Model | Iterable[Model],
    input_shape: Sequence[int] | Tensor | Iterable[Tensor],
    position: int | Sequence[int] | None = None,
    output: Output = None,
    samples: int = 10,
) -> EffectiveField:
    """The mean |dy/dx| at a position of the output, by default the middle.

    models: one model, or several of random initialisations, over which the mean is taken too. input_shape:
    (N, C, *S) for `samples` inputs of normally distributed numbers, or tensors to use in their place.
    """
    each: Any = [models] if isinstance(models, Module) or callable(models) else models
    total: np.ndarray | None = None
    number = 0
    for model in each:
        for x in _inputs(model, input_shape, samples):
            found = gradient(model, x, position, output)
            total = found if total is None else total + found
            number += 1
    if total is None or not total.any():
        raise ValueError(
            f"effective: the derivative is 0 everywhere in {number} runs; there must be inputs and models, "
            "and the output must depend on the input"
        )
    return EffectiveField(total / number)


def _inputs(model: Model, given: Sequence[int] | Tensor | Iterable[Tensor], samples: int) -> Iterable[Tensor]:
    if isinstance(given, Tensor):
        return [given]
    values: list[Any] = list(given)
    if values and isinstance(values[0], Tensor):
        return values
    like = as_input(model, values, "effective")
    drawn = (np.random.default_rng(seed).standard_normal(like.shape) for seed in range(samples))
    return (Tensor(array.astype(np.float32)) for array in drawn)
