"""Arguments as functions receive them: one number or one per axis, with and without a batch, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl.autograd import Tensor

Sizes = int | Sequence[int]


def ntuple(value: Any, rank: int, name: str, minimum: int = 0) -> tuple[int, ...]:
    """One integer, or one per axis, as a tuple of `rank` integers."""
    values = (value,) * rank if isinstance(value, (int, np.integer)) else tuple(value)
    if len(values) == 1:
        values *= rank
    if len(values) != rank or not all(isinstance(v, (int, np.integer)) for v in values):
        raise ValueError(f"{name}: expected one integer or {rank}, got {value}")
    if min(values) < minimum:
        raise ValueError(f"{name}: must be at least {minimum}, got {value}")
    return tuple(int(v) for v in values)


def batched(input: Tensor, rank: int, name: str, unbatched: bool = True) -> tuple[Tensor, bool]:
    """The input (N, C, *S), or (C, *S) with a batch dim added; and whether one was added."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}: input must be a Tensor, got {type(input).__name__}")
    if unbatched and input.ndim == rank + 1:
        return input.unsqueeze(0), True
    if input.ndim != rank + 2:
        axes = ", ".join("DHW"[3 - rank :]) if rank > 1 else "L"
        raise ValueError(f"{name}: expected input (N, C, {axes}) or (C, {axes}), got shape {input.shape}")
    return input, False


def same_dtype(name: str, **tensors: Tensor | None) -> None:
    """All the given tensors must have one dtype and live on one device."""
    _agree(name, ("dtype", "device"), tensors)


def same_device(name: str, **tensors: Tensor | None) -> None:
    """All the given tensors must live on one device."""
    _agree(name, ("device",), tensors)


def _agree(name: str, properties: tuple[str, ...], tensors: dict[str, Tensor | None]) -> None:
    given = {key: t for key, t in tensors.items() if t is not None}
    for key, t in given.items():
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}: {key} must be a Tensor, got {type(t).__name__}")
    for what in properties:
        found = {key: getattr(t, what) for key, t in given.items()}
        if len(set(found.values())) > 1:
            listed = ", ".join(f"{key} {value}" for key, value in found.items())
            raise TypeError(f"{name}: {what}s differ: {listed}")


def floating(name: str, input: Tensor) -> None:
    """The input must hold floating-point numbers."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}: input must be a Tensor, got {type(input).__name__}")
    if input.dtype.kind != "f":
        raise TypeError(f"{name}: expected a floating-point input, got {input.dtype}")


def widened(input: Tensor) -> Tensor:
    """float16 as float32, in which long sums neither overflow nor lose their small terms."""
    return input.to(np.float32) if input.dtype == np.float16 else input


def probability(name: str, p: float) -> None:
    """p must be a number in [0, 1]."""
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: p must be in [0, 1], got {p}")
