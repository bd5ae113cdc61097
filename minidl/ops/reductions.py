"""Sums, means, products, norms and what is made of them, by PyTorch's names: compositions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import array_module, as_array
from minidl.mixed_precision import autocasts
from minidl.ops import linear, logic
from minidl.ops import pointwise as pw
from minidl.ops.extrema import amax, amin
from minidl.ops.shaping import check_tensor, dropped, normalize_dim, normalize_dims

Dims = int | Sequence[int] | None

# ---- dtypes --------------------------------------------------------------------------------------


def _summand(input: Tensor, dtype: Any) -> Tensor:
    """The input as what is summed: of the dtype asked for; integers and booleans by default as int64."""
    if dtype is None and input.dtype.kind in "bui":
        dtype = np.int64
    return input if dtype is None else linear.cast(input, dtype=np.dtype(dtype))


def _floating(input: Tensor, name: str) -> None:
    if input.dtype.kind != "f":
        raise TypeError(f"{name}: expected a floating-point tensor, got {input.dtype}; call .float() first")


def _in_float32(reduction: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The reduction of a float16 tensor through float32, where intermediate sums do not overflow."""

    @wraps(reduction)
    def through(input: Tensor, *args: Any, **options: Any) -> Tensor:
        check_tensor(input, reduction.__name__)
        if input.dtype != np.float16 or options.get("dtype") is not None:
            return reduction(input, *args, **options)
        wide = linear.cast(input, dtype=np.dtype(np.float32))
        return linear.cast(reduction(wide, *args, **options), dtype=input.dtype)

    return through


# ---- sums ----------------------------------------------------------------------------------------


