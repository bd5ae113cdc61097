"""Comparisons and logic, element by element: pointwise ops without a gradient."""

from __future__ import annotations

from minidl.autograd import Op
from minidl.ops.pointwise import pointwise

# ---- one operand ---------------------------------------------------------------------------------


def _of_one(name: str, kinds: str = "buif") -> Op:
    """The function of that name in NumPy and CuPy as an op of one operand."""

    def forward(xp, x):
        return getattr(xp, name)(x)

    forward.__name__ = name
    return pointwise(kinds=kinds)(forward)


isnan, isinf, isfinite = map(_of_one, ("isnan", "isinf", "isfinite"))
logical_not = _of_one("logical_not")
bitwise_not = _of_one("bitwise_not", kinds="bui")  # of booleans: logical_not

# ---- two operands --------------------------------------------------------------------------------


def _of_two(name: str, kinds: str = "buif") -> Op:
    """The function of that name in NumPy and CuPy as an op of two operands."""

    def forward(xp, a, b):
        return getattr(xp, name)(a, b)

    forward.__name__ = name
    return pointwise(kinds=kinds)(forward)


eq, ne, lt, le, gt, ge = map(
    _of_two, ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
)
logical_and, logical_or, logical_xor = map(_of_two, ("logical_and", "logical_or", "logical_xor"))
bitwise_and, bitwise_or, bitwise_xor = (
    _of_two(name, kinds="bui") for name in ("bitwise_and", "bitwise_or", "bitwise_xor")
)
