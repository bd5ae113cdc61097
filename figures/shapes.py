"""The shapes of what flows through a model, from one run of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from minidl import Tensor, no_grad, zeros
from minidl.nn import Module


class Call(NamedTuple):
    """One call of a submodule: its dotted name and the shapes (N, C, *S) of what went in and came out."""

    name: str
    input: tuple[int, ...]
    output: tuple[int, ...]


def trace(model: Module, *shape: int) -> list[Call]:
    """Run the model on zeros of that shape and list the calls of its submodules in the order they end."""
    calls: list[Call] = []

    def watch(name: str, module: Module) -> None:
        forward = module.forward

        def watched(*inputs: Any, **options: Any) -> Any:
            outputs = forward(*inputs, **options)
            first = outputs if isinstance(outputs, Tensor) else outputs[0]
            calls.append(Call(name, inputs[0].shape, first.shape))
            return outputs

        module.forward = watched

    named = [(name, module) for name, module in model.named_modules() if name]
    for name, module in named:
        watch(name, module)
    try:
        with no_grad():
            model(zeros(*shape))
    finally:
        for _, module in named:
            del module.__dict__["forward"]
    return calls
