"""Elementary functions against PyTorch: special values, rounding, remainders, clamping, bits."""

from __future__ import annotations

import math
import warnings
from functools import partial

import numpy as np
import pytest

import minidl
from minidl import Tensor

inf, nan = math.inf, math.nan


def same(call, *arrays, **options):
    from oracle import assert_matches_torch, torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "divide by zero|invalid value", RuntimeWarning)
        assert_matches_torch(partial(call, minidl), partial(call, torch), *arrays, **options)


X = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.3, -1.7])
CALLS = {
    "reciprocal": lambda m, x: m.reciprocal(x),
    "square": lambda m, x: x.square(),
    "pow": lambda m, x: m.pow(x.abs(), 2.5) + x**3,
    "rpow": lambda m, x: 2**x,
    "floor": lambda m, x: m.floor(x) * x,
    "ceil": lambda m, x: x.ceil() * x,
    "round halves to even": lambda m, x: m.round(x) * x,
    "round to decimals": lambda m, x: m.round(x / 7, decimals=2) * x,
    "round to tens": lambda m, x: (x * 7).round(decimals=-1) * x,
    "trunc": lambda m, x: m.trunc(x) * x,
    "add and sub with alpha": lambda m, x: m.add(x, x * x, alpha=2) - m.sub(x, 3, alpha=0.5),
    "div rounded": lambda m, x: m.div(x, 0.7, rounding_mode="floor") * x.div(x - 3, rounding_mode="trunc"),
    "div of integers rounded": lambda m, x: (10 * x).long().div(m.tensor(-3), rounding_mode="trunc"),
    "remainder": lambda m, x: x % 0.7,
    "remainder of a negative": lambda m, x: m.remainder(x, -0.7),
    "remainder of tensors": lambda m, x: m.remainder(x, x.flip(0) + 0.1),
    "remainder of a number": lambda m, x: m.remainder(m.tensor(3.0, dtype=x.dtype), x),
    "fmod": lambda m, x: m.fmod(x, 0.7),
    "fmod of tensors": lambda m, x: x.fmod(x.flip(0) + 0.1),
    "clamp": lambda m, x: m.clamp(x, -0.5, 1.5),
    "clamp below": lambda m, x: x.clamp(max=0.3),
    "clamp crossed": lambda m, x: x.clamp(1, -1) + x,
    "clamp by tensors": lambda m, x: m.clamp(x, x.flip(0) - 1, x.flip(0) + 1),
    "clamp by a tensor above": lambda m, x: m.clamp(x, max=x.flip(0)),
    "nan_to_num": lambda m, x: m.nan_to_num(m.where(x > 1, nan, x / (x - 0.5).round())),
    "nan_to_num by": lambda m, x: (x / (x - 0.5).round()).nan_to_num(1.0, 2.0, -3.0),
    "erf": lambda m, x: m.erf(x),
    "atan2": lambda m, x: m.atan2(x, x.flip(0)),
    "atan2 at the origin": lambda m, x: m.atan2(x * 0, x * 0),
    "log2": lambda m, x: m.log2(x.abs()),
}


@pytest.mark.parametrize("name", CALLS)
def test_values_and_two_orders_of_gradients_are_pytorchs(name):
    infinite = (
        name.startswith("nan_to_num") or name == "atan2 at the origin"
    )  # NaN in PyTorch's second gradient
    same(CALLS[name], X, order=1 if infinite else 2)


SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, inf, -inf, nan, 1e-300, 1e300, 1e-20])
NAMES = """exp expm1 log log1p log2 log10 sqrt rsqrt reciprocal square tanh sigmoid sin cos tan asin acos atan
    sinh cosh erf abs floor ceil trunc round relu isnan isinf isfinite nan_to_num"""


