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
on views that BLAS reads in place, with long rows and not one wasted column. The same holds in any
number of dimensions (`numpy_conv_plan.py` says which axis does what), and for groups, where each has a
product of its own: a depthwise convolution is matrices of one row times the operand. Where a kernel has
one tap there is nothing to gather, and BLAS reads x itself.

The work is cut into blocks that stay in the cache; blocks are also what the threads share. `conv` and
`conv_weight` take products with the same operand; `conv_input` is a `conv` of y for each phase of x.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from minidl.kernels.numpy_conv_plan import WORKSPACE, Plan, scratch
from minidl.kernels.threads import get_num_threads, parallel


def conv(x, w, *, stride, padding, dilation, groups):
    """y[n,o,q] = Σ_{c,k} x[n, c, s·q + d·k − p] w[o,c,k].

    x (N, C, *S), w (O, C/groups, *K) -> y (N, O, *Q).
    """
    offsets = _offsets(w.shape[2:], padding, dilation)
    outputs = [(n + p - t[-1] - 1) // s + 1 for n, p, t, s in zip(x.shape[2:], padding, offsets, stride)]
    y = np.empty((len(x), len(w), *outputs), np.result_type(x, w))
    x, w = _split(x, groups), _split(w, groups, axis=0)
    parallel(_call, _correlate(x, w, [_split(y, groups)], offsets, stride))
    return y


def conv_input(y, w, *, size, stride, padding, dilation, groups):
    """x[n,c,i] = Σ_{o,(q,k): s·q + d·k − p = i} y[n,o,q] w[o,c,k].

    y (N, O, *Q), w (O, C/groups, *K) -> x (N, C, *size). On one axis write i + p = s·u + r. Only
    taps with d·k mod s = r reach phase r, and they meet it at q = u − d·k // s: each phase of x is
    a convolution of y with stride 1 and with taps of its own. Phases that meet the same q share one
    product; where kernel = stride, all do: it is a 1 × 1 convolution and a shuffle of pixels.
    """
    y, w = _split(y, groups), _swapped(_split(w, groups, axis=0))  # x and y trade places
    x = np.empty((len(y), groups * w.shape[1], *size), np.result_type(y, w))
    alike = {}
    for phase in product(*map(_phases, size, w.shape[3:], stride, padding, dilation)):
        places, taps, offsets = zip(*phase)
        part = _split(x, groups)[(..., *places)]
        alike.setdefault((offsets, part.shape), []).append((part, w[(..., *taps)]))
    tasks = []
    for (offsets, _), pairs in alike.items():
        parts, weights = zip(*pairs)
        weights = np.concatenate(weights, axis=1) if len(weights) > 1 else weights[0]
        tasks += _correlate(y, weights, parts, offsets, (1,) * len(size))
    tasks.sort(key=lambda task: [a.start or 0 for a in task[1].place])  # neighbours while in the cache
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
        totals = {}
        for part in sums[i : i + parts]:
            for place, (target, more) in part.items():
                if place in totals:
                    totals[place][1][...] += more
                else:
                    totals[place] = target, more
        for target, total in totals.values():
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


def _correlate(x, w, ys, offsets, stride):
    """Tasks that fill the views y (N, G, O, *Q) of the list ys with Σ_{c,k} x[n,g,c, s·q + t_k] w[g,o,c,k].

    w (G, len(ys)·O, C, *K) has the weights of the first view, then those of the second, ...
    """
    if 0 in x.shape or 0 in w.shape or 0 in ys[0].shape:
        for y in ys:
            y[...] = 0  # for one, a phase that no tap reaches
        return []
    (N, G, O, *Q), dtype = ys[0].shape, _work_type(ys[0])
    shape = N, G, len(ys) * O, *Q
    plan = Plan.of(offsets, tuple(stride), x.shape, shape, dtype.itemsize, get_num_threads())
    shape = (G, *(1,) * plan.batch, len(ys) * O, -1)  # (G, 1 for each batch axis, O, rows)
    matrices = [np.asarray(plan.rows(w, taps).reshape(shape), dtype) for taps in plan.taps]

    def task(block):
        operands = block.operands(x, dtype)
        out = None
        if len(matrices) == len(ys) == 1:
            out = block.as_columns(ys[0][block.place], dtype)
        total = scratch("total", dtype, block.columns) if out is None else out
        np.matmul(matrices[0][block.groups], operands[0], out=total)
        for matrix, operand in zip(matrices[1:], operands[1:]):
            more = scratch("more", dtype, block.columns)
            np.matmul(matrix[block.groups], operand, out=more)
            total += more
        if out is None:
            result = scratch("total", dtype, block.result)
            for i, y in enumerate(ys):
                np.copyto(y[block.place], result[:, :, i * O : (i + 1) * O], casting="same_kind")

    return [(task, block) for block in plan.blocks]


def _correlate_weight(x, y, w, offsets, stride, part, parts):
    """Sum y · xᵀ over every `parts`-th block: {place: (a view of w, the sum that belongs there)}."""
    dtype = _work_type(w)
    plan = Plan.of(offsets, tuple(stride), x.shape, y.shape, dtype.itemsize, parts)
    over = tuple(range(1, 1 + plan.batch))  # (g, *batch, O, rows) -> (g, O, rows)
    # Where all axes are gathered the product has the order of w's memory.
    direct = parts == 1 and plan.ungathered == 0 and w.dtype == dtype
    totals = {}
    for block in plan.blocks[part::parts]:
        operands = block.operands(x, dtype)
        columns = block.as_columns(y[block.place], dtype)
        if columns is None:
            np.copyto(scratch("total", dtype, block.result), y[block.place])
            columns = scratch("total", dtype, block.columns)
        mine = w[block.groups]
        for number, (taps, operand) in enumerate(zip(plan.taps, operands)):
            place = block.groups.start, number
            out = mine.reshape(*mine.shape[:2], -1) if direct and place not in totals else None
            more = np.matmul(columns, operand.mT, out=out)
            if over:
                more = more.sum(over)
            if place in totals:
                total = totals[place][1]
                total += more
            else:
                totals[place] = plan.rows(mine, taps), more
    return totals


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
        if out.nbytes <= WORKSPACE:
            np.copyto(target, source.mT)
        else:
            rows = range(0, O, 16)
            parallel(lambda o: np.copyto(target[:, :, o : o + 16], source[:, o : o + 16].mT), rows)
    return out


def _split(a, groups, axis=1):
    """(N, G·C, *S) -> (N, G, C, *S)."""
    return a.reshape(*a.shape[:axis], groups, a.shape[axis] // groups, *a.shape[axis + 1 :])


def _work_type(a):
    """float16 is summed in float32."""
    return np.dtype(np.float32) if a.dtype == np.float16 else a.dtype


def _call(task):
    function, argument = task
    return function(argument)
