"""PyTorch's own test samples, for every function that both libraries have under one name.

PyTorch's `op_db` lists, per function, samples of arguments and arguments that must be refused. Each sample is
run in both libraries, and the values, the gradients and the gradients of the gradients are compared.
"""

from __future__ import annotations

import re
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
AT_LEAST = {"value": 0.99, "gradient": 0.98, "second gradient": 0.95, "error": 1.0}  # of all compared
UNEXPLAINED = 0.001  # at most this part of all compared may differ without being in the table of departures

RANDOM = {
    "randn", "rand_like", "randn_like", "randint", "nn.functional.dropout", "nn.functional.dropout2d",
    "nn.functional.dropout3d",
}  # fmt: skip
ADAPTED: dict[str, Callable] = {  # where op_db passes the arguments in another order
    "einsum": lambda tensors, equation: minidl.einsum(equation, *tensors),
    "to": lambda input, *targets: input.to(*targets[:-2], non_blocking=targets[-2], copy=targets[-1]),
    "where": lambda input, condition, other: minidl.where(condition, input, other),
}

# Where minidl departs from PyTorch on purpose: why, pattern of the function's name, of the difference.
DEPARTURES = [
    ("PyTorch leaves the order of equals open; here they stay in order", r"topk", r"^value .* int64"),
    ("there are no singular values", r"norm/nuc", r"'nuc'"),
    ("only leaves change in place, outside recording", r"zero_", r""),
]


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


def arguments(sample: Any, convert: Callable) -> tuple[tuple, dict]:
    """Converted, and without the layout in memory, which changes no value."""
    named = {key: part for key, part in sample.kwargs.items() if key != "memory_format"}
    return copied(((sample.input, *sample.args), named), convert)


def described(sample: Any) -> str:
    """The arguments in a line, tensors by their shapes."""
    say = lambda x: f"{tuple(x.shape)} {x.dtype}" if isinstance(x, torch.Tensor) else x
    return str(copied((sample.input, *sample.args, sample.kwargs), say)).replace("torch.", "")


def is_ours(sample: Any) -> bool:
    """Whether minidl has the kinds of numbers and tensors: not complex, bfloat16, sparse, of 65 dims."""
    foreign = re.search(r"complex|bfloat16|uint(16|32|64)|\dj\b", described(sample))
    tensors = leaves((sample.input, sample.args, sample.kwargs))
    return not foreign and all(x.layout == torch.strided and x.ndim <= 64 for x in tensors)


# ---- comparisons ---------------------------------------------------------------------------------


def derivatives(function: Callable, grad: Callable, tensor: Callable, args: tuple, named: dict) -> Iterator:
    """The outputs ys, then the gradients of Σ⟨y, v⟩ for random v, then those of Σ⟨gradient, u⟩."""
    ys, xs = leaves(function(*args, **named)), [x for x in leaves((args, named)) if x.requires_grad]
    while True:
        yield ys
        shapes = enumerate(() if y is None else tuple(y.shape) for y in ys)
        vs = [tensor(np.random.default_rng(k).normal(size=shape), requires_grad=True) for k, shape in shapes]
        used = [(y, v) for y, v in zip(ys, vs) if y is not None and y.requires_grad]
        if used and xs:
            roots, weights = zip(*used)
            ys = grad(roots, xs, weights, create_graph=True, allow_unused=True)
        else:
            ys = [None] * len(xs)
        xs = [*xs, *vs]


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


def compare(op: Any, sample: Any, order: int, tol: float) -> Iterator[tuple[str, str]]:
    """What was compared, and how it failed ("" where it did not)."""
    theirs, mine = (
        derivatives(function, grad, tensor, *arguments(sample, convert))
        for function, grad, tensor, convert in (
            (op, torch.autograd.grad, torch.tensor, for_torch),
            (ours(op.name), minidl.autograd.grad, minidl.tensor, for_minidl),
        )
    )
    for what in ("value", "gradient", "second gradient")[: order + 1]:
        try:
            zs = next(theirs)
        except Exception:
            return  # PyTorch has no such derivative
        if all(z is None for z in zs):
            return
        try:
            assert_same(next(mine), zs, tol)
            yield what, ""
        except Exception as error:
            yield what, reason(error)


def reason(error: Exception) -> str:
    return f"{type(error).__name__}: " + " ".join(str(error).split())[:150]


def refused(op: Any, sample: Any) -> Iterator[tuple[str, str]]:
    """Whether minidl refuses what PyTorch refuses."""
    args, named = arguments(sample, for_torch)
    try:
        op(*args, **named)
        return
    except Exception as error:
        expected = reason(error)
    args, named = arguments(sample, for_minidl)
    try:
        ours(op.name)(*args, **named)
        yield "error", f"accepted; PyTorch: {expected}"
    except (ValueError, TypeError, IndexError, RuntimeError, ArithmeticError):
        yield "error", ""
    except Exception as error:
        yield "error", reason(error)


def comparisons(op: Any) -> Iterator[tuple[str, str, str]]:
    """(what, sample, failure) of every sample of a function."""
    highest = 0 if not op.supports_autograd else 2 if op.supports_gradgrad else 1
    for dtype, order, tol in [
        (torch.float64, highest, 1e-8),
        (torch.float32, 0, 1e-4),
        (torch.int64, 0, 1e-6),
    ]:
        if not op.supports_dtype(dtype, "cpu"):
            continue
        samples = list(filter(is_ours, op.sample_inputs("cpu", dtype, requires_grad=order > 0)))
        for sample in samples[:: -(-len(samples) // SAMPLES) or 1]:
            for what, failure in compare(op, sample, order, tol):
                yield what, described(sample), failure
    for error_input in op.error_inputs("cpu") if op.error_inputs_func else ():
        if is_ours(error_input.sample_input):
            for what, failure in refused(op, error_input.sample_input):
                yield what, described(error_input.sample_input), failure


def departs(name: str, difference: str) -> bool:
    """Whether the table of departures has it."""
    return any(re.fullmatch(who, name) and re.search(what, difference) for _, who, what in DEPARTURES)


@pytest.mark.filterwarnings("ignore")
def test_pytorchs_samples():
    compared: Counter = Counter()  # (function, what) -> how many
    missed: Counter = Counter()
    unexplained = 0
    for op in op_db:
        name = f"{op.name}/{op.variant_test_name}".rstrip("/")
        for what, sample, failure in comparisons(op) if ours(op.name) and op.name not in RANDOM else ():
            compared[name, what] += 1
            if failure:
                missed[name, what] += 1
                known = departs(name, f"{what} {sample} {failure}")
                unexplained += not known
                print(name, what, sample, "\n    ", "a departure" if known else failure)
    for (name, what), n in missed.most_common():
        print(f"{name}, {what}: {n} of {compared[name, what]} differ")
    rates = {}
    for what in AT_LEAST:
        wrong, total = (sum(n for (_, kind), n in c.items() if kind == what) for c in (missed, compared))
        rates[what] = 1 - wrong / total
        print(f"{what}: {total - wrong} of {total}, {rates[what]:.2%}")
    assert all(rates[what] >= AT_LEAST[what] for what in AT_LEAST), rates
    assert unexplained <= UNEXPLAINED * compared.total()
