"""Dtypes, conversions, and Tensors among Python's and NumPy's values."""

from __future__ import annotations

import copy
from itertools import product

import numpy as np
import pytest

import minidl
from minidl import Tensor
from minidl.nn.module import Parameter

b1, u8, i8, i32, i64 = minidl.bool, minidl.uint8, minidl.int8, minidl.int32, minidl.int64
f16, f32, f64 = minidl.float16, minidl.float32, minidl.float64
NAMES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")

# ---- promotion -------------------------------------------------------------------------------------

PROMOTED = [
    (b1, u8, u8), (u8, i8, minidl.int16), (i8, i64, i64), (i64, f16, f16), (f16, f32, f32), (b1, b1, b1),
    (f32, f64, f64), (i32, u8, i32),
]  # fmt: skip


@pytest.mark.parametrize("a, b, expected", PROMOTED, ids=str)
def test_promote_types(a, b, expected):
    assert minidl.promote_types(a, b) == minidl.promote_types(b, a) == expected


@pytest.mark.parametrize("a, b", list(product(NAMES, NAMES)))
def test_pytorch_promotes_alike(a, b):
    from oracle import torch

    expected = torch.promote_types(getattr(torch, a), getattr(torch, b))
    assert str(minidl.promote_types(a, b)) == str(expected).removeprefix("torch.")


def test_result_type():
    ones = minidl.ones
    assert minidl.result_type(ones(2).half(), ones(()).double()) == f16
    assert minidl.result_type(ones(2).long(), ones(()).double()) == f64
    assert minidl.result_type(ones(2).long(), 0.5) == f32
    assert minidl.result_type(ones(()).long(), ones(2).half(), 3) == f16
    assert minidl.result_type(1, 0.5) == f32 and minidl.result_type(True, 2) == i64
    assert minidl.result_type(ones(2, dtype=u8), 300) == u8


@pytest.mark.parametrize("operation", ["+", "/", "//", "%", "**", "<", "-", "*"])
def test_operators_give_pytorchs_dtypes(operation):
    from oracle import torch

    def value(m, kind):
        name, ndim = kind
        return m.ones((1,) * ndim, dtype=getattr(m, name)) if isinstance(name, str) else name

    kinds = [(n, ndim) for n in NAMES for ndim in (0, 1)]
    for a, b in product(kinds, [*kinds, (True, 0), (2, 0), (0.5, 0)]):
        try:
            expected = eval(f"a {operation} b", {"a": value(torch, a), "b": value(torch, b)}).dtype
        except RuntimeError:
            continue  # PyTorch has no such function of booleans
        if operation in "//%**" and a[0] == "bool" and b[0] in ("bool", True):
            continue  # NumPy has none
        found = eval(f"a {operation} b", {"a": value(minidl, a), "b": value(minidl, b)}).dtype
        assert str(found) == str(expected).removeprefix("torch."), (a, b)


# ---- conversions -----------------------------------------------------------------------------------


def test_conversions_by_name():
    x = minidl.tensor([0.0, 1.7])
    dtypes = dict(float=f32, double=f64, half=f16, long=i64, int=i32, bool=b1)
    for name, dtype in dtypes.items():
        assert getattr(x, name)().dtype == x.to(dtype).dtype == dtype
    assert x.long().tolist() == [0, 1] and x.bool().tolist() == [False, True]
    assert x.type_as(minidl.tensor([1])).dtype == i64
    assert x.float() is x and x.to("cpu") is x


TO = [
    (lambda x: x.to(f16), f16),
    (lambda x: x.to("cpu", f16), f16),
    (lambda x: x.to(minidl.device("cpu"), dtype=f16, non_blocking=True), f16),
    (lambda x: x.to(device="cpu"), f32),
    (lambda x: x.to(minidl.tensor([1])), i64),
    (lambda x: x.to("float64"), f64),
]


@pytest.mark.parametrize("call, dtype", TO)
def test_to_takes_devices_dtypes_and_tensors(call, dtype):
    assert call(minidl.ones(2)).dtype == dtype


def test_gradients_come_back_in_the_dtype_of_the_leaf():
    x = minidl.ones(2).half().requires_grad_()
    (x.double() * 3).sum().backward()
    assert x.grad.dtype == f16 and x.grad.tolist() == [3, 3]


def test_only_floats_require_gradients():
    with pytest.raises(TypeError, match="only floating-point tensors have gradients, got int64"):
        minidl.tensor([1], requires_grad=True)


# ---- among NumPy's values --------------------------------------------------------------------------


def test_arrays_and_tensors_mix_to_tensors():
    a, x = np.array([1.0, 2.0]), minidl.tensor([3.0, 4.0], requires_grad=True)
    for y, expected in [
        (a * x, [3, 8]),
        (x * a, [3, 8]),
        (a - x, [-2, -2]),
        (a / x, [1 / 3, 0.5]),
        (x + a, [4, 6]),
    ]:
        assert isinstance(y, Tensor) and y.requires_grad and y.dtype == f64
        np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-7)
    assert isinstance(a < x, Tensor) and (a == x).tolist() == [False, False]


