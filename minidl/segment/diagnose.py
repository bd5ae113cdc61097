"""Where numbers stopped being finite: the first layer, or the first gradient, that made infinity or NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import to_numpy
from minidl.nn import Module


def _finite(*tensors: Any) -> bool:
    return all(np.isfinite(to_numpy(t.array)).all() for t in tensors if isinstance(t, Tensor))


@contextmanager
def _watched(model: Module, seen: list[str]) -> Iterator[None]:
    """Note the name of each layer whose output is not finite though its input is, in the order of the forward
    pass.
    """

    def watch(name: str, module: Module) -> Callable:
        forward = module.forward

        def checked(*inputs: Any, **options: Any) -> Any:
            output = forward(*inputs, **options)
            if _finite(*inputs) and not _finite(output):
                seen.append(f"{name} ({type(module).__name__})")
            return output

        return checked

    layers = [(name, m) for name, m in model.named_modules() if not list(m.children())]
    try:
        for name, module in layers:
            module.__dict__["forward"] = watch(name, module)
        yield
    finally:
        for _, module in layers:
            del module.__dict__["forward"]


@np.errstate(all="ignore")
def first_not_finite(model: Module, loss_of: Callable[[], Tensor]) -> str:
    """Run a step's forward and backward pass again and say where the first infinity or NaN is."""
    for name, parameter in model.named_parameters():
        if not _finite(parameter):
            return f"the weights {name} are not finite"
    seen: list[str] = []
    with _watched(model, seen):
        loss = loss_of()
    if seen:
        return f"the output of layer {seen[0]} is the first that is not finite"
    if not _finite(loss):
        return "all layers are finite, the loss itself is not"
    model.zero_grad()
    loss.backward()
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not _finite(parameter.grad):
            return f"the gradient of {name} is the first that is not finite"
    return "every gradient is finite, but their norm is too large for a number"
