"""Helpers for training, by PyTorch's names."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from minidl.autograd import Tensor
from minidl.recording import no_grad


@no_grad()
def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients together to a norm sqrt(Σ g²) of at most max_norm; returns the norm before."""
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    grads = [(p, p.grad) for p in parameters if p.grad is not None]
    if not grads:
        return Tensor(np.zeros((), np.float32))
    squares = [(g * g).sum() for _, g in grads]
    norm = sum(squares[1:], squares[0]).sqrt()
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for p, g in grads:
        p.grad = g * scale
    return norm
