"""Choosing and replacing elements by index or mask, by PyTorch's names: compositions of the linear ops.

An index that leaves its dim raises IndexError on every device; CuPy alone would wrap it around in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index as integer
from typing import Any

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import Array, array_module
from minidl.dtypes import category, result_type
from minidl.ops import linear
from minidl.ops import pointwise as pw
from minidl.ops.shaping import along, check_tensor, flatten, normalize_dim

# ---- x[index] ------------------------------------------------------------------------------------


def _part(part: Any, xp: Any) -> Any:
    """One part of an index: an int, a slice, None, ... or an array on the tensor's device."""
    if part is None or part is Ellipsis or isinstance(part, slice):
        return part
    if isinstance(part, Tensor):
        part = part.array
    if isinstance(part, (bool, Sequence)):
        part = np.asarray(part, None if part != [] else np.int64)
    if hasattr(part, "dtype") and (part.ndim or part.dtype.kind == "b"):
        return xp.asarray(part)
    return integer(part)


def _is_mask(part: Any) -> bool:
    return hasattr(part, "dtype") and part.dtype.kind == "b"


def _dims_of(part: Any) -> int:
    """How many dims of the tensor a part of an index stands for."""
    return 0 if part is None or part is Ellipsis else part.ndim if _is_mask(part) else 1


def _spread(parts: list, shape: tuple[int, ...]) -> list:
    """The parts with `...` written out as slices, and whole slices for the dims that are not mentioned."""
    used = sum(map(_dims_of, parts))
    places = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(places) > 1 or used > len(shape):
        raise IndexError(f"{used} indices and {len(places)} ellipses are too many for {len(shape)} dims")
    at = places[0] if places else len(parts)
    return [*parts[:at], *[slice(None)] * (len(shape) - used), *parts[at + 1 :]]


def _in_range(index: Array, size: int, name: str, dim: int) -> None:
    """Raise IndexError unless all elements are in [-size, size)."""
    if index.dtype not in (np.int32, np.int64):  # PyTorch would take uint8 for a mask
        raise IndexError(f"{name}: expected indices of int64 or int32, got {index.dtype}")
    if index.size and not -size <= int(index.min()) <= int(index.max()) < size:
        raise IndexError(
            f"{name}: indices from {int(index.min())} to {int(index.max())} leave dim {dim} of size {size}"
        )


def _checked(parts: list, shape: tuple[int, ...]) -> None:
    """Raise IndexError where an array of indices or a mask does not fit the dim that it meets."""
    dim = 0
    for part in parts:
        sizes = shape[dim : dim + _dims_of(part)]
        if _is_mask(part) and part.shape != sizes:
            raise IndexError(f"mask of shape {part.shape} meets dims of sizes {sizes}")
        if hasattr(part, "dtype") and not _is_mask(part):
            _in_range(part, shape[dim], "index", dim)
        dim += len(sizes)


def _steps(index: Any, shape: tuple[int, ...], xp: Any) -> list[tuple]:
    """The index as one or two that NumPy applies one after another with PyTorch's result.

    Integers beside arrays choose first: x[0, :, [1, 2]] is x[0][:, [1, 2]], of shape (n_1, 2). NumPy would
    take the 0 for one more array, find the arrays apart, and put their dim in front: (2, n_1).
    """
    parts = [_part(part, xp) for part in (index if isinstance(index, tuple) else (index,))]
    parts = _spread(parts, shape)
    _checked(parts, shape)
    if not (any(hasattr(part, "dtype") for part in parts) and any(isinstance(part, int) for part in parts)):
        return [tuple(parts)]
    first: list[Any] = []
    then: list[Any] = []
    for part in parts:
        if hasattr(part, "dtype"):
            first += [slice(None)] * _dims_of(part)
            then.append(part)
        else:
            first.append(part)
            then += [] if isinstance(part, int) else [slice(None)]
    return [tuple(first), tuple(then)]


def getitem(input: Tensor, index: Any) -> Tensor:
    """input[index]: integers, slices (also with negative steps), None, ..., lists, masks, index tensors."""
    try:
        for step in _steps(index, input.shape, array_module(input.array)):
            input = linear.getitem(input, index=step)
        return input
    except (IndexError, TypeError) as error:
        raise type(error)(f"getitem: {error} (shape {input.shape}, index {index})") from None


