"""Fused ops: compositions that are worth a kernel of their own, for speed alone.

A fused op computes what its composition computes. Its first derivative comes from a kernel too, all inputs
at once; where the derivative itself is to be differentiated (create_graph=True) the engine goes through the
composition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from minidl import kernels
from minidl.autograd import Node, Op, Tensor, grad, is_grad_enabled
from minidl.backend import array_module
from minidl.ops import linear
from minidl.ops import pointwise as pw
from minidl.ops.reductions import mean


class Fused(Op):
    """An op with one backward kernel for all inputs: `backward(xp, g, *arrays, **static)` -> their
    cotangents.
    """

    def __init__(self, forward: Callable, backward: Callable, composition: Callable):
        super().__init__(forward, [None], "fused")
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


def fused(backward: Callable, composition: Callable) -> Callable[[Callable], Fused]:
    """Declare a fused op by its backward kernel and by the composition that it stands for."""
    return lambda forward: Fused(forward, backward, composition)


# ---- normalisation ---------------------------------------------------------------------------------


def norm_leaky_relu_composition(
    x: Tensor, w: Tensor, b: Tensor, *, per_sample: bool, eps: float, slope: float
) -> Tensor:
    """φ(w·(x - mean) / sqrt(var + eps) + b), op by op."""
    axes = tuple(range(2, x.ndim)) if per_sample else (0, *range(2, x.ndim))
    per_channel = (1, -1, *(1,) * (x.ndim - 2))
    centred = x - mean(x, axes, keepdim=True)
    var = mean(centred * centred, axes, keepdim=True)
    z = centred * pw.rsqrt(var + eps) * w.reshape(per_channel) + b.reshape(per_channel)
    return z if slope == 1 else pw.leaky_relu(z, slope=slope)


@fused(
    lambda xp, g, x, w, b, **options: kernels.of(xp).norm_leaky_relu_backward(g, x, w, b, **options),
    norm_leaky_relu_composition,
)
def norm_leaky_relu(xp, x, w, b, **options):
    """Normalise x (N, C, *S) per sample and channel (or per channel), scale by w, shift by b (C,), leaky
    ReLU.
    """
    return kernels.of(xp).norm_leaky_relu(x, w, b, **options)
