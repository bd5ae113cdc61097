"""The field as derivatives find it: which samples can have an influence, which have one, and how much.

`reachability` sends booleans backwards through the recorded graph with the ops' own adjoints, in which all
weights and values are 1: it shares no rule with `analyze`, which it checks. `gradient` is one backward pass
at the model's true weights. `effective` averages many of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl import backend
from minidl.autograd import Node, Tensor, grad
from minidl.ops import linear
from minidl.ops.bands import Bands
from minidl.receptive_field.trace import Model, Output, Trace, as_input, run
from minidl.recording import no_grad

# ---- what can have an influence ------------------------------------------------------------------


def reachability(
    model: Model,
    input_shape: Sequence[int] | Tensor,
    position: int | Sequence[int] | None = None,
    output: Output = None,
) -> np.ndarray | tuple[np.ndarray, ...]:
    """The samples of the input that can influence the output, exactly: an oracle for `analyze`.

    With `position`, an index into the output's last axes: a boolean array (*S). Without: for each axis *S of
    the input a boolean matrix (positions along that axis of the output, samples), where [o, i] says whether
    some position with entry o sees some sample with entry i. Each position costs a walk through the graph.
    """
    x = as_input(model, input_shape, "reachability")
    trace = run(model, x, output, "reachability")
    if position is not None:
        return np.any(_reached(trace, _marked(trace.output, position, "reachability")), axis=(0, 1))
    rank, found = x.ndim - 2, []
    for axis in range(rank):
        others = tuple(i for i in range(x.ndim) if i != axis + 2)
        dim = trace.output.ndim - rank + axis
        rows = []
        for o in range(trace.output.shape[dim]):
            mark = np.zeros(trace.output.shape, dtype=np.float32)
            mark[(slice(None),) * dim + (o,)] = 1
            rows.append(_reached(trace, mark).any(axis=others))
        found.append(np.array(rows))
    return tuple(found)


def _marked(output: Tensor, position: int | Sequence[int], name: str) -> np.ndarray:
    """1 at a position of the output's last axes, in all samples and channels; 0 elsewhere."""
    at: Any = (..., *((position,) if isinstance(position, (int, np.integer)) else position))
    mark = np.zeros(output.shape, dtype=np.float32)
    try:
        mark[at] = 1
    except IndexError:
        raise IndexError(f"{name}: position {at[1:]} is outside the output of shape {output.shape}") from None
    return mark


def _reached(trace: Trace, mark: np.ndarray) -> np.ndarray:
    """Which elements of the input the marked elements of the output depend on."""
    useful: set[Node | Tensor] = {trace.input}
    for node in trace.nodes:
        if useful.intersection(node.parents):
            useful.add(node)
    arrived: dict[Node | Tensor | None, np.ndarray] = {trace.output.node: mark}
    with no_grad():
        for node in reversed(trace.nodes):
            g = arrived.pop(node, None)
            for k, parent in enumerate(node.parents):
                if g is not None and g.any() and parent in useful:
                    arrived[parent] = np.maximum(arrived.get(parent, 0), _pull_back(node, k, g))
    return arrived.get(trace.input, np.zeros(trace.input.shape)) > 0


def _pull_back(node: Node, k: int, g: np.ndarray) -> np.ndarray:
    """1 where the k-th input of a node can influence an element for which g is 1; 0 elsewhere."""
    ones = {name: _ones(value) for name, value in node.saved.items()}
    stand_in = Node(node.op, node.parents, ones, node.static, node.shape)
    law, name, shape = node.op.law, node.op.name, node.parents[k].shape
    if name == "resample":
        stand_in.static = {**node.static, "bands": _boolean(node.static["bands"])}
    elif name in ("take_in_windows", "add_in_windows", "put_in_windows"):
        seen = Tensor(g)
        for dim, bands in enumerate(node.static["windows"], 2):
            seen = linear.resample(seen, bands=bands.T if name[:4] == "take" else bands, dim=dim)
        return _clipped(seen)
    elif name in ("take_along", "put_along", "overwrite_along"):
        return _everything_along(g, shape, (node.static["dim"],))
    elif name in ("maximum_over", "minimum_over"):
        return np.broadcast_to(g, shape)
    elif name == "norm_leaky_relu" and k == 0:
        return _everything_along(g, shape, tuple(range(2, g.ndim)) if node.static["per_sample"] else
                                 (0, *range(2, g.ndim)))  # fmt: skip
    elif law == "pointwise":
        return g
    vjp = node.op.vjp(k) if law in ("linear", "bilinear") else None
    return _clipped(vjp(Tensor(g), stand_in, k)) if vjp else np.full(shape, float(g.any()), dtype=g.dtype)


def _ones(value: object) -> object:
    """A saved tensor with 1 in every place."""
    return Tensor(np.ones(value.shape, dtype=np.float32)) if isinstance(value, Tensor) else value


def _boolean(bands: Bands) -> Bands:
    return Bands(bands.index, bands.support.astype(np.float32), bands.size)


def _clipped(g: Tensor) -> np.ndarray:
    return (backend.to_numpy(g.array) > 0).astype(np.float32)


def _everything_along(g: np.ndarray, shape: Sequence[int], axes: tuple[int, ...]) -> np.ndarray:
    """1 along whole axes wherever g is 1 somewhere along them."""
    return np.broadcast_to(g.max(axis=axes, keepdims=True), shape)


# ---- what has an influence -------------------------------------------------------------------------


def gradient(
    model: Model,
    input_shape: Sequence[int] | Tensor,
    position: int | Sequence[int] | None = None,
    output: Output = None,
) -> np.ndarray:
    """How strongly each sample of the input acts on the output at a position: |dy/dx|, an array (*S).

    y is the sum over the output's channels there, each with a random weight so that they do not cancel;
    |dy/dx| is summed over the input's channels. The position is an index into the output's last axes, by
    default the middle. It is 0 outside the receptive field, and may be inside it: where a ReLU is off, for
    instance.
    """
    x = as_input(model, input_shape, "gradient")
    trace = run(model, x, output, "gradient")
    y, rank = trace.output, x.ndim - 2
    position = tuple(n // 2 for n in y.shape[-rank:]) if position is None and y.ndim > rank else position
    mark = _marked(y, () if position is None else position, "gradient")
    weights = np.random.default_rng(1).uniform(0.5, 1.5, y.shape)
    cotangent = Tensor((mark * weights).astype(y.dtype)).to(y.device)
    g: Any = grad(y, x, cotangent)[0]
    return np.abs(backend.to_numpy(g.array).astype(np.float64)).sum(axis=(0, 1))
