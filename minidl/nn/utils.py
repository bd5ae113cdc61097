"""Helpers for training, by PyTorch's names."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from minidl.autograd import Tensor, no_grad


@no_grad()
def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients together to a norm sqrt(Σ g²) of at most max_norm; returns the norm before."""
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    with_grad = [p for p in parameters if p.grad is not None]
    if not with_grad:
        return Tensor(np.zeros((), np.float32))
    squares = [(p.grad * p.grad).sum() for p in with_grad]
    norm = sum(squares[1:], squares[0]).sqrt()
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for p in with_grad:
        p.grad = p.grad * scale
    return norm
