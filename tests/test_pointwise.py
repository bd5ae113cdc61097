"""The pointwise law: the vjp is g · f'(x), element by element. One row an op."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

import minidl
from minidl import Tensor
from minidl.autograd import Op, grad
from minidl.testing import gradcheck

WIDE, POSITIVE, UNIT, BETWEEN = (-2.0, 2.0), (0.4, 2.5), (-0.6, 0.9), (-1.8, 1.7)

# op, the same in NumPy, an interval for each operand, static arguments
DIFFERENTIABLE = [
    ("add", np.add, (WIDE, WIDE), {}),
    ("sub", np.subtract, (WIDE, WIDE), {}),
    ("mul", np.multiply, (WIDE, WIDE), {}),
    ("div", np.divide, (WIDE, POSITIVE), {}),
    ("neg", np.negative, (WIDE,), {}),
    ("pow", np.power, (POSITIVE, WIDE), {}),
    ("exp", np.exp, (WIDE,), {}),
    ("expm1", np.expm1, (WIDE,), {}),
    ("log", np.log, (POSITIVE,), {}),
    ("log1p", np.log1p, (UNIT,), {}),
    ("sqrt", np.sqrt, (POSITIVE,), {}),
    ("rsqrt", lambda x: x**-0.5, (POSITIVE,), {}),
    ("tanh", np.tanh, (WIDE,), {}),
    ("sigmoid", lambda x: 1 / (1 + np.exp(-x)), (WIDE,), {}),
    ("sin", np.sin, (WIDE,), {}),
    ("cos", np.cos, (WIDE,), {}),
    ("abs", np.abs, (WIDE,), {}),
    ("sign", np.sign, (WIDE,), {}),
    ("relu", lambda x: np.maximum(x, 0), (WIDE,), {}),
    ("leaky_relu", lambda x, slope: np.where(x > 0, x, slope * x), (WIDE,), {"slope": 0.1}),
    ("maximum", np.maximum, (WIDE, WIDE), {}),
    ("minimum", np.minimum, (WIDE, WIDE), {}),
    ("clamp", lambda x, low, high: np.clip(x, low, high), (WIDE,), {"low": -1.0, "high": 0.5}),
    ("maximum_over", lambda x, axes: x.max(axes, keepdims=True), (WIDE,), {"axes": (1,)}),
    ("minimum_over", lambda x, axes: x.min(axes, keepdims=True), (WIDE,), {"axes": (0, 1)}),
    ("log2", np.log2, (POSITIVE,), {}),
    ("log10", np.log10, (POSITIVE,), {}),
    ("logsigmoid", lambda x: -np.log1p(np.exp(-x)), (WIDE,), {}),
    ("floored_log", np.log, (POSITIVE,), {}),
    ("tan", np.tan, (UNIT,), {}),
    ("asin", np.arcsin, (UNIT,), {}),
    ("acos", np.arccos, (UNIT,), {}),
    ("atan", np.arctan, (WIDE,), {}),
    ("atan2", np.arctan2, (WIDE, WIDE), {}),
    ("sinh", np.sinh, (WIDE,), {}),
    ("cosh", np.cosh, (WIDE,), {}),
    ("erf", np.vectorize(math.erf), (WIDE,), {}),
    ("floor", np.floor, (BETWEEN,), {}),
    ("ceil", np.ceil, (BETWEEN,), {}),
    ("trunc", np.trunc, (BETWEEN,), {}),
    ("round", np.round, (BETWEEN,), {}),
    ("remainder", np.remainder, (BETWEEN, POSITIVE), {}),
    ("fmod", np.fmod, (BETWEEN, POSITIVE), {}),
]
COMPARISONS = [  # op, the same in NumPy, number of operands
    *((name, getattr(np, name), 2) for name in ("equal", "not_equal", "less", "less_equal")),
    *((name, getattr(np, name), 2) for name in ("greater", "greater_equal")),
    *((name, getattr(np, name), 2) for name in ("logical_and", "logical_or", "logical_xor")),
    *((name, getattr(np, name), 1) for name in ("logical_not", "isnan", "isinf", "isfinite")),
]
OF_INTEGERS = [  # op, the same in NumPy, number of operands, dtypes
    *((name, getattr(np, name), 2, "bui") for name in ("bitwise_and", "bitwise_or", "bitwise_xor")),
    ("bitwise_not", np.bitwise_not, 1, "bui"),
    ("floor_divide", np.floor_divide, 2, "uif"),
]


def names(table):
    return [row[0] for row in table]


def points(intervals, shape=(2, 3)):
    """Evenly spread numbers in random order: never 0, a bound of `clamp`, or equal in two operands."""
    rng = np.random.default_rng(0)
    size = int(np.prod(shape))
    return [
        rng.permutation(np.linspace(low + 0.03 * k, high - 0.03, size)).reshape(shape)
        for k, (low, high) in enumerate(intervals)
    ]


def leaves(*arrays):
    return [minidl.tensor(np.asarray(a), requires_grad=True) for a in arrays]


def test_the_tables_hold_every_pointwise_op():
    rows = {row[0] for row in (*DIFFERENTIABLE, *COMPARISONS, *OF_INTEGERS, ("where",))}
    assert rows == {name for name, op in Op.registry.items() if op.law == "pointwise"}


@pytest.mark.parametrize("name, expected, intervals, static", DIFFERENTIABLE, ids=names(DIFFERENTIABLE))
def test_values_and_two_orders_of_gradients(name, expected, intervals, static):
    arrays, op = points(intervals), Op.registry[name]
    tensors = leaves(*arrays)
    np.testing.assert_allclose(
        op(*tensors, **static).detach().numpy(), expected(*arrays, **static), rtol=1e-14
    )
    assert gradcheck(lambda *x: op(*x, **static), tensors, order=2)


@pytest.mark.parametrize("name, expected, operands", COMPARISONS, ids=names(COMPARISONS))
def test_comparisons_have_no_gradient(name, expected, operands):
    arrays = [np.array([0.0, 1.0, np.nan, np.inf]), np.array([0.0, 2.0, 1.0, -np.inf])][:operands]
    y = Op.registry[name](*leaves(*arrays))
    np.testing.assert_array_equal(y.numpy(), expected(*arrays))
    assert y.dtype == minidl.bool and not y.requires_grad


@pytest.mark.parametrize("name, expected, operands, kinds", OF_INTEGERS, ids=names(OF_INTEGERS))
def test_integers_and_booleans_bit_by_bit(name, expected, operands, kinds):
    for dtype in (np.bool_, np.uint8, np.int64, np.float32):
        arrays = [np.array([1, 0, 6, 7]).astype(dtype), np.array([1, 1, 3, 2]).astype(dtype)][:operands]
        tensors = map(minidl.tensor, arrays)
        if np.dtype(dtype).kind in kinds:
            y = Op.registry[name](*tensors).numpy()
            np.testing.assert_array_equal(y, expected(*arrays))
            assert y.dtype == dtype
        else:
            with pytest.raises(TypeError, match=f"{name}: not defined for {np.dtype(dtype)} operands"):
                Op.registry[name](*tensors)


def test_where_sends_each_gradient_to_the_chosen_side():
    condition = minidl.tensor([[True, False, True], [False, False, True]])
    a, b = leaves(*points((WIDE, WIDE)))
    np.testing.assert_array_equal(
        minidl.where(condition, a, b).detach().numpy(), np.where(condition.array, a.array, b.array)
    )
    assert gradcheck(lambda a, b: minidl.where(condition, a * a, b * b), [a, b], order=2)


# ---- conventions at kinks and ties -------------------------------------------------------------

KINKS = [  # what, function, operands, derivative with respect to each
    ("relu at 0", minidl.relu, [0.0], [0.0]),
    ("leaky_relu at 0", lambda x: Op.registry["leaky_relu"](x, slope=0.1), [0.0], [0.1]),
    ("abs at 0", minidl.abs, [0.0], [0.0]),
    ("clamp at the lower end", lambda x: minidl.clamp(x, -1, 1), [-1.0], [1.0]),
    ("clamp at the upper end", lambda x: minidl.clamp(x, -1, 1), [1.0], [1.0]),
    ("clamp outside", lambda x: minidl.clamp(x, -1, 1), [1.5], [0.0]),
    ("maximum at a tie", minidl.maximum, [2.0, 2.0], [0.5, 0.5]),
    ("minimum at a tie", minidl.minimum, [2.0, 2.0], [0.5, 0.5]),
    ("sqrt at 0", minidl.sqrt, [0.0], [np.inf]),
    ("x^0 at 0", lambda x: x**0, [0.0], [0.0]),
    ("x^1 at 0", lambda x: x**1, [0.0], [1.0]),
    ("x^2 at 0", lambda x: x**2, [0.0], [0.0]),
    ("x^b at x = 0", minidl.pow, [0.0, 2.0], [0.0, 0.0]),
    ("x^b at b = 0", minidl.pow, [0.0, 0.0], [0.0, 0.0]),
    ("0^b", lambda b: 0 ** b, [2.0], [0.0]),
    ("2^b", lambda b: 2 ** b, [3.0], [8 * np.log(2)]),
    ("sigmoid far out", minidl.sigmoid, [-1000.0], [0.0]),
    ("tanh far out", minidl.tanh, [1000.0], [0.0]),
]  # fmt: skip


@pytest.mark.parametrize("what, function, at, expected", KINKS, ids=names(KINKS))
def test_the_derivative_at_kinks_and_ties(what, function, at, expected):
    operands = leaves(*map(np.float64, at))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "divide by zero|invalid value", RuntimeWarning)
        found = grad(function(*operands), operands, allow_unused=True)
    np.testing.assert_allclose([g.item() for g in found], expected)


@pytest.mark.parametrize("what, function, at, expected", KINKS, ids=names(KINKS))
def test_pytorch_has_the_same_conventions(what, function, at, expected):
    from oracle import torch

    functions = {
        "leaky_relu at 0": lambda x: torch.nn.functional.leaky_relu(x, 0.1),
        **{what: lambda x: torch.clamp(x, -1, 1) for what, *_ in KINKS if what.startswith("clamp")},
    }
    function = functions.get(what) or getattr(torch, getattr(function, "name", ""), function)
    operands = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in at]
    found = torch.autograd.grad(function(*operands), operands)
    np.testing.assert_allclose([g.item() for g in found], expected)


def test_tied_maxima_share_the_gradient():
    (x,) = leaves([[3.0, 1.0, 3.0], [0.0, 0.0, 0.0]])
    x.amax(1).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [[0.5, 0, 0.5], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sigmoid_and_tanh_are_exact_far_out(dtype):
    x = minidl.tensor(np.array([-1e4, -20, 0, 20, 1e4], dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = minidl.sigmoid(x)
    assert y.dtype == x.dtype
    np.testing.assert_allclose(y.numpy(), [0, np.exp(-20.0), 0.5, 1, 1], rtol=1e-2, atol=1e-7)


# ---- broadcasting ------------------------------------------------------------------------------

SHAPES = [
    ((2, 3), (3,)),
    ((3,), (2, 3)),
    ((2, 1), (1, 3)),
    ((), (2,)),
    ((1,), (2, 3)),
    ((1, 1), ()),
    ((2, 1, 3), (4, 1)),
    ((0, 3), (1, 3)),
]


@pytest.mark.parametrize("a, b", SHAPES, ids=str)
def test_the_gradient_of_a_broadcast_operand_is_summed(a, b):
    rng = np.random.default_rng(0)
    x, y = leaves(rng.standard_normal(a), rng.standard_normal(b))
    np.testing.assert_array_equal((x * y).detach().numpy(), x.array * y.array)
    assert gradcheck(lambda x, y: x * y + x, [x, y], order=2)
    assert gradcheck(lambda x: x * y.detach(), [x])
    condition = minidl.tensor(np.asarray(rng.random(b)) > 0.5)
    assert gradcheck(lambda x, y: minidl.where(condition, x, y), [x, y])


def test_shapes_that_do_not_broadcast_are_named():
    with pytest.raises(ValueError, match=r"add: shapes \(2, 3\) and \(2,\) do not broadcast"):
        minidl.zeros(2, 3) + minidl.zeros(2)


# ---- dtypes ------------------------------------------------------------------------------------

i8, i64, u8 = minidl.int8, minidl.int64, minidl.uint8
f16, f32, f64, b1 = minidl.float16, minidl.float32, minidl.float64, minidl.bool


def one(dtype, ndim=1):
    return minidl.ones(*(1,) * ndim, dtype=dtype)


PROMOTION = [  # operands, dtype of their sum, dtype of their quotient
    ((one(f32), one(f64)), f64, f64),
    ((one(f16), one(f32)), f32, f32),
    ((one(f16), one(i64)), f16, f16),
    ((one(i64), one(f32)), f32, f32),
    ((one(u8), one(i8)), minidl.int16, f32),
    ((one(b1), one(u8)), u8, f32),
    ((one(b1), one(b1)), b1, f32),
    ((one(f16), 0.5), f16, f16),
    ((one(f64), 0.5), f64, f64),
    ((one(i64), 0.5), f32, f32),
    ((one(u8), 2), u8, f32),
    ((one(b1), 2), i64, f32),
    ((one(b1), 0.5), f32, f32),
    ((one(f16), one(f64, 0)), f16, f16),
    ((one(i64), one(f64, 0)), f64, f64),
    ((one(i8), one(i64, 0)), i8, f32),
    ((one(i64, 0), 0.5), f32, f32),
    ((one(f16, 0), one(f32, 0)), f32, f32),
]


@pytest.mark.parametrize("operands, of_sum, of_quotient", PROMOTION, ids=lambda v: "")
def test_dtypes_are_promoted_by_pytorchs_rules(operands, of_sum, of_quotient):
    a, b = operands
    assert (a + b).dtype == (b + a).dtype == of_sum
    assert (a / b).dtype == (b / a).dtype == of_quotient


NAMES = ("bool", "uint8", "int8", "int32", "int64", "float16", "float32", "float64")


@pytest.mark.parametrize("name", ["add", "mul", "div", "maximum", "lt", "where"])
def test_pytorch_promotes_alike(name):
    from oracle import torch

    ours, theirs = getattr(minidl, name), getattr(torch, name)
    if name == "where":
        ours = lambda a, b: minidl.where(minidl.tensor([True]), a, b)
        theirs = lambda a, b: torch.where(torch.tensor([True]), a, b)
    kinds = [(n, ndim) for n in NAMES for ndim in (0, 1)]
    numbers = [] if name == "maximum" else [True, 1, 0.5]
    for (n, ndim), other in ((kind, o) for kind in kinds for o in (*kinds, *numbers)):
        a, t = np.ones((1,) * ndim, n), torch.ones((1,) * ndim, dtype=getattr(torch, n))
        b = u = other
        if isinstance(other, tuple):
            b = minidl.ones(*(1,) * other[1], dtype=other[0])
            u = torch.ones((1,) * other[1], dtype=getattr(torch, other[0]))
        found, expected = ours(minidl.tensor(a), b).dtype, theirs(t, u).dtype
        assert str(found) == str(expected).removeprefix("torch."), f"{name} of {n}, {ndim} dims, and {other}"


def test_where_between_python_numbers_is_float32():
    assert minidl.where(minidl.tensor([True, False]), 1.0, 0.0).dtype == f32
    assert minidl.where(minidl.tensor([True, False]), 1, 0).dtype == i64


@pytest.mark.parametrize("name, expected, intervals, static", DIFFERENTIABLE, ids=names(DIFFERENTIABLE))
@pytest.mark.parametrize("dtype", [f16, f32], ids=str)
def test_values_and_gradients_keep_a_low_precision(name, expected, intervals, static, dtype):
    x = leaves(*(a.astype(dtype) for a in points(intervals)))
    y = Op.registry[name](*x, **static)
    assert y.dtype == dtype
    found = grad(y.sum(), x, create_graph=True, allow_unused=True)
    assert all(g is None or g.dtype == dtype for g in found)
    exact = expected(*(t.array.astype(np.float64) for t in x), **static)
    np.testing.assert_allclose(y.detach().numpy(), exact, rtol=8 * np.finfo(dtype).eps)


FLOATS_FROM_INTEGERS = ("exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "tanh", "sigmoid", "sin", "cos")


@pytest.mark.parametrize("name", FLOATS_FROM_INTEGERS)
def test_integers_become_float32_where_the_result_is_fractional(name):
    assert Op.registry[name](minidl.tensor([1, 2])).dtype == f32


def test_the_gradient_of_a_mixed_sum_has_each_operands_dtype():
    a, b = leaves(np.ones(2, np.float16), np.ones(2, np.float64))
    (a * b).sum().backward()
    assert (a.grad.dtype, b.grad.dtype) == (f16, f64)


# ---- Python numbers ----------------------------------------------------------------------------


def test_python_numbers_on_either_side():
    (x,) = leaves([1.0, 2.0])
    for y, expected in [
        (x + 1, [2, 3]), (1 + x, [2, 3]), (x - 1, [0, 1]), (1 - x, [0, -1]), (3 * x, [3, 6]),
        (2 / x, [2, 1]), (x / 2, [0.5, 1]), (x**2, [1, 4]), (2**x, [2, 4]), (-x, [-1, -2]),
    ]:  # fmt: skip
        assert isinstance(y, Tensor)
        np.testing.assert_array_equal(y.detach().numpy(), expected)
    np.testing.assert_array_equal((x > 1).numpy(), [False, True])
    number = 1
    np.testing.assert_array_equal((number < x).numpy(), [False, True])
    assert gradcheck(lambda x: 2 / x + x / 3 + (1 - x) * 2 + x**3 + 2**x, leaves([0.7, 1.9]), order=2)


@pytest.mark.parametrize("other", ["1", None, [1.0]], ids=str)
def test_other_operands_are_refused(other):
    with pytest.raises(TypeError, match="add: expected Tensors or numbers"):
        minidl.ones(2) + other
