"""Which samples of the input each position of a tensor sees, and how every kind of op changes that.

The sets are kept axis by axis: along an axis of n samples a set is an integer whose bits 0 .. n - 1 say who
is in it, so that a union is `|`. For a tensor of shape (N, C, H, W) the sets along the input's axis 2 are an
array that broadcasts to this shape; as a rule (1, 1, H, 1), because neither sample, channel nor column
matters. An op that moves elements (reshape, permute, x[index]) moves the sets, an op that sums unites them.
So the tables hold for any arrangement of axes, at the borders too: entry by entry they are exactly the
projections of the true N-dimensional sets, since the projection of a union is the union of the projections.

Beside the tables, `lines` say the same for axes without ends (`Periodic`), from which a field's size is read
even where it is larger than the image. They last as long as an axis of the input stays an axis.

A union over all positions of an axis (a mean, an attention, a normalisation's statistics) no longer says
where: its sets go to the *whole* table, so that the local field remains visible beside it.

The rules that use these methods stand beside the ops, in `minidl/ops`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minidl.backend import to_numpy
from minidl.ops.bands import Bands
from minidl.receptive_field.periodic import IDENTITY, Periodic, Step, rows, shift, transposed_window, window
from minidl.receptive_field.tables import (
    MOST_ENTRIES,
    Shape,
    Tables,
    add,
    bits_of,
    chosen,
    constant,
    dims_of,
    gathered,
    groups_of,
    is_mask,
    singletons,
    spread,
    without_repetition,
)

Lines = dict[int, tuple[int, Periodic]]  # axis of the input -> axis of the tensor, and the map along it


class Reach:
    """What the positions of one tensor see of the model's input. Not changed once made."""

    def __init__(self, shape: Sequence[int], tables: Tables | None = None, lines: Lines | None = None):
        self.shape = tuple(shape)
        found = {key: without_repetition(table) for key, table in (tables or {}).items()}
        self.tables = {key: table for key, table in found.items() if bits_of(table)}
        self.lines = {a: line for a, line in (lines or {}).items() if (a, False) in self.tables}

    @classmethod
    def of_input(cls, shape: Sequence[int], axes: Iterable[int]) -> Reach:
        """The input itself: position i sees sample i."""
        tables: Tables = {}
        for a in axes:
            tables[a, False] = singletons(shape[a]).reshape([-1 if i == a else 1 for i in range(len(shape))])
        return cls(shape, tables, {a: (a, IDENTITY) for a in axes})

    @property
    def ndim(self) -> int:
        """The number of axes of the tensor."""
        return len(self.shape)

    def __bool__(self) -> bool:
        """Whether any position sees anything."""
        return bool(self.tables)

    def _each(self, change: Callable[[np.ndarray], np.ndarray], shape: Shape, lines: Lines) -> Reach:
        return Reach(shape, {key: change(table) for key, table in self.tables.items()}, lines)

    def _lines_off(self, dims: Iterable[int]) -> Lines:
        """The lines along other axes of the tensor than these."""
        return {a: (d, line) for a, (d, line) in self.lines.items() if d not in dims}

    def local(self) -> Reach:
        """Without what no longer says where."""
        return Reach(self.shape, {key: t for key, t in self.tables.items() if not key[1]}, self.lines)

    # ---- unions -------------------------------------------------------------------------------

    def __or__(self, other: Reach) -> Reach:
        """What either of two tensors sees; they broadcast."""
        shape = np.broadcast_shapes(self.shape, other.shape)
        if not (self and other):
            return Reach(shape, self.tables or other.tables, self.lines or other.lines)
        tables = dict(self.tables)
        for key, table in other.tables.items():
            add(tables, key, table)
        return Reach(shape, tables, self._lines_with(other))

    def _lines_with(self, other: Reach) -> Lines:
        """The lines of a union: where both see an axis, both must have a line on the same axis of theirs."""
        lines: Lines = {}
        for a in {a for a, whole in (*self.tables, *other.tables) if not whole}:
            local = [x.lines.get(a) for x in (self, other) if (a, False) in x.tables]
            joined: Periodic | None = None
            if local[0] and local[-1] and local[0][0] == local[-1][0]:
                joined = local[0][1] if len(local) == 1 else local[0][1] | local[-1][1]
            if joined and local[0]:
                lines[a] = (local[0][0], joined)
        return lines

    def over(self, dims: Iterable[int], keepdim: bool = True) -> Reach:
        """A sum, a mean or a maximum over some axes.

        Positions that all see the same afterwards, though no place along these axes showed it to all of them
        before, have lost their place.
        """
        axes = tuple(sorted({d % self.ndim for d in dims}))
        kept = tuple(i for i in range(self.ndim) if i not in axes)
        tables: Tables = {}
        for (a, whole), table in self.tables.items():
            united = np.bitwise_or.reduce(table, axis=axes, keepdims=True) if axes else table
            lost = table.size > united.size and (united == united.flat[0]).all()
            lost = lost and (united.size == 1 or not (table == united).all(axis=kept).any())
            add(tables, (a, whole or bool(lost)), united)
        short = [i for i in axes if self.shape[i] > 1]
        shape = tuple(1 if i in axes else n for i, n in enumerate(self.shape))
        found = Reach(shape, tables, self._lines_off(short))
        return found if keepdim else found.reshape([n for i, n in enumerate(shape) if i not in axes])

    def sum_to(self, shape: Sequence[int]) -> Reach:
        """The sum over those axes along which `shape` would be expanded."""
        lead = self.ndim - len(shape)
        dims = [i for i, n in enumerate(self.shape) if i < lead or shape[i - lead] != n]
        return self.over(dims).reshape(shape)

    def everywhere(self, shape: Sequence[int]) -> Reach:
        """A tensor of which every position sees all that this one sees."""
        tables: Tables = {}
        for (a, _), table in self.tables.items():
            add(tables, (a, True), constant(bits_of(table), len(shape)))
        return Reach(shape, tables)

    def matmul(self, other: Reach) -> Reach:
        """y[..., i, k] = Σ_j a[..., i, j] · b[..., j, k]."""
        shape = (*self.shape[:-1], other.shape[-1])
        return self.over((-1,)).expand(shape) | other.over((-2,)).expand(shape)

    # ---- the same elements elsewhere ------------------------------------------------------------

    def reshape(self, shape: Sequence[int]) -> Reach:
        """The same elements, in order, in another shape."""
        shape = tuple(shape)
        if not self:
            return Reach(shape)
        groups, tables = list(groups_of(self.shape, shape)), {}  # type: list, Tables
        for (a, whole), table in self.tables.items():
            full: list[int] = []
            final: list[int] = []
            for old, new in groups:
                varies = any(table.shape[i] > 1 for i in old)
                full += [self.shape[i] if varies else 1 for i in old]
                final += [shape[j] if varies else 1 for j in new]
            if math.prod(full) <= MOST_ENTRIES:
                add(tables, (a, whole), np.broadcast_to(table, full).reshape(final))
            else:
                add(tables, (a, True), constant(bits_of(table), len(shape)))
        return Reach(shape, tables, self._reshaped_lines(shape, groups))

    def _reshaped_lines(self, shape: Shape, groups: list[tuple[range, range]]) -> Lines:
        """A line goes on where its axis stays one, or absorbs axes behind it, along which nothing changes."""
        lines: Lines = {}
        for a, (d, line) in self.lines.items():
            old, new = next(group for group in groups if d in group[0])
            before = math.prod(self.shape[i] for i in old if i < d)
            after = math.prod(self.shape[i] for i in old if i > d)
            long = [j for j in new if shape[j] > 1]
            if before == 1 and len(long) <= 1 and new:
                place = long[0] if long else min(new[0] + d - old[0], new[-1])
                lines[a] = (place, line.repeated(after))
        return lines

    def permute(self, axes: Sequence[int]) -> Reach:
        """y.shape[i] = x.shape[axes[i]]."""
        axes = [i % self.ndim for i in axes]
        lines = {a: (axes.index(d), line) for a, (d, line) in self.lines.items()}
        return self._each(lambda t: t.transpose(axes), tuple(self.shape[i] for i in axes), lines)

    def expand(self, shape: Sequence[int]) -> Reach:
        """Repeated along new leading axes and axes of size 1."""
        lead = len(shape) - self.ndim
        kept = self._lines_off([d for d in range(self.ndim) if shape[d + lead] != self.shape[d]])
        lines = {a: (d + lead, line) for a, (d, line) in kept.items()}
        return self._each(lambda t: t.reshape((1,) * lead + t.shape), tuple(shape), lines)

    def __getitem__(self, index: Any) -> Reach:
        """x[index], for all that NumPy can index with."""
        parts = spread(index, self.ndim)
        shape = np.broadcast_to(np.empty(()), self.shape)[tuple(parts)].shape
        if not math.prod(shape):
            return Reach(shape)
        return self._each(lambda t: chosen(t, parts, self.shape), shape, self._chosen_lines(parts))

    def _chosen_lines(self, parts: list) -> Lines:
        arrays = [part for part in parts if hasattr(part, "dtype")]
        if len(arrays) > 1 or (arrays and any(isinstance(part, int) for part in parts)):
            return {}  # NumPy may order the axes anew
        lines: Lines = {}
        dim = new = 0
        for part in parts:
            if isinstance(part, slice):
                start, _, step = part.indices(self.shape[dim])
                for a, (d, line) in self.lines.items():
                    if d == dim and step > 0 and (sliced := line.through(shift(start, step))):
                        lines[a] = (new, sliced)
            new += 0 if isinstance(part, int) else part.ndim if hasattr(part, "ndim") else 1
            new += (1 - part.ndim) if is_mask(part) else 0
            dim += dims_of(part)
        return lines

    def scatter(self, index: Any, shape: Sequence[int]) -> Reach:
        """Zeros of that shape, with x added at [index]."""
        tables: Tables = {}
        for (a, whole), table in self.tables.items():
            if math.prod(shape) <= MOST_ENTRIES:
                tables[a, whole] = np.zeros(shape, dtype=object)
                np.bitwise_or.at(tables[a, whole], index, np.broadcast_to(table, self.shape))
            else:
                add(tables, (a, True), constant(bits_of(table), len(shape)))
        return Reach(shape, tables)

    @staticmethod
    def cat(parts: Sequence[Reach], dim: int) -> Reach:
        """Tensors one after another along an axis."""
        first, sizes = parts[0], [part.shape[dim] for part in parts]
        shape = (*first.shape[:dim], sum(sizes), *first.shape[dim + 1 :])
        tables: Tables = {}
        for key in dict.fromkeys(key for part in parts for key in part.tables):
            found = [part.tables.get(key, constant(0, first.ndim)) for part in parts]
            if all(np.array_equal(t, found[0]) for t in found) and found[0].shape[dim] == 1:
                tables[key] = found[0]
                continue
            other = np.broadcast_shapes(*((*t.shape[:dim], 1, *t.shape[dim + 1 :]) for t in found))
            full = [(*other[:dim], n, *other[dim + 1 :]) for n in sizes]
            tables[key] = np.concatenate([np.broadcast_to(t, s) for t, s in zip(found, full)], axis=dim)
        seen = [part for part in parts if part]
        joined = seen[0] if seen else first
        for part in seen[1:]:
            joined = Reach(shape, {**joined.tables, **part.tables}, joined._lines_with(part))
        return Reach(shape, tables, joined._lines_off((dim,)))

    # ---- along one axis -------------------------------------------------------------------------

    def _along(self, dim: int, index: np.ndarray, inside: np.ndarray, step: Step | None) -> Reach:
        """y[..., o, ...] sees what x[..., index[o, t], ...] see, for every t inside."""
        shape = (*self.shape[:dim], len(index), *self.shape[dim + 1 :])
        if not index.size:
            return Reach(shape)
        lines = self._lines_off((dim,))
        for a, (d, line) in self.lines.items():
            if d == dim and step and (moved := line.through(step)):
                lines[a] = (d, moved)
        return self._each(lambda t: gathered(t, dim, index, inside), shape, lines)

    def step(self, dim: int, step: Step, outputs: int) -> Reach:
        """A layer along one axis, which has `outputs` positions then."""
        return self._along(dim, *step.table(outputs, self.shape[dim]), step)

    def resample(self, bands: Bands, dim: int) -> Reach:
        """y = B x along one axis, B a banded matrix."""
        return self._along(dim, bands.index, bands.support, rows(bands))

    def windows(self, bands: Sequence[Bands]) -> Reach:
        """One banded matrix for each of the last axes."""
        found = self
        for dim, matrix in enumerate(bands, self.ndim - len(bands)):
            found = found.resample(matrix, dim)
        return found

    def put_in_windows(self, index: Any, windows: Sequence[Bands], size: Shape) -> Reach:
        """Max-unpooling: each value of x (N, C, *Q) at a place in its window, as long as it stays there."""
        places = np.unravel_index(to_numpy(index), size)
        ranks = np.ogrid[tuple(slice(n) for n in self.shape)][2:]
        if all(bands.dense[q, place].all() for bands, q, place in zip(windows, ranks, places)):
            return self.windows([bands.T for bands in windows])
        return self.everywhere((*self.shape[:2], *size))

    def pad(self, widths: Sequence[tuple[int, int]]) -> Reach:
        """Zeros added, or where a width is negative samples taken away."""
        found = self
        for dim, (before, after) in enumerate(widths):
            if before or after:
                found = found.step(dim, shift(-before), found.shape[dim] + before + after)
        return found

    def cumsum(self, dim: int, reverse: bool) -> Reach:
        """What stands at and before each position, or from it on."""
        forward = slice(None, None, -1 if reverse else 1)
        index = (slice(None),) * (dim % self.ndim) + (forward,)
        return self._each(lambda t: np.bitwise_or.accumulate(t[index], axis=dim)[index], self.shape,
                          self._lines_off((dim % self.ndim,)))  # fmt: skip

    def any_along(self, dim: int, size: int) -> Reach:
        """`size` elements chosen along an axis according to values: each may be any of them."""
        shape = (*self.shape[:dim], size, *self.shape[dim + 1 :])
        found = self.over((dim,))
        return Reach(shape, found.tables, found._lines_off((dim,)))

    # ---- windows over all spatial axes ------------------------------------------------------------

    def conv(self, weight: Reach, *, stride: Shape, padding: Shape, dilation: Shape, groups: int) -> Reach:
        """A convolution of x (N, C, *S) with w (O, C/groups, *K)."""
        found = self._mixed(weight.shape[0], groups)
        for dim, (k, s, p, d) in enumerate(zip(weight.shape[2:], stride, padding, dilation), 2):
            outputs = (self.shape[dim] + 2 * p - d * (k - 1) - 1) // s + 1
            found = found.step(dim, window(k, s, p, d), outputs)
        return found | weight.everywhere(found.shape)

    def conv_input(
        self, weight: Reach, *, size: Shape, stride: Shape, padding: Shape, dilation: Shape, groups: int
    ) -> Reach:
        """A transposed convolution of u (N, O, *Q) with w (O, C/groups, *K) to (N, C, *size)."""
        found = self._mixed(weight.shape[1] * groups, groups)
        for dim, (k, s, p, d) in enumerate(zip(weight.shape[2:], stride, padding, dilation), 2):
            found = found.step(dim, transposed_window(k, s, p, d), size[dim - 2])
        return found | weight.everywhere(found.shape)

    def _mixed(self, channels: int, groups: int) -> Reach:
        """Every output channel sees all input channels of its group."""

        def by_group(table: np.ndarray) -> np.ndarray:
            if table.shape[1] == 1:
                return table
            parts = table.reshape(table.shape[0], groups, -1, *table.shape[2:])
            return np.bitwise_or.reduce(parts, axis=2).repeat(channels // groups if groups > 1 else 1, axis=1)

        return self._each(by_group, (self.shape[0], channels, *self.shape[2:]), self._lines_off((1,)))

    # ---- weights for every voxel's neighbourhood: w (N, *window, *S) and q or u (N, L, *S) --------------

    def around(self, sizes: Shape) -> Reach:
        """The samples in a window centred on each position."""
        found = self
        for dim, k in enumerate(sizes, 2):
            found = found.step(dim, window(k, 1, k // 2), self.shape[dim])
        return found

    def window_for(self, like: Reach) -> Shape:
        """The window of the weights for a tensor (N, L, *S)."""
        return self.shape[1 : like.ndim - 1]

    def at_centre(self, like: Reach) -> Reach:
        """All weights of each position, as (N, L, *S)."""
        places = self.over(range(1, like.ndim - 1)).reshape((self.shape[0], 1, *like.shape[2:]))
        return places.expand(like.shape)

    def with_window(self, sizes: Shape) -> Reach:
        """The sum over L, for each tap of a window: (N, *window, *S)."""
        samples, _, *spatial = self.shape
        shape = (samples, *(1,) * len(sizes), *spatial)
        return self.over((1,)).reshape(shape).expand((samples, *sizes, *spatial))

    # ---- windows as axes --------------------------------------------------------------------------

    def unfold(self, *, kernel: Shape, stride: Shape, dilation: Shape) -> Reach:
        """All windows of x (N, C, *S) as (N, C, *K, *Q)."""
        rank, found = len(kernel), self
        for dim in reversed(range(2, 2 + rank)):
            k, s, d = kernel[dim - 2], stride[dim - 2], dilation[dim - 2]
            outputs = (self.shape[dim] - d * (k - 1) - 1) // s + 1
            index = np.arange(k)[:, None] * d + np.arange(outputs) * s
            found = found[(slice(None),) * dim + (index,)]
        return found.permute([0, 1, *range(2, 2 + 2 * rank, 2), *range(3, 3 + 2 * rank, 2)])

    def fold(self, *, size: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> Reach:
        """Windows (N, C, *K, *Q) added back where they came from: (N, C, *size)."""
        rank, outputs = len(kernel), self.shape[2 + len(kernel) :]
        pairs = [axis for dim in range(2, 2 + rank) for axis in (dim, dim + rank)]
        merged = [*self.shape[:2], *(k * q for k, q in zip(kernel, outputs))]
        found = self.permute([0, 1, *pairs]).reshape(merged)
        for dim, (k, q, s, d) in enumerate(zip(kernel, outputs, stride, dilation), 2):
            place = (np.arange(k)[:, None] * d + np.arange(q) * s).reshape(-1)
            meets = place == np.arange(size[dim - 2])[:, None]
            found = found._along(dim, np.broadcast_to(np.arange(k * q), meets.shape), meets, None)
        return found
