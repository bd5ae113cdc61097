"""Rearranging tensors, by PyTorch's names: compositions of the linear ops."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import wraps
from operator import index as integer
from typing import Any

import numpy as np

from minidl.autograd import Tensor
from minidl.dtypes import result_type
from minidl.ops import linear

# ---- dims ----------------------------------------------------------------------------------------


def normalize_dim(dim: int, ndim: int, name: str) -> int:
    """A dim counted from the end as one counted from the front; IndexError where there is no such dim."""
    span = max(ndim, 1)  # a scalar accepts dim 0 and -1
    if not isinstance(dim, (int, np.integer)):
        raise TypeError(f"{name}: dim must be an integer, got {dim!r}")
    if not -span <= dim < span:
        raise IndexError(f"{name}: dim {dim} is out of range for {ndim} dimensions, [{-span}, {span - 1}]")
    return int(dim) % span


def normalize_dims(dim: int | Sequence[int] | None, ndim: int, name: str) -> tuple[int, ...]:
    """One dim, several or None (all of them) as a tuple counted from the front, without repeats."""
    several = (dim,) if isinstance(dim, (int, np.integer)) else () if dim is None else dim
    if not isinstance(several, Sequence):
        raise TypeError(f"{name}: dim must be an integer or several, got {dim!r}")
    if not several:
        return tuple(range(ndim))
    dims = tuple(normalize_dim(d, ndim, name) for d in several)
    if len(set(dims)) < len(dims):
        raise ValueError(f"{name}: a dim appears twice in {dim}")
    return dims if ndim else ()


def check_tensor(input: Any, name: str) -> None:
    """TypeError where a number or an array was given instead of a tensor."""
    if not isinstance(input, Tensor):
        raise TypeError(
            f"{name}: expected a Tensor, got {type(input).__name__}; minidl.tensor(...) makes one"
        )


def existing_dim(input: Tensor, dim: int, name: str) -> int:
    """`normalize_dim` for functions that refuse tensors without dims."""
    check_tensor(input, name)
    if input.ndim == 0:
        raise IndexError(f"{name}: expected a tensor with at least one dim, got one of shape ()")
    return normalize_dim(dim, input.ndim, name)


def along(dim: int, *parts: Any) -> tuple:
    """The index that applies `parts` from that dim on, and leaves the dims before it whole."""
    return (slice(None),) * dim + parts


def dropped(input: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """The result of a reduction with keepdim=True, without the reduced dims unless they are wanted."""
    if keepdim:
        return input
    return linear.reshape(input, shape=tuple(n for i, n in enumerate(input.shape) if i not in dims))


def sizes_of(sizes: tuple) -> tuple[int, ...]:
    """f(2, 3) and f((2, 3)) mean the same."""
    if len(sizes) == 1 and not hasattr(sizes[0], "__index__"):
        sizes = tuple(sizes[0])
    return tuple(map(integer, sizes))


def several(function: Callable[[Tensor, tuple[int, ...]], Tensor]) -> Callable[..., Tensor]:
    """Lets f(x, 2, 3), f(x, (2, 3)) and, with the argument's name, f(x, dims=(2, 3)) mean the same."""
    name = list(inspect.signature(function).parameters)[1]

    @wraps(function)
    def spread(input: Tensor, *each: Any, **named: Any) -> Tensor:
        check_tensor(input, function.__name__)
        if name in named and not each:
            each = (named.pop(name),)
        return function(input, sizes_of(each), **named)

    return spread


# ---- shape ---------------------------------------------------------------------------------------


