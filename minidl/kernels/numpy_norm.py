"""Normalisation, scale, shift and leaky ReLU in one visit to memory, on the CPU.

A channel's samples are taken into the cache once, and all passes (mean, variance, scaling, activation) run
there; the channels are spread over the threads. Backward takes x again instead of keeping what lies
between, since mean and variance cost less to compute than to store.

    x̂ = (x - mean) / sqrt(var + eps),   z = w·x̂ + b,   y = max(z, slope·z)                 (0 <= slope <= 1)
"""

from __future__ import annotations

import math

import numpy as np

from minidl.kernels.threads import parallel

BLOCK = 1 << 18  # bytes of x that one task takes: with its scratch arrays it stays in a core's cache


def _tasks(shape, itemsize, per_sample):
    """Slices (of samples, of channels) of (N, C, L), each with whole groups: a group is what is normalised
    together.
    """
    samples, channels, length = shape
    group = length if per_sample else samples * length
    at_once = max(1, BLOCK // max(1, group * itemsize))
    cuts = [slice(c, c + at_once) for c in range(0, channels, at_once)]
    if per_sample:
        return [(slice(n, n + 1), cut) for n in range(samples) for cut in cuts]
    return [(slice(None), cut) for cut in cuts]


def _standardized(x, axes, eps):
    """x̂ (a new array, at least float32) and 1 / sqrt(var + eps), which keeps its axes."""
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    centred = wide - wide.mean(axes, keepdims=True)
    var = np.square(centred).mean(axes, keepdims=True)
    scale = 1 / np.sqrt(var + np.asarray(eps, var.dtype))
    centred *= scale
    return centred, scale


def _flat(a):
    """(N, C, *S) -> (N, C, ΠS), contiguous."""
    return np.ascontiguousarray(a).reshape(*a.shape[:2], math.prod(a.shape[2:]))


def norm_leaky_relu(x, w, b, *, per_sample, eps, slope):
    """y for x (N, C, *S), w and b (C,): normalised per (sample and) channel."""
    flat, axes = _flat(x), (2,) if per_sample else (0, 2)
    y = np.empty_like(flat)

    def run(task):
        z, _ = _standardized(flat[task], axes, eps)
        z *= w[task[1], None]
        z += b[task[1], None]
        if slope != 1:
            np.maximum(z, z * np.asarray(slope, z.dtype), out=z)
        y[task] = z

    parallel(run, _tasks(flat.shape, flat.itemsize, per_sample))
    return y.reshape(x.shape)


def norm_leaky_relu_backward(g, x, w, b, *, per_sample, eps, slope):
    """The cotangents of x, w and b for a cotangent g of y.

    With h = g·φ'(z):  b̄ = Σ h,  w̄ = Σ h·x̂  and, with means over the group,
    x̄ = w / sqrt(var + eps) · (h - mean(h) - x̂·mean(h·x̂)).
    """
    flat, cotangent, axes = _flat(x), _flat(g), (2,) if per_sample else (0, 2)
    gx = np.empty_like(flat)

    def run(task):
        normal, scale = _standardized(flat[task], axes, eps)
        weight, shift = w[task[1], None], b[task[1], None]
        h = cotangent[task].astype(normal.dtype)  # a copy
        if slope != 1:
            np.multiply(h, np.asarray(slope, h.dtype), out=h, where=normal * weight + shift <= 0)
        mean_h, mean_hx = h.mean(axes, keepdims=True), (h * normal).mean(axes, keepdims=True)
        h -= mean_h
        normal *= mean_hx
        h -= normal
        h *= weight * scale
        gx[task] = h
        return mean_hx.sum(axis=(0, 2)), mean_h.sum(axis=(0, 2))

    tasks = _tasks(flat.shape, flat.itemsize, per_sample)
    group = flat.shape[2] * (1 if per_sample else flat.shape[0])
    gw, gb = (
        np.zeros(w.shape, np.result_type(w, np.float32)),
        np.zeros(b.shape, np.result_type(b, np.float32)),
    )
    for (_, channels), (sum_hx, sum_h) in zip(tasks, parallel(run, tasks)):  # in the tasks' order: repeatable
        gw[channels] += sum_hx * group
        gb[channels] += sum_h * group
    return gx.reshape(x.shape), gw.astype(w.dtype), gb.astype(b.dtype)
