"""The kernels in their clearest form. The convolution trio: one loop over kernel taps, one product a tap.

Works on NumPy and CuPy arrays alike. It is the oracle for the fast kernels, and the lesson: the three
functions are one loop in which x, w and u trade places. Shapes and formula: `minidl/ops/bilinear.py`.
"""

from __future__ import annotations

import math

import numpy as np

from minidl.backend import array_module
from minidl.kernels.windows import in_planes, output_size, shifts, taps


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
    x = x.astype(_wide(x.dtype, xp), copy=False)
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
    g = g.astype(normal.dtype, copy=False)
    h = xp.where(normal * weight + _per_channel(b, x.ndim) > 0, g, g * slope)
    mean_h, mean_hx = h.mean(axes, keepdims=True), (h * normal).mean(axes, keepdims=True)
    gx = weight * scale * (h - mean_h - normal * mean_hx)
    others = (0, *range(2, x.ndim))
    gw, gb = (h * normal).sum(others), h.sum(others)
    return gx.astype(x.dtype, copy=False), gw.astype(w.dtype, copy=False), gb.astype(b.dtype, copy=False)


# ---- planes ----------------------------------------------------------------------------------------


def over_planes(function, out, *arrays):
    """Write function(*arrays) into `out`, all (N, C, ...), where each (n, c) plane is worked on by itself."""
    out[...] = function(*arrays)
    return out


def overwrite(y, places, x):
    """y[places] = x for vectors; of several values for one place the last stays, on a GPU too."""
    xp = array_module(y)
    last = xp.zeros(y.size, dtype=xp.uint64)  # a GPU has no atomic maximum of int64
    xp.maximum.at(last, places, xp.arange(1, places.size + 1, dtype=xp.uint64))
    if places.size:
        y[...] = xp.where(last > 0, x[xp.maximum(last, 1).astype(xp.int64) - 1], y)


# ---- max-pooling -----------------------------------------------------------------------------------


def max_indices(x, windows):
    """Sample after sample of all windows at once; shapes and rule: `numpy_pool.py`."""
    xp, size = array_module(x), x.shape[2:]
    planes, best, index = _flat(x, len(size)), None, None
    for tap in np.ndindex(*(axis.index.shape[1] for axis in windows)):
        samples = np.ix_(*(axis.index[:, t] for axis, t in zip(windows, tap)))
        here = xp.asarray(np.ravel_multi_index(samples, size))
        value = planes[:, :, here]
        if best is None:
            best, index = value, xp.broadcast_to(here, value.shape)
        better = (value > best) | (value != value)
        best, index = xp.where(better, value, best), xp.where(better, here, index)
    return index


def take_in_planes(x, index):
    return x.ravel().take(in_planes(array_module(x), index, x.shape[2:]))


def add_in_windows(x, index, *, windows, size):
    xp = array_module(x)
    y = xp.zeros((*x.shape[:2], *size), dtype=_wide(x.dtype, xp)).ravel()
    xp.add.at(y, in_planes(xp, index, size).ravel(), x.ravel().astype(y.dtype, copy=False))
    return y.reshape(*x.shape[:2], *size).astype(x.dtype, copy=False)


# ---- losses ----------------------------------------------------------------------------------------


def _softmax_and_labels(x, label, ignore_index):
    """log p, p, the indicators of the labels that count (N, C, *S), and which count (N, 1, *S)."""
    xp = array_module(x)
    z = x - x.max(1, keepdims=True)
    log_p = z - xp.log(xp.exp(z).sum(1, keepdims=True))
    label = xp.expand_dims(label, 1)
    counted = xp.ones(label.shape, dtype=bool) if ignore_index is None else label != ignore_index
    at = (label == xp.arange(x.shape[1]).reshape(1, -1, *(1,) * (x.ndim - 2))) & counted
    return log_p, xp.exp(log_p), at.astype(x.dtype), counted


