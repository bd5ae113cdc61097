"""Sums, means, extrema and what is made of them, by PyTorch's names: compositions of the three laws."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minidl.autograd import Tensor, op
from minidl.backend import array_module
from minidl.ops import bilinear, linear
from minidl.ops import pointwise as pw
from minidl.ops.shaping import normalize_dim, normalize_dims

Dims = int | Sequence[int] | None


def _dropped(input: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """The result of a reduction with keepdim=True, without the reduced dims unless they are wanted."""
    if keepdim:
        return input
    return linear.reshape(input, shape=tuple(n for i, n in enumerate(input.shape) if i not in dims))


def sum(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Σ x over the given dims (all of them by default); integers and booleans are summed as int64."""
    if input.dtype.kind in "bui":
        input = linear.cast(input, dtype=np.dtype(np.int64))
    return linear.sum(input, dims=normalize_dims(dim, input.ndim, "sum"), keepdim=keepdim)


def _count(input: Tensor, dims: tuple[int, ...]) -> int:
    return math.prod(input.shape[i] for i in dims) if input.ndim else 1


def _floating(input: Tensor, name: str) -> None:
    if input.dtype.kind != "f":
        raise TypeError(f"{name}: expected a floating-point tensor, got {input.dtype}; call .float() first")


def mean(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Σ x / n over the given dims."""
    _floating(input, "mean")
    count = _count(input, normalize_dims(dim, input.ndim, "mean"))
    return sum(input, dim, keepdim) * (1 / count if count else math.nan)


def var(input: Tensor, dim: Dims = None, keepdim: bool = False, *, correction: int = 1) -> Tensor:
    """Σ (x - mean)² / (n - correction)."""
    _floating(input, "var")
    dims = normalize_dims(dim, input.ndim, "var")
    deviation = input - mean(input, dims, keepdim=True)
    degrees = builtins.max(_count(input, dims) - correction, 0)
    return sum(deviation * deviation, dims, keepdim) * (1 / degrees if degrees else math.nan)


def std(input: Tensor, dim: Dims = None, keepdim: bool = False, *, correction: int = 1) -> Tensor:
    """The square root of `var`."""
    return pw.sqrt(var(input, dim, keepdim, correction=correction))


# ---- extrema -----------------------------------------------------------------------------------


def _share(g: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Tied extrema get equal parts of the cotangent, as in PyTorch's amax."""
    winners = pw.eq(x, y.detach())
    kept = tuple(i for i in range(x.ndim) if y.shape[i] != x.shape[i])
    count = sum(winners, kept, keepdim=True) if kept else 1
    return pw.where(winners, g / count, 0.0)


@op(lambda g, x, y: _share(g, x, y), law="pointwise")
def maximum_over(xp, x, *, axes):
    """max x over the axes, which stay with size 1."""
    return x.max(axis=axes, keepdims=True)


def _nonempty(input: Tensor, dims: tuple[int, ...], name: str) -> None:
    if any(input.shape[i] == 0 for i in dims if input.ndim):
        raise ValueError(f"{name}: no elements along dims {dims} of shape {input.shape}")


def amax(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """max x over the dims; ties share the gradient equally."""
    dims = normalize_dims(dim, input.ndim, "amax")
    _nonempty(input, dims, "amax")
    return _dropped(maximum_over(input, axes=dims), dims, keepdim)


def amin(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """min x over the dims; ties share the gradient equally."""
    return -amax(-input, dim, keepdim)


class Extremum(NamedTuple):
    """What max(dim) and min(dim) return: the extreme values, and where along the dim they are."""

    values: Tensor
    indices: Tensor


def _arg(name: str, input: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    xp = array_module(input.array)
    if dim is None:
        if not input.array.size:
            raise ValueError(f"{name}: no elements in shape {input.shape}")
        return Tensor(xp.asarray(getattr(xp, name)(input.array)))
    at = normalize_dim(dim, input.ndim, name)
    _nonempty(input, (at,), name)
    if input.ndim == 0:
        return Tensor(xp.zeros((), dtype=np.int64))
    index = getattr(xp, name)(input.array, axis=at)
    return Tensor(xp.expand_dims(index, at) if keepdim else xp.asarray(index))


def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the maximum is (the first of equals); over the flattened tensor if dim is None."""
    return _arg("argmax", input, dim, keepdim)


def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the minimum is (the first of equals); over the flattened tensor if dim is None."""
    return _arg("argmin", input, dim, keepdim)


def _extremum(name: str, input: Tensor, dim: int, keepdim: bool) -> Extremum:
    if input.ndim == 0:
        return Extremum(input, _arg(name, input, 0, False))
    at = normalize_dim(dim, input.ndim, name[3:])
    index = _arg(name, input, at, keepdim=True)
    values = linear.take_along(input, index=index.array, dim=at)
    return Extremum(_dropped(values, (at,), keepdim), _dropped(index, (at,), keepdim))


def max(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor | Extremum:
    """The largest element; with `dim`, (values, indices) along it: the first of equals takes the gradient."""
    return amax(input) if dim is None else _extremum("argmax", input, dim, keepdim)


def min(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor | Extremum:
    """The smallest element; with `dim`, (values, indices) along it: the first of equals takes the gradient."""
    return amin(input) if dim is None else _extremum("argmin", input, dim, keepdim)


# ---- exponentials ------------------------------------------------------------------------------


def _shifted(input: Tensor, dim: Dims, name: str) -> tuple[Tensor, Tensor]:
    """x - max x and max x: softmax does not change by a shift, and e^x cannot overflow after it."""
    _floating(input, name)
    top = amax(input.detach(), dim, keepdim=True)
    top = pw.where(pw.isfinite(top), top, 0.0)  # a slice of -inf alone must not become inf - inf
    return input - top, top


def softmax(input: Tensor, dim: int) -> Tensor:
    """e^x_i / Σ_j e^x_j along a dim."""
    e = pw.exp(_shifted(input, dim, "softmax")[0])
    return e / sum(e, dim, keepdim=True)


def log_softmax(input: Tensor, dim: int) -> Tensor:
    """x_i - log Σ_j e^x_j along a dim."""
    shifted, _ = _shifted(input, dim, "log_softmax")
    return shifted - pw.log(sum(pw.exp(shifted), dim, keepdim=True))


def logsumexp(input: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """log Σ e^x over the dims, without overflow."""
    dims = normalize_dims(dim, input.ndim, "logsumexp")
    shifted, top = _shifted(input, dims, "logsumexp")
    return _dropped(pw.log(sum(pw.exp(shifted), dims, keepdim=True)) + top, dims, keepdim)


def cumsum(input: Tensor, dim: int) -> Tensor:
    """y_i = Σ_{j <= i} x_j along a dim."""
    if input.dtype.kind in "bui":
        input = linear.cast(input, dtype=np.dtype(np.int64))
    if input.ndim == 0:
        return input
    return linear.cumsum(input, dim=normalize_dim(dim, input.ndim, "cumsum"), reverse=False)


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product over the last two dims; leading dims broadcast, a vector is a row or a column."""
    a, b = input, other
    if not isinstance(b, Tensor) or a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul: expected tensors with dims, got {a!r} and {b!r}")
    if a.dtype != b.dtype:
        raise TypeError(f"matmul: dtypes differ: {a.dtype} and {b.dtype}")
    row, column = a.ndim == 1, b.ndim == 1
    a = linear.reshape(a, shape=(1, *a.shape)) if row else a
    b = linear.reshape(b, shape=(*b.shape, 1)) if column else b
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(f"matmul: inner sizes differ: {input.shape} @ {other.shape}")
    try:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ValueError(f"matmul: batch dims do not broadcast: {input.shape} @ {other.shape}") from None
    y = bilinear.matmul(
        *(x if x.shape[:-2] == lead else linear.expand(x, shape=(*lead, *x.shape[-2:])) for x in (a, b))
    )
    shape = (*lead, *([] if row else [a.shape[-2]]), *([] if column else [b.shape[-1]]))
    return y if y.shape == shape else linear.reshape(y, shape=shape)