@several
def reshape(input: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The same elements, in order, in another shape; one size may be -1 and is then computed."""
    sizes = list(shape)
    known = math.prod(n for n in sizes if n != -1)
    total = input.array.size
    if sizes.count(-1) > 1 or any(n < -1 for n in sizes):
        raise ValueError(f"reshape: invalid shape {tuple(sizes)}")
    if -1 in sizes and known and total % known == 0:
        sizes[sizes.index(-1)] = total // known
    if -1 in sizes or math.prod(sizes) != total:
        raise ValueError(f"reshape: {total} elements of shape {input.shape} do not fit {tuple(sizes)}")
    return linear.reshape(input, shape=tuple(sizes))


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dims from start_dim to end_dim (inclusive) merged into one."""
    check_tensor(input, "flatten")
    first = normalize_dim(start_dim, input.ndim, "flatten")
    last = normalize_dim(end_dim, input.ndim, "flatten")
    if first > last:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    merged = math.prod(input.shape[first : last + 1])
    return linear.reshape(input, shape=(*input.shape[:first], merged, *input.shape[last + 1 :]))


def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without its dims of size 1 (or without those of the named dims that have size 1)."""
    check_tensor(input, "squeeze")
    none = isinstance(dim, Sequence) and not dim  # no dims at all, unlike dim=None
    dims = () if none else normalize_dims(dim, input.ndim, "squeeze")
    keep = [n for i, n in enumerate(input.shape) if n != 1 or i not in dims]
    return linear.reshape(input, shape=tuple(keep))


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a new dim of size 1 at that place."""
    check_tensor(input, "unsqueeze")
    at = normalize_dim(dim, input.ndim + 1, "unsqueeze")
    return linear.reshape(input, shape=(*input.shape[:at], 1, *input.shape[at:]))


# ---- order of dims and of elements ---------------------------------------------------------------


@several
def permute(input: Tensor, dims: tuple[int, ...]) -> Tensor:
    """y.shape[i] = x.shape[dims[i]]."""
    axes = tuple(normalize_dim(d, input.ndim, "permute") for d in dims)
    if sorted(axes) != list(range(input.ndim)):
        raise ValueError(f"permute: {dims} does not name each of {input.ndim} dims once")
    return linear.permute(input, axes=axes)


def movedim(input: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Dims moved to other places; the order of the others stays."""
    check_tensor(input, "movedim")
    a, b = (normalize_dims(d, input.ndim, "movedim") for d in (source, destination))
    if len(a) != len(b):
        raise ValueError(f"movedim: {source} and {destination} name different numbers of dims")
    axes = [i for i in range(input.ndim) if i not in a]
    for place, axis in sorted(zip(b, a)):
        axes.insert(place, axis)
    return linear.permute(input, axes=tuple(axes))


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dims exchanged."""
    check_tensor(input, "transpose")
    axes = list(range(input.ndim))
    a, b = (normalize_dim(d, input.ndim, "transpose") for d in (dim0, dim1))
    if axes:
        axes[a], axes[b] = axes[b], axes[a]
    return linear.permute(input, axes=tuple(axes))


def t(input: Tensor) -> Tensor:
    """A matrix transposed; vectors and scalars stay as they are."""
    check_tensor(input, "t")
    if input.ndim > 2:
        raise ValueError(f"t: expected at most 2 dims, got shape {input.shape}; use .mT or transpose")
    return linear.permute(input, axes=tuple(reversed(range(input.ndim))))


@several
def flip(input: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The order of the elements reversed along the given dims."""
    axes = normalize_dims(dims, input.ndim, "flip") if dims else ()
    back = slice(None, None, -1)
    return linear.getitem(input, index=tuple(back if i in axes else slice(None) for i in range(input.ndim)))


def roll(input: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Tensor:
    """y[..., (i + shift) mod n, ...] = x[..., i, ...] along the dims; without dims along the flattened x."""
    check_tensor(input, "roll")
    if dims is None:
        return reshape(roll(flatten(input), shifts, 0), input.shape)
    several: Any = ([shifts], [dims]) if isinstance(dims, int) else (shifts, dims)
    for shift, dim in zip(*several, strict=True):
        at = existing_dim(input, dim, "roll")
        cut = -integer(shift) % (input.shape[at] or 1)
        if cut:
            parts = (linear.getitem(input, index=along(at, s)) for s in (slice(cut, None), slice(cut)))
            input = linear.cat(*parts, dim=at)
    return input


# ---- repetition ----------------------------------------------------------------------------------


@several
def expand(input: Tensor, size: tuple[int, ...]) -> Tensor:
    """Dims of size 1 repeated (without a copy); -1 keeps a dim, further dims may be added in front."""
    lead = len(size) - input.ndim
    shape = tuple(input.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(size))
    fits = all(n in (1, m) for n, m in zip(input.shape, shape[max(lead, 0) :]))
    if lead < 0 or min(shape, default=0) < 0 or not fits:
        raise ValueError(f"expand: shape {input.shape} cannot be expanded to {size}")
    return linear.expand(input, shape=shape)


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """Expanded to the other tensor's shape."""
    return expand(input, other.shape)


def broadcast_to(input: Tensor, shape: Sequence[int]) -> Tensor:
    """`expand` by its NumPy name."""
    check_tensor(input, "broadcast_to")
    return expand(input, shape)


@several
def tile(input: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The whole tensor repeated dims[i] times along dim i; a short `dims` counts from the last dim."""
    return repeat(input, (1,) * (input.ndim - len(dims)) + dims)


@several
def repeat(input: Tensor, repeats: tuple[int, ...]) -> Tensor:
    """The whole tensor repeated repeats[i] times along dim i; further dims may be added in front."""
    lead = len(repeats) - input.ndim
    if lead < 0 or min(repeats, default=0) < 0:
        raise ValueError(f"repeat: {repeats} does not say how often to repeat each dim of {input.shape}")
    shape = (1,) * lead + input.shape
    apart = linear.reshape(input, shape=tuple(m for n in shape for m in (1, n)))
    copies = linear.expand(apart, shape=tuple(m for pair in zip(repeats, shape) for m in pair))
    return linear.reshape(copies, shape=tuple(k * n for k, n in zip(repeats, shape)))


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Vectors of n_0, n_1, ... elements as coordinates on a grid (n_0, n_1, ...); "xy" swaps two dims."""
    if indexing not in ("ij", "xy"):
        raise ValueError(f"meshgrid: indexing must be 'ij' or 'xy', got {indexing!r}")
    vectors = tuple(tensors[0]) if len(tensors) == 1 and not isinstance(tensors[0], Tensor) else tensors
    for v in vectors:
        check_tensor(v, "meshgrid")
    if any(v.ndim > 1 for v in vectors):
        raise ValueError(f"meshgrid: expected vectors, got shapes {', '.join(str(v.shape) for v in vectors)}")
    vectors = tuple(reshape(v, -1) for v in vectors)
    shape, n = tuple(v.shape[0] for v in vectors), len(vectors)
    grids = tuple(
        linear.expand(linear.reshape(v, shape=(1,) * i + v.shape + (1,) * (n - i - 1)), shape=shape)
        for i, v in enumerate(vectors)
    )
    return tuple(transpose(g, 0, 1) for g in grids) if indexing == "xy" and n > 1 else grids


# ---- joining and parting -------------------------------------------------------------------------


def common_dtype(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors cast to the dtype that an operation between them would have."""
    dtype = result_type(*tensors)
    return [t if t.dtype == dtype else linear.cast(t, dtype=dtype) for t in tensors]


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors one after another along an existing dim; all other sizes must agree."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("cat: expected at least one tensor")
    for x in tensors:
        check_tensor(x, "cat")
    tensors = common_dtype(tensors)
    tensors = [x for x in tensors if x.shape != (0,)] or tensors[:1]  # empty 1-D ones are skipped
    first = tensors[0]
    if first.ndim == 0:
        raise ValueError("cat: tensors without dims cannot be concatenated; use stack")
    at = normalize_dim(dim, first.ndim, "cat")
    if len({(*x.shape[:at], *x.shape[at + 1 :], x.ndim) for x in tensors}) > 1:
        shapes = ", ".join(str(x.shape) for x in tensors)
        raise ValueError(f"cat: shapes {shapes} differ outside dim {dim}")
    return linear.cat(*tensors, dim=at)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new dim."""
    tensors = list(tensors)
    for x in tensors:
        check_tensor(x, "stack")
    if len({x.shape for x in tensors}) > 1:
        raise ValueError(f"stack: shapes differ: {', '.join(str(x.shape) for x in tensors)}")
    return cat([unsqueeze(x, dim) for x in tensors], dim)


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """The elements start .. start + length - 1 along a dim."""
    at = existing_dim(input, dim, "narrow")
    size = input.shape[at]
    if isinstance(start, Tensor) and start.dtype.kind == "b":
        raise TypeError("narrow: start must be an integer, got a boolean tensor")
    first = start + size if start < 0 else start
    if not 0 <= first <= first + length <= size:
        raise IndexError(f"narrow: start {start}, length {length} leave dim {dim} of size {size}")
    return linear.getitem(input, index=along(at, slice(first, first + length)))


def split(input: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of the given sizes (one number: all of that size, the last may be smaller)."""
    at = existing_dim(input, dim, "split")
    size = input.shape[at]
    sections = split_size_or_sections
    if isinstance(sections, int):
        if sections < 0 or (sections == 0 and size):
            raise ValueError(f"split: split_size must be positive, got {sections}")
        starts = range(0, size, sections) if size else [0]
        sections = [min(sections, size - start) for start in starts]
    if sum(sections) != size or min(sections, default=0) < 0:
        raise ValueError(f"split: sections {list(sections)} do not add up to the size {size} of dim {dim}")
    ends = np.cumsum(sections)
    return tuple(narrow(input, at, int(end) - n, n) for end, n in zip(ends, sections))


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` parts of equal size (the last may be smaller)."""
    if chunks < 1:
        raise ValueError(f"chunk: expected at least 1 chunk, got {chunks}")
    at = existing_dim(input, dim, "chunk")
    size = input.shape[at]
    return split(input, max(-(-size // chunks), 1), at) if size else (input,) * chunks


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along a dim, which disappears."""
    at = existing_dim(input, dim, "unbind")
    return tuple(linear.getitem(input, index=along(at, i)) for i in range(input.shape[at]))
