"""Pointwise ops: y_i = f(a_i, b_i, ...). The law: the vjp is g · f'(x), element by element.

`pointwise` puts two steps before the op, so that the formulas below need neither: operands of different dtypes
are cast to a common one, and an operand of a smaller shape is expanded. Both steps are linear ops with
adjoints of their own, which is why no vjp here ever "un-broadcasts" a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minidl.autograd import Op, Tensor, op
from minidl.ops.linear import cast, expand

# ---- from operands to arrays of one dtype and shape ---------------------------------------------


def _rank(dtype: np.dtype) -> int:
    """The dtype's category: bool < integers < floats < complex."""
    return 0 if dtype.kind == "b" else 1 if dtype.kind in "ui" else 2 if dtype.kind == "f" else 3


def _promote(a: np.dtype, b: np.dtype) -> np.dtype:
    """The common dtype of two tensors: the higher category's, and the wider within a category."""
    if _rank(a) != _rank(b):
        return max(a, b, key=_rank)
    return np.promote_types(a, b)


_PYTHON = {bool: np.dtype(bool), int: np.dtype(np.int64), float: np.dtype(np.float32)}


def result_type(*operands: Any) -> np.dtype:
    """The dtype of an operation between tensors and Python numbers, by PyTorch's rules.

    Tensors with axes decide; tensors without axes, then Python numbers, matter only where they are of a higher
    category (bool < integer < float): `int64 tensor + 0.5` is float32, `float16 tensor + 0.5` stays float16.
    """
    found: list[np.dtype | None] = [None, None, None]  # with axes, without axes, Python numbers
    for x in operands:
        level = (0 if x.ndim else 1) if isinstance(x, Tensor) else 2
        dtype = x.dtype if level < 2 else _PYTHON[type(x)]
        found[level] = dtype if found[level] is None else _promote(found[level], dtype)
    result: np.dtype | None = None
    for dtype in found:
        if dtype is not None and (result is None or _rank(dtype) > _rank(result)):
            result = dtype
    assert result is not None
    return result


def align(operands: tuple, name: str, to_float: bool = False) -> list:
    """The operands cast to their common dtype and, where they want a gradient, expanded to the common shape."""
    first = next((x for x in operands if isinstance(x, Tensor)), None)
    if first is None:
        raise TypeError(f"{name}: expected a Tensor, got {', '.join(map(repr, operands))}")
    for x in operands:
        if not isinstance(x, Tensor) and type(x) not in _PYTHON:
            raise TypeError(f"{name}: expected Tensors or numbers, got {type(x).__name__}")
    dtype = result_type(*operands)
    if to_float and dtype.kind != "f":
        dtype = np.dtype(np.float32)
    cast_to = [x if not isinstance(x, Tensor) or x.dtype == dtype else cast(x, dtype=dtype) for x in operands]
    tensors = [x for x in cast_to if isinstance(x, Tensor)]
    if all(x.shape == first.shape for x in tensors):
        return cast_to
    try:
        shape = np.broadcast_shapes(*(x.shape for x in tensors))
    except ValueError:
        shapes = " and ".join(str(x.shape) for x in tensors)
        raise ValueError(f"{name}: shapes {shapes} do not broadcast together") from None
    return [
        expand(x, shape=shape) if isinstance(x, Tensor) and x.requires_grad and x.shape != shape else x
        for x in cast_to
    ]  # fmt: skip


class Pointwise(Op):
    """An op whose operands are aligned first."""

    to_float = False  # integers become float32, as for exp, sqrt and true division

    def __call__(self, *operands: Any, **static: Any) -> Tensor:
        x = operands[0]
        if not (len(operands) == 1 and isinstance(x, Tensor) and x.dtype.kind == "f"):
            operands = tuple(align(operands, self.name, self.to_float))
        return super().__call__(*operands, **static)


def pointwise(*vjps: Callable | None, to_float: bool = False) -> Callable[[Callable], Op]:
    """Declare a pointwise op: one vjp per operand, as in `minidl.autograd.op`."""

    def decorate(forward: Callable) -> Op:
        declared = Pointwise(forward, vjps, "pointwise")
        declared.to_float = to_float
        return declared

    return decorate


to_float = partial(pointwise, to_float=True)

# ---- arithmetic ---------------------------------------------------------------------------------


@pointwise(lambda g: g, lambda g: g)
def add(xp, a, b):
    return xp.add(a, b)


@pointwise(lambda g: g, lambda g: -g)
def sub(xp, a, b):
    return xp.subtract(a, b)


@pointwise(lambda g, b: g * b, lambda g, a: g * a)
def mul(xp, a, b):
    return xp.multiply(a, b)


@to_float(lambda g, b: g / b, lambda g, y, b: -(g * y / b))
def div(xp, a, b):
    return xp.divide(a, b)