@autocasts
def sum(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ x over the given dims (all of them by default); integers and booleans are summed as int64."""
    check_tensor(input, "sum")
    dims = normalize_dims(dim, input.ndim, "sum")
    return linear.sum(_summand(input, dtype), dims=dims, keepdim=keepdim)


def _count(input: Tensor, dims: tuple[int, ...]) -> int:
    return math.prod(input.shape[i] for i in dims) if input.ndim else 1


@_in_float32
def mean(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ x / n over the given dims."""
    if dtype is not None:
        return mean(_summand(input, dtype), dim, keepdim)
    _floating(input, "mean")
    count = _count(input, normalize_dims(dim, input.ndim, "mean"))
    return pw.div(sum(input, dim, keepdim), count or math.nan)


@_in_float32
def var(
    input: Tensor,
    dim: Dims | bool = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Σ (x - mean)² / (n - correction); unbiased=True means correction 1, False means 0."""
    if isinstance(dim, bool):  # var(x, False)
        return var(input, None, dim, keepdim, correction=correction)
    _floating(input, "var")
    dims = normalize_dims(dim, input.ndim, "var")
    deviation = input - mean(input, dims, keepdim=True)
    count = _count(input, dims)
    degrees = count - (unbiased if correction is None else correction)
    weight = 1 / degrees if degrees > 0 else math.inf if count > 1 else math.nan
    return pw.mul(sum(deviation * deviation, dims, keepdim), weight)


@_in_float32
def std(
    input: Tensor,
    dim: Dims | bool = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The square root of `var`; where it is 0 its derivative is taken as 0."""
    return _power(var(input, dim, unbiased, keepdim, correction=correction), 0.5)


@autocasts
@_in_float32
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """y_i = Σ_{j <= i} x_j along a dim."""
    input = _summand(input, dtype)
    at = normalize_dim(dim, input.ndim, "cumsum")
    return linear.cumsum(input, dim=at, reverse=False) if input.ndim else input


# ---- products ------------------------------------------------------------------------------------


@autocasts
@_in_float32
def prod(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Π x over the dims, by halves: no division, so that zeros among the factors get their true gradient."""
    x = _summand(input, dtype)
    dims = normalize_dims(dim, x.ndim, "prod")
    kept = tuple(i for i in range(x.ndim) if i not in dims)
    x = linear.permute(x, axes=(*kept, *dims))
    x = linear.reshape(x, shape=(*(input.shape[i] for i in kept), _count(input, dims)))
    while (n := x.shape[-1]) > 1:
        half = n // 2
        pairs = x[..., :half] * x[..., half : 2 * half]
        x = linear.cat(pairs, x[..., 2 * half :], dim=len(kept)) if n % 2 else pairs
    if n == 0:
        x = Tensor(array_module(x.array).ones((*x.shape[:-1], 1), dtype=x.dtype))
    y = linear.reshape(x, shape=tuple(1 if i in dims else n for i, n in enumerate(input.shape)))
    return dropped(y, dims, keepdim)


@autocasts
@_in_float32
def cumprod(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """y_i = Π_{j <= i} x_j along a dim: after the k-th step each y_i is the product of up to 2^k factors."""
    x = _summand(input, dtype)
    at = normalize_dim(dim, x.ndim, "cumprod")
    before, reach = (slice(None),) * at, 1
    while x.ndim and reach < x.shape[at]:
        head = x[(*before, slice(reach))]
        longer = x[(*before, slice(reach, None))] * x[(*before, slice(-reach))]
        x, reach = linear.cat(head, longer, dim=at), 2 * reach
    return x


# ---- norms ---------------------------------------------------------------------------------------


def _power(x: Tensor, exponent: float) -> Tensor:
    """x^exponent for x >= 0; the derivative at x = 0 is taken as 0 also where it is infinite."""
    zero = logic.eq(x, 0)
    return pw.where(zero, 0.0, pw.where(zero, 1.0, x) ** float(exponent))


@autocasts
@_in_float32
def vector_norm(x: Tensor, ord: float = 2, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """(Σ |x|^ord)^(1/ord) over the dims; max |x| for ord = ∞, min |x| for -∞, the number of x ≠ 0 for 0."""
    _floating(x, "vector_norm")
    if ord == 2:
        return _power(sum(x * x, dim, keepdim), 0.5)
    if ord == 0:
        return sum(logic.ne(x, 0), dim, keepdim, dtype=x.dtype)
    size = pw.abs(x)
    if math.isinf(ord):
        return (amax if ord > 0 else amin)(size, dim, keepdim)
    return sum(size, dim, keepdim) if ord == 1 else _power(sum(_power(size, ord), dim, keepdim), 1 / ord)


def norm(input: Tensor, p: float | str = "fro", dim: Dims = None, keepdim: bool = False) -> Tensor:
    """`vector_norm` by its older name; p="fro" is p = 2."""
    if isinstance(p, str) and p != "fro":
        raise ValueError(f"norm: expected a number or 'fro' for p, got {p!r}")
    return vector_norm(input, 2 if isinstance(p, str) else p, dim, keepdim)


# ---- truth and counts: no gradient ---------------------------------------------------------------


def _truth(name: str, input: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """NumPy's any or all, as booleans; but of uint8, once PyTorch's booleans, as uint8."""
    check_tensor(input, name)
    xp, dims = array_module(input.array), normalize_dims(dim, input.ndim, name)
    found = as_array(getattr(xp, name)(input.array, axis=dims, keepdims=keepdim), xp)
    return Tensor(found.astype(input.dtype) if input.dtype == np.uint8 else found)


def any(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether any element along the dims is nonzero."""
    return _truth("any", input, dim, keepdim)


def all(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether all elements along the dims are nonzero."""
    return _truth("all", input, dim, keepdim)


def count_nonzero(input: Tensor, dim: Dims = None) -> Tensor:
    """How many elements along the dims are not zero."""
    return sum(logic.ne(input, 0), dim)


# ---- exponentials --------------------------------------------------------------------------------


def _shifted(input: Tensor, dim: Dims, name: str) -> tuple[Tensor, Tensor | float]:
    """x - max x and max x: softmax does not change by a shift, and e^x cannot overflow after it."""
    _floating(input, name)
    if not _count(input, normalize_dims(dim, input.ndim, name)):
        return input, 0.0
    top = amax(input.detach(), dim, keepdim=True)
    top = pw.where(logic.isfinite(top), top, 0.0)  # a slice of -inf alone must not become inf - inf
    return input - top, top


@autocasts
@_in_float32
def softmax(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """e^x_i / Σ_j e^x_j along a dim, of the input cast to `dtype` if one is given."""
    e = pw.exp(_shifted(_summand(input, dtype), dim, "softmax")[0])
    return e / sum(e, dim, keepdim=True)


@autocasts
@_in_float32
def log_softmax(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """x_i - log Σ_j e^x_j along a dim, of the input cast to `dtype` if one is given."""
    shifted, _ = _shifted(_summand(input, dtype), dim, "log_softmax")
    if not shifted.array.size:
        return shifted
    return shifted - pw.log(sum(pw.exp(shifted), dim, keepdim=True))


@_in_float32
def logsumexp(input: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """log Σ e^x over the dims, without overflow; -∞ over no elements. Of integers float32."""
    if input.dtype.kind != "f":
        input = linear.cast(input, dtype=np.dtype(np.float32))
    dims = normalize_dims(dim, input.ndim, "logsumexp")
    if not _count(input, dims):
        return sum(input, dims, keepdim) - math.inf
    shifted, top = _shifted(input, dims, "logsumexp")
    return dropped(pw.log(sum(pw.exp(shifted), dims, keepdim=True)) + top, dims, keepdim)
