"""Activations: pointwise ops and their compositions, by PyTorch's names."""

from __future__ import annotations

from minidl import backend
from minidl.autograd import Tensor
from minidl.ops import pointwise as pw
from minidl.ops import reductions

relu = pw.relu
sigmoid = pw.sigmoid
tanh = pw.tanh
softmax = reductions.softmax
log_softmax = reductions.log_softmax


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, negative_slope · x elsewhere."""
    return pw.leaky_relu(input, slope=negative_slope)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + e^(beta·x)) / beta; the identity where beta·x exceeds the threshold."""
    scaled = input * beta
    safe = pw.where(scaled > threshold, 0.0, scaled)
    return pw.where(scaled > threshold, input, pw.log1p(pw.exp(safe)) * (1 / beta))


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)) = min(x, 0) - log(1 + e^-|x|), exact also far from 0."""
    return pw.where(input < 0, input, 0.0) - pw.log1p(pw.exp(-pw.abs(input)))


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Each element 0 with probability p, else divided by 1 - p; the identity when not training."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must be in [0, 1], got {p}")
    if not training or p == 0:
        return input
    return input * _mask(input, input.shape, p)


def dropout_channels(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Dropout of whole channels: input (N, C, *S), one coin for each (n, c)."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout_channels: p must be in [0, 1], got {p}")
    if not training or p == 0:
        return input
    return input * _mask(input, (*input.shape[:2], *(1,) * (input.ndim - 2)), p)


def _mask(like: Tensor, shape: tuple[int, ...], p: float) -> Tensor:
    kept = backend.generator().random(shape) >= p
    mask = (kept / (1 - p if p < 1 else 1)).astype(like.dtype)
    return Tensor(backend.to_device(mask, like.device))
