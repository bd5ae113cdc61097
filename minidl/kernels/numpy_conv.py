"""The convolution trio on the CPU: NumPy's matrix product, threads, and no im2col.

Input position i, kernel tap k and output position q meet when  i = s·q + d·k − p  on every axis
(stride s, dilation d, padding p). Write t_k = d·k − p, the offset of tap k. All that matters is how
BLAS gets, for each tap, the matrix  X_k[c, q] = x[c, s·q + t_k].  Copying them all (im2col) takes
k^N times the memory of x. It is enough to copy for each tap of the LAST axis; the taps of the other
axes are then there already, as slices:

    a channel of x    the operand: a row for each tap of the last axis, w over the outputs,
    of 4 × 3 pixels   zeros outside, image rows end to end

        a b c         tap −1   . . . . a b . d e . g h . j k . . .     kernel row 0: columns 0 … 11
        d e f         tap  0   . . . a b c d e f g h i j k l . . .     kernel row 1: columns 3 … 14
        g h i         tap +1   . . . b c . e f . h i . k l . . . .     kernel row 2: columns 6 … 17
        j k l

and `Y += W[:, row] @ operand[:, offset : offset + L]` is the convolution: k products instead of k²,
on views that BLAS reads in place, with long rows and not one wasted column. Axes have three roles:

    batch axes (up to the last but two)   An offset is an index. On the last of them, neighbouring
                                          taps lie below each other in memory: their rows together
                                          are one operand (a "run").
    the middle axis (the last but one)    An offset shifts the columns, as in the picture.
    gathered axes (the last)              A copy for each tap.

With few channels, or few outputs, more axes are gathered. With a stride s, batch and middle axes
are kept as s phase grids (position s·u + r is element u of grid r), and offset t lies in grid
t mod s at shift t // s. The work is cut into blocks that stay in the cache; blocks are also what the
threads share. `conv` and `conv_weight` take products with the same operand; `conv_input` is a `conv`
of y for each phase of x.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from minidl.kernels.threads import get_num_threads, parallel

WORKSPACE = 2 << 20  # bytes of one block, its operand and two accumulators; 1 MiB is slower
INNER = 32  # inner dimensions shorter than this keep BLAS far from its speed
ALL = slice(None)


def conv(x, w, *, stride, padding, dilation, groups):
    """y[n,o,q] = Σ_{c,k} x[n, c, s·q + d·k − p] w[o,c,k].

    x (N, C, *S), w (O, C/groups, *K) -> y (N, O, *Q).
    """
    offsets = _offsets(w.shape[2:], padding, dilation)
    outputs = [(n + p - t[-1] - 1) // s + 1 for n, p, t, s in zip(x.shape[2:], padding, offsets, stride)]
    y = np.empty((len(x), len(w), *outputs), np.result_type(x, w))
    x, w = _split(x, groups), _split(w, groups, axis=0)
    parallel(_call, _correlate(x, w, _split(y, groups), offsets, stride))
    return y


def conv_input(y, w, *, size, stride, padding, dilation, groups):
    """x[n,c,i] = Σ_{o,(q,k): s·q + d·k − p = i} y[n,o,q] w[o,c,k].

    y (N, O, *Q), w (O, C/groups, *K) -> x (N, C, *size). On one axis write i + p = s·u + r. Only
    taps with d·k mod s = r reach phase r, and they meet it at q = u − d·k // s: each phase of x is
    a convolution of y with stride 1 and with taps of its own.
    """
    y, w = _split(y, groups), _swapped(_split(w, groups, axis=0))  # x and y trade places
    x = np.empty((len(y), groups * w.shape[1], *size), np.result_type(y, w))
    tasks = []
    for phase in product(*map(_phases, size, w.shape[3:], stride, padding, dilation)):
        places, taps, offsets = zip(*phase)
        part = _split(x, groups)[(..., *places)]
        tasks += _correlate(y, w[(..., *taps)], part, offsets, (1,) * len(size))
    parallel(_call, tasks)
    return x


def conv_weight(x, y, *, size, stride, padding, dilation, groups):
    """w[o,c,k] = Σ_{n,q} x[n, c, s·q + d·k − p] y[n,o,q].

    x (N, C, *S), y (N, O, *Q) -> w (O, C/groups, *size).
    """
    x, y = _split(x, groups), _split(y, groups)
    C, threads = x.shape[2], get_num_threads()
    w = np.empty((groups * y.shape[2], C, *size), np.result_type(x, y))
    if 0 in x.shape or 0 in y.shape:
        w[...] = 0
        return w
    # Large weights are shared out by input channels. Small ones by blocks: each thread has a sum of
    # its own, and these are added up in a fixed order.
    pieces = min(threads, C // 64) or 1
    parts = -(-threads // pieces)
    channels = [slice(C * i // pieces, C * (i + 1) // pieces) for i in range(pieces)]
    views = _split(w, groups, axis=0)
    offsets = _offsets(size, padding, dilation)

    def job(item):
        c, part = item
        return _correlate_weight(x[:, :, c], y, views[:, :, c], offsets, stride, part, parts)

    sums = parallel(job, product(channels, range(parts)))
    for i in range(0, len(sums), parts):
        mine = [s for s in sums[i : i + parts] if s]  # empty: more threads than blocks
        for first, *others in zip(*mine):
            target, total = first
            for _, more in others:
                total += more
            if not np.may_share_memory(target, total):
                target[...] = total.reshape(target.shape)
    return w


def _offsets(K, padding, dilation):
    """For each axis the offset t_k = d·k − p of every tap."""
    return tuple(tuple(d * k - p for k in range(n)) for n, p, d in zip(K, padding, dilation))


def _phases(size, K, s, p, d):
    """For each phase of an axis of x: its places, the taps that reach it, their offsets into y."""
    step = s // math.gcd(s, d)  # from one tap of a phase to the next
    for first in range(min(s, size)):
        u, r = divmod(first + p, s)
        start = next((k for k in range(min(step, K)) if d * k % s == r), K)
        offsets = tuple(u - d * k // s for k in range(start, K, step))
        yield slice(first, None, s), slice(start, None, step), offsets


def _correlate(x, w, y, offsets, stride):
    """Tasks that fill the view y (N, G, O, *Q) with Σ_{c,k} x[n,g,c, s·q + t_k] w[g,o,c,k]."""
    if 0 in x.shape or 0 in w.shape or 0 in y.shape:
        y[...] = 0  # for one, a phase that no tap reaches
        return []
    dtype = _work_type(y)
    plan = _Plan.of(offsets, tuple(stride), x.shape, y.shape, dtype.itemsize, get_num_threads())
    shape = (len(w), *(1,) * plan.batch, w.shape[1], -1)  # (G, 1 for each batch axis, O, rows)
    matrices = [np.asarray(plan.rows(w, taps).reshape(shape), dtype) for taps in plan.taps]

    def task(block):
        operands = block.operands(x, dtype)
        out = y[block.place]
        total = block.as_columns(out, dtype) if len(matrices) == 1 else None
        direct = total is not None
        if not direct:
            total = _scratch("total", dtype, block.columns)
        np.matmul(matrices[0], operands[0], out=total)
        for matrix, operand in zip(matrices[1:], operands[1:]):
            more = _scratch("more", dtype, block.columns)
            np.matmul(matrix, operand, out=more)
            total += more
        if not direct:
            np.copyto(out, _scratch("total", dtype, block.result), casting="same_kind")

    return [(task, block) for block in plan.blocks]


def _correlate_weight(x, y, w, offsets, stride, part, parts):
    """Sum y · xᵀ over every `parts`-th block: pairs (a view of w, the sum that belongs there)."""
    dtype = _work_type(w)
    plan = _Plan.of(offsets, tuple(stride), x.shape, y.shape, dtype.itemsize, parts)
    G, O = w.shape[:2]
    # Where all axes are gathered the product has the order of w's memory.
    out = w.reshape(G, O, -1) if parts == 1 and plan.ungathered == 0 and w.dtype == dtype else None
    totals = []
    for block in plan.blocks[part::parts]:
        operands = block.operands(x, dtype)
        columns = block.as_columns(y[block.place], dtype)
        if columns is None:
            np.copyto(_scratch("total", dtype, block.result), y[block.place])
            columns = _scratch("total", dtype, block.columns)
        products = []
        for operand in operands:
            more = np.matmul(columns, operand.mT, out=None if totals else out)
            over = tuple(range(1, 1 + plan.batch))  # (G, *batch, O, rows) -> (G, O, rows)
            products.append(more.sum(over) if over else more)
        for total, more in zip(totals, products):
            total += more
        totals = totals or products
    return [(plan.rows(w, taps), total) for taps, total in zip(plan.taps, totals)]


@dataclass
class _Block:
    """One piece of work. A layout is (shape, strides, offset) in bytes, in a thread's scratch."""

    place: tuple  # index of the block in y (N, G, O, *Q)
    copies: list  # pairs: index into the operand, index into x
    zeros: list  # indices into the operand: the padding
    operand: tuple  # layout (n, G, C, gathered taps, *axes)
    matrices: list  # for each entry of `_Plan.taps` the layout (G, *batch, rows, L) in the operand
    columns: tuple  # layout (G, *batch, O, L) of the outputs
    result: tuple  # layout (n, G, O, *q) of the same memory
    one_tap: bool  # the operand is a part of x

    def operands(self, x, dtype):
        """Gather; then the matrix that each product takes."""
        if self.one_tap and not self.zeros:
            matrix = self.as_columns(x[self.copies[0][1]], dtype)
            if matrix is not None:
                return [matrix]  # x itself
        operand = _scratch("operand", dtype, self.operand)
        for target, source in self.copies:
            np.copyto(operand[target], x[source])
        for target in self.zeros:  # after the copies, when these cache lines are at hand
            operand[target] = 0
        return [_scratch("operand", dtype, matrix) for matrix in self.matrices]

    def as_columns(self, a, dtype):
        """The block a (n, G, C, *q) as (G, *batch, C, L) if that is a view, else None."""
        batch = len(self.columns[0]) - 3
        if len(a) > 1 or a.dtype != dtype or not a[(0,) * (3 + batch)].flags.c_contiguous:
            return None
        a = a.reshape(*a.shape[1 : 3 + batch], -1)  # (G, C, *batch, L)
        return a.transpose(0, *range(2, 2 + batch), 1, 2 + batch)