def test_numpys_scalars_count_as_pythons():
    x = minidl.tensor([3.0])
    for y in (
        np.float64(2) * x,
        x * np.float64(2),
        x * np.int64(2),
        np.float32(2) * x,
        x * np.bool_(True) * 2,
    ):
        assert isinstance(y, Tensor) and y.dtype == f32 and y.tolist() == [6]
    assert (minidl.tensor([3]) * np.float64(2)).dtype == (np.float64(2) * minidl.tensor([3])).dtype == f32


def test_asarray_shares_memory_and_asks_for_detach():
    x = minidl.tensor([1.0, 2.0])
    assert np.shares_memory(np.asarray(x), x.array)
    assert np.asarray(x, np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(x), x.array)
    with pytest.raises(RuntimeError, match=r"use .detach\(\).numpy\(\)"):
        np.asarray(x.requires_grad_())


# ---- among Python's values -------------------------------------------------------------------------


def test_numbers_out_of_tensors():
    assert float(minidl.tensor([2.5])) == 2.5 and int(minidl.tensor(2.5)) == 2
    assert [10, 20, 30][minidl.tensor(1)] == 20 and list(range(minidl.tensor([2]))) == [0, 1]
    assert bool(minidl.tensor([[0.5]])) is True and not minidl.tensor(0)
    assert f"{minidl.tensor(2.0):.2f}" == "2.00" and minidl.tensor([[1, 2]]).tolist() == [[1, 2]]
    assert type(minidl.tensor(1).item()) is int and type(minidl.tensor(True).item()) is bool


def test_containers():
    x = minidl.tensor([[1, 2], [3, 4]])
    assert len(x) == 2 and [row.tolist() for row in x] == [[1, 2], [3, 4]]
    assert 3 in x and 5 not in x
    a, b = x
    assert (a + b).tolist() == [4, 6]
    assert x.size() == (2, 2) and x.size(-1) == 2 and x.numel() == 4 and x.dim() == 2
    assert {x: 1}[x] == 1


def test_equality_with_other_things_is_pythons():
    x = minidl.ones(2)
    assert (x == None) is False and (x != "a") is True  # noqa: E711
    assert x in [None, x]
    assert (x == 1).tolist() == [True, True]


def test_copies():
    x = minidl.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    y = copy.deepcopy(x)
    assert y.requires_grad and y.grad.tolist() == [2, 4] and y.tolist() == [1, 2]
    y.array[0] = y.grad.array[0] = 9
    assert x.tolist() == [1, 2] and x.grad.tolist() == [2, 4]
    assert type(copy.deepcopy(Parameter(x.detach()))) is Parameter
    twin, again = copy.deepcopy([x, x])
    assert twin is again
    z = x.clone()
    z.sum().backward()
    assert x.grad.tolist() == [3, 5] and not np.shares_memory(z.array, x.array)
    assert x.contiguous() is x
    z = x.detach()
    assert z.to("cpu") is z and z.to("cpu", copy=True).array is not z.array


def test_integers_evenly_spaced_lie_between_integers():
    assert minidl.linspace(4.3, -3, 3, dtype=minidl.int64).tolist() == [4, 0, -3]
    assert minidl.arange(0.9, -8.1, -4.2, dtype=minidl.int64).tolist() == [0, -4]


ERRORS = [
    (lambda: bool(minidl.ones(2)), ValueError, r"bool: the truth of a tensor of shape \(2,\) is ambiguous"),
    (lambda: minidl.ones(2).item(), ValueError, r"item: expected one element, got shape \(2,\)"),
    (lambda: float(minidl.ones(2)), ValueError, "item: expected one element"),
    (lambda: [1][minidl.tensor(0.0)], TypeError, r"index: expected one integer, got shape \(\) of float32"),
    (lambda: range(minidl.tensor([1, 2])), TypeError, r"index: expected one integer, got shape \(2,\)"),
    (lambda: len(minidl.tensor(1)), TypeError, "len: a tensor without dims"),
    (lambda: list(minidl.tensor(1)), TypeError, "iter: a tensor without dims"),
    (lambda: minidl.ones(2).to("gpu"), TypeError, "to: expected a device, a dtype or a Tensor, got 'gpu'"),
    (lambda: minidl.ones(2).to([1]), TypeError, "to: expected a device"),
    (lambda: minidl.ones(2) + "a", TypeError, "add: expected Tensors or numbers, got str"),
    (
        lambda: minidl.ones(2) * np.array(["a", "b"]),
        TypeError,
        "mul: expected Tensors or numbers, got ndarray",
    ),
    (lambda: copy.deepcopy(minidl.ones(2, requires_grad=True) * 2), RuntimeError, "deepcopy: .* made by mul"),
]


@pytest.mark.parametrize("call, kind, message", ERRORS, ids=[row[2] for row in ERRORS])
def test_mistakes_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
