"""Einstein's summation: products of tensors with named dims, summed over the names that the result lacks.

    einsum("bij,bjk->bik", a, b)        y[b, i, k] = Σ_j a[b, i, j] · b[b, j, k], the batched matrix product
    einsum("ii->i", a)                  a name twice in one operand: the diagonal
    einsum("...c,c->...", a, b)         dims without a name, which broadcast

The operands are merged one after another. Each merge is a matrix product: names that both have and that are
still needed number the matrices, names that both have and nobody needs any more are the inner dim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minidl.autograd import Tensor
from minidl.mixed_precision import autocasts
from minidl.ops import bilinear, linear, reductions
from minidl.ops import pointwise as pw
from minidl.ops.matrices import diagonal
from minidl.ops.shaping import check_tensor, normalize_dim

Label = str | int  # a letter; or a dim covered by an ellipsis, counted from the last: -1, -2, ...
Labels = tuple[Label, ...]


# ---- reading the equation ------------------------------------------------------------------------


class _Named(NamedTuple):
    """A tensor and a name for each of its dims."""

    tensor: Tensor
    labels: Labels


def _labels(term: str, covered: int, equation: str) -> Labels:
    """A term such as "b...c" as labels, the ellipsis standing for `covered` dims."""
    letters = term.replace("...", "")
    if term.count("...") > 1 or not (letters.isascii() and (letters.isalpha() or not letters)):
        raise ValueError(
            f"einsum: cannot read {term!r} in {equation!r}: expected letters and at most one '...'"
        )
    before, dots, after = term.partition("...")
    return (*before, *(range(-covered, 0) if dots else ()), *after)


def _parse(equation: str, operands: Sequence[Tensor]) -> tuple[list[_Named], Labels]:
    """The operands with their labels, and the labels of the result."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ValueError(f"einsum: {equation!r} names {len(terms)} operands, got {len(operands)}")
    named = []
    for k, (term, x) in enumerate(zip(terms, operands)):
        covered = x.ndim - len(term.replace("...", ""))
        if covered < 0 or (covered and "..." not in term):
            raise ValueError(f"einsum: {term!r} does not name the dims of operand {k}, of shape {x.shape}")
        named.append(_Named(x, _labels(term, covered, equation)))
    every = [label for x in named for label in x.labels]
    covered = -min((label for label in every if isinstance(label, int)), default=0)
    if not arrow:  # the dims of the ellipsis, then the letters that occur once, in order
        letters = sorted(v for v in set(every) if isinstance(v, str) and every.count(v) == 1)
        return named, (*range(-covered, 0), *letters)
    output = _labels(right, covered, equation)
    unknown = set(output) - set(every)
    if unknown or len(set(output)) < len(output):
        raise ValueError(
            f"einsum: the result {right!r} of {equation!r} repeats a name or has one of no operand"
        )
    return named, output


def _sizes(named: list[_Named], equation: str) -> dict[Label, int]:
    """The size of each name; a size of 1 goes with every other."""
    sizes: dict[Label, int] = {}
    for x in named:
        for label, n in zip(x.labels, x.tensor.shape):
            if sizes.setdefault(label, n) == 1:
                sizes[label] = n
            elif n not in (1, sizes[label]):
                shapes = ", ".join(str(x.tensor.shape) for x in named)
                raise ValueError(
                    f"einsum: {label!r} has sizes {sizes[label]} and {n} in {equation!r}, shapes {shapes}"
                )
    return sizes


# ---- computing -----------------------------------------------------------------------------------


def _simplified(x: _Named, sizes: dict[Label, int], needed: set[Label]) -> _Named:
    """Names that occur twice as diagonals; dims that only broadcast, and those nobody needs, removed."""
    tensor, labels = x
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            a, b = [i for i, v in enumerate(labels) if v == label][:2]
            if tensor.shape[a] != tensor.shape[b]:
                raise ValueError(f"einsum: {label!r} has two sizes in one operand of shape {tensor.shape}")
            tensor = diagonal(tensor, 0, a, b)
            labels = (*(v for i, v in enumerate(labels) if i not in (a, b)), label)
    gone = tuple(
        i for i, v in enumerate(labels) if v not in needed or (tensor.shape[i] == 1 and sizes[v] != 1)
    )
    if gone:
        tensor = reductions.sum(tensor, gone)
    return _Named(tensor, tuple(v for i, v in enumerate(labels) if i not in gone))


