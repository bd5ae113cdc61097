"""Pointwise ops: y_i = f(a_i, b_i, ...). The law: the vjp is g · f'(x), element by element.

`pointwise` puts two steps before the op, so that the formulas below need neither: operands of different
dtypes are cast to a common one, and an operand of a smaller shape is expanded. Both steps are linear ops
with adjoints of their own, which is why no vjp here ever "un-broadcasts" a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, reduce
from operator import or_
from typing import Any

import numpy as np

from minidl.autograd import Op, Tensor
from minidl.backend import array_module
from minidl.dtypes import OF_PYTHON, result_type
from minidl.ops.linear import cast, expand

# ---- from operands to arrays of one dtype and shape ---------------------------------------------


def _operand(x: Any, name: str) -> Any:
    """A Tensor or a Python number: NumPy's scalars count as Python numbers, arrays as Tensors."""
    if isinstance(x, np.generic):
        x = x.item()
    if isinstance(x, Tensor) or type(x) in OF_PYTHON:
        return x
    if hasattr(x, "dtype") and x.dtype.kind in "buif":
        return Tensor(x)
    raise TypeError(f"{name}: expected Tensors or numbers, got {type(x).__name__}")


def align(operands: tuple, name: str, to_float: bool = False, conditions: int = 0) -> list:
    """The operands cast to a common dtype and, where they want a gradient, expanded to the common shape.

    The first `conditions` operands only choose between the others: their dtype stays, and does not count.
    """
    operands = tuple(_operand(x, name) for x in operands)
    first = next((x for x in operands if isinstance(x, Tensor)), None)
    if first is None:
        raise TypeError(f"{name}: expected a Tensor, got {', '.join(map(repr, operands))}")
    dtype = result_type(*operands[conditions:])
    if to_float and dtype.kind != "f":
        dtype = np.dtype(np.float32)
    cast_to = [
        cast(x, dtype=dtype) if k >= conditions and isinstance(x, Tensor) and x.dtype != dtype else x
        for k, x in enumerate(operands)
    ]
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
    conditions = 0  # how many of the first operands only choose between the others
    tensors = 0  # how many of the first operands must not be Python numbers
    kinds = "buif"  # NumPy's letters for the dtypes that it takes: bool, unsigned, signed, floating

    def prepared(self, operands: tuple) -> tuple:
        if self.tensors or self.conditions:
            self._check(operands)
        if self._aligned(operands):
            return operands
        operands = tuple(align(operands, self.name, self.to_float, self.conditions))
        dtype = result_type(*operands[self.conditions :])
        if dtype.kind not in self.kinds:
            raise TypeError(f"{self.name}: not defined for {dtype} operands")
        return operands

    def _check(self, operands: tuple) -> None:
        """TypeError for numbers where there must be Tensors, and for conditions that are not booleans."""
        for x in operands[: self.tensors]:
            if type(x) in OF_PYTHON or isinstance(x, np.generic):
                raise TypeError(f"{self.name}: expected a Tensor, got {x}; minidl.tensor({x}) makes one")
        for x in operands[: self.conditions]:
            if hasattr(x, "dtype") and x.dtype.kind not in "bu":
                raise TypeError(f"{self.name}: the condition must hold booleans, got {x.dtype}")

    def _aligned(self, operands: tuple) -> bool:
        """Whether there is nothing to do, the common case: floats of one dtype and shape, Python numbers."""
        first = operands[0]
        if not isinstance(first, Tensor) or (dtype := first.array.dtype).kind != "f" or "f" not in self.kinds:
            return False
        shape = first.array.shape
        for x in operands[1:]:
            if not isinstance(x, Tensor):
                if type(x) is not float and type(x) is not int:
                    return False
            elif x.array.dtype != dtype or x.array.shape != shape:
                return False
        return True


def pointwise(
    *vjps: Callable | None,
    to_float: bool = False,
    conditions: int = 0,
    tensors: int = 0,
    kinds: str = "buif",
) -> Callable[[Callable], Op]:
    """Declare a pointwise op: one vjp per operand, as in `minidl.autograd.op`."""

    def decorate(forward: Callable) -> Op:
        declared = Pointwise(forward, vjps, "pointwise", reach=lambda *operands, **_: reduce(or_, operands))
        declared.to_float, declared.conditions = to_float, conditions
        declared.tensors, declared.kinds = tensors, kinds
        return declared

    return decorate


to_float = partial(pointwise, to_float=True)

# ---- arithmetic ---------------------------------------------------------------------------------


@pointwise(lambda g: g, lambda g: g)
def add(xp, a, b):
    """a + b."""
    return xp.add(a, b)


@pointwise(lambda g: g, lambda g: -g, kinds="uif")
def sub(xp, a, b):
    """a - b."""
    return xp.subtract(a, b)


@pointwise(lambda g, b: g * b, lambda g, a: g * a)
def mul(xp, a, b):
    """a · b."""
    return xp.multiply(a, b)


@to_float(lambda g, b: g / b, lambda g, y, b: -(g * y / b))
def div(xp, a, b):
    """a / b; of integers, float32."""
    return xp.divide(a, b)


@pointwise(lambda g: -g, kinds="uif")
def neg(xp, x):
    """-x."""
    return xp.negative(x)


