"""Extreme values and order: amax, max, argmax, sort, topk and their kin, by PyTorch's names.

Values that were chosen along a dim are gathered at the chosen indices, so their gradient goes back there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minidl.autograd import Op, Tensor, op
from minidl.backend import array_module
from minidl.ops import linear, logic
from minidl.ops import pointwise as pw
from minidl.ops.shaping import check_tensor, dropped, normalize_dim, normalize_dims

Dims = int | Sequence[int] | None


class Chosen(NamedTuple):
    """What max(dim), min(dim), sort and topk return: values, and where along the dim they come from."""

    values: Tensor
    indices: Tensor


# ---- over any dims -------------------------------------------------------------------------------


def _share(g: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Tied extrema get equal parts of the cotangent, as in PyTorch's amax."""
    winners = logic.eq(x, y.detach())
    dims = tuple(i for i in range(x.ndim) if y.shape[i] != x.shape[i])
    count = linear.sum(linear.cast(winners, dtype=x.dtype), dims=dims, keepdim=True)
    return pw.where(winners, g / count, 0.0)


@op(_share, law="pointwise", reach=lambda x, axes: x.over(axes))
def maximum_over(xp, x, *, axes):
    """max x over the axes, which stay with size 1."""
    return x.max(axis=axes, keepdims=True)


@op(_share, law="pointwise", reach=lambda x, axes: x.over(axes))
def minimum_over(xp, x, *, axes):
    """min x over the axes, which stay with size 1."""
    return x.min(axis=axes, keepdims=True)


def _nonempty(input: Tensor, dims: tuple[int, ...], name: str) -> None:
    if any(input.shape[i] == 0 for i in dims if input.ndim):
        raise ValueError(f"{name}: no elements along dims {dims} of shape {input.shape}")


def _over(extreme: Op, name: str, input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    check_tensor(input, name)
    dims = normalize_dims(dim, input.ndim, name)
    _nonempty(input, dims, name)
    return dropped(extreme(input, axes=dims), dims, keepdim)


def amax(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """max x over the dims; ties share the gradient equally."""
    return _over(maximum_over, "amax", input, dim, keepdim)


def amin(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """min x over the dims; ties share the gradient equally."""
    return _over(minimum_over, "amin", input, dim, keepdim)


# ---- along one dim -------------------------------------------------------------------------------


def _arg(name: str, input: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    check_tensor(input, name)
    if dim is None:
        flat = linear.reshape(input.detach(), shape=(input.array.size,))
        index = _arg(name, flat, 0, False)
        return linear.reshape(index, shape=(1,) * input.ndim) if keepdim else index
    at = normalize_dim(dim, input.ndim, name)
    _nonempty(input, (at,), name)
    xp = array_module(input.array)
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


def _gathered(input: Tensor, indices: Tensor, at: int) -> Chosen:
    if input.ndim == 0:
        return Chosen(input, indices)
    return Chosen(linear.take_along(input, index=indices.array, dim=at), indices)


def _extreme(name: str, input: Tensor, dim: int, keepdim: bool) -> Chosen:
    check_tensor(input, name[3:])
    at = normalize_dim(dim, input.ndim, name[3:])
    values, indices = _gathered(input, _arg(name, input, at, keepdim=True), at)
    return Chosen(dropped(values, (at,), keepdim), dropped(indices, (at,), keepdim))


def max(input: Tensor, dim: int | Tensor | None = None, keepdim: bool = False) -> Tensor | Chosen:
    """The largest element; with `dim`, (values, indices) along it: the first of equals has the gradient.

    max(a, b) of two tensors is `maximum(a, b)`.
    """
    if isinstance(dim, Tensor):
        return pw.maximum(input, dim)
    return amax(input) if dim is None else _extreme("argmax", input, dim, keepdim)


def min(input: Tensor, dim: int | Tensor | None = None, keepdim: bool = False) -> Tensor | Chosen:
    """The smallest element; with `dim`, (values, indices) along it: the first of equals has the gradient.

    min(a, b) of two tensors is `minimum(a, b)`.
    """
    if isinstance(dim, Tensor):
        return pw.minimum(input, dim)
    return amin(input) if dim is None else _extreme("argmin", input, dim, keepdim)


# ---- order ---------------------------------------------------------------------------------------


def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The indices that sort along a dim; equal elements always stay in order, NaN counts as largest."""
    check_tensor(input, "argsort")
    at = normalize_dim(dim, input.ndim, "argsort")
    xp, x = array_module(input.array), input.array
    if input.ndim == 0:
        return Tensor(xp.zeros((), dtype=np.int64))
    if not descending:
        return Tensor(xp.argsort(x, axis=at, kind="stable"))
    # From the last to the first, so that reversing the order of the result puts equals back in order.
    backwards = xp.argsort(xp.flip(x, at), axis=at, kind="stable")
    return Tensor(xp.flip(x.shape[at] - 1 - backwards, at))


def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Chosen:
    """(values, indices) in order along a dim; equal elements always stay in order, NaN counts as largest."""
    check_tensor(input, "sort")
    at = normalize_dim(dim, input.ndim, "sort")
    return _gathered(input, argsort(input, at, descending), at)


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Chosen:
    """(values, indices) of the k largest (or smallest) elements along a dim, always in order."""
    check_tensor(input, "topk")
    at = normalize_dim(dim, input.ndim, "topk")
    size = input.shape[at] if input.ndim else 1
    if not 0 <= k <= size:
        raise ValueError(f"topk: k = {k} is not in 0 .. {size}, the size of dim {dim} of {input.shape}")
    order = argsort(input, at, descending=largest).array
    return _gathered(input, Tensor(order[(slice(None),) * at + (slice(k),)] if input.ndim else order), at)