@pointwise(lambda g: -g)
def neg(xp, x):
    return xp.negative(x)


def _pow_base(g, a, b):
    if not isinstance(b, Tensor):
        return g * (b * a ** (b - 1)) if b != 0 else g * 0.0
    return g * where(b == 0, 0.0, b * a ** (b - 1))  # x^0 is constant, also at x = 0


def _pow_exponent(g, y, a, b):
    a = a if isinstance(a, Tensor) else Tensor(np.full_like(b.array, a))
    return g * where(a == 0, 0.0, y * log(where(a == 0, 1.0, a)))  # 0^b is constant for b > 0


@pointwise(_pow_base, _pow_exponent)
def pow(xp, a, b):
    return xp.power(a, b)


# ---- exponentials and powers -------------------------------------------------------------------


@to_float(lambda g, y: g * y)
def exp(xp, x):
    return xp.exp(x)


@to_float(lambda g, y: g * (y + 1))
def expm1(xp, x):
    return xp.expm1(x)


@to_float(lambda g, x: g / x)
def log(xp, x):
    return xp.log(x)


@to_float(lambda g, x: g / (x + 1))
def log1p(xp, x):
    return xp.log1p(x)


@to_float(lambda g, y: g / (2 * y))
def sqrt(xp, x):
    return xp.sqrt(x)


@to_float(lambda g, y: g * (-0.5 * y * y * y))
def rsqrt(xp, x):
    return 1 / xp.sqrt(x)


@to_float(lambda g, y: g * (1 - y * y))
def tanh(xp, x):
    return xp.tanh(x)


@to_float(lambda g, y: g * (y * (1 - y)))
def sigmoid(xp, x):
    """1 / (1 + e^-x), without overflow: e^-|x| is at most 1."""
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, e) / (1 + e)


@to_float(lambda g, x: g * cos(x))
def sin(xp, x):
    return xp.sin(x)


@to_float(lambda g, x: -(g * sin(x)))
def cos(xp, x):
    return xp.cos(x)


# ---- piecewise linear --------------------------------------------------------------------------


@pointwise(lambda g, x: g * sign(x))
def abs(xp, x):
    return xp.abs(x)


@pointwise(None)
def sign(xp, x):
    return xp.sign(x)


@pointwise(lambda g, y: where(y > 0, g, 0.0))
def relu(xp, x):
    """max(x, 0); the derivative at 0 is 0, as in PyTorch."""
    return xp.maximum(x, 0)


@pointwise(lambda g, x, slope: where(x > 0, g, g * slope))
def leaky_relu(xp, x, *, slope):
    """x where x > 0, slope · x elsewhere: max(x, slope · x) as long as slope <= 1."""
    return xp.where(x > 0, x, x * slope)


@pointwise(
    None,
    lambda g, condition: where(condition, g, 0.0),
    lambda g, condition: where(condition, 0.0, g),
)
def where(xp, condition, a, b):
    """a where the condition holds, b elsewhere."""
    return xp.where(condition, a, b)


def _share(winner: Tensor, tie: Tensor, g: Tensor) -> Tensor:
    """The cotangent for the larger (or smaller) operand; at a tie both get half of it."""
    return where(winner, g, where(tie, g * 0.5, 0.0))


@pointwise(lambda g, a, b: _share(a > b, a == b, g), lambda g, a, b: _share(b > a, a == b, g))
def maximum(xp, a, b):
    return xp.maximum(a, b)


@pointwise(lambda g, a, b: _share(a < b, a == b, g), lambda g, a, b: _share(b < a, a == b, g))
def minimum(xp, a, b):
    return xp.minimum(a, b)


@pointwise(lambda g, x, low, high: where((x >= low) & (x <= high), g, 0.0))
def clamp(xp, x, *, low, high):
    """min(max(x, low), high); the derivative is 1 on the closed interval, as in PyTorch."""
    return xp.clip(x, low, high)


# ---- comparisons: no gradient ------------------------------------------------------------------


def _comparison(name: str) -> Op:
    def forward(xp, a, b):
        return getattr(xp, name)(a, b)

    forward.__name__ = name
    return pointwise()(forward)


eq, ne = _comparison("equal"), _comparison("not_equal")
lt, le = _comparison("less"), _comparison("less_equal")
gt, ge = _comparison("greater"), _comparison("greater_equal")
logical_and, logical_or = _comparison("logical_and"), _comparison("logical_or")


@pointwise()
def logical_not(xp, x):
    return xp.logical_not(x)


def _isnan_kind(name: str) -> Op:
    def forward(xp, x):
        return getattr(xp, name)(x)

    forward.__name__ = name
    return op(law="pointwise")(forward)


isnan, isfinite = _isnan_kind("isnan"), _isnan_kind("isfinite")
