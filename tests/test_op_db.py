"""PyTorch's own test samples, for every function that both libraries have under one name.

PyTorch's `op_db` lists, per function, samples of arguments and arguments that must be refused. Each sample is
run in both libraries, and the values, the gradients and the gradients of the gradients are compared.
"""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Callable
from operator import getitem
from typing import Any

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import Tensor

torch = pytest.importorskip("torch")
invocations = pytest.importorskip("torch.testing._internal.common_methods_invocations")
pytestmark = pytest.mark.slow

SAMPLES = 60  # per function and dtype
AT_LEAST = {"value": 0.99, "gradient": 0.98, "second gradient": 0.95, "error": 0.95}
ERRORS = (ValueError, TypeError, IndexError, RuntimeError, ArithmeticError)

RANDOM = {"rand_like", "randint", "randn", "randn_like", *(f"nn.functional.dropout{n}" for n in ("", "2d", "3d"))}
ADAPTED: dict[str, Callable] = {  # where op_db passes the arguments in another order
    "__getitem__": getitem,
    "einsum": lambda tensors, equation: minidl.einsum(equation, *tensors),
    "where": lambda input, condition, other: minidl.where(condition, input, other),
}
DEPARTURES: dict[str, str] = {}


def ours(name: str) -> Callable | None:
    """minidl's function or method of that name."""
    if name in ADAPTED:
        return ADAPTED[name]
    room: Any = minidl
    for part in name.split("."):
        room = getattr(room, part, None)
    method = getattr(Tensor, name, None)
    if isinstance(method, property):
        return method.fget
    return room if callable(room) else method


def leaves(tree: Any) -> list:
    """The tensors in nested arguments."""
    if isinstance(tree, (Tensor, torch.Tensor)):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return [leaf for part in parts for leaf in leaves(part)]


def copied(tree: Any, convert: Callable) -> Any:
    """Nested arguments with every part converted."""
    if isinstance(tree, dict):
        return {key: copied(part, convert) for key, part in tree.items()}
    if isinstance(tree, (list, tuple)):
        return (list if isinstance(tree, list) else tuple)(copied(part, convert) for part in tree)
    return convert(tree)


def for_torch(x: Any) -> Any:
    return x.detach().clone().requires_grad_(x.requires_grad) if isinstance(x, torch.Tensor) else x


def for_minidl(x: Any) -> Any:
    if isinstance(x, torch.Tensor):
        return minidl.tensor(x.detach().numpy(force=True), requires_grad=x.requires_grad)
    if isinstance(x, torch.dtype):
        return np.dtype(str(x).removeprefix("torch."))
    return str(x) if isinstance(x, torch.device) else x


def described(sample: Any) -> str:
    """The arguments in a line, tensors as their shapes."""
    say = lambda x: f"{tuple(x.shape)} {x.dtype}".replace("torch.", "") if isinstance(x, torch.Tensor) else x
    return str(copied((sample.input, *sample.args, sample.kwargs), say))


def assert_same(ys: list, zs: list, tol: float) -> None:
    """None and zeros are the same gradient."""
    assert len(ys) == len(zs), f"{len(ys)} outputs, PyTorch {len(zs)}"
    for y, z in zip(ys, zs):
        if y is None and z is None:
            continue
        a = np.zeros(z.shape) if y is None else y.detach().numpy()
        b = np.zeros(y.shape) if z is None else z.detach().numpy(force=True)
        assert a.shape == b.shape, f"shape {a.shape}, PyTorch {b.shape}"
        assert y is None or z is None or a.dtype == b.dtype, f"dtype {a.dtype}, PyTorch {b.dtype}"
        np.testing.assert_allclose(a, b, rtol=tol, atol=tol)


def compare(op: Any, function: Callable, sample: Any, order: int, tol: float) -> Iterator[tuple[str, str]]:
    """What was compared, and how it failed ("" where it did not)."""
    arguments = (sample.input, *sample.args), sample.kwargs
    (ts, named_ts), (xs, named_xs) = (copied(arguments, convert) for convert in (for_torch, for_minidl))
    zs, ts = leaves(op(*ts, **named_ts)), leaves((ts, named_ts))
    try:
        ys, xs = leaves(function(*xs, **named_xs)), leaves((xs, named_xs))
        assert_same(ys, zs, tol)
    except Exception as error:
        yield "value", failure(error)
        return
    yield "value", ""