def index_put(
    input: Tensor, indices: tuple[Tensor, ...], values: Tensor | float, accumulate: bool = False
) -> Tensor:
    """What input becomes by input[indices] = values, or += values if accumulate; input itself stays.

    Where an element is named twice, the last value stays (all of them are added if accumulate).
    """
    xp, shape = array_module(input.array), input.shape
    parts = _spread([_part(part, xp) for part in indices], shape)
    _checked(parts, shape)
    places = xp.arange(input.array.size).reshape(shape)[tuple(parts)]
    if not isinstance(values, Tensor):
        values = Tensor(xp.asarray(values, dtype=input.dtype))
    if values.dtype != input.dtype:
        raise TypeError(f"index_put: values are {values.dtype}, the input is {input.dtype}")
    try:
        values = linear.expand(values, shape=places.shape)
    except ValueError:
        raise ValueError(
            f"index_put: values of shape {values.shape} do not fit the chosen elements, {places.shape}"
        ) from None
    flat, values, places = flatten(input), flatten(values), places.reshape(-1)
    if accumulate:
        y = flat + linear.scatter(values, index=places, shape=flat.shape)
    else:
        if not places.size:
            return input
        last = linear.last_source(xp, places, flat.array.size)  # which value an element takes
        y = pw.where(Tensor(last > 0), linear.getitem(values, index=xp.maximum(last, 1) - 1), flat)
    return linear.reshape(y, shape=shape)


# ---- one index per element, along a dim ----------------------------------------------------------


def _gather_index(input: Tensor, dim: int, index: Tensor, source: Tensor, name: str) -> tuple[int, Array]:
    """The dim and the checked indices of gather and scatter_add, which must fit into both tensors."""
    at = normalize_dim(dim, input.ndim, name)
    if not input.ndim == index.ndim == source.ndim:
        raise ValueError(f"{name}: shapes {input.shape}, {index.shape}, {source.shape} differ in dims")
    fits = all(n <= m for i, (n, m) in enumerate(zip(index.shape, input.shape)) if i != at)
    if not fits or any(n > m for n, m in zip(index.shape, source.shape)):
        raise ValueError(
            f"{name}: index of shape {index.shape} is larger than the tensors of shapes "
            f"{input.shape} and {source.shape} outside dim {dim}"
        )
    _in_range(index.array, input.shape[at], name, dim)
    if int(index.array.min()) < 0:
        raise IndexError(f"{name}: negative index {int(index.array.min())}")
    return at, index.array


