"""How a convolution is cut into matrix products: the plan that `numpy_conv.py` carries out.

Axes have three roles:

    batch axes          An offset is an index. On the last of them, neighbouring taps lie below each
                        other in memory: their rows together are one operand (a "run").
    the middle axis     An offset shifts the columns, as in the picture of `numpy_conv.py`.
    gathered axes       A copy for each tap.

The last axis is gathered, the one before it is the middle axis, those before are batch axes. With few
channels the run makes the inner dimension longer, so there the middle axis is a batch axis too. Axes
with no more taps than the stride are gathered: nothing is copied twice. So are all axes where there
are few outputs. With a stride s, batch and middle axes are kept as s phase grids (position s·u + r is
element u of grid r), and offset t lies in grid t mod s at shift t // s.

The work is cut into blocks of samples, groups and outputs that stay in the cache. A plan depends on
shapes alone, so it is made once for each geometry.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from typing import Any

import numpy as np

WORKSPACE = 2 << 20  # bytes of one block, its operand and two accumulators; 1 MiB is slower
INNER = 64  # inner dimensions shorter than this keep BLAS far from its speed
ROW = 4096  # columns of a product; only where a row has fewer does a block take more groups for it
GRAIN = 1 << 19  # multiply-adds that are worth a thread: it takes about 20 µs to wake one
ALL = slice(None)


@dataclass
class Block:
    """One piece of work. A layout (see `_layout`) is an array's place in a thread's scratch memory."""

    place: tuple  # index of the block in y (N, G, O, *Q)
    copies: list  # pairs: index into the operand, index into x
    zeros: list  # indices into the operand: the padding
    operand: tuple  # layout (n, g, C, gathered taps, *axes)
    matrices: list  # for each entry of `Plan.taps` the layout (g, *batch, rows, L) in the operand
    columns: tuple  # layout (g, *batch, O, L) of the outputs
    result: tuple  # layout (n, g, O, *q) of the same memory
    one_tap: bool  # the operand is a part of x

    @property
    def groups(self):
        return self.place[1]

    def operands(self, x, dtype):
        """Gather; then the matrix that each product takes."""
        if self.one_tap and not self.zeros:
            matrix = self.as_columns(x[self.copies[0][1]], dtype)
            if matrix is not None:
                return [matrix]  # x itself
        operand = scratch("operand", dtype, self.operand)
        for target, source in self.copies:
            np.copyto(operand[target], x[source])
        for target in self.zeros:  # after the copies, when these cache lines are at hand
            operand[target] = 0
        return [scratch("operand", dtype, matrix) for matrix in self.matrices]

    def as_columns(self, a, dtype):
        """The block a (n, g, C, *q) as (g, *batch, C, L) if that is a view, else None."""
        batch = len(self.columns[0]) - 3
        if len(a) > 1 or a.dtype != dtype or not a[(0,) * (3 + batch)].flags.c_contiguous:
            return None
        a = a.reshape(*a.shape[1 : 3 + batch], -1)  # (g, C, *batch, L)
        return a.transpose(0, *range(2, 2 + batch), 1, 2 + batch)


class Plan:
    """The role of each axis, and the blocks."""

    def __init__(self, offsets, stride, x_shape, y_shape, itemsize, threads):
        N, self.G, self.C, *self.size = x_shape
        self.O, self.Q = y_shape[2], y_shape[3:]
        self.offsets, self.stride, self.itemsize = offsets, stride, itemsize
        self.counts = [len(t) for t in offsets]
        few = N * math.prod(self.Q) < 4 * self.O  # outputs: cheaper to copy than weights to reorder
        m = len(self.Q) - 1
        while m > 0 and (few or math.prod(self.counts[m - 1 : -1]) < 2 * math.prod(stride[m - 1 : -1])):
            m -= 1
        T = math.prod(self.counts[m:])
        self.ungathered, self.gathered_taps = m, T  # axes :m are batch and middle, taps of axes m:
        run = m == 1 and self.C * T < INNER and math.prod(self.Q[1:]) >= 16  # no middle axis
        self.batch = 1 if run else max(0, m - 1)
        # phase and shift of each tap, the phases that occur, the range of the shifts
        self.where = [[(t % s, t // s) for t in ts] for ts, s in zip(offsets, stride)]
        self.phases = [sorted({r for r, _ in ts}) for ts in self.where]
        self.low = [min(u for _, u in ts) for ts in self.where]
        self.span = [max(u for _, u in ts) - a for ts, a in zip(self.where, self.low)]
        runs = [[slice(k, k + 1) for k in range(n)] for n in self.counts[:m]]
        if self.batch:
            runs[self.batch - 1] = _runs(self.where[self.batch - 1])
        self.taps = list(product(*runs))  # for each product a slice of taps per ungathered axis
        self.order = (0, 1, *range(3, 3 + m), 2, *range(3 + m, 3 + len(self.Q)))
        work = math.prod(y_shape) * self.C * math.prod(self.counts)  # multiply-adds
        self.blocks = [self.block(*piece) for piece in self.cut(N, min(threads, work // GRAIN) or 1)]

    of: Any = classmethod(lru_cache(maxsize=256)(lambda cls, *key: cls(*key)))  # type: ignore[arg-type]

    def rows(self, w, taps):
        """The weights (G, O, C, *K) of one product: (G, O, *ungathered taps, C, *gathered taps)."""
        return w[(ALL, ALL, ALL, *taps)].transpose(self.order)

    def cut(self, N, threads):
        """Triples (samples, groups, a slice for each axis). First axes first; groups where the axes
        are small, and samples where both are."""
        column, outputs = self.itemsize * (self.C * self.gathered_taps + 2 * self.O), math.prod(self.Q)
        columns = min(WORKSPACE // column, -(-N * self.G * outputs // threads))
        groups = _even(self.G, max(1, columns // min(ROW, outputs)))
        columns, cut = max(256, columns // groups), list(self.Q)
        for axis, q in enumerate(self.Q):
            others = math.prod(cut) // cut[axis]
            # neighbouring blocks of an ungathered axis both copy the `span` rows between them
            least = 4 * max(1, self.span[axis]) if axis < self.ungathered else 1
            cut[axis] = _even(q, max(least, columns // others))
        samples = _even(N, max(1, min(columns // math.prod(cut), -(-N // threads))))
        sizes, pieces = (N, self.G, *self.Q), (samples, groups, *cut)
        for start in product(*map(range, (0,) * len(sizes), sizes, pieces)):
            n, g, *q = (slice(a, min(a + b, c)) for a, b, c in zip(start, pieces, sizes))
            yield n, g, tuple(q)

    def block(self, samples, groups, place):
        m, batch, C, T = self.ungathered, self.batch, self.C, self.gathered_taps
        copies, zeros = self.gather(samples, groups, place)
        layout = partial(_layout, self.itemsize)
        n, G, *q = (a.stop - a.start for a in (samples, groups, *place))
        # the operand: rows (batch axes, C, gathered taps), columns (middle axis, n, gathered axes)
        lengths = [len(self.phases[a]) * (q[a] + self.span[a]) for a in range(m)] + q[m:]
        strides, stride_n, row = self.column_strides(lengths, n)
        line = 64 // self.itemsize
        row = (-(-row // line) | 1) * line  # odd: with powers of two all rows share few cache sets
        volume = C * T * row
        for axis in reversed(range(batch)):
            strides[axis], volume = volume, volume * lengths[axis]
        operand = layout((n, G, C, T, *lengths), (stride_n, volume, T * row, row, *strides))
        L = n * math.prod(q[batch:])
        matrices = []
        for taps in self.taps:
            at, rows = 0, C * T
            for axis, run in enumerate(taps):
                r, u = self.where[axis][run.start]
                grid = self.phases[axis].index(r) * (q[axis] + self.span[axis])
                at += strides[axis] * (grid + u - self.low[axis])
                rows *= len(range(self.counts[axis])[run])
            matrices.append(layout((G, *q[:batch], rows, L), (volume, *strides[:batch], row, 1), at))
        # the outputs, in the same order
        strides, stride_n, _ = self.column_strides(q, n)
        volume = self.O * L
        for axis in reversed(range(batch)):
            strides[axis], volume = volume, volume * q[axis]
        columns = layout((G, *q[:batch], self.O, L), (volume, *strides[:batch], L, 1))
        result = layout((n, G, self.O, *q), (stride_n, volume, L, *strides))

        place, one_tap = (samples, groups, ALL, *place), math.prod(self.counts) == 1
        return Block(place, copies, zeros, operand, matrices, columns, result, one_tap)

    def column_strides(self, lengths, n):
        """Of a row with columns (middle axis, n, gathered axes): strides, the stride of n, length."""
        strides, volume = [0] * len(lengths), 1
        for axis in reversed(range(self.ungathered, len(lengths))):
            strides[axis], volume = volume, volume * lengths[axis]
        stride_n, volume = volume, volume * n
        for axis in range(self.batch, self.ungathered):  # one or none
            strides[axis], volume = volume, volume * lengths[axis]
        return strides, stride_n, volume

    def gather(self, samples, groups, place):
        """What to copy from x, and where the padding is: `Block.copies` and `Block.zeros`."""
        copies, zeros = [], []
        segments = [self.segments(axis, q) for axis, q in enumerate(place)]
        for number, pick in enumerate(product(*segments)):
            tap = number % self.gathered_taps  # the gathered axes come last
            whole, target, source = [], [], []
            for (base, first, count), s, size in zip(pick, self.stride, self.size):
                a = min(max(-(first // s), 0), count)  # before a and from b on: padding
                b = max(min(-((first - size) // s), count), a)
                whole.append(slice(base, base + count))
                target.append(slice(base + a, base + b))
                source.append(slice(first + s * a, max(first + s * (b - 1) + 1, 0), s))
            if all(t.start < t.stop for t in target):
                copies.append(((ALL, ALL, ALL, tap, *target), (samples, groups, ALL, *source)))
            for axis, (w, t) in enumerate(zip(whole, target)):
                for pad in slice(w.start, t.start), slice(t.stop, w.stop):
                    if pad.start < pad.stop:
                        zeros.append((ALL, ALL, ALL, tap, *whole[:axis], pad, *whole[axis + 1 :]))
        return copies, zeros

    def segments(self, axis, q):
        """The input positions that outputs q of an axis need, for each gathered tap or phase grid:
        (where they go in the operand, the first, how many), `stride` apart."""
        s, count = self.stride[axis], q.stop - q.start
        if axis >= self.ungathered:
            return [(0, s * q.start + t, count) for t in self.offsets[axis]]
        first, count = s * (q.start + self.low[axis]), count + self.span[axis]
        return [(i * count, first + r, count) for i, r in enumerate(self.phases[axis])]


def _runs(where):
    """Slices of the taps of an axis, each a run of neighbours: one phase, shifts u, u + 1, u + 2 …"""
    runs = []
    for k in sorted(range(len(where)), key=where.__getitem__):
        r, u = where[k]
        if runs and where[runs[-1][-1]] == (r, u - 1):
            runs[-1].append(k)
        else:
            runs.append([k])
    steps = [run[1] - run[0] if len(run) > 1 else 1 for run in runs]
    stops = [run[-1] + step for run, step in zip(runs, steps)]  # −1 stands for "to the start"
    return [slice(r[0], e if e >= 0 else None, s) for r, e, s in zip(runs, stops, steps)]


def _even(total, most):
    """The size of equal pieces of `total`, none above `most`."""
    return -(-total // -(-total // min(most, total)))


def _layout(itemsize, shape, strides, offset=0):
    """An array's shape, strides and offset in bytes, and how many bytes of memory it needs."""
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides))
    return shape, tuple(itemsize * s for s in strides), itemsize * offset, itemsize * (last + 1)


_memory = threading.local()


def scratch(name, dtype, layout):
    """An array in this thread's own, reused memory: fresh memory costs a page fault every 4 KiB."""
    shape, strides, offset, needed = layout
    memory = getattr(_memory, name, None)
    if memory is None or memory.nbytes < needed:
        memory = np.empty(needed + 64, np.uint8)
        memory = memory[-memory.ctypes.data % 64 :]  # from the start of a cache line
        setattr(_memory, name, memory)
    return np.ndarray(shape, dtype, memory, offset, strides)
