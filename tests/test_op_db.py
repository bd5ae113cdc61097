"""PyTorch's own test samples, for every function that both libraries have under one name.

PyTorch's `op_db` lists, per function, samples of arguments and arguments that must be refused. Each sample is
run in both libraries, and the values, the gradients and the gradients of the gradients are compared.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minidl
from minidl import Tensor

torch = pytest.importorskip("torch")
op_db = pytest.importorskip("torch.testing._internal.common_methods_invocations", exc_type=ImportError).op_db
pytestmark = pytest.mark.slow

SAMPLES = 60  # per function and dtype, evenly spread over those that there are
AT_LEAST = {"value": 0.99, "gradient": 0.98, "second gradient": 0.95, "error": 0.95}

RANDOM = {
    "randn", "rand_like", "randn_like", "randint", "nn.functional.dropout", "nn.functional.dropout2d",
    "nn.functional.dropout3d",
}  # fmt: skip
ADAPTED: dict[str, Callable] = {  # op_db passes these arguments in another order
    "einsum": lambda tensors, equation: minidl.einsum(equation, *tensors),
    "where": lambda input, condition, other: minidl.where(condition, input, other),
}
DEPARTURES: dict[str, str] = {}


def ours(name: str) -> Callable | None:
    """minidl's function or, where there is none, method of that name."""
    found: Any = minidl
    for part in name.split("."):
        found = getattr(found, part, None)
    method = getattr(Tensor, name, None)
    method = method.fget if isinstance(method, property) else method
    return ADAPTED.get(name) or (found if callable(found) else method)


# ---- arguments -----------------------------------------------------------------------------------


def leaves(tree: Any) -> list:
    """The tensors in nested arguments or results."""
    if isinstance(tree, (Tensor, torch.Tensor)):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return [leaf for part in parts for leaf in leaves(part)]


def copied(tree: Any, convert: Callable) -> Any:
    """Nested arguments with each of their parts converted."""
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
    """The arguments in a line, tensors by their shapes."""
    say = lambda x: f"{tuple(x.shape)} {x.dtype}" if isinstance(x, torch.Tensor) else x
    return str(copied((sample.input, *sample.args, sample.kwargs), say)).replace("torch.", "")


def is_ours(sample: Any) -> bool:
    """Whether minidl has dtypes for it: no complex numbers, no bfloat16, no sparse tensors."""
    text = described(sample)
    dense = all(x.layout == torch.strided for x in leaves((sample.input, sample.args, sample.kwargs)))
    return dense and not any(name in text for name in ("complex", "bfloat16", "j)", "uint16", "uint32", "uint64"))


# ---- comparisons ---------------------------------------------------------------------------------


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


def pulled_back(ys: list, xs: list, vs: list, grad: Callable, **options: Any) -> list:
    """The gradients of Σ⟨y, v⟩ with respect to the xs."""
    return list(grad(ys, xs, vs, allow_unused=True, **options))


def compare(op: Any, sample: Any, order: int, tol: float) -> Iterator[tuple[str, str]]:
    """What was compared, and how it failed ("" where it did not)."""
    arguments = (sample.input, *sample.args), sample.kwargs
    (ts, named_ts), (xs, named_xs) = (copied(arguments, convert) for convert in (for_torch, for_minidl))
    zs = leaves(op(*ts, **named_ts))
    what = "value"
    try:
        ys = leaves(ours(op.name)(*xs, **named_xs))
        assert_same(ys, zs, tol)
        yield what, ""
        rng = np.random.default_rng(0)
        for what in ("gradient", "second gradient")[:order]:
            xs, ts = ([x for x in leaves(tree) if x.requires_grad] for tree in ((xs, named_xs), (ts, named_ts)))
            ys, zs = zip(*[(y, z) for y, z in zip(ys, zs) if z is not None and z.requires_grad]) or ((), ())
            vs = [rng.standard_normal(tuple(z.shape)) for z in zs]
            ws = [torch.tensor(v, requires_grad=True) for v in vs]
            vs = [minidl.tensor(v, requires_grad=True) for v in vs]
