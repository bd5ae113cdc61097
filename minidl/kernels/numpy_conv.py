"""The convolution trio on the CPU: NumPy's matrix product, threads, and no im2col.

Input position i, kernel tap k and output position q meet when  i = s·q + d·k − p  on every axis (stride s, dilation d,
padding p). Write t_k = d·k − p, the offset of tap k; then everything here is one question: how do we hand BLAS, for each tap,
the matrix  X_k[c, q] = x[c, s·q + t_k]?  Copying all of them (im2col) costs k^N times the input. Most of it is not needed:

    a plane of x, 3 × 3 taps, the taps of the LAST axis gathered     the operand of kernel row k is a SLICE of that row
    (w runs exactly over the outputs, borders are zeros):            at an offset, without a copy and without waste:

    tap −1   |. a b|. d e|. g h|. j k|                               kernel row 0: columns 0 .. 6
    tap  0   |a b c|d e f|g h i|j k l|         rows h of the         kernel row 1: columns 3 .. 9
    tap +1   |b c .|e f .|h i .|k l .|         plane, end to end     kernel row 2: columns 6 .. 12

So the operand is `k` (not k²) copies of a block of x, made of long contiguous runs, and the product with a kernel row
is `W @ X[:, offset : offset + L]`, a view that BLAS reads in place. Axes before the last two are batch axes of `np.matmul`,
and an offset there is an index. With a stride s such an axis is kept as its s phase grids (position i = s·u + r is
element u of grid r): tap t lies in grid t mod s at offset t // s. With few channels more axes are gathered, because
BLAS needs a long inner dimension. Work goes in blocks that stay in a core's cache, and blocks are what threads share.
All three functions use the same gathered operand; they differ in the product they take with it.
"""

import math
import threading
from dataclasses import dataclass
from itertools import product

import numpy as np

from minidl.kernels.threads import get_num_threads, parallel

WORKSPACE = 1 << 20  # bytes of one block's operand and accumulators: about a core's second-level cache
INNER = 32  # the shortest inner dimension at which BLAS is near its full speed


