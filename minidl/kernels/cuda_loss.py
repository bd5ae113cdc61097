"""Softmax and its sums over voxels on a GPU: launches the kernels of `loss.cu`."""

from __future__ import annotations

import math

import numpy as np

from minidl.backend import array_module
from minidl.kernels.cuda_module import BLOCK, MACROS, TYPES, blocks, function, sum_type

STRIP = 4096  # voxels that a block of threads adds up

SIZES = np.dtype(
    [(name, np.int32) for name in ("samples", "classes", "strips", "ignores")]
    + [(name, np.int64) for name in ("ignored", "voxels")]
)  # struct Sizes of loss.cu
LABELS = {np.dtype(TYPES[name]): name for name in ("unsigned char", "int", "long long")}


def softmax_sums(x, label, *, ignore_index):
    """overlap, predicted, true and surprise of x (N, C, *S) and the labels (N, *S), stacked: (4, N, C)."""
    run = _Run(x, label, ignore_index)
    if not x.size:
        return run.xp.zeros((4, *x.shape[:2]), x.dtype)
    highest, total = run.empty(label.shape), run.empty(label.shape)
    run("normalizers", blocks(label.size), highest, total, run.x)
    sums = run.empty((4, *x.shape[:2], run.strips))
    run("softmax_sums", (sums.size // 4,), sums, run.x, run.label, highest, total)
    return sums.sum(-1).astype(x.dtype, copy=False)


def softmax_sums_backward(g, x, label, *, ignore_index):
    """The cotangent of x for a cotangent g (4, N, C) of the sums."""
    run = _Run(x, label, ignore_index)
    gx = run.xp.empty(x.shape, x.dtype)
    if x.size:
        g = run.xp.ascontiguousarray(g, dtype=run.wide)
        run("softmax_sums_backward", blocks(label.size), gx, g, run.x, run.label)
    return gx


class _Run:
    """What the launches of one call share."""

    def __init__(self, x, label, ignore_index):
        self.xp, self.wide = array_module(x), sum_type(x.dtype)
        label_type = label.dtype if label.dtype in LABELS else np.dtype(np.int64)
        self.macros = {**MACROS[x.dtype], "LABEL": LABELS[label_type], "BLOCK": BLOCK, "STRIP": STRIP}
        self.x = self.xp.ascontiguousarray(x)
        self.label = self.xp.ascontiguousarray(label, dtype=label_type)
        voxels = math.prod(x.shape[2:])
        self.strips, ignores = -(-voxels // STRIP), ignore_index is not None
        self.sizes = np.array([(*x.shape[:2], self.strips, ignores, ignore_index or 0, voxels)], SIZES)

    def __call__(self, name, grid, *arguments):
        function("loss.cu", name, **self.macros)(grid, (BLOCK,), (*arguments, self.sizes))

    def empty(self, shape):
        return self.xp.empty(shape, self.wide)
