"""Matrices: products, diagonals and triangles, by PyTorch's names."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import array_module
from minidl.mixed_precision import autocasts
from minidl.ops import bilinear, linear
from minidl.ops import pointwise as pw
from minidl.ops.shaping import check_tensor, existing_dim

# ---- products ------------------------------------------------------------------------------------


def _operands(name: str, a: Tensor, b: Tensor) -> None:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        raise TypeError(f"{name}: expected Tensors, got {type(a).__name__} and {type(b).__name__}")
    if a.dtype != b.dtype:
        raise TypeError(f"{name}: dtypes differ: {a.dtype} and {b.dtype}")
    if a.dtype == np.bool_:
        raise TypeError(f"{name}: not defined for booleans")


@autocasts
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product over the last two dims; leading dims broadcast, a vector is a row or a column."""
    a, b = input, other
    _operands("matmul", a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul: expected tensors with dims, got shapes {a.shape} and {b.shape}")
    row, column = a.ndim == 1, b.ndim == 1
    a = linear.reshape(a, shape=(1, *a.shape)) if row else a
    b = linear.reshape(b, shape=(*b.shape, 1)) if column else b
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(f"matmul: inner sizes differ: {input.shape} @ {other.shape}")
    try:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ValueError(f"matmul: batch dims do not broadcast: {input.shape} @ {other.shape}") from None
    shape = (*lead, *([] if row else [a.shape[-2]]), *([] if column else [b.shape[-1]]))
    if a.ndim > 2 and b.ndim == 2:  # one product for all the rows, instead of a copy of b for each matrix
        a = linear.reshape(a, shape=(math.prod(a.shape[:-1]), a.shape[-1]))
        lead = ()
    y = bilinear.matmul(
        *(x if x.shape[:-2] == lead else linear.expand(x, shape=(*lead, *x.shape[-2:])) for x in (a, b))
    )
    return y if y.shape == shape else linear.reshape(y, shape=shape)


def _product(name: str, ndims: tuple[int, int], what: str) -> Callable[[Tensor, Tensor], Tensor]:
    """`matmul` for operands of exactly these numbers of dims, without broadcasting."""

    def product(input: Tensor, mat2: Tensor) -> Tensor:
        _operands(name, input, mat2)
        if (input.ndim, mat2.ndim) != ndims or input.shape[:-2] != mat2.shape[:-2][: input.ndim - 2]:
            raise ValueError(f"{name}: expected {what}, got shapes {input.shape} and {mat2.shape}")
        if input.shape[-1] != mat2.shape[0 if mat2.ndim == 1 else -2]:
            raise ValueError(f"{name}: inner sizes differ: {input.shape} and {mat2.shape}")
        return matmul(input, mat2)

    product.__name__ = product.__qualname__ = name
    product.__doc__ = f"The product of {what}."
    return autocasts(product)


mm = _product("mm", (2, 2), "two matrices, (n, k) and (k, m)")
bmm = _product("bmm", (3, 3), "two batches of matrices, (b, n, k) and (b, k, m)")
mv = _product("mv", (2, 1), "a matrix and a vector, (n, k) and (k,)")
dot = _product("dot", (1, 1), "two vectors of one size")


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """y[i, j] = a[i] · b[j] of two vectors."""
    for x in (input, vec2):
        check_tensor(x, "outer")
    if input.ndim != 1 or vec2.ndim != 1:
        raise ValueError(f"outer: expected two vectors, got shapes {input.shape} and {vec2.shape}")
    return linear.reshape(input, shape=(*input.shape, 1)) * vec2


# ---- diagonals and triangles ---------------------------------------------------------------------


def _on_diagonal(rows: int, columns: int, offset: int) -> slice:
    """The diagonal of a matrix as a slice of its flattened elements: one row and one column further each."""
    first = offset if offset >= 0 else -offset * columns
    count = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    return slice(first, first + (count - 1) * (columns + 1) + 1, columns + 1) if count else slice(0)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """y[..., i] = x[..., i, i + offset] for the two dims, which are replaced by one at the end."""
    a, b = (existing_dim(input, dim, "diagonal") for dim in (dim1, dim2))
    if a == b:
        raise ValueError(f"diagonal: dims {dim1} and {dim2} of shape {input.shape} are the same")
    rest = [i for i in range(input.ndim) if i not in (a, b)]
    x = linear.permute(input, axes=(*rest, a, b))
    rows, columns = x.shape[-2:]
    flat = linear.reshape(x, shape=(*x.shape[:-2], rows * columns))
    return linear.getitem(flat, index=(..., _on_diagonal(rows, columns, offset)))


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix; or, from a vector, the matrix with that diagonal and zeros elsewhere."""
    check_tensor(input, "diag")
    if input.ndim == 2:
        return _diagonal(input, diagonal)
    if input.ndim != 1:
        raise ValueError(f"diag: expected a vector or a matrix, got shape {input.shape}")
    n = input.shape[0] + abs(diagonal)
    flat = linear.scatter(input, index=(_on_diagonal(n, n, diagonal),), shape=(n * n,))
    return linear.reshape(flat, shape=(n, n))


_diagonal = diagonal  # diag has an argument of that name


def _triangle(name: str, input: Tensor, diagonal: int, lower: bool) -> Tensor:
    check_tensor(input, name)
    if input.ndim < 2:
        raise ValueError(f"{name}: expected at least 2 dims, got shape {input.shape}")
    xp = array_module(input.array)
    below = xp.tri(*input.shape[-2:], diagonal if lower else diagonal - 1, dtype=np.bool_)
    return pw.where(Tensor(below if lower else ~below), input, input.dtype.type(0).item())


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of matrices, up to the given diagonal; zeros above it."""
    return _triangle("tril", input, diagonal, lower=True)


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of matrices, from the given diagonal on; zeros below it."""
    return _triangle("triu", input, diagonal, lower=False)
