"""More pointwise functions: logarithms, circular and hyperbolic, rounding, division with remainder."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from minidl import backend
from minidl.autograd import Op, Tensor
from minidl.dtypes import result_type
from minidl.mixed_precision import autocasts
from minidl.ops import linear, logic
from minidl.ops import pointwise as pw
from minidl.ops.pointwise import pointwise, step, to_float
from minidl.ops.shaping import check_tensor

Bound = bool | int | float | Tensor | None

# ---- logarithms ----------------------------------------------------------------------------------


@to_float(lambda g, x: g / (x * math.log(2)))
def log2(xp, x):
    """The logarithm to base 2."""
    return xp.log2(x)


@to_float(lambda g, x: g / (x * math.log(10)))
def log10(xp, x):
    """The logarithm to base 10."""
    return xp.log10(x)


# ---- circular and hyperbolic functions -----------------------------------------------------------


@to_float(lambda g, y: g * (y * y + 1))
def tan(xp, x):
    """The tangent."""
    return xp.tan(x)


@to_float(lambda g, x: g * pw.rsqrt(1 - x * x))
def asin(xp, x):
    """The angle whose sine is x."""
    return xp.arcsin(x)


@to_float(lambda g, x: -(g * pw.rsqrt(1 - x * x)))
def acos(xp, x):
    """The angle whose cosine is x."""
    return xp.arccos(x)


@to_float(lambda g, x: g / (x * x + 1))
def atan(xp, x):
    """The angle whose tangent is x."""
    return xp.arctan(x)


def _square_distance(a, b):
    """a² + b², but 1 for the origin, where the angle's derivative is taken as 0."""
    y = a * a + b * b
    return pw.where(logic.eq(y, 0), 1.0, y)


@to_float(
    lambda g, a, b: g * b / _square_distance(a, b),
    lambda g, a, b: -(g * a / _square_distance(a, b)),
    tensors=2,
)
def atan2(xp, a, b):
    """The angle of the point with ordinate a and abscissa b, in (-π, π]."""
    return xp.arctan2(a, b)


@to_float(lambda g, x: g * cosh(x))
def sinh(xp, x):
    """The hyperbolic sine."""
    return xp.sinh(x)


@to_float(lambda g, x: g * sinh(x))
def cosh(xp, x):
    """The hyperbolic cosine."""
    return xp.cosh(x)


@to_float(lambda g, x: g * (pw.exp(-(x * x)) * (2 / math.sqrt(math.pi))))
def erf(xp, x):
    """2/√π ∫_0^x exp(-t²) dt."""
    return backend.special(xp).erf(x).astype(x.dtype, copy=False)  # SciPy has none in float16


# ---- rounding ------------------------------------------------------------------------------------


def _rounding(name: str, says: str, array_name: str | None = None) -> Op:
    """A step function, whose derivative is 0; integers are returned as they are."""

    def forward(xp, x):
        return getattr(xp, array_name or name)(x) if x.dtype.kind == "f" else x.copy()

    forward.__name__, forward.__doc__ = name, says
    return pointwise(step, kinds="uif")(forward)


