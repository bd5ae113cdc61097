"""Deep supervision: every level of a decoder predicts, and learns from the truth at its own size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import array_module


def deep_supervision_weights(levels: int) -> list[float]:
    """1, 1/2, 1/4, ... from the finest level down, 0 for the coarsest, scaled to the sum 1 (nnU-Net)."""
    if levels < 1:
        raise ValueError(f"deep_supervision_weights: expected at least 1 level, got {levels}")
    weights = [2.0**-i for i in range(levels - 1)] + [0.0] if levels > 1 else [1.0]
    return [w / sum(weights) for w in weights]


def resize_labels(target: Tensor, size: Sequence[int]) -> Tensor:
    """The nearest label at each place of a coarser (or finer) grid: target (..., *S) -> (..., *size).

    Nearest as of `interpolate`: place i takes the label at floor(i · S / size).
    """
    array, first = target.array, target.ndim - len(size)
    xp = array_module(array)
    for axis, q in enumerate(size, start=first):
        n = array.shape[axis]
        if n != q:
            array = xp.take(array, xp.asarray(np.arange(q) * n // q), axis=axis)
    return Tensor(array)


def deep_supervision_loss(
    outputs: Sequence[Tensor],
    target: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    weights: Sequence[float] | None = None,
) -> Tensor:
    """Σ_i w_i · loss(outputs[i], target resized to its grid): every level of a decoder learns by itself.

    outputs: (N, C, *S_i) from the finest level down; target (N, *S). The weights are by default those of
    `deep_supervision_weights`; a level of weight 0 is left out.
    """
    name = "deep_supervision_loss"
    if isinstance(outputs, Tensor):
        raise TypeError(f"{name}: outputs must be a list of Tensors, finest first, got one Tensor")
    weights = deep_supervision_weights(len(outputs)) if weights is None else weights
    if len(weights) != len(outputs):
        raise ValueError(f"{name}: {len(outputs)} outputs but {len(weights)} weights")
    terms = [
        loss(output, resize_labels(target, output.shape[2:])) * float(w)
        for output, w in zip(outputs, weights)
        if w
    ]
    if not terms:
        raise ValueError(f"{name}: all weights are 0")
    return sum(terms[1:], terms[0])
