"""PyTorch as the oracle: one function run in both libraries on the same arrays, with its gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minidl
from minidl import Tensor

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # tiny tensors: waking threads takes longer than computing


def _flat(outputs: Any, kind: type) -> list:
    return [outputs] if isinstance(outputs, kind) else list(outputs)


def assert_matches_torch(
    ours: Callable,
    theirs: Callable,
    *arrays: np.ndarray,
    order: int = 2,
    value_tol: float = 1e-10,
    grad_tol: float = 1e-8,
    seed: int = 0,
) -> None:
    """Values, first and (order=2) second gradients of `ours(*tensors)` equal those of `theirs` in PyTorch.

    Floating-point arrays require a gradient. The first gradient is that of <y, v> for a random v; the
    second that of <gradient, u> for random u, with respect to the inputs and to v.
    """
    rng = np.random.default_rng(seed)
    xs = [minidl.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    ts = [torch.tensor(np.array(a, order="C"), requires_grad=a.dtype.kind == "f") for a in arrays]
    ys, zs = _flat(ours(*xs), Tensor), _flat(theirs(*ts), torch.Tensor)
    assert len(ys) == len(zs)
    for y, z in zip(ys, zs):
        assert y.shape == tuple(z.shape), f"shape {y.shape}, PyTorch {tuple(z.shape)}"
        assert str(y.dtype) == str(z.dtype).removeprefix("torch."), f"dtype {y.dtype}, PyTorch {z.dtype}"
        _assert_close("value", y, z, value_tol)
    used = [(y, z) for y, z in zip(ys, zs) if z.requires_grad]
    if order == 0 or not used:
        return
    ys, zs = [y for y, _ in used], [z for _, z in used]
    cotangents = [rng.standard_normal(y.shape).astype(y.dtype) for y in ys]
    vs = [minidl.tensor(c, requires_grad=True) for c in cotangents]
    ws = [torch.tensor(c, requires_grad=True) for c in cotangents]
    xs, ts = [x for x in xs if x.requires_grad], [t for t in ts if t.requires_grad]
    g = minidl.autograd.grad(ys, xs, vs, create_graph=True, allow_unused=True)
    h = torch.autograd.grad(zs, ts, ws, create_graph=True, allow_unused=True)
    for k, (a, b) in enumerate(zip(g, h)):
        _assert_close(f"gradient of input {k}", a, b, grad_tol)
    pairs = [
        (a, b)
        for a, b in zip(g, h)
        if a is not None and a.requires_grad and b is not None and b.requires_grad
    ]
    if order == 1 or not pairs:
        return
    us = [rng.standard_normal(a.shape).astype(a.dtype) for a, _ in pairs]
    second = minidl.autograd.grad(
        [a for a, _ in pairs], [*xs, *vs], [minidl.tensor(u) for u in us], allow_unused=True
    )
    expected = torch.autograd.grad(
        [b for _, b in pairs], [*ts, *ws], [torch.tensor(u) for u in us], allow_unused=True
    )
    for k, (a, b) in enumerate(zip(second, expected)):
        _assert_close(f"second gradient {k}", a, b, grad_tol)


def _assert_close(what: str, ours: Tensor | None, theirs: Any, tol: float) -> None:
    """None and zeros are the same gradient."""
    if ours is None and theirs is None:
        return
    shape = theirs.shape if theirs is not None else ours.shape
    a = np.zeros(shape) if ours is None else ours.detach().numpy()
    b = np.zeros(shape) if theirs is None else theirs.detach().numpy(force=True)
    np.testing.assert_allclose(a, b, rtol=tol, atol=tol, err_msg=what)