class _Plan:
    """The role of each axis, and the blocks. It depends on shapes alone, so it is made once."""

    def __init__(self, offsets, stride, x_shape, y_shape, itemsize, threads):
        N, self.G, self.C, *self.size = x_shape
        self.O, self.Q = y_shape[2], y_shape[3:]
        self.offsets, self.stride, self.itemsize = offsets, stride, itemsize
        self.counts = [len(t) for t in offsets]
        few = N * math.prod(self.Q) < 4 * self.O  # outputs: cheaper to copy than weights to reorder
        m, T = len(self.Q) - 1, self.counts[-1]
        while m > 0 and (
            few or self.counts[m - 1] == 1 or (self.C * T < INNER and math.prod(self.Q[m:]) < 512)
        ):
            m -= 1
            T *= self.counts[m]
        self.ungathered, self.gathered_taps = m, T  # axes :m are batch and middle, taps of axes m:
        self.batch = m if self.C * T < INNER else max(0, m - 1)  # few rows: a run, no middle axis
        # phase and shift of each tap, the phases that occur, the range of the shifts
        self.where = [[(t % s, t // s) for t in ts] for ts, s in zip(offsets, stride)]
        self.phases = [sorted({r for r, _ in ts}) for ts in self.where]
        self.low = [min(u for _, u in ts) for ts in self.where]
        self.span = [max(u for _, u in ts) - a for ts, a in zip(self.where, self.low)]
        runs = [[slice(k, k + 1) for k in range(n)] for n in self.counts[:m]]
        if self.batch:
            runs[self.batch - 1] = _runs(self.where[self.batch - 1])
        self.taps = list(product(*runs))  # for each product a slice of taps per ungathered axis
        self.blocks = [self.block(n, q) for n, q in self.cut(N, threads)]

    of: Any = classmethod(lru_cache(maxsize=256)(lambda cls, *key: cls(*key)))  # type: ignore[arg-type]

    def rows(self, w, taps):
        """The weights (G, O, C, *K) of one product: (G, O, *ungathered taps, C, *gathered taps)."""
        return np.moveaxis(w[(ALL, ALL, ALL, *taps)], 2, 2 + self.ungathered)

    def cut(self, N, threads):
        """Pairs (samples, a slice for each axis). First axes first; samples if all axes are small."""
        column = self.itemsize * self.G * (self.C * self.gathered_taps + 2 * self.O)
        columns, cut = max(256, WORKSPACE // column), list(self.Q)
        for axis, q in enumerate(self.Q):
            others = math.prod(cut) // cut[axis]
            # neighbouring blocks of an ungathered axis both copy the `span` rows between them
            least = 4 * max(1, self.span[axis]) if axis < self.ungathered else 1
            cut[axis] = _even(q, max(least, columns // others))
        samples = _even(N, max(1, min(columns // math.prod(cut), -(-N // threads))))
        sizes, pieces = (N, *self.Q), (samples, *cut)
        for start in product(*map(range, (0,) * len(sizes), sizes, pieces)):
            n, *q = (slice(a, min(a + b, c)) for a, b, c in zip(start, pieces, sizes))
            yield n, tuple(q)

    def block(self, samples, place):
        m, batch, G, C, T = self.ungathered, self.batch, self.G, self.C, self.gathered_taps
        n, q = samples.stop - samples.start, [a.stop - a.start for a in place]
        # the operand: rows (batch axes, C, gathered taps), columns (middle axis, n, gathered axes)
        lengths = [len(self.phases[a]) * (q[a] + self.span[a]) for a in range(m)] + q[m:]
        strides, stride_n, row = self.column_strides(lengths, n)
        line = 64 // self.itemsize
        row = (-(-row // line) | 1) * line  # odd: with powers of two all rows share few cache sets
        volume = C * T * row
        for axis in reversed(range(batch)):
            strides[axis], volume = volume, volume * lengths[axis]
        operand = (n, G, C, T, *lengths), (stride_n, volume, T * row, row, *strides), 0
        L = n * math.prod(q[batch:])
        matrices = []
        for taps in self.taps:
            at, rows = 0, C * T
            for axis, run in enumerate(taps):
                r, u = self.where[axis][run.start]
                grid = self.phases[axis].index(r) * (q[axis] + self.span[axis])
                at += strides[axis] * (grid + u - self.low[axis])
                rows *= len(range(self.counts[axis])[run])
            matrices.append(((G, *q[:batch], rows, L), (volume, *strides[:batch], row, 1), at))
        # the outputs, in the same order
        strides, stride_n, _ = self.column_strides(q, n)
        volume = self.O * L
        for axis in reversed(range(batch)):
            strides[axis], volume = volume, volume * q[axis]
        columns = (G, *q[:batch], self.O, L), (volume, *strides[:batch], L, 1), 0
        result = (n, G, self.O, *q), (stride_n, volume, L, *strides), 0

        b = self.itemsize
        scale = lambda layout: (layout[0], tuple(b * s for s in layout[1]), b * layout[2])
        copies, zeros = self.gather(samples, place)
        return _Block(
            (samples, ALL, ALL, *place), copies, zeros, scale(operand), [*map(scale, matrices)],
            scale(columns), scale(result), one_tap=math.prod(self.counts) == 1,
        )  # fmt: skip

    def column_strides(self, lengths, n):
        """Of a row with columns (middle axis, n, gathered axes): strides, the stride of n, length."""
        strides, volume = [0] * len(lengths), 1
        for axis in reversed(range(self.ungathered, len(lengths))):
            strides[axis], volume = volume, volume * lengths[axis]
        stride_n, volume = volume, volume * n
        for axis in range(self.batch, self.ungathered):
            strides[axis], volume = volume, volume * lengths[axis]
        return strides, stride_n, volume

    def gather(self, samples, place):
        """What to copy from x, and where the padding is: `_Block.copies` and `_Block.zeros`."""
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
                copies.append(((ALL, ALL, ALL, tap, *target), (samples, ALL, ALL, *source)))
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


_memory = threading.local()


def _scratch(name, dtype, layout):
    """An array in this thread's own, reused memory: fresh memory costs a page fault every 4 KiB."""
    shape, strides, offset = layout
    needed = offset + sum((n - 1) * s for n, s in zip(shape, strides)) + dtype.itemsize
    memory = getattr(_memory, name, None)
    if memory is None or memory.nbytes < needed:
        memory = np.empty(needed + 64, np.uint8)
        memory = memory[-memory.ctypes.data % 64 :]  # from the start of a cache line
        setattr(_memory, name, memory)
    return np.ndarray(shape, dtype, memory, offset, strides)


def _swapped(w):
    """(G, O, C, *K) -> (G, C, O, *K) in memory of its own.

    The taps of a pair (o, c) move as one item and a few rows at a time. That is several times faster
    than NumPy's own way, which shows where the weights are larger than the images.
    """
    G, O, C, *K = w.shape
    out = np.empty((G, C, O, *K), w.dtype)
    if out.size:
        item = np.dtype((np.void, math.prod(K) * w.itemsize))
        source = np.ascontiguousarray(w).reshape(G, O, -1).view(item)
        target = out.reshape(G, C, -1).view(item)
        rows = 16 if out.nbytes > WORKSPACE else O
        parallel(
            lambda o: np.copyto(target[:, :, o : o + rows], source[:, o : o + rows].mT),
            range(0, O, rows),
        )
    return out


def _split(a, groups, axis=1):
    """(N, G·C, *S) -> (N, G, C, *S)."""
    return a.reshape(*a.shape[:axis], groups, a.shape[axis] // groups, *a.shape[axis + 1 :])


def _even(total, most):
    """The size of equal pieces of `total`, none above `most`."""
    return -(-total // -(-total // min(most, total)))


def _work_type(a):
    """float16 is summed in float32."""
    return np.dtype(np.float32) if a.dtype == np.float16 else a.dtype


def _call(task):
    function, argument = task
    return function(argument)
