"""Padding, by PyTorch's name and order: with a number, or with mirrored, repeated or wrapped samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import array_module
from minidl.ops import linear, pointwise
from minidl.ops.bands import Bands

# Which of the n samples stands at place i, for i from -before to n + after - 1.
_SOURCES: dict[str, Callable] = {
    "reflect": lambda i, n: n - 1 - abs(n - 1 - abs(i)),  # 2 1 [0 1 2 3] 2 1
    "replicate": lambda i, n: i.clip(0, n - 1),  #          0 0 [0 1 2 3] 3 3
    "circular": lambda i, n: i % n,  #                      2 3 [0 1 2 3] 0 1
}


@lru_cache(maxsize=256)
def _bands(size: int, before: int, after: int, mode: str) -> Bands:
    """Padding along one axis as a matrix with a single 1 in each row."""
    index = _SOURCES[mode](np.arange(-before, size + after), size)
    return Bands(index[:, None], np.ones((len(index), 1)), size, Fraction(1))


def pad(
    input: Tensor,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> Tensor:
    """The input with samples added around it; pad = (before, after) of its last axis, of the one before, ...

    Negative numbers crop. mode "constant" adds `value` (0 by default) along any axes. "reflect" mirrors at
    the border samples, "replicate" repeats them, "circular" wraps around: these pad the axes *S of
    (N, C, *S) or (C, *S), reflect by less than the axis, circular by at most the axis.
    """
    if not isinstance(input, Tensor):
        raise TypeError(f"pad: input must be a Tensor, got {type(input).__name__}")
    widths = _widths(input, pad)
    sizes = tuple(n + a + b for n, (a, b) in zip(input.shape, widths))
    cropped = any(n + min(a, 0) + min(b, 0) < 0 for n, (a, b) in zip(input.shape, widths))
    if cropped or min(sizes, default=0) < 0:
        raise ValueError(f"pad: {tuple(pad)} crops more than there is of shape {input.shape}")
    if mode == "constant":
        return _pad_constant(input, widths, sizes, 0 if value is None else value)
    if mode not in _SOURCES:
        raise ValueError(f"pad: mode must be 'constant' or one of {list(_SOURCES)}, got {mode!r}")
    if value is not None:
        raise ValueError(f"pad: value={value} has a meaning only for mode 'constant', not for {mode!r}")
    _check_samples(input, widths, sizes, mode, len(pad) // 2)
    y = input
    if mode == "circular":  # what is left after cropping goes around
        y = linear.pad(y, widths=tuple((min(a, 0), min(b, 0)) for a, b in widths))
        widths = tuple((max(a, 0), max(b, 0)) for a, b in widths)
    for i, (before, after) in enumerate(widths):
        if before or after:
            y = linear.resample(y, bands=_bands(y.shape[i], before, after, mode), dim=i)
    return y


def _widths(input: Tensor, pad: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """PyTorch's flat list, last axis first, as (before, after) for each axis."""
    numbers = list(pad)
    if not all(isinstance(n, (int, np.integer)) for n in numbers):
        raise TypeError(f"pad: expected integers, got {pad}")
    if len(numbers) % 2 or len(numbers) > 2 * input.ndim:
        raise ValueError(f"pad: expected 2 numbers for each of up to {input.ndim} axes, got {tuple(numbers)}")
    given = list(zip(map(int, numbers[::2]), map(int, numbers[1::2])))[::-1]
    return ((0, 0),) * (input.ndim - len(given)) + tuple(given)


def _pad_constant(input: Tensor, widths: tuple, sizes: tuple, value: float) -> Tensor:
    padded = linear.pad(input, widths=widths)
    if value == 0:
        return padded
    filling = input.dtype.type(value)
    if filling != value and input.dtype.kind != "f":
        raise ValueError(f"pad: value {value} is not a number of dtype {input.dtype}")
    xp = array_module(input.array)
    inside = xp.zeros(sizes, dtype=bool)
    inside[tuple(slice(max(a, 0), n - max(b, 0)) for n, (a, b) in zip(sizes, widths))] = True
    return pointwise.where(Tensor(inside), padded, Tensor(xp.full((), filling, dtype=input.dtype)))


def _check_samples(input: Tensor, widths: tuple, sizes: tuple, mode: str, rank: int) -> None:
    """Enough samples along each padded axis for the mode, and an axis of channels before them."""
    if rank and input.ndim not in (rank + 1, rank + 2):
        raise ValueError(
            f"pad: {2 * rank} numbers in mode {mode!r} need {rank + 1} or {rank + 2} axes, "
            f"got shape {input.shape}"
        )
    for n, padded, (a, b) in zip(input.shape, sizes, widths):
        most = {"reflect": n - 1, "circular": n, "replicate": max(a, b)}[mode]
        if (a or b) and (max(a, b) > most or not n or not padded):
            raise ValueError(
                f"pad: mode {mode!r} cannot pad an axis of size {n} by {(a, b)} (shape {input.shape})"
            )
