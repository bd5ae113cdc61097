"""Softmax and its sums over voxels in one visit to memory, on the CPU: cross-entropy and Dice in one.

For logits x (N, C, *S), labels l (N, *S) and p = softmax of x over the classes, with sums over the voxels of
a sample that count (all but those of the label `ignore_index`),

    overlap[n, c] = Σ_{l = c} p_c        predicted[n, c] = Σ p_c
    true[n, c]    = Σ_{l = c} 1          surprise[n, c]  = Σ_{l = c} -log p_c

hold all that the two losses need. The voxels are cut into blocks that stay in a core's cache, and the blocks
are spread over the threads; the sums of the blocks are added in their order, so the result is the same for
every number of threads. Backward takes x again: to compute p costs less than to keep it.
"""

from __future__ import annotations

import math

import numpy as np

from minidl.kernels.threads import parallel

BLOCK = 1 << 19  # bytes of x that one task takes: with its scratch arrays it stays in a core's cache


def _flat(x, label):
    """x (N, C, V) and the labels (N, V)."""
    voxels = math.prod(x.shape[2:])
    return x.reshape(*x.shape[:2], voxels), label.reshape(len(label), voxels)


def _tasks(x):
    """Pairs (sample, slice of its voxels)."""
    step = max(1, BLOCK // (x.shape[1] * x.itemsize))
    return [(n, slice(v, v + step)) for n in range(len(x)) for v in range(0, x.shape[2], step)]


def _exponentials(x):
    """z = x - max x, exp z and Σ exp z, over the classes of x (C, V)."""
    z = x - x.max(0)
    e = np.exp(z)
    return z, e, e.sum(0)


def _indicators(label, classes, dtype, ignore_index):
    """(C, V): 1 in the channel of each label that counts."""
    at = (label == np.arange(classes)[:, None]).astype(dtype)
    if ignore_index is not None and 0 <= ignore_index < classes:
        at[ignore_index] = 0
    return at


def softmax_sums(x, label, *, ignore_index):
    """overlap, predicted, true and surprise of x and the labels, stacked: (4, N, C)."""
    flat, labels = _flat(x, label)

    def run(task):
        n, voxels = task
        l = labels[task]
        z, e, total = _exponentials(flat[n, :, voxels])
        at = _indicators(l, len(z), z.dtype, ignore_index)
        true = at.sum(1)
        with np.errstate(invalid="ignore"):
            picked = np.vecdot(at, z)
        if np.isnan(picked).any():  # 0 · -inf
            picked = np.where(at > 0, z, 0).sum(1)
        surprise = at @ np.log(total) - picked
        scale = 1 / total
        at *= e
        overlap = at @ scale
        if ignore_index is not None:
            scale *= l != ignore_index
        return overlap, e @ scale, true, surprise

    tasks = _tasks(flat)
    sums = np.zeros((4, *x.shape[:2]))
    for (n, _), part in zip(tasks, parallel(run, tasks)):
        sums[:, n] += part
    return sums.astype(x.dtype)


def softmax_sums_backward(g, x, label, *, ignore_index):
    """The cotangent of x for a cotangent g (4, N, C) of the sums.

    With a = g_predicted + g_overlap·[l = c], the cotangent of p, and b = -g_surprise·[l = c], that of log p,
    x̄ = p·(a - Σ p·a - Σ b) + b, and 0 where the voxel does not count.
    """
    flat, labels = _flat(x, label)
    gx = np.empty(flat.shape, x.dtype)
    g_overlap, g_predicted, _, g_surprise = g[..., None]

    def run(task):
        n, voxels = task
        l = labels[task]
        _, p, total = _exponentials(flat[n, :, voxels])
        p *= 1 / total
        at = _indicators(l, len(p), p.dtype, ignore_index)
        a = at * g_overlap[n]
        a += g_predicted[n]
        at *= -g_surprise[n]  # b
        a -= np.einsum("cv,cv->v", p, a) + at.sum(0)
        a *= p
        a += at
        if ignore_index is not None:
            a *= l != ignore_index
        gx[n, :, voxels] = a

    parallel(run, _tasks(flat))
    return gx.reshape(x.shape)
