"""Comparisons and logic, element by element: pointwise ops without a gradient."""

from __future__ import annotations

from typing import Any

from minidl.autograd import Op
from minidl.ops.pointwise import pointwise


def _op(name: str, says: str, operands: int, tensors: int = 0, kinds: str = "buif") -> Op:
    """The function of that name in NumPy and CuPy as an op of one or two operands.

    As in PyTorch the first `tensors` of them must not be Python numbers.
    """
    of_one: Any = lambda xp, x: getattr(xp, name)(x)
    of_two: Any = lambda xp, a, b: getattr(xp, name)(a, b)
    forward = of_one if operands == 1 else of_two
    forward.__name__, forward.__doc__ = name, says
    return pointwise(tensors=tensors, kinds=kinds)(forward)


isnan = _op("isnan", "Whether x is not a number.", 1)
isinf = _op("isinf", "Whether x is infinite.", 1)
isfinite = _op("isfinite", "Whether x is neither infinite nor NaN.", 1)
logical_not = _op("logical_not", "Whether x is 0.", 1)
bitwise_not = _op("bitwise_not", "x with every bit inverted; of booleans, not x.", 1, kinds="bui")

eq = _op("equal", "Whether a = b.", 2, tensors=1)
ne = _op("not_equal", "Whether a ≠ b.", 2, tensors=1)
lt = _op("less", "Whether a < b.", 2, tensors=1)
le = _op("less_equal", "Whether a ≤ b.", 2, tensors=1)
gt = _op("greater", "Whether a > b.", 2, tensors=1)
ge = _op("greater_equal", "Whether a ≥ b.", 2, tensors=1)
logical_and = _op("logical_and", "Whether both are nonzero.", 2, tensors=2)
logical_or = _op("logical_or", "Whether one or both are nonzero.", 2, tensors=2)
logical_xor = _op("logical_xor", "Whether exactly one is nonzero.", 2, tensors=2)
bitwise_and = _op("bitwise_and", "The bits that both have; of booleans, a and b.", 2, kinds="bui")
bitwise_or = _op("bitwise_or", "The bits that one or both have; of booleans, a or b.", 2, kinds="bui")
bitwise_xor = _op("bitwise_xor", "The bits that exactly one has; of booleans, a ≠ b.", 2, kinds="bui")
