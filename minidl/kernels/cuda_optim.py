"""Updates of optimisers on a GPU, many parameters at a time: launches the kernels of `optim.cu`."""

from __future__ import annotations

import math

import numpy as np

from minidl.kernels import reference
from minidl.kernels.cuda_module import BLOCK, MACROS, address, blocks, function, sum_type

ROWS = 64  # parameters that one launch moves
MOST_BLOCKS = 128  # of a parameter: their threads take further elements after their first

PARAMETER = np.dtype(
    [("w", np.uint64), ("g", np.uint64), ("state", np.uint64, 3), ("count", np.int64)]
)  # struct Parameter of optim.cu


def sgd(updates):
    """Move w (and v) of each update ((w, g) or (w, g, v), options) in place."""
    for dtype, options, rows in _tables(updates, reference.sgd):
        _launch("sgd", dtype, rows, _sgd(sum_type(dtype), **options))


def adam(updates):
    """Move w, m, v (and v_max) of each update ((w, g, m, v) or (w, g, m, v, v_max), options) in place."""
    for dtype, options, rows in _tables(updates, reference.adam):
        _launch("adam", dtype, rows, _adam(sum_type(dtype), **options))


def _tables(updates, otherwise):
    """(dtype, options, arrays of up to ROWS parameters); updates that no kernel can make go `otherwise`."""
    alike = {}
    for arrays, options in updates:
        dtype = arrays[0].dtype
        if dtype in MACROS and all(a.dtype == dtype and a.flags.c_contiguous for a in arrays):
            alike.setdefault((dtype, repr(options)), []).append((arrays, options))
        else:
            otherwise([(arrays, options)])
    for (dtype, _), same in alike.items():
        for i in range(0, len(same), ROWS):
            yield dtype, same[0][1], [arrays for arrays, _ in same[i : i + ROWS]]


def _launch(name, dtype, rows, options):
    table = np.zeros(1, [("row", PARAMETER, ROWS)])  # struct Table
    for row, (w, g, *state) in zip(table["row"][0], rows):
        row["w"], row["g"], row["count"] = address(w), address(g), w.size
        row["state"][: len(state)] = [address(a) for a in state]
    (longest,) = blocks(max(w.size for w, *_ in rows))
    kernel = function("optim.cu", name, **MACROS[dtype], BLOCK=BLOCK, ROWS=ROWS)
    kernel((min(longest, MOST_BLOCKS), len(rows)), (BLOCK,), (table, options))


def _options(wide, numbers, flags):
    """A `struct Sgd` or `struct Adam`: numbers in the type of the sums, then flags."""
    fields = [(name, wide) for name in numbers] + [(name, np.int32) for name in flags]
    return np.array([(*numbers.values(), *flags.values())], np.dtype(fields, align=True))


def _sgd(wide, *, lr, momentum, dampening, weight_decay, nesterov, maximize):
    numbers = {"lr": lr, "momentum": momentum, "fresh": 1 - dampening, "weight_decay": weight_decay}
    return _options(wide, numbers, {"nesterov": nesterov, "maximize": maximize})


def _adam(wide, *, lr, betas, eps, weight_decay, decoupled, maximize, step):
    (beta1, beta2), unbiased = betas, math.sqrt(1 - betas[1] ** step)
    numbers = {
        "rate": lr * unbiased / (1 - beta1**step), "eps": eps * unbiased,
        "fresh_m": 1 - beta1, "beta2": beta2, "fresh_v": 1 - beta2,
        "weight_decay": 0 if decoupled else weight_decay,
        "shrinkage": 1 - lr * weight_decay if decoupled else 1,
    }  # fmt: skip
    return _options(wide, numbers, {"maximize": maximize})