def _corner(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The first elements of x along each dim, that many."""
    cut = tuple(slice(n) for n in shape)
    return x if x.shape == tuple(shape) else linear.getitem(x, index=cut)


def _with_dims(x: Tensor) -> Tensor:
    """A tensor without dims as a vector of one element."""
    return x if x.ndim else linear.reshape(x, shape=(1,))


def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """y[i, j, k] = x[i, index[i, j, k], k] for dim 1; index may be smaller than x in the other dims.

    A tensor without dims counts as a vector of one element. An index without elements may have any shape.
    """
    check_tensor(input, "gather")
    check_tensor(index, "gather")
    if not index.array.size:
        normalize_dim(dim, input.ndim, "gather")
        nothing = array_module(index.array).zeros(index.shape, dtype=np.int64)
        return linear.getitem(flatten(input), index=nothing)
    x, i = _with_dims(input), _with_dims(index)
    at, where = _gather_index(x, dim, i, i, "gather")
    shape = [x.shape[at] if axis == at else n for axis, n in enumerate(i.shape)]
    return linear.reshape(linear.take_along(_corner(x, shape), index=where, dim=at), shape=index.shape)


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """x with x[i, index[i, j, k], k] += src[i, j, k] for dim 1: the adjoint of `gather`; x itself stays."""
    for x in (input, index, src):
        check_tensor(x, "scatter_add")
    if src.dtype != input.dtype:
        raise TypeError(f"scatter_add: src is {src.dtype}, the input is {input.dtype}")
    if not index.array.size:
        normalize_dim(dim, input.ndim, "scatter_add")
        return input
    x, i, source = _with_dims(input), _with_dims(index), _with_dims(src)
    at, where = _gather_index(x, dim, i, source, "scatter_add")
    added = linear.put_along(_corner(source, i.shape), index=where, dim=at, size=x.shape[at])
    added = linear.pad(added, widths=tuple((0, n - m) for n, m in zip(x.shape, added.shape)))
    return input + linear.reshape(added, shape=input.shape)


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """`gather` whose shapes broadcast outside the dim; without dim from the flattened tensor."""
    if dim is None:
        input, indices, dim = flatten(input), flatten(indices), 0
    at = normalize_dim(dim, input.ndim, "take_along_dim")
    if input.ndim != indices.ndim:
        raise ValueError(f"take_along_dim: shapes {input.shape} and {indices.shape} differ in dims")
    _in_range(indices.array, input.shape[at] if input.ndim else 1, "take_along_dim", dim)
    if input.ndim == 0:
        return input
    try:
        shape = list(np.broadcast_shapes(*((*s[:at], 1, *s[at + 1 :]) for s in (input.shape, indices.shape))))
    except ValueError:
        raise ValueError(
            f"take_along_dim: shapes {input.shape} and {indices.shape} do not broadcast outside dim {dim}"
        ) from None
    sizes = [(*shape[:at], x.shape[at], *shape[at + 1 :]) for x in (input, indices)]
    where = array_module(indices.array).broadcast_to(indices.array % max(input.shape[at], 1), sizes[1])
    return linear.take_along(linear.expand(input, shape=sizes[0]), index=where, dim=at)


# ---- one index per slice -------------------------------------------------------------------------


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices along a dim that a vector of indices names."""
    check_tensor(input, "index_select")
    check_tensor(index, "index_select")
    at = normalize_dim(dim, input.ndim, "index_select")
    if index.ndim > 1 or (not input.ndim and index.array.size != 1):
        what = "a vector of indices" if input.ndim else "one index into a tensor without dims"
        raise IndexError(f"index_select: expected {what}, got shape {index.shape}")
    _in_range(index.array, input.shape[at] if input.ndim else 1, "index_select", dim)
    return linear.getitem(input, index=along(at, index.array.reshape(-1))) if input.ndim else input


def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """x with the k-th slice of alpha · source added to the slice index[k] along a dim; input itself stays."""
    for x in (input, index, source):
        check_tensor(x, "index_add")
    at = normalize_dim(dim, input.ndim, "index_add")
    expected = (*input.shape[:at], index.array.size, *input.shape[at + 1 :]) if input.ndim else ()
    if index.ndim > 1 or source.shape != expected or (not input.ndim and index.array.size != 1):
        raise ValueError(
            f"index_add: source of shape {source.shape} does not fit the index of shape {index.shape} "
            f"and the input of shape {input.shape}: expected {expected}"
        )
    if source.dtype != input.dtype:
        raise TypeError(f"index_add: source is {source.dtype}, the input is {input.dtype}")
    shape = input.shape or (1,)
    _in_range(index.array, shape[at], "index_add", dim)
    where = along(at, index.array.reshape(-1))
    added = linear.scatter(_with_dims(pw.mul(source, alpha)), index=where, shape=shape)
    return input + linear.reshape(added, shape=input.shape)


# ---- masks ---------------------------------------------------------------------------------------


def _booleans(mask: Tensor, name: str) -> None:
    check_tensor(mask, name)
    if mask.dtype != np.bool_:
        raise TypeError(f"{name}: expected a mask of booleans, got {mask.dtype}")


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask holds, as a vector; both are broadcast to a common shape."""
    _booleans(mask, "masked_select")
    try:
        shape = np.broadcast_shapes(input.shape, mask.shape)
    except ValueError:
        raise ValueError(
            f"masked_select: shapes {input.shape} and {mask.shape} do not broadcast together"
        ) from None
    where = array_module(mask.array).broadcast_to(mask.array, shape)
    return linear.getitem(linear.expand(input, shape=shape), index=where)


def masked_fill(input: Tensor, mask: Tensor, value: float | Tensor) -> Tensor:
    """One value where the mask holds, the input elsewhere; the dtype stays the input's."""
    _booleans(mask, "masked_fill")
    if isinstance(value, Tensor) and value.ndim:
        raise ValueError(f"masked_fill: expected one value, got a tensor of shape {value.shape}")
    if category(dtype := result_type(value)) > category(input.dtype):
        raise TypeError(f"masked_fill: a value of {dtype} does not fit a tensor of {input.dtype}")
    if isinstance(value, Tensor):
        value = linear.cast(value, dtype=input.dtype)
    else:
        value = input.dtype.type(value).item()
    return pw.where(mask, value, input)