floor = _rounding("floor", "The largest integer not above x.")
ceil = _rounding("ceil", "The smallest integer not below x.")
trunc = _rounding("trunc", "x without its fraction.")
_round = _rounding("round", "The nearest integer; halves go to the even one.", "rint")


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest multiple of 10^-decimals; halves go to the even one."""
    if decimals == 0:
        return _round(input)
    if input.dtype.kind != "f":
        raise TypeError(f"round: decimals are for floating-point tensors, got {input.dtype}")
    scale = 10.0 ** builtins.abs(decimals)
    return _round(input * scale) / scale if decimals > 0 else _round(input / scale) * scale


# ---- division with remainder ---------------------------------------------------------------------


def _dividing(forward: Callable) -> Callable:
    """Refuses integer division by zero, for which arrays have no value."""

    def checked(xp, a, b):
        dtype = a.dtype if hasattr(a, "dtype") else b.dtype
        if dtype.kind != "f" and xp.asarray(b == 0).any():
            raise ZeroDivisionError(f"{forward.__name__}: integer division by zero")
        return forward(xp, a, b)

    checked.__name__, checked.__doc__ = forward.__name__, forward.__doc__
    return checked


@pointwise(kinds="uif")
@_dividing
def floor_divide(xp, a, b):
    """⌊a / b⌋, the quotient that goes with `remainder`."""
    return xp.floor_divide(a, b)


@pointwise(lambda g: g, lambda g, a, b: -(g * floor_divide(a, b)), kinds="uif")
@_dividing
def remainder(xp, a, b):
    """a - b ⌊a / b⌋, which has the sign of b, as Python's %."""
    return xp.remainder(a, b)


@pointwise(lambda g: g, lambda g, a, b: -(g * trunc(a / b)), tensors=1, kinds="uif")
@_dividing
def fmod(xp, a, b):
    """a - b trunc(a / b), which has the sign of a, as C's %."""
    return xp.fmod(a, b)


def div(
    input: Tensor | float, other: Tensor | float, *, rounding_mode: Literal["floor", "trunc"] | None = None
) -> Tensor:
    """a / b; as an integer without a gradient if it is rounded, down ("floor") or towards 0 ("trunc")."""
    if rounding_mode is None:
        return pw.div(input, other)
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode != "trunc":
        raise ValueError(f"div: rounding_mode must be None, 'floor' or 'trunc', got {rounding_mode!r}")
    if result_type(input, other).kind == "f":
        return trunc(pw.div(input, other))
    return floor_divide(input - fmod(input, other), other)


# ---- compositions --------------------------------------------------------------------------------


def add(input: Tensor | float, other: Tensor | float, *, alpha: float = 1) -> Tensor:
    """a + alpha · b."""
    return pw.add(input, other if alpha == 1 else other * alpha)


def sub(input: Tensor | float, other: Tensor | float, *, alpha: float = 1) -> Tensor:
    """a - alpha · b."""
    return pw.sub(input, other if alpha == 1 else other * alpha)


@autocasts
def reciprocal(input: Tensor) -> Tensor:
    """1 / x."""
    return pw.div(1, input)


def square(input: Tensor) -> Tensor:
    """x²; of booleans int64, as every power."""
    check_tensor(input, "square")
    return input**2 if input.dtype.kind == "b" else input * input


def clamp(input: Tensor, min: Bound = None, max: Bound = None) -> Tensor:
    """x kept between min and max, each a number, a tensor or None (no bound): min(max(x, low), high)."""
    check_tensor(input, "clamp")
    bounds = [bound for bound in (min, max) if bound is not None]
    if not bounds:
        raise ValueError("clamp: expected min, max or both")
    if any(isinstance(bound, Tensor) for bound in bounds):
        y = input if min is None else pw.where(input < min, min, input)
        return y if max is None else pw.where(y > max, max, y)
    dtype = result_type(input, *bounds)
    info = np.iinfo(dtype) if dtype.kind in "ui" else None
    low = min if min is not None else info.min if info else -math.inf
    high = max if max is not None else info.max if info else math.inf
    return pw.clamp(linear.cast(input, dtype=dtype), low=low, high=high)


def nan_to_num(
    input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """NaN replaced by `nan`, ±∞ by `posinf` and `neginf` (by default the largest numbers of the dtype)."""
    check_tensor(input, "nan_to_num")
    if input.dtype.kind != "f":
        return input
    info = np.finfo(input.dtype)
    y = pw.where(logic.isnan(input), float(nan), input)
    y = pw.where(logic.eq(input, math.inf), float(info.max if posinf is None else posinf), y)
    return pw.where(logic.eq(input, -math.inf), float(info.min if neginf is None else neginf), y)
