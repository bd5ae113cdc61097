"""Less memory for more time: forget what a part of a network keeps, and compute it again in backward.

A network keeps the input of nearly every op until backward has used it. A checkpointed part keeps its own
inputs only (Chen et al. 2016, arXiv 1604.06174). Its ops are recorded as always and so the graph is complete,
but what each saved is dropped at once. The first of them that backward comes to calls the part
once more; then every op gets back what it had saved. Time grows by one forward pass, a third or less.

    forward     x ─ op ─ op ─ op ─ y     the graph, without arrays; x is kept
    backward    x ─ op ─ op ─ op         the same ops once more, whose arrays go to the graph above

So gradients reach whatever the part used, be it an argument, a parameter or a tensor of the surrounding code;
`grad` and `create_graph` work; and parts may hold checkpointed parts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from minidl import backend
from minidl.autograd import Node, Op, Tensor
from minidl.mixed_precision import under_present_rules
from minidl.recording import enable_grad, is_grad_enabled, is_saving_enabled, recorded_nodes


def checkpoint(
    function: Callable,
    *args: Any,
    use_reentrant: bool = False,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """function(*args, **kwargs), of which backward keeps only the arguments and computes the rest again.

    The function must do the same both times. Random numbers are drawn again as they were (dropout gives the
    same mask) unless preserve_rng_state=False. Running statistics are not moved a second time: in PyTorch,
    whose name and meaning this has, they are.

    Errors: ValueError for use_reentrant=True, PyTorch's older way, which `grad` cannot pass through;
    RuntimeError in backward where the function did something else the second time.
    """
    if use_reentrant:
        raise ValueError("checkpoint: use_reentrant=True is not there; use_reentrant=False does more")
    run = partial(under_present_rules(function), *args, **kwargs)
    if not is_grad_enabled() or not is_saving_enabled():  # nothing is kept that could be forgotten
        return run()
    call = Call(run, preserve_rng_state)
    with recorded_nodes(_Forgetting(call)) as nodes:
        result = run()
    call.count = len(nodes)
    return result


def checkpoint_sequential(
    functions: Iterable[Callable],
    segments: int,
    input: Any,
    use_reentrant: bool = False,
    preserve_rng_state: bool = True,
) -> Any:
    """The functions (an nn.Sequential or a list) one after another, cut into segments that are checkpointed.

    As in PyTorch the last segment is not: backward would compute it again at once. Of n equal functions about
    √n segments need least memory.

    Errors: ValueError where there are fewer functions than segments.
    """
    functions = list(functions)
    if not 1 <= segments <= len(functions):
        raise ValueError(
            f"checkpoint_sequential: {len(functions)} functions cannot be cut into {segments} segments"
        )
    size = len(functions) // segments
    for start in range(0, size * (segments - 1), size):
        part = functions[start : start + size]
        input = checkpoint(
            _run_all, part, input, use_reentrant=use_reentrant, preserve_rng_state=preserve_rng_state
        )
    return _run_all(functions[size * (segments - 1) :], input)


def _run_all(functions: Iterable[Callable], input: Any) -> Any:
    for function in functions:
        input = function(input)
    return input


# ---- computing again -----------------------------------------------------------------------------


class _State(threading.local):
    recomputing = False


_state = _State()


def is_recomputing() -> bool:
    """Whether this thread computes a part again: then what counts calls (running statistics) must not."""
    return _state.recomputing


class Call:
    """A call that backward repeats when the first of the ops recorded in it needs what it had saved."""

    def __init__(self, run: partial, preserve_rng_state: bool):
        self.run: partial | None = run  # holds the arguments; None once repeated
        self.rng_state = backend.generator().bit_generator.state if preserve_rng_state else None
        self.count: int | None = None  # of ops, known when the first time is over
        self.again: list[Any] = []  # the nodes of the second time, each until it is asked for

    def restore(self, node: Node, index: int) -> None:
        """Give the node, the index-th of this call, what it had saved when it was recorded."""
        if self.run is not None:
            self.again, self.run = self.repeat(self.run), None
        again, self.again[index] = self.again[index], None
        if (again.name, again.shape) != (node.name, node.shape):
            raise RuntimeError(
                f"checkpoint: op {index} was {node.name} of shape {node.shape} and, computed again, is "
                f"{again.name} of shape {again.shape}; the function must do the same both times"
            )
        node.op, node.static = again.op, again.static
        node.saved = {name: _as_first(name, value, node) for name, value in again.saved.items()}

    def repeat(self, run: partial) -> list[Node]:
        """The nodes of a second time, which keep everything."""
        random_numbers = nullcontext() if self.rng_state is None else _random_numbers_from(self.rng_state)
        before, _state.recomputing = _state.recomputing, True
        try:
            with enable_grad(), random_numbers, recorded_nodes() as nodes:
                run()
                again = nodes.copy()
                nodes.clear()  # they are not for a list of recorded nodes around this
        finally:
            _state.recomputing = before
        if self.count not in (None, len(again)):
            raise RuntimeError(
                f"checkpoint: the function recorded {self.count} ops and, called again, {len(again)}; "
                "it must do the same both times"
            )
        return again


class _Forgetting(list):
    """A list of recorded nodes, which takes from each what it saved."""

    def __init__(self, call: Call):
        self.call = call

    def append(self, node: Node) -> None:
        if node.saved is not None:  # freed already by a backward inside the function
            node.op, node.saved, node.static = Forgotten(self.call, len(self), node.name), {}, {}
        super().append(node)

    def extend(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            self.append(node)


@contextmanager
def _random_numbers_from(state: Mapping[str, Any]) -> Iterator[None]:
    """Draw from that state of the generator inside, and go on afterwards as if nothing had been drawn."""
    bits = backend.generator().bit_generator
    now, bits.state = bits.state, state
    try:
        yield
    finally:
        bits.state = now


class Forgotten(Op):
    """Stands in a node for the op whose saved arrays were dropped, and puts it back when it is needed."""

    def __init__(self, call: Call, index: int, name: str):
        self.call, self.index, self.name, self.law = call, index, name, "computed again"

    def pull_back(self, g: Tensor, node: Node, wanted: list[int]) -> Iterator[tuple[int, Tensor]]:
        self.call.restore(node, self.index)
        return node.op.pull_back(g, node, wanted)


def _as_first(name: str, value: Any, node: Node) -> Any:
    """A value saved the second time, as if made by the ops of the first: higher derivatives go that way."""
    if name == "y" or name.endswith("_like"):
        return value
    if node.op.variadic:
        return tuple(map(_made_by, node.parents, value))
    return _made_by(node.parents[node.op.inputs.index(name)], value)


def _made_by(parent: Node | Tensor | None, value: Any) -> Any:
    if isinstance(parent, Tensor):
        return parent
    return Tensor(value.array, node=parent) if isinstance(value, Tensor) else value