def softmax_sums(x, label, *, ignore_index):
    """Overlap, predicted, true and surprise, (4, N, C); the formulas stand in `numpy_loss.py`."""
    xp = array_module(x)
    log_p, p, at, counted = _softmax_and_labels(x, label, ignore_index)
    terms = p * at, p * counted, at, xp.where(at > 0, -log_p, 0)
    sums = [term.sum(tuple(range(2, x.ndim)), dtype=np.float64) for term in terms]
    return xp.stack(sums).astype(x.dtype)


def softmax_sums_backward(g, x, label, *, ignore_index):
    _, p, at, counted = _softmax_and_labels(x, label, ignore_index)
    g_overlap, g_predicted, _, g_surprise = g.reshape(*g.shape, *(1,) * (x.ndim - 2))
    a, b = (g_predicted + g_overlap * at) * counted, -g_surprise * at
    return p * (a - (p * a + b).sum(1, keepdims=True)) + b


# ---- optimisers ------------------------------------------------------------------------------------


def sgd(updates):
    """Move w (and v) of each update ((w, g) or (w, g, v), options) in place; formula: `optim.SGD`."""
    for arrays, options in updates:
        _sgd(*arrays, **options)


def _sgd(w, g, v=None, *, lr, momentum, dampening, weight_decay, nesterov, maximize):
    if maximize:
        g = -g
    if weight_decay:
        g = g + weight_decay * w
    if v is not None:
        v *= momentum
        v += (1 - dampening) * g if dampening else g
        g = g + momentum * v if nesterov else v
    w -= lr * g


def adam(updates):
    """Move w, m, v (and v_max) of each update ((w, g, m, v) or (w, g, m, v, v_max), options) in place.

    The formula is `optim.Adam`'s, with the corrections of m and v taken out of the arrays, as at the end of
    Kingma and Ba's section 2.
    """
    for arrays, options in updates:
        _adam(*arrays, **options)


def _adam(w, g, m, v, v_max=None, *, lr, betas, eps, weight_decay, decoupled, maximize, step):
    xp, (beta1, beta2) = array_module(w), betas
    if maximize:
        g = -g
    if weight_decay and decoupled:
        w *= 1 - lr * weight_decay
    elif weight_decay:
        g = g + weight_decay * w
    m += (1 - beta1) * (g - m)
    v *= beta2
    v += (1 - beta2) * (g * g)
    if v_max is not None:
        v = xp.maximum(v_max, v, out=v_max)
    unbiased = math.sqrt(1 - beta2**step)
    root = xp.sqrt(v)
    root += eps * unbiased
    w -= (lr * unbiased / (1 - beta1**step)) * (m / root)


# ---- weighted sums over neighbourhoods ---------------------------------------------------------------


def local_sum(w, q):
    """The formula of the three stands in `numpy_local.py`."""
    rank, wide = q.ndim - 2, _wide(q.dtype, array_module(q))
    u = array_module(q).zeros(q.shape, dtype=wide)
    for tap, here, there in shifts(q.shape[2:], w.shape[1 : 1 + rank]):
        weights = w[(slice(None), *tap)][(slice(None), None, *here)].astype(wide)
        u[(..., *here)] += weights * q[(..., *there)]
    return u.astype(q.dtype, copy=False)


def local_spread(w, u):
    rank, wide = u.ndim - 2, _wide(u.dtype, array_module(u))
    q = array_module(u).zeros(u.shape, dtype=wide)
    for tap, here, there in shifts(u.shape[2:], w.shape[1 : 1 + rank]):
        weights = w[(slice(None), *tap)][(slice(None), None, *here)].astype(wide)
        q[(..., *there)] += weights * u[(..., *here)]
    return q.astype(u.dtype, copy=False)


def local_dot(q, u, *, window):
    xp, wide = array_module(q), _wide(q.dtype, array_module(q))
    w = xp.zeros((q.shape[0], *window, *q.shape[2:]), dtype=wide)
    for tap, here, there in shifts(q.shape[2:], window):
        products = q[(..., *there)].astype(wide) * u[(..., *here)]
        w[(slice(None), *tap, *here)] = products.sum(1)
    return w.astype(q.dtype, copy=False)
