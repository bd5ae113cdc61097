"""The kernels in their clearest form. The convolution trio: one loop over kernel taps, one product a tap.

Works on NumPy and CuPy arrays alike. It is the oracle for the fast kernels, and the lesson: the three
functions are one loop in which x, w and u trade places. Shapes and formula: `minidl/ops/bilinear.py`.
"""

from __future__ import annotations

import math

from minidl.backend import array_module
from minidl.kernels.windows import output_size, taps


def _padded_size(size, padding):
    return [n + 2 * p for n, p in zip(size, padding)]


def _interior(size, padding):
    return (..., *(slice(p, p + n) for n, p in zip(size, padding)))


def _wide(dtype, xp):
    return xp.float32 if dtype == xp.float16 else dtype


def _grouped(a, groups, axis=1):
    """(N, C, *S) -> (N, G, C/G, *S)."""
    return a.reshape(*a.shape[:axis], groups, a.shape[axis] // groups, *a.shape[axis + 1 :])


def _flat(a, rank):
    """(..., *S) -> (..., ΠS), always with the same number of leading axes."""
    return a.reshape(*a.shape[: a.ndim - rank], math.prod(a.shape[a.ndim - rank :]))


def conv(x, w, *, stride, padding, dilation, groups):
    xp, rank = array_module(x), len(stride)
    wide = _wide(x.dtype, xp)
    size, kernel = x.shape[2:], w.shape[2:]
    padded = xp.zeros((*x.shape[:2], *_padded_size(size, padding)), dtype=wide)
    padded[_interior(size, padding)] = x
    padded = _grouped(padded, groups)
    weights = _grouped(w.astype(wide, copy=False), groups, axis=0)
    outputs = output_size(padded.shape[3:], kernel, stride, dilation)
    u = xp.zeros((x.shape[0], groups, w.shape[0] // groups, math.prod(outputs)), dtype=wide)
    for k, view in taps(padded, kernel, outputs, stride, dilation):
        u += weights[(..., *k)] @ _flat(view, rank)
    return u.reshape(x.shape[0], w.shape[0], *outputs).astype(x.dtype, copy=False)


def conv_input(u, w, *, size, stride, padding, dilation, groups):
    xp, rank = array_module(u), len(stride)
    wide = _wide(u.dtype, xp)
    kernel, outputs = w.shape[2:], u.shape[2:]
    weights = _grouped(w.astype(wide, copy=False), groups, axis=0)
    flat = _flat(_grouped(u.astype(wide, copy=False), groups), rank)
    channels = w.shape[1]
    padded = xp.zeros((u.shape[0], groups, channels, *_padded_size(size, padding)), dtype=wide)
    for k, view in taps(padded, kernel, outputs, stride, dilation):
        view += (weights[(..., *k)].swapaxes(-1, -2) @ flat).reshape(view.shape)
    x = padded[_interior(size, padding)]
    return x.reshape(u.shape[0], groups * channels, *size).astype(u.dtype, copy=False)


def conv_weight(x, u, *, size, stride, padding, dilation, groups):
    xp, rank = array_module(x), len(stride)
    wide = _wide(x.dtype, xp)
    padded = xp.zeros((*x.shape[:2], *_padded_size(x.shape[2:], padding)), dtype=wide)
    padded[_interior(x.shape[2:], padding)] = x
    padded = _grouped(padded, groups)
    flat = _flat(_grouped(u.astype(wide, copy=False), groups), rank)
    w = xp.zeros((groups, u.shape[1] // groups, x.shape[1] // groups, *size), dtype=wide)
    for k, view in taps(padded, size, u.shape[2:], stride, dilation):
        w[(..., *k)] = (flat @ _flat(view, rank).swapaxes(-1, -2)).sum(0)
    return w.reshape(u.shape[1], x.shape[1] // groups, *size).astype(x.dtype, copy=False)


# ---- normalisation ---------------------------------------------------------------------------------


def _standardized(x, per_sample, eps):
    """x̂ = (x - mean) / sqrt(var + eps), 1 / sqrt(var + eps), and the axes over which the statistics go."""
    xp = array_module(x)
    axes = tuple(range(2, x.ndim)) if per_sample else (0, *range(2, x.ndim))
    centred = x - x.mean(axes, keepdims=True)
    scale = 1 / xp.sqrt((centred * centred).mean(axes, keepdims=True) + eps)
    return centred * scale, scale, axes


def _per_channel(a, rank):
    return a.reshape(1, -1, *(1,) * (rank - 2))


def norm_leaky_relu(x, w, b, *, per_sample, eps, slope):
    """φ(w·x̂ + b); the formulas stand in `numpy_norm.py`."""
    xp = array_module(x)
    z = _standardized(x, per_sample, eps)[0] * _per_channel(w, x.ndim) + _per_channel(b, x.ndim)
    return xp.where(z > 0, z, z * slope).astype(x.dtype, copy=False)


def norm_leaky_relu_backward(g, x, w, b, *, per_sample, eps, slope):
    xp = array_module(x)
    normal, scale, axes = _standardized(x, per_sample, eps)
    weight = _per_channel(w, x.ndim)
    h = xp.where(normal * weight + _per_channel(b, x.ndim) > 0, g, g * slope)
    mean_h, mean_hx = h.mean(axes, keepdims=True), (h * normal).mean(axes, keepdims=True)
    gx = weight * scale * (h - mean_h - normal * mean_hx)
    others = (0, *range(2, x.ndim))
    return gx.astype(x.dtype, copy=False), (h * normal).sum(others), h.sum(others)