def conv(x, w, *, stride, padding, dilation, groups):
    "x (N, C, *S), w (O, C/groups, *K) -> y (N, O, *Q):  y[n,o,q] = Σ_{c,k} x[n, c, s·q + d·k − p] w[o,c,k]."
    K, S = w.shape[2:], x.shape[2:]
    offsets = [[d * k - p for k in range(n)] for d, p, n in zip(dilation, padding, K)]
    Q = [(i + 2 * p - d * (k - 1) - 1) // s + 1 for i, p, d, k, s in zip(S, padding, dilation, K, stride)]
    y = np.empty((len(x), len(w), *Q), _result_type(x, w))
    _run(_correlate(x, _grouped(w, groups), _split(y, groups), offsets, stride))
    return y


def conv_input(y, w, *, size, stride, padding, dilation, groups):
    """y (N, O, *Q), w (O, C/groups, *K) -> x (N, C, *size):  x[n,c,i] = Σ_{o,(q,k): s·q+d·k−p=i} y[n,o,q] w[o,c,k].

    Along one axis write i + p = s·u + r. Only taps with d·k mod s = r reach phase r, and they find their y at
    q = u − (d·k − r)/s: each phase of x is a correlation of y, with stride 1, with the taps of its own.
    """
    w = _grouped(w, groups).swapaxes(1, 2)  # (G, C, O, *K): x and y trade places
    x = np.empty((len(y), groups * w.shape[1], *size), _result_type(y, w))
    tasks = []
    for phases in product(*(_phases(*a) for a in zip(size, w.shape[3:], stride, padding, dilation))):
        places, taps, offsets = zip(*phases)
        part = _split(x, groups)[(..., *places)]
        if all(offsets):
            tasks += _correlate(y, w[(..., *taps)], part, offsets, [1] * len(size))
        else:
            part[...] = 0  # no tap reaches this phase
    _run(tasks)
    return x


def _phases(size, K, s, p, d):
    "For each phase r of one axis: where its elements lie in x, which taps reach it, and their offsets into y."
    for r in range(s):
        u = -((r - p) // s)  # the first u with s·u + r − p >= 0
        first = s * u + r - p
        step = s // math.gcd(s, d)  # taps of one phase are `step` apart
        k0 = next((k for k in range(min(step, K)) if d * k % s == r), K)
        if first < size:
            yield slice(first, None, s), slice(k0, None, step), [u - (d * k - r) // s for k in range(k0, K, step)]


def conv_weight(x, y, *, size, stride, padding, dilation, groups):
    "x (N, C, *S), y (N, O, *Q) -> w (O, C/groups, *size):  w[o,c,k] = Σ_{n,q} x[n, c, s·q + d·k − p] y[n,o,q]."
    offsets = [[d * k - p for k in range(n)] for d, p, n in zip(dilation, padding, size)]
    dtype = _result_type(x, y)
    work = _work_type(dtype)
    if 0 in x.shape or 0 in y.shape:
        return np.zeros((y.shape[1], x.shape[1] // groups, *size), dtype)
    X, Y = _split(x, groups), _split(y, groups)
    G, O, C = groups, Y.shape[2], X.shape[2]
    plan = _Plan.make(offsets, stride, Y.shape[3:], C, O, len(x))
    blocks = list(plan.blocks(len(x), work.itemsize))
    # Large weights are shared out by channels, small ones by blocks with one partial sum each, added in a fixed order.
    threads = get_num_threads()
    pieces = min(threads, C // 64) if C >= 128 else 1
    parts = 1 if pieces > 1 else max(1, min(threads, len(blocks)))
    shape = (*plan.offset_counts, G, O, C, plan.gathered)
    sums = np.zeros((parts, *shape), work)

    def task(item):
        part, channels = item
        total = sums[part][..., channels, :]
        for samples, block in blocks[part::parts]:
            xs = plan.gather(X[samples][:, :, channels], block, work)
            ys = plan.columns(Y[samples], block, work)  # (*batch, G, O, L)
            for tap, (start, _) in enumerate(plan.views(xs, block)):
                key = np.unravel_index(tap, plan.offset_counts) if plan.offset_counts else ()
                for b in np.ndindex(ys.shape[:-3]):
                    out = _scratch("product", (G, O, start.shape[-2]), work)
                    np.matmul(ys[b], start[b].swapaxes(-1, -2), out=out)
                    total[key] += out.reshape(total[key].shape)

    cuts = [C * i // pieces for i in range(pieces + 1)]
    _run([lambda item=(part, slice(a, b)): task(item)
          for part in range(parts) for a, b in zip(cuts, cuts[1:])])
    w = sums.sum(0) if parts > 1 else sums[0]
    n = len(plan.offset_counts)
    w = np.moveaxis(w, range(n), range(3, 3 + n))  # (G, O, C, *offset taps, gathered taps)
    return w.reshape(G * O, C, *size).astype(dtype, copy=False)


def _correlate(x, w, y, offsets, stride):
    """Tasks that fill y (N, G, O, *Q), any strides, with  y[n,g,o,q] = Σ_{c,k} x[n, (g,c), s·q + t_k] w[g,o,c,k]."""
    x, work = _split(x, len(w)), _work_type(y.dtype)
    G, O, C = w.shape[:3]
    if 0 in y.shape or 0 in w.shape:
        y[...] = 0
        return []
    plan = _Plan.make(offsets, stride, y.shape[3:], C, O, len(x))
    n = len(plan.offset_counts)
    # one (O, C·gathered) matrix for each tap that is an offset
    w = np.moveaxis(w, range(3, 3 + n), range(n)).reshape(-1, G, O, C * plan.gathered)
    w = w.astype(work, copy=False)

    def task(samples, block):
        xs = plan.gather(x[samples], block, work)
        out = y[(samples, ..., *block)]
        shape = plan.column_shape(block, len(out), G, O)
        direct = len(w) == 1 and plan.is_flat(out) and out.dtype == work
        total = plan.columns(out, (slice(None),) * len(block), work) if direct else _scratch("total", shape, work)
        for tap, (view, _) in enumerate(plan.views(xs, block)):
            if tap == 0:
                np.matmul(w[0], view, out=total)
            else:
                more = _scratch("product", shape, work)
                np.matmul(w[tap], view, out=more)
                total += more
        if not direct:
            np.copyto(out, plan.from_columns(total, block, len(out)), casting="same_kind")

    return [lambda s=s, b=b: task(s, b) for s, b in plan.blocks(len(x), work.itemsize)]


@dataclass
class _Plan:
    """How each axis is treated: axes before `middle` are batch axes, taps of `middle` are offsets into the flat columns,
    the axes after it are gathered. `middle` = -1: all are gathered."""

    offsets: list  # per axis: t_k of every tap
    stride: tuple
    Q: tuple
    C: int
    O: int
    middle: int

    @classmethod
    def make(cls, offsets, stride, Q, C, O, N):
        middle, gathered = len(Q) - 2, len(offsets[-1])
        few = N * math.prod(Q) < 4 * O  # columns: copying them costs less than reordering the weights
        while middle >= 0 and (C * gathered < INNER or few or len(offsets[middle]) == 1):
            gathered *= len(offsets[middle])
            middle -= 1
        return cls(offsets, stride, Q, C, O, middle)

    @property
    def gathered(self):
        return math.prod(map(len, self.offsets[self.middle + 1 :]))

    @property
    def offset_counts(self):
        return tuple(len(t) for t in self.offsets[: self.middle + 1])

    def blocks(self, N, itemsize):
        "Cut samples and outputs into blocks: pairs (samples, one slice per axis)."
        target = max(256, WORKSPACE // itemsize // (self.C * self.gathered + 2 * self.O))
        size = list(self.Q)
        for axis, q in enumerate(self.Q):
            rest = math.prod(size) // size[axis]
            least = 1 if axis > self.middle else 4 * (self.span(axis) or 1)
            size[axis] = _even(q, max(least, target // max(1, rest)))
        samples = _even(N, max(1, min(target // math.prod(size), -(-N // get_num_threads()))))
        for n in range(0, N, samples):
            for start in product(*(range(0, q, b) for q, b in zip(self.Q, size))):
                yield slice(n, n + samples), tuple(slice(a, min(a + b, q)) for a, b, q in zip(start, size, self.Q))

    def span(self, axis):
        shifts = [t // self.stride[axis] for t in self.offsets[axis]]
        return max(shifts) - min(shifts)

    def segments(self, axis, q):
        """The runs of input positions that outputs q of this axis need: (first, count) with step `stride`.

        A gathered axis has one run for each tap, an offset axis one for each phase that a tap lies in.
        """
        s, t = self.stride[axis], self.offsets[axis]
        if axis > self.middle:
            return [(s * q.start + k, q.stop - q.start) for k in t]
        low = min(k // s for k in t)
        return [(s * (q.start + low) + r, q.stop - q.start + self.span(axis)) for r in sorted({k % s for k in t})]

    def gather(self, x, block, dtype):
        "x (n, G, C, *S) -> (G, C, gathered taps, *axes up to middle, n, *gathered axes), see the picture above."
        n, G, C = x.shape[:3]
        segments = [self.segments(a, q) for a, q in enumerate(block)]
        m = self.middle + 1
        lengths = [sum(count for _, count in runs) for runs in segments[:m]]
        lengths += [n] + [q.stop - q.start for q in block[m:]]
        row = math.prod(lengths)
        if all(len(runs) == 1 for runs in segments) and n == 1:  # perhaps x itself will do
            view = x[(0, ..., *(slice(i, i + s * (c - 1) + 1, s) if 0 <= i and i + s * (c - 1) < size else slice(0)
                                for ((i, c),), s, size in zip(segments, self.stride, x.shape[3:])))]
            if view.size == G * C * row and view.dtype == dtype and view[(0, 0) + (0,) * max(0, m - 1)].flags.c_contiguous:
                return view.reshape(G, C, 1, *lengths)
        # An odd number of 64-byte lines from row to row: rows a power of two apart would share a few cache sets.
        line = 64 // dtype.itemsize
        stride = (-(-row // line) | 1) * line
        out = _scratch("operand", (G, C, self.gathered, stride), dtype)[..., :row]
        out = out.reshape(G, C, self.gathered, *lengths)
        taps = [range(len(runs)) for runs in segments]
        for pick in product(*taps):
            tap = 0
            for axis in range(m, len(block)):
                tap = tap * len(taps[axis]) + pick[axis]
            into, source = [], []
            for axis, index in enumerate(pick):
                first, count = segments[axis][index]
                s, size = self.stride[axis], x.shape[3 + axis]
                base = 0 if axis >= m else sum(c for _, c in segments[axis][:index])
                low = min(max(-(first // s), 0), count)  # elements before it lie in the padding
                high = max(min(-((first - size) // s), count), low)
                into.append((base, base + low, base + high, base + count))
                source.append(slice(first + s * low, first + s * (high - 1) + 1 if high > low else first + s * low, s))
            dest = np.moveaxis(out[:, :, tap], 2 + m, 0)  # (n, G, C, *axes)
            whole = [slice(a, d) for a, b, c, d in into]
            for axis, (a, b, c, d) in enumerate(into):
                for pad in (slice(a, b), slice(c, d)):
                    if pad.stop > pad.start:
                        dest[(..., *whole[:axis], pad, *whole[axis + 1 :])] = 0
            if all(c > b for a, b, c, d in into):
                np.copyto(dest[(..., *(slice(b, c) for a, b, c, d in into))], x[(..., *source)])
        return out

    def views(self, xs, block):
        "For each tap that is an offset: its operand (*batch, G, C·gathered, L), a view of `gather`'s result."
        m = self.middle + 1
        starts = []
        for axis in range(m):
            s, t, q = self.stride[axis], self.offsets[axis], block[axis]
            phases = sorted({k % s for k in t})
            low, length = min(k // s for k in t), q.stop - q.start + self.span(axis)
            starts.append([phases.index(k % s) * length + k // s - low for k in t])
        sizes = [q.stop - q.start for q in block]
        G = len(xs)
        for start in product(*starts):
            view = xs[(slice(None),) * 3 + tuple(slice(a, a + n) for a, n in zip(start, sizes))]
            view = view.reshape(G, -1, *sizes[: max(0, m - 1)], math.prod(view.shape[3 + max(0, m - 1) :]))
            yield np.moveaxis(view, (0, 1), (-3, -2)), start

    def column_shape(self, block, n, G, O):
        sizes = [q.stop - q.start for q in block]
        b = max(0, self.middle)
        return (*sizes[:b], G, O, n * math.prod(sizes[b:]))

    def is_flat(self, y):
        "Can the block y (n, G, O, *q) be written as a matrix (O, L) without a copy?"
        return len(y) == 1 and y[(0, 0, 0) + (0,) * max(0, self.middle)].flags.c_contiguous

    def columns(self, y, block, dtype):
        "y (n, G, O, *Q) -> the block as (*batch, G, O, L), columns in the order of `gather`; a view where possible."
        y = y[(..., *block)]
        b = max(0, self.middle)
        shape = (*y.shape[3 : 3 + b], *y.shape[1:3], -1)
        if self.is_flat(y) and y.dtype == dtype:
            v = y[0].reshape(*y.shape[1 : 3 + b], -1)
            return np.moveaxis(v, (0, 1), (-3, -2))
        v = np.moveaxis(y, 0, 3 + self.middle)  # (G, O, *axes up to middle, n, *gathered)
        v = np.moveaxis(v, (0, 1), (b, b + 1))
        out = _scratch("columns", v.shape, dtype)
        np.copyto(out, v)
        return out.reshape(shape)

    def from_columns(self, total, block, n):
        "The inverse: (*batch, G, O, L) -> a view (n, G, O, *q)."
        sizes = [q.stop - q.start for q in block]
        b, m = max(0, self.middle), self.middle + 1
        v = total.reshape(*total.shape[:-1], *sizes[b:m], n, *sizes[m:])
        v = np.moveaxis(v, (b, b + 1), (0, 1))  # (G, O, *axes up to middle, n, *gathered)
        return np.moveaxis(v, 2 + m, 0)


_local = threading.local()


def _scratch(name, shape, dtype):
    "An uninitialised array in this thread's own reusable memory (fresh memory costs a page fault for every 4 KiB)."
    size = math.prod(shape)
    store = _local.__dict__
    if name not in store or store[name].nbytes < size * dtype.itemsize:
        store[name] = np.empty(size * dtype.itemsize + 64, np.uint8)
    buffer = store[name]
    skip = -buffer.ctypes.data % 64
    if buffer.nbytes < skip + size * dtype.itemsize:
        store[name] = buffer = np.empty(size * dtype.itemsize + 64, np.uint8)
        skip = -buffer.ctypes.data % 64
    return buffer[skip : skip + size * dtype.itemsize].view(dtype).reshape(shape)


def _run(tasks):
    parallel(lambda task: task(), tasks)


def _even(total, most):
    "The size of equal pieces, none above `most`."
    return -(-total // -(-total // min(most, total))) if total else 1


def _split(x, groups):
    "(N, G·C, *S) -> (N, G, C, *S), a view."
    if groups == 1:
        return x[:, None]
    return x.reshape(len(x), groups, x.shape[1] // groups, *x.shape[2:])


def _grouped(w, groups):
    "(G·O, C, *K) -> (G, O, C, *K)."
    return w.reshape(groups, len(w) // groups, *w.shape[1:])


def _result_type(*arrays):
    return np.result_type(*arrays)


def _work_type(dtype):
    "float16 is computed in float32."
    return np.dtype(np.float32) if dtype == np.float16 else np.dtype(dtype)
