"""Tables of sets: object arrays of integers, whose bits say which samples are in a set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minidl.backend import to_numpy

MOST_ENTRIES = 2**22  # of a table; one that would be larger loses its positions

Shape = tuple[int, ...]
Key = tuple[int, bool]  # axis of the input; whether positions no longer matter ("whole")
Tables = dict[Key, np.ndarray]


def bits_of(table: np.ndarray) -> int:
    """The union of all sets in a table."""
    return int(np.bitwise_or.reduce(table, axis=None)) if table.size else 0


def members(bits: int, size: int) -> np.ndarray:
    """The set as a boolean vector of that size."""
    data = np.frombuffer(bits.to_bytes((size + 7) // 8, "little"), dtype=np.uint8)
    return np.unpackbits(data, count=size, bitorder="little").astype(bool)


def singletons(size: int) -> np.ndarray:
    """{0}, {1}, ... {size - 1}."""
    column = np.empty(size, dtype=object)
    column[:] = [1 << i for i in range(size)]
    return column


def constant(bits: int, ndim: int) -> np.ndarray:
    """One set for all positions of a tensor with that many axes."""
    cell = np.empty((1,) * ndim, dtype=object)
    cell[...] = bits
    return cell


def add(tables: Tables, key: Key, table: np.ndarray) -> None:
    """Unite a table with what is under a key; if the result were too large, as one set for all positions."""
    before = tables.get(key)
    if before is None:
        tables[key] = table
    elif math.prod(np.broadcast_shapes(before.shape, table.shape)) <= MOST_ENTRIES:
        tables[key] = np.bitwise_or(before, table)
    else:
        del tables[key]
        add(tables, (key[0], True), constant(bits_of(before) | bits_of(table), table.ndim))


def without_repetition(table: np.ndarray) -> np.ndarray:
    """The table with size 1 for those of its several axes along which it does not change.

    A single axis stays, for it is that of the positions, though they all see the same.
    """
    for i, n in enumerate(table.shape):
        if 1 < n < table.size:
            first = table.take([0], axis=i)
            table = first if (table == first).all() else table
    return table


def gathered(table: np.ndarray, dim: int, index: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The union over t of table[..., index[o, t], ...] for every o, of those that are inside."""
    after = (1,) * (table.ndim - dim - 1)
    if table.shape[dim] == 1:
        sees = inside.any(1)
        return table if sees.all() else np.where(sees.reshape(-1, *after), table, 0)
    picked = table.take(index.clip(0, table.shape[dim] - 1), axis=dim)
    return np.bitwise_or.reduce(np.where(inside.reshape(*inside.shape, *after), picked, 0), axis=dim + 1)


def chosen(table: np.ndarray, parts: Sequence[Any], shape: Shape) -> np.ndarray:
    """The table's part for x[parts] of a tensor x of that shape, all of whose axes the parts mention."""
    fitted, sizes, dim = [], [], 0
    for part in parts:
        covered = dims_of(part)
        for d in range(dim, dim + covered):  # an array of indices needs its axes in full
            sizes.append(shape[d] if hasattr(part, "dtype") else table.shape[d])
        if covered and not hasattr(part, "dtype") and table.shape[dim] == 1:
            part = slice(None) if isinstance(part, slice) else 0
        fitted.append(part)
        dim += covered
    return np.broadcast_to(table, sizes)[tuple(fitted)]


# ---- shapes and indices --------------------------------------------------------------------------


def groups_of(old: Shape, new: Shape) -> Iterator[tuple[range, range]]:
    """Two shapes of one array cut into the shortest runs of axes with equal numbers of elements."""
    i = j = 0
    while i < len(old) or j < len(new):
        start, place, a, b = i, j, 1, 1
        if i < len(old):
            a, i = old[i], i + 1
        if j < len(new):
            b, j = new[j], j + 1
        while a != b:
            if a < b:
                a, i = a * old[i], i + 1
            else:
                b, j = b * new[j], j + 1
        yield range(start, i), range(place, j)


def dims_of(part: Any) -> int:
    """How many axes of the tensor a part of an index stands for."""
    return 0 if part is None else part.ndim if is_mask(part) else 1


def is_mask(part: Any) -> bool:
    """Whether a part of an index is a boolean array."""
    return hasattr(part, "dtype") and part.dtype == np.bool_


def spread(index: Any, ndim: int) -> list[Any]:
    """The parts of an index (integers, slices, None, arrays); ... and axes left out as whole slices."""
    parts = []
    for part in index if isinstance(index, tuple) else (index,):
        if not (part is None or part is Ellipsis or isinstance(part, slice)):
            part = to_numpy(part) if hasattr(part, "dtype") else part
            part = part if is_mask(part) or np.ndim(part) else int(part)
        parts.append(part)
    used = sum(dims_of(part) for part in parts if part is not Ellipsis)
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), len(parts))
    return [*parts[:at], *[slice(None)] * (ndim - used), *parts[at + 1 :]]