@pytest.mark.parametrize("name", NAMES.split())
def test_special_values(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same(lambda m, x: getattr(m, name)(x), SPECIAL, order=0)


def test_exact_values():
    assert minidl.log2(minidl.tensor([8.0, 0.25])).tolist() == [3, -2]
    assert minidl.log10(minidl.tensor(1000.0).double()).item() == 3
    assert minidl.round(minidl.tensor([0.5, 1.5, 2.5, -0.5])).tolist() == [0, 2, 2, 0]
    assert (minidl.tensor([7, -7]) // 2).tolist() == [3, -4]
    assert (minidl.tensor([7, -7]) % 3).tolist() == [1, 2]
    assert minidl.fmod(minidl.tensor([7, -7]), 3).tolist() == [1, -1]
    assert (7 // minidl.tensor([2, -2])).tolist() == [3, -4]
    assert (7 % minidl.tensor([4.0, -4.0])).tolist() == [3, -1]
    assert (minidl.tensor([True, False]) ^ True).tolist() == [False, True]
    assert (~minidl.tensor([0, 5])).tolist() == [-1, -6]
    assert (minidl.tensor([6, 3]) & 5).tolist() == [4, 1] and (5 | minidl.tensor([2])).tolist() == [7]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64"])
@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor", "logical_xor", "logical_and"])
def test_bits_are_pytorchs(name, dtype):
    from oracle import torch

    a, b = np.array([0, 1, 6, 3]).astype(dtype), np.array([1, 1, 3, 0]).astype(dtype)
    found, expected = (getattr(m, name)(m.tensor(a), m.tensor(b)) for m in (minidl, torch))
    assert found.tolist() == expected.tolist() and str(found.dtype) == str(expected.dtype)[6:]


@pytest.mark.parametrize("operand", [2, -3, 2.5, np.array([2, -2, 3]), np.array([2.0, -0.5, 3.0])], ids=str)
@pytest.mark.parametrize("name", ["remainder", "fmod", "floor_divide"])
def test_division_with_remainder_is_pytorchs(name, operand):
    from oracle import torch

    for a in (np.array([7, -7, 5]), np.array([7.5, -7.5, 5.0], np.float32), np.array([7, 6, 5], np.int8)):
        wrap = [m.tensor if hasattr(operand, "dtype") else lambda v: v for m in (minidl, torch)]
        found, expected = (getattr(m, name)(m.tensor(a), w(operand)) for m, w in zip((minidl, torch), wrap))
        assert found.tolist() == expected.tolist() and str(found.dtype) == str(expected.dtype)[6:]


@pytest.mark.parametrize("bounds", [(0, 2), (None, 1), (0.5, None), (-1.5, 1)], ids=str)
@pytest.mark.parametrize("dtype", ["int32", "float16", "float64", "int8"])
def test_the_dtype_of_clamped_numbers_is_pytorchs(bounds, dtype):
    from oracle import torch

    a = np.array([-3, 0, 1, 3]).astype(dtype)
    found, expected = (m.clamp(m.tensor(a), *bounds) for m in (minidl, torch))
    assert found.tolist() == expected.tolist() and str(found.dtype) == str(expected.dtype)[6:]


def test_powers_of_integers_are_integers():
    base, exponent = minidl.tensor([0, 1, 2, -1, -1, -2, 3]), minidl.tensor([-1, -2, -1, -3, -2, -3, 2])
    assert (base**exponent).tolist() == [0, 1, 0, -1, 1, 0, 9]
    assert (2 ** minidl.tensor([-1, 0, 3])).tolist() == [0, 1, 8]
    squares = minidl.tensor([True, False]).square()
    assert squares.tolist() == [1, 0] and squares.dtype == minidl.int64
    assert minidl.tensor([True, False]).sign().tolist() == [True, False]


def test_integers_stay_when_they_are_rounded():
    x = minidl.tensor([1, -2])
    y = x.floor()
    assert y.dtype == minidl.int64 and y.tolist() == [1, -2]
    y.array[0] = 9
    assert x.tolist() == [1, -2]


ERRORS = [
    (lambda: minidl.tensor([1]) // 0, ZeroDivisionError, "floor_divide: integer division by zero"),
    (
        lambda: minidl.tensor([1]) % minidl.tensor([0]),
        ZeroDivisionError,
        "remainder: integer division by zero",
    ),
    (lambda: 3 % minidl.tensor([0]), ZeroDivisionError, "remainder: integer division by zero"),
    (lambda: minidl.ones(2) & minidl.ones(2), TypeError, "bitwise_and: not defined for float32 operands"),
    (lambda: ~minidl.ones(2), TypeError, "bitwise_not: not defined for float32 operands"),
    (lambda: -minidl.tensor([True]), TypeError, "neg.*: not defined for bool operands"),
    (lambda: minidl.tensor([True]) - minidl.tensor([True]), TypeError, "sub: not defined for bool operands"),
    (lambda: minidl.clamp(minidl.ones(2)), ValueError, "clamp: expected min, max or both"),
    (lambda: minidl.exp(2.0), TypeError, "exp: expected a Tensor, got 2.0"),
    (
        lambda: minidl.maximum(2, minidl.ones(2)),
        TypeError,
        "maximum: expected a Tensor, got 2; minidl.tensor",
    ),
    (lambda: minidl.ones(2).minimum(0.5), TypeError, "minimum: expected a Tensor, got 0.5"),
    (lambda: minidl.atan2(minidl.ones(2), 1.0), TypeError, "atan2: expected a Tensor, got 1.0"),
    (lambda: minidl.logical_and(minidl.ones(2), True), TypeError, "logical_and: expected a Tensor, got True"),
    (lambda: minidl.lt(2, minidl.ones(2)), TypeError, "less: expected a Tensor, got 2"),
    (lambda: minidl.fmod(2, minidl.ones(2)), TypeError, "fmod: expected a Tensor, got 2"),
    (lambda: minidl.max(2, minidl.ones(2)), TypeError, "maximum: expected a Tensor, got 2"),
    (lambda: minidl.clamp(2, 0, 1), TypeError, "clamp: expected a Tensor, got int"),
    (lambda: minidl.square(2), TypeError, "square: expected a Tensor, got int"),
    (lambda: Tensor.__radd__(2, minidl.ones(2)), TypeError, "__radd__: expected a Tensor, got int"),
    (
        lambda: minidl.where(minidl.ones(2), 1.0, 0.0),
        TypeError,
        "where: the condition .* booleans, got float32",
    ),
    (lambda: minidl.tensor([2]) ** -1, ValueError, "negative integer powers"),
    (lambda: minidl.tensor([True]) ** True, TypeError, "pow: not defined for bool"),
    (lambda: minidl.tensor([True]).abs(), TypeError, "abs.*: not defined for bool"),
]


OF_TENSORS = {  # how many arguments must follow the tensor -> functions
    0: """sum mean prod var std any all norm amax argmax argsort sort flatten squeeze t unbind diag
        diagonal tril triu stack cat meshgrid square nan_to_num clamp""",
    1: """topk cumsum cumprod logsumexp softmax log_softmax reshape unsqueeze permute flip roll broadcast_to
        tile split chunk outer masked_select einsum tensordot matmul""",
    2: "movedim transpose gather index_select",
    3: "narrow",
}
WRONG = [(name, count) for count, names in OF_TENSORS.items() for name in names.split()]


@pytest.mark.parametrize("name, count", WRONG, ids=str)
def test_numbers_and_lists_are_refused_by_name(name, count):
    for wrong in (2.0, [[1.0, 2.0]]):
        wrong = [wrong] if name in ("stack", "cat", "meshgrid") else wrong
        with pytest.raises(TypeError, match=f"{name}:|vector_norm:"):
            getattr(minidl, name)(wrong, *(1,) * count)


@pytest.mark.parametrize("call, kind, message", ERRORS, ids=[row[2] for row in ERRORS])
def test_mistakes_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
