"""The costs of a network, by a run of it.

The network runs forward on zeros, and the ops that are recorded are watched. What they save for backward is
weighed and dropped at once, so that this takes the memory of a prediction, not that of a training step.
Backward does not run: it is played through on the recorded graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from minidl import backend
from minidl.autograd import Node, Tensor
from minidl.kernels.threads import get_num_threads
from minidl.nn import Module
from minidl.nn import functional as F
from minidl.recording import enable_grad, recorded_nodes
from minidl.summary.memory import Layer, Ledger, play_backward
from minidl.tensor import zeros

MOMENTS = 2  # arrays per parameter that Adam keeps: the means of the gradients and of their squares
GAPS = 0.1  # of the arrays: what lies between them, which the C library cannot hand out; measured on U-Nets
WORKSPACE = 6 << 20  # bytes that the kernels of each thread keep for intermediate results; measured likewise


@dataclass
class Summary:
    """What `summary` found; `print` shows it as a table. Memory is in bytes."""

    title: str
    layers: list[Layer]
    weights: int  # of the parameters
    learned: int  # of those that require a gradient
    others: int  # of the input and the model's buffers
    kept: int  # for backward, when it begins
    backward: int  # what its worst moment takes beyond that

    @property
    def parameters(self) -> int:
        """The number of learned values."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Of one forward pass; backward takes about twice as many."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def parts(self) -> dict[str, int]:
        """What the peak of a training step with Adam consists of."""
        parts = {
            "parameters": self.weights,
            "gradients": self.learned,
            "Adam's two moments": MOMENTS * self.learned,
            "input, running statistics": self.others,
            "kept for backward": self.kept,
            "worst moment of backward": self.backward,
            "workspace of the kernels": WORKSPACE * get_num_threads(),
        }
        return {**parts, f"gaps between arrays ({GAPS:.0%})": round(GAPS * sum(parts.values()))}

    @property
    def peak(self) -> int:
        """By how much a process grows at most in a training step with Adam: a prediction."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        from minidl.summary.table import table

        return table(self)


def summary(
    model: Module, input_shape: Sequence[int], loss: Callable[[Any], Tensor] | None = None
) -> Summary:
    """Measure a forward pass of `model` on zeros of shape (N, C, *S) in training mode.

    `loss` makes one number of the output. Left out, it is `dice_ce_loss` for logits (N, 2 or more, *S), else
    the sum of the outputs. The model and the random numbers are afterwards as they were. Ops without a
    gradient (of frozen layers before all others) are not seen.

    Errors: ValueError for a size below 1 or a model without a parameter to learn; the model's own where the
    shape does not fit.
    """
    shape = tuple(input_shape)
    if not shape or min(shape) < 1:
        raise ValueError(f"summary: the sizes of the input must be at least 1, got {shape}")
    weights, buffers = list(model.parameters()), [buffer for _, buffer in model.named_buffers()]
    if not any(weight.requires_grad for weight in weights):
        raise ValueError(f"summary: no parameter of {type(model).__name__} requires a gradient")
    input = zeros(*shape, dtype=weights[0].dtype, device=weights[0].device)
    ledger = Ledger(tensor.array for tensor in (*weights, *buffers, input))
    with enable_grad(), _left_as_it_was(model):
        with _watched(model, ledger) as layers:
            output = model(input)
        last = Layer("loss", "")
        with recorded_nodes(_Watch(ledger, last)):
            value = (loss or _loss)(output)
        if value.node is None:
            raise ValueError("summary: the loss does not depend on a parameter that requires a gradient")
        ledger.close()
    begin, peak = play_backward(ledger, value)
    layers.append(last)
    layers.append(Layer("checkpointed inputs", "", kept=begin - sum(layer.kept for layer in layers)))
    learned = _bytes(weight for weight in weights if weight.requires_grad)
    return Summary(
        f"{type(model).__name__}, input {'x'.join(map(str, shape))} {input.dtype}",
        [layer for layer in layers if layer.parameters or layer.multiply_adds or layer.kept],
        _bytes(weights),
        learned,
        _bytes((*buffers, input)),
        begin,
        max(0, peak - begin - learned),  # when backward begins the last step's gradients are gone
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.array.nbytes for tensor in tensors)


def _loss(output: Any) -> Tensor:
    if isinstance(output, Tensor) and output.ndim > 2 and output.shape[1] > 1:
        labels = zeros(output.shape[0], *output.shape[2:], dtype="int64", device=str(output.device))
        return F.dice_ce_loss(output, labels, batch=True)
    first, *others = _tensors(output)
    return sum((tensor.sum() for tensor in others), start=first.sum())


def _tensors(output: Any) -> Iterator[Tensor]:
    """The tensors in a module's output, which may be nested."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (dict, list, tuple)):
        for inside in output.values() if isinstance(output, dict) else output:
            yield from _tensors(inside)


# ---- watching ------------------------------------------------------------------------------------


class _Watch(list):
    """A list of recorded nodes, of which those that are new to the ledger belong to a layer."""

    def __init__(self, ledger: Ledger, layer: Layer):
        self.ledger, self.layer = ledger, layer

    def append(self, node: Node) -> None:
        super().append(node)
        self.ledger.write(node, self.layer)

    def extend(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            self.append(node)


@contextmanager
def _watched(model: Module, ledger: Ledger) -> Iterator[list[Layer]]:
    """Write down the ops of each module that is called inside the block; yields the layers."""
    layers: dict[Module, Layer] = {}
    counted: set[Tensor] = set()
    for name, module in model.named_modules():
        own = {weight for weight in module._parameters.values() if weight is not None} - counted
        counted |= own
        layer = Layer(name, type(module).__name__, sum(weight.numel() for weight in own))
        layers.setdefault(module, layer)  # a shared one goes by its first name
    call = Module.__call__

    def watched_call(self: Module, *args: Any, **kwargs: Any) -> Any:
        if self not in layers:
            return call(self, *args, **kwargs)
        with recorded_nodes(_Watch(ledger, layers[self])):
            output = call(self, *args, **kwargs)
        layers[self].output = ", ".join("x".join(map(str, t.shape)) for t in _tensors(output))
        return output

    Module.__call__ = watched_call  # type: ignore[method-assign]
    try:
        yield list(layers.values())
    finally:
        Module.__call__ = call  # type: ignore[method-assign]


@contextmanager
def _left_as_it_was(model: Module) -> Iterator[None]:
    """Training mode inside the block; then modes, running statistics and random numbers as before."""
    modes = [(module, module.training) for module in model.modules()]
    statistics = [(buffer, buffer.array.copy()) for _, buffer in model.named_buffers()]
    bits = backend.generator().bit_generator
    state = bits.state
    model.train()
    try:
        yield
    finally:
        bits.state = state
        for module, mode in modes:
            module.__dict__["training"] = mode
        for buffer, before in statistics:
            buffer.array[...] = before