def _grouped(x: _Named, *groups: Labels) -> Tensor:
    """The dims in the order of the groups, each group merged into one dim."""
    order = [x.labels.index(label) for group in groups for label in group]
    sizes = dict(zip(x.labels, x.tensor.shape))
    merged = tuple(math.prod(sizes[label] for label in group) for group in groups)
    return linear.reshape(linear.permute(x.tensor, axes=tuple(order)), shape=merged)


def merge(a: _Named, b: _Named, needed: set[Label]) -> _Named:
    """Σ a · b over the names that both have and that are not needed."""
    shared = [label for label in a.labels if label in b.labels]
    batch = tuple(label for label in shared if label in needed)
    inner = tuple(label for label in shared if label not in needed)
    if inner and a.tensor.dtype == b.tensor.dtype == np.bool_:
        raise TypeError("einsum: products of booleans cannot be summed; call .float() or .long() first")
    rows = tuple(label for label in a.labels if label not in shared)
    columns = tuple(label for label in b.labels if label not in shared)
    left, right = _grouped(a, batch, rows, inner), _grouped(b, batch, inner, columns)
    y = (
        bilinear.matmul(left, right) if inner else pw.mul(left, right)
    )  # (batch, rows, 1) · (batch, 1, columns)
    size = dict(zip((*a.labels, *b.labels), (*a.tensor.shape, *b.tensor.shape)))
    labels = (*batch, *rows, *columns)
    return _Named(linear.reshape(y, shape=tuple(size[label] for label in labels)), labels)


@autocasts
def einsum(equation: str, *operands: Tensor | Sequence[Tensor]) -> Tensor:
    """Σ over the names missing in the result of the product of all operands, dims being named by letters.

    Without "->" the result has the names that occur once, in alphabetical order.
    """
    if not isinstance(equation, str):
        raise TypeError(f"einsum: the equation must be a string, got {type(equation).__name__}")
    tensors: Any = (
        list(operands[0]) if len(operands) == 1 and not isinstance(operands[0], Tensor) else operands
    )
    if not tensors or not all(isinstance(x, Tensor) for x in tensors):
        raise TypeError(
            f"einsum: expected Tensors, got {', '.join(type(x).__name__ for x in tensors) or 'none'}"
        )
    if len({x.dtype for x in tensors}) > 1:
        raise TypeError(f"einsum: dtypes differ: {', '.join(str(x.dtype) for x in tensors)}")
    named, output = _parse(equation, tensors)
    sizes = _sizes(named, equation)

    def needed_beside(k: int) -> set[Label]:
        return {*output, *(label for i, x in enumerate(named) if i != k for label in x.labels)}

    parts = [_simplified(x, sizes, needed_beside(k)) for k, x in enumerate(named)]
    result = parts[0]
    for k, part in enumerate(parts[1:], 1):
        result = merge(result, part, {*output, *(label for x in parts[k + 1 :] for label in x.labels)})
    lone = tuple(i for i, label in enumerate(result.labels) if label not in output)
    if lone:  # names whose other occurrences only broadcast
        kept = tuple(label for label in result.labels if label in output)
        result = _Named(reductions.sum(result.tensor, lone), kept)
    return linear.permute(result.tensor, axes=tuple(result.labels.index(label) for label in output))


@autocasts
def tensordot(a: Tensor, b: Tensor, dims: int | Sequence[Sequence[int]] = 2) -> Tensor:
    """Σ a · b over the last `dims` dims of a and the first of b, or over two lists of dims, one for each.

    A dim of size 1 goes with one of any size.
    """
    check_tensor(a, "tensordot")
    check_tensor(b, "tensordot")
    pairs = (range(a.ndim - dims, a.ndim), range(dims)) if isinstance(dims, int) else dims
    of_a, of_b = ([normalize_dim(d, x.ndim, "tensordot") for d in ds] for x, ds in zip((a, b), pairs))
    met = [(a.shape[i], b.shape[j]) for i, j in zip(of_a, of_b)]
    if len(of_a) != len(of_b) or any(n != m and 1 not in (n, m) for n, m in met):
        raise ValueError(f"tensordot: dims {dims} of shapes {a.shape} and {b.shape} do not match")
    for i, j, (n, m) in zip(of_a, of_b, met):  # Σ a · b = (Σ a) · b where b has one element along the dim
        a = reductions.sum(a, i, keepdim=True) if m == 1 != n else a
        b = reductions.sum(b, j, keepdim=True) if n == 1 != m else b
    names_a: Labels = tuple(range(a.ndim))
    names_b: Labels = tuple(of_a[of_b.index(j)] if j in of_b else a.ndim + j for j in range(b.ndim))
    return merge(_Named(a, names_a), _Named(b, names_b), set(names_a) ^ set(names_b)).tensor
