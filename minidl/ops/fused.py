"""Fused ops: compositions that are worth a kernel of their own, for speed alone.

A fused op computes what its composition computes. Its first derivative comes from a kernel too, all inputs
at once; where the derivative itself is to be differentiated (create_graph=True) the engine goes through the
composition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minidl import kernels
from minidl.autograd import Node, Op, Tensor, grad
from minidl.backend import array_module
from minidl.ops import linear
from minidl.ops import pointwise as pw
from minidl.ops.reductions import log_softmax, mean, softmax
from minidl.ops.shaping import stack
from minidl.recording import is_grad_enabled


class Fused(Op):
    """An op with one backward kernel for all inputs: `backward(xp, g, *arrays, **static)` -> their
    cotangents.
    """

    def __init__(self, forward: Callable, backward: Callable, composition: Callable, reach: Callable | None):
        super().__init__(forward, [None], "fused", reach)
        self.backward, self.composition = backward, composition

    def _keep(self, inputs: Sequence, parents: Sequence, y: Any) -> dict[str, Any]:
        return dict(zip(self.inputs, inputs))

    def pull_back(self, g: Tensor, node: Node, wanted: list[int]) -> Iterator[tuple[int, Tensor]]:
        inputs = [node.saved[name] for name in self.inputs]
        if is_grad_enabled():
            # The derivative is taken at aliases: the way from the inputs to each other is not part of this
            # op.
            aliases = [linear.cast(x, dtype=x.dtype) if x.requires_grad else x for x in inputs]
            y = self.composition(*aliases, **node.static)
            yield from zip(wanted, grad(y, [aliases[k] for k in wanted], g, create_graph=True))
            return
        xp = array_module(g.array)
        cotangents = self.backward(xp, g.array, *(x.array for x in inputs), **node.static)
        yield from ((k, Tensor(cotangents[k])) for k in wanted)


def fused(
    backward: Callable, composition: Callable, reach: Callable | None = None
) -> Callable[[Callable], Fused]:
    """Declare a fused op by its backward kernel, the composition that it stands for, and what it sees."""
    return lambda forward: Fused(forward, backward, composition, reach)


# ---- normalisation ---------------------------------------------------------------------------------


def _normalised_axes(ndim: int, per_sample: bool) -> tuple[int, ...]:
    return tuple(range(2, ndim)) if per_sample else (0, *range(2, ndim))


def norm_leaky_relu_composition(
    x: Tensor, w: Tensor, b: Tensor, *, per_sample: bool, eps: float, slope: float
) -> Tensor:
    """φ(w·(x - mean) / sqrt(var + eps) + b), op by op; of float16 in float32."""
    dtype, x = x.dtype, linear.cast(x, dtype=np.dtype(np.float32)) if x.dtype == np.float16 else x
    axes = _normalised_axes(x.ndim, per_sample)
    per_channel = (1, -1, *(1,) * (x.ndim - 2))
    centred = x - mean(x, axes, keepdim=True)
    var = mean(centred * centred, axes, keepdim=True)
    z = centred * pw.rsqrt(var + eps) * w.reshape(per_channel) + b.reshape(per_channel)
    y = z if slope == 1 else pw.leaky_relu(z, slope=slope)
    return y if y.dtype == dtype else linear.cast(y, dtype=dtype)


@fused(
    lambda xp, g, x, w, b, **options: kernels.of(xp).norm_leaky_relu_backward(g, x, w, b, **options),
    norm_leaky_relu_composition,
    reach=lambda x, w, b, *, per_sample, **_: x | x.over(_normalised_axes(x.ndim, per_sample)),
)
def norm_leaky_relu(xp, x, w, b, **options):
    """Normalise x (N, C, *S) per sample and channel (or per channel), scale by w, shift by b (C,), leaky
    ReLU. A float16 x may come with float32 w and b.
    """
    return kernels.of(xp).norm_leaky_relu(x, w, b, **options)


# ---- losses ----------------------------------------------------------------------------------------


def softmax_sums_composition(x: Tensor, label: Tensor, *, ignore_index: int | None) -> Tensor:
    """The four sums, op by op."""
    xp, l = array_module(x.array), label.unsqueeze(1).array
    counted = xp.ones_like(l, dtype=bool) if ignore_index is None else l != ignore_index
    at = (l == xp.arange(x.shape[1]).reshape(1, -1, *(1,) * (x.ndim - 2))) & counted
    p, true = softmax(x, 1), Tensor(at.astype(x.dtype))
    surprise = pw.where(Tensor(at), -log_softmax(x, 1), 0.0)
    terms = p * true, p * Tensor(counted.astype(x.dtype)), true, surprise
    return stack([term.sum(tuple(range(2, x.ndim))) for term in terms])


@fused(
    lambda xp, g, x, label, **options: (kernels.of(xp).softmax_sums_backward(g, x, label, **options), None),
    softmax_sums_composition,
)
def softmax_sums(xp, x, label, **options):
    """Per sample and class, (4, N, C): overlap Σ_{l=c} p_c, predicted Σ p_c, true Σ_{l=c} 1 and surprise
    Σ_{l=c} -log p_c of p = softmax(x) and labels l (N, *S) in 0 .. C - 1, over the voxels whose label is not
    ignore_index. x (N, C, *S), float32 or float64.
    """
    return kernels.of(xp).softmax_sums(x, label, **options)
