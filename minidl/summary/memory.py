"""What the engine keeps in a training step: weighed op by op in forward, played through in backward.

Backward needs no arrays to be played: which node holds which buffer is known from forward, a cotangent is as
large as the tensor that it belongs to, and the order is the engine's own.
"""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from minidl.autograd import Node, Tensor
from minidl.backend import Array
from minidl.utils.checkpoint import Call, Forgotten

# Linear ops whose adjoint gives a view of the cotangent, or the cotangent itself.
ADJOINT_IS_A_VIEW = {"reshape", "permute", "cat", "pad", "sum", "cast"}


@dataclass
class Layer:
    """The ops of a module's own; those of the modules inside it are theirs."""

    name: str
    kind: str
    parameters: int = 0
    output: str = ""  # its shape
    multiply_adds: int = 0  # of convolutions and matrix products
    kept: int = 0  # bytes that these ops keep for backward and no earlier ones do


@dataclass(eq=False)
class Buffer:
    """Memory that one or more arrays share."""

    size: int  # in bytes


@dataclass
class Cost:
    """Of one op."""

    multiply_adds: int
    held: list[Buffer]  # by its node until backward has used them


class Ledger:
    """Writes down what each recorded op costs, and takes away from its node what it saved."""

    def __init__(self, owned: Iterable[Array]):
        self.costs: dict[Node, Cost] = {}
        self.arguments: dict[Call, list[Buffer]] = {}  # that a checkpointed call holds until it is repeated
        self.repeated: dict[Call, list[Cost]] = {}  # its ops, when backward repeats it
        self._layers: dict[Node, Layer] = {}
        self._owned = {id(_base(array)) for array in owned}  # there without a graph too: parameters, input
        self._buffers: dict[int, tuple[Any, Buffer]] = {}  # by the id of the array that owns the memory

    def write(self, node: Node, layer: Layer) -> None:
        """Record a node, unless it is recorded already, for a layer."""
        if node not in self.costs:
            self.costs[node] = Cost(0, []) if isinstance(node.op, Forgotten) else self._cost(node)
            self._layers[node] = layer
            node.saved, node.static = {}, {}

    def close(self) -> None:
        """Repeat the checkpointed calls, to see their ops as backward will; then tell the layers their costs.

        A buffer counts for the first op that holds it when forward ends.
        """
        seen: set[Buffer] = set()
        for node in self.costs:
            if isinstance(node.op, Forgotten):
                run = node.op.call.run
                if run is not None:
                    self.arguments[node.op.call] = self._buffers_of((run.args, run.keywords))
                self.costs[node] = self._cost(node)
        for node, cost in self.costs.items():
            layer, held = self._layers[node], set() if isinstance(node.op, Forgotten) else {*cost.held}
            layer.multiply_adds += cost.multiply_adds
            layer.kept += sum(buffer.size for buffer in held - seen)
            seen |= held

    def _cost(self, node: Node) -> Cost:
        if not isinstance(node.op, Forgotten):
            return Cost(multiply_adds(node), self._buffers_of((node.saved, node.static)))
        call = node.op.call
        if call not in self.repeated:
            again = call.again if call.run is None else call.repeat(call.run)
            self.repeated[call] = [self._cost(node) if node else Cost(0, []) for node in again]
        return self.repeated[call][node.op.index]

    def _buffers_of(self, value: Any) -> list[Buffer]:
        """The memory behind all arrays in a value, each once, but for parameters and input."""
        found: dict[Buffer, None] = {}
        for base in map(_base, _arrays(value)):
            if id(base) in self._owned:
                continue
            owner, buffer = self._buffers.get(id(base), (lambda: None, Buffer(0)))
            if owner() is not base:  # not seen yet: an id is given again once its array is gone
                buffer = Buffer(base.nbytes)
                self._buffers[id(base)] = weakref.ref(base), buffer
            found[buffer] = None
        return list(found)


def _base(array: Array) -> Array:
    """The array that owns the memory."""
    while isinstance(array.base, type(array)):
        array = array.base
    return array


def _arrays(value: Any) -> Iterator[Array]:
    """All arrays in what a node or a call holds."""
    if isinstance(value, Tensor):
        yield value.array
    elif isinstance(value, dict):
        yield from _arrays(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for inside in value:
            yield from _arrays(inside)
    elif hasattr(value, "nbytes") and hasattr(value, "base"):
        yield value


def multiply_adds(node: Node) -> int:
    """Multiply-adds of a convolution, of one of its adjoints or of a matrix product; other ops have none."""
    if node.op.name in ("conv", "conv_input"):  # each value of u meets each weight of its channel
        u = node.shape if node.op.name == "conv" else _input_shape(node, 0)
        return math.prod(u) * math.prod(_input_shape(node, 1)[1:])
    if node.op.name == "matmul":
        return math.prod(node.shape) * _input_shape(node, 0)[-1]
    return 0


def _input_shape(node: Node, k: int) -> tuple[int, ...]:
    parent, name = node.parents[k], node.op.inputs[k]
    if parent is not None:
        return parent.shape
    return node.saved[name if name in node.saved else f"{name}_like"].shape


# ---- backward ----------------------------------------------------------------------------------


class _Memory:
    """Buffers by how many hold them, and the most bytes they ever took together."""

    def __init__(self) -> None:
        self.holders: Counter[Buffer] = Counter()
        self.now = self.peak = 0

    def hold(self, buffers: Iterable[Buffer]) -> None:
        for buffer in buffers:
            self.now += buffer.size if not self.holders[buffer] else 0
            self.holders[buffer] += 1
        self.peak = max(self.peak, self.now)

    def drop(self, buffers: Iterable[Buffer]) -> None:
        for buffer in buffers:
            self.holders[buffer] -= 1
            self.now -= buffer.size if not self.holders[buffer] else 0


def play_backward(ledger: Ledger, loss: Tensor) -> tuple[int, int]:
    """Bytes held for backward when it begins, and the most while it runs, with the gradients it makes."""
    memory, waiting = _Memory(), dict(ledger.arguments)
    for node, cost in ledger.costs.items():
        if not isinstance(node.op, Forgotten):
            memory.hold(cost.held)
    for arguments in waiting.values():
        memory.hold(arguments)
    begin = memory.now

    arrived: dict[Any, Buffer] = {loss.node: Buffer(loss.array.nbytes)}
    memory.hold(arrived.values())
    for node in sorted(ledger.costs, key=lambda node: node.number, reverse=True):
        g = arrived.pop(node, None)
        if g is None:
            continue
        if isinstance(node.op, Forgotten) and node.op.call in waiting:  # now it is repeated
            for cost in ledger.repeated[node.op.call]:
                memory.hold(cost.held)
            memory.drop(waiting.pop(node.op.call))
        for parent in (p for p in node.parents if p is not None):
            size = math.prod(parent.shape) * loss.dtype.itemsize
            cotangent = g if node.op.name in ADJOINT_IS_A_VIEW else Buffer(size)
            memory.hold([cotangent])
            if parent in arrived:
                memory.hold([total := Buffer(size)])
                memory.drop([cotangent, arrived[parent]])
                cotangent = total
            arrived[parent] = cotangent
        memory.drop([*ledger.costs[node].held, g])
    return begin, memory.peak
