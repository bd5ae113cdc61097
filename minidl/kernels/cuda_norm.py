"""Normalisation, scale, shift and leaky ReLU on a GPU: launches the kernels of `norm.cu`."""

from __future__ import annotations

import math

import numpy as np

from minidl.backend import array_module
from minidl.kernels.cuda_module import BLOCK, MACROS, function, sum_type

STRIP = 4096  # elements that a block of threads takes: they stay in the cache of its multiprocessor

LAYOUT = np.dtype(
    [(name, np.int32) for name in ("groups", "planes", "channels", "strips")] + [("length", np.int64)]
)  # struct Layout of norm.cu


def norm_leaky_relu(x, w, b, *, per_sample, eps, slope):
    """y for x (N, C, *S), w and b (C,): normalised per (sample and) channel."""
    run = _Run(x, w, b, per_sample)
    y = run.xp.empty(x.shape, x.dtype)
    if x.size:
        run("norm_leaky_relu", y, run.x, *run.moments(), *run.affine, run.layout, eps, slope)
    return y


def norm_leaky_relu_backward(g, x, w, b, *, per_sample, eps, slope):
    """The cotangents of x, w and b for a cotangent g of y."""
    run = _Run(x, w, b, per_sample)
    gx = run.xp.empty(x.shape, x.dtype)
    if not x.size:
        return gx, run.xp.zeros_like(w), run.xp.zeros_like(b)
    g, moments, rest = run.whole(g), run.moments(), (*run.affine, run.layout, eps, slope)
    sums = run.of_strips(), run.of_strips()
    run("products", *sums, g, run.x, *moments, *rest)
    run("norm_leaky_relu_backward", gx, g, run.x, *moments, *sums, *rest)
    samples = x.shape[0] if per_sample else 1
    gw, gb = (a.reshape(samples, x.shape[1], -1).sum((0, 2)) for a in sums)
    return gx, gw.astype(w.dtype, copy=False), gb.astype(b.dtype, copy=False)


class _Run:
    """What the launches of one call share."""

    def __init__(self, x, w, b, per_sample):
        self.xp, self.dtype, self.wide = array_module(x), x.dtype, sum_type(x.dtype)
        self.x, (samples, channels) = self.whole(x), x.shape[:2]
        self.affine = [self.xp.ascontiguousarray(a, dtype=self.wide) for a in (w, b)]
        length = math.prod(x.shape[2:])
        groups, planes = (samples * channels, 1) if per_sample else (channels, samples)
        strips = -(-length // STRIP)
        self.blocks = groups * planes * strips
        self.layout = np.array([(groups, planes, channels, strips, length)], LAYOUT)

    def __call__(self, name, *arguments):
        kernel = function("norm.cu", name, **MACROS[self.dtype], BLOCK=BLOCK, STRIP=STRIP)
        kernel((self.blocks,), (BLOCK,), arguments)

    def whole(self, array):
        return self.xp.ascontiguousarray(array, dtype=self.dtype)

    def of_strips(self):
        return self.xp.empty(self.blocks, self.wide)

    def moments(self):
        """Mean and Σ (x - mean)² of each strip."""
        means, squares = self.of_strips(), self.of_strips()
        self("moments", means, squares, self.x, self.layout)
        return means, squares