def _pow_base(g, a, b):
    if not isinstance(b, Tensor):
        return g * (b * a ** (b - 1)) if b != 0 else g * 0.0
    return g * where(b == 0, 0.0, b * a ** (b - 1))  # x^0 is constant, also at x = 0


def _pow_exponent(g, y, a):
    if not isinstance(a, Tensor):
        return g * (y * (math.log(a) if a > 0 else 0.0 if a == 0 else math.nan))
    return g * where(a == 0, 0.0, y * log(where(a == 0, 1.0, a)))  # 0^b is constant for b > 0


@pointwise(_pow_base, _pow_exponent, kinds="uif")
def pow(xp, a, b):
    """a^b; of integers where b < 0: 1 / a^|b| without its fraction."""
    if hasattr(b, "dtype") and b.dtype.kind == "i":  # only 1 and -1 have an inverse: a^b is 1, or (-1)^b
        y = xp.power(a, xp.where(b < 0, b & 1, b))
        return xp.where((b < 0) & (xp.abs(a) != 1), 0, y).astype(b.dtype, copy=False)
    return a**b  # unlike xp.power it squares by multiplication


# ---- exponentials and powers -------------------------------------------------------------------


@to_float(lambda g, y: g * y)
def exp(xp, x):
    """e^x."""
    return xp.exp(x)


@to_float(lambda g, y: g * (y + 1))
def expm1(xp, x):
    """e^x - 1, exact also near 0."""
    return xp.expm1(x)


@to_float(lambda g, x: g / x)
def log(xp, x):
    """The natural logarithm."""
    return xp.log(x)


@to_float(lambda g, x: g / (x + 1))
def log1p(xp, x):
    """log(1 + x), exact also near 0."""
    return xp.log1p(x)


@to_float(lambda g, y: g / (2 * y))
def sqrt(xp, x):
    """The square root."""
    return xp.sqrt(x)


@to_float(lambda g, y: g * (-0.5 * y * y * y))
def rsqrt(xp, x):
    """1 / sqrt(x)."""
    return 1 / xp.sqrt(x)


@to_float(lambda g, y: g * (1 - y * y))
def tanh(xp, x):
    """The hyperbolic tangent."""
    return xp.tanh(x)


@to_float(lambda g, y: g * (y * (1 - y)))
def sigmoid(xp, x):
    """1 / (1 + e^-x), without overflow: e^-|x| is at most 1."""
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, e) / (1 + e)


@to_float(lambda g, x: g * sigmoid(-x))
def logsigmoid(xp, x):
    """log(1 / (1 + e^-x)) = min(x, 0) - log(1 + e^-|x|), exact far from 0 too."""
    return xp.minimum(x, 0) - xp.log1p(xp.exp(-xp.abs(x)))


@to_float(lambda g, x: g / clamp(x, low=1e-12, high=math.inf))
def floored_log(xp, x):
    """max(log x, -100), also at x = 0; the derivative stops growing at 10^12."""
    return xp.maximum(xp.log(xp.maximum(x, 1e-45)), -100)


@to_float(lambda g, x: g * cos(x))
def sin(xp, x):
    """The sine."""
    return xp.sin(x)


@to_float(lambda g, x: -(g * sin(x)))
def cos(xp, x):
    """The cosine."""
    return xp.cos(x)


# ---- piecewise linear --------------------------------------------------------------------------


@pointwise(lambda g, x: g * sign(x), kinds="uif")
def abs(xp, x):
    """|x|; the derivative at 0 is 0."""
    return xp.abs(x)


def step(g):
    """The cotangent of a step function: its derivative is 0 wherever it has one."""
    return Tensor(array_module(g.array).zeros_like(g.array))


@pointwise(step)
def sign(xp, x):
    """-1, 0 or 1; its derivative is 0."""
    return xp.sign(x) if x.dtype.kind != "b" else x.copy()


@pointwise(lambda g, y: where(y > 0, g, 0.0), kinds="uif")
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
    conditions=1,
)
def where(xp, condition, a, b):
    """a where the condition holds, b elsewhere."""
    y = xp.where(condition, a, b)
    return y if hasattr(a, "dtype") or hasattr(b, "dtype") else y.astype(result_type(a, b))


def _share(winner: Tensor, tie: Tensor, g: Tensor) -> Tensor:
    """The cotangent for the larger (or smaller) operand; at a tie both get half of it."""
    return where(winner, g, where(tie, g * 0.5, 0.0))


@pointwise(lambda g, a, b: _share(a > b, a == b, g), lambda g, a, b: _share(b > a, a == b, g), tensors=2)
def maximum(xp, a, b):
    """The larger one; at a tie both get half of the cotangent."""
    return xp.maximum(a, b)


@pointwise(lambda g, a, b: _share(a < b, a == b, g), lambda g, a, b: _share(b < a, a == b, g), tensors=2)
def minimum(xp, a, b):
    """The smaller one; at a tie both get half of the cotangent."""
    return xp.minimum(a, b)


@pointwise(lambda g, x, low, high: where((x >= low) & (x <= high), g, 0.0))
def clamp(xp, x, *, low, high):
    """min(max(x, low), high); the derivative is 1 on the closed interval, as in PyTorch."""
    return xp.clip(x, low, high)
