"""A model run once: the ops that lie between its input and its output, and the modules they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidl import backend
from minidl.autograd import Node, Tensor
from minidl.nn import Module
from minidl.recording import enable_grad

Model = Module | Callable[[Tensor], Any]
Output = int | str | Callable[[Any], Tensor] | None


@dataclass
class Trace:
    """The input and output of a run, and the nodes of the ops between them, in the order of the run.

    `labels`: the innermost module whose result a node is, "encoder.0.conv". `inner`: for the nodes that such
    a module made on its way there, the same.
    """

    input: Tensor
    output: Tensor
    nodes: list[Node]
    labels: dict[Node, str] = field(default_factory=dict)
    inner: dict[Node, str] = field(default_factory=dict)

    def name_of(self, node: Node) -> str:
        """The module that computed a node, or its op where that was in no module without submodules."""
        return self.labels.get(node) or self.inner.get(node) or node.name


def as_input(model: Model, input: Sequence[int] | Tensor, name: str) -> Tensor:
    """The input as a tensor that wants a gradient: one that was given, or random numbers of that shape.

    Random numbers are the same every time, of the dtype and on the device of the model's parameters.
    """
    if isinstance(input, Tensor):
        array = input.array
    else:
        shape = tuple(int(n) for n in input)
        if len(shape) < 3 or min(shape) < 1:
            raise ValueError(
                f"{name}: expected an input of shape (N, C, *S) with 1 or more axes *S, got {shape}"
            )
        array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    parameters = [p for p in model.parameters() if p.dtype.kind == "f"] if isinstance(model, Module) else []
    x = Tensor(array).to(parameters[0]) if parameters else Tensor(array)
    return Tensor(x.array, requires_grad=True)


def run(model: Model, input: Tensor, output: Output, name: str) -> Trace:
    """Run the model on the input and find the ops that made one output of it.

    `output` picks it where a model returns several: a key or an index, or a function of what was returned.
    Running statistics and the engine's random numbers are afterwards what they were.
    """
    labels: dict[Node, str] = {}
    inner: dict[Node, str] = {}
    with enable_grad(), _untouched(model), _labelled(model, labels, inner):
        result = model(input)
    found = result if output is None else output(result) if callable(output) else result[output]
    if output is None and isinstance(result, (tuple, list)) and len(result) == 1:
        found = result[0]
    if not isinstance(found, Tensor):
        raise TypeError(
            f"{name}: expected a Tensor, the model returned a {type(found).__name__}; output= chooses: a key "
            "or an index of what was returned, or a function of it"
        )
    if found.node is None:
        raise ValueError(
            f"{name}: no gradient flows from the output to the input: the model detaches its input, or its "
            "output does not depend on it"
        )
    nodes, stack = {found.node}, [found.node]
    while stack:
        for parent in stack.pop().parents:
            if isinstance(parent, Node) and parent not in nodes:
                nodes.add(parent)
                stack.append(parent)
    return Trace(input, found, sorted(nodes, key=lambda node: node.number), labels, inner)


@contextmanager
def _untouched(model: Model) -> Iterator[None]:
    """Undo what a forward pass changes beside its result: running statistics and random numbers."""
    buffers = [tensor for _, tensor in model.named_buffers()] if isinstance(model, Module) else []
    before = [tensor.array.copy() for tensor in buffers]
    bits = backend.generator().bit_generator
    state = bits.state
    try:
        yield
    finally:
        bits.state = state
        for tensor, array in zip(buffers, before):
            tensor.array[...] = array


@contextmanager
def _labelled(model: Model, labels: dict[Node, str], inner: dict[Node, str]) -> Iterator[None]:
    """Note at each node which module without submodules made it."""
    modules = model.named_modules() if isinstance(model, Module) else ()
    leaves = {module: name for name, module in modules if not any(module.children())}  # shared ones once
    changed: list[Module] = []

    def listen(name: str, module: Module) -> None:
        forward = module.forward

        def forward_and_note(*inputs: Any, **options: Any) -> Any:
            start = next(Node.count)
            result = forward(*inputs, **options)
            first = result[0] if isinstance(result, (tuple, list)) else result
            if isinstance(first, Tensor) and first.node and first.node.number > start:
                labels[first.node] = name
                inner.update(dict.fromkeys(_made_since(start, first.node), name))
            return result

        module.__dict__["forward"] = forward_and_note
        changed.append(module)

    try:
        for module, name in leaves.items():
            listen(name or type(module).__name__, module)
        yield
    finally:
        for module in changed:
            del module.__dict__["forward"]


def _made_since(start: int, node: Node) -> set[Node]:
    """The nodes from which this one was made, as far as they are younger than a number."""
    found: set[Node] = set()
    stack = [node]
    while stack:
        for parent in stack.pop().parents:
            if isinstance(parent, Node) and parent.number > start and parent not in found:
                found.add(parent)
                stack.append(parent)
    return found
