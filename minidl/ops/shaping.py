"""Rearranging tensors, by PyTorch's names: compositions of the linear ops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl.autograd import Tensor
from minidl.ops import linear


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
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(ndim))
    dims = tuple(normalize_dim(d, ndim, name) for d in ([dim] if isinstance(dim, int) else dim))
    if len(set(dims)) < len(dims):
        raise ValueError(f"{name}: a dim appears twice in {dim}")
    return dims


def _sizes(shape: tuple) -> tuple:
    """f(2, 3) and f((2, 3)) mean the same."""
    return tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], (int, np.integer)) else shape


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements, in order, in another shape; one size may be -1 and is then computed."""
    sizes = [int(n) for n in _sizes(shape)]
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
    first = normalize_dim(start_dim, input.ndim, "flatten")
    last = normalize_dim(end_dim, input.ndim, "flatten")
    if first > last:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    merged = math.prod(input.shape[first : last + 1])
    return linear.reshape(input, shape=(*input.shape[:first], merged, *input.shape[last + 1 :]))


def permute(input: Tensor, *dims: Any) -> Tensor:
    """y.shape[i] = x.shape[dims[i]]."""
    axes = tuple(normalize_dim(d, input.ndim, "permute") for d in _sizes(dims))
    if sorted(axes) != list(range(input.ndim)):
        raise ValueError(f"permute: {_sizes(dims)} does not name each of {input.ndim} dims once")
    return linear.permute(input, axes=axes)


def movedim(input: Tensor, source: int, destination: int) -> Tensor:
    """One dim moved to another place; the order of the others stays."""
    a, b = (normalize_dim(d, input.ndim, "movedim") for d in (source, destination))
    axes = [i for i in range(input.ndim) if i != a]
    axes.insert(b, a)
    return linear.permute(input, axes=tuple(axes))


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dims exchanged."""
    axes = list(range(input.ndim))
    a, b = (normalize_dim(d, input.ndim, "transpose") for d in (dim0, dim1))
    if axes:
        axes[a], axes[b] = axes[b], axes[a]
    return linear.permute(input, axes=tuple(axes))


def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without its dims of size 1 (or without those of the named dims that have size 1)."""
    dims = normalize_dims(dim, input.ndim, "squeeze") if input.ndim else ()
    keep = [n for i, n in enumerate(input.shape) if n != 1 or i not in dims]
    return linear.reshape(input, shape=tuple(keep))


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a new dim of size 1 at that place."""
    at = normalize_dim(dim, input.ndim + 1, "unsqueeze")
    return linear.reshape(input, shape=(*input.shape[:at], 1, *input.shape[at:]))


def expand(input: Tensor, *sizes: Any) -> Tensor:
    """Dims of size 1 repeated (without a copy); -1 keeps a dim, further dims may be added in front."""
    wanted = _sizes(sizes)
    lead = len(wanted) - input.ndim
    shape = tuple(input.shape[i - lead] if n == -1 and i >= lead else int(n) for i, n in enumerate(wanted))
    fits = all(n in (1, m) for n, m in zip(input.shape, shape[max(lead, 0) :]))
    if lead < 0 or min(shape, default=0) < 0 or not fits:
        raise ValueError(f"expand: shape {input.shape} cannot be expanded to {wanted}")
    return linear.expand(input, shape=shape)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors one after another along an existing dim; all other sizes must agree."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("cat: expected at least one tensor")
    for t in tensors:
        if not isinstance(t, Tensor):
            raise TypeError(f"cat: expected Tensors, got {type(t).__name__}")
    tensors = [t for t in tensors if t.shape != (0,)] or tensors[:1]  # empty 1-D ones are skipped
    first = tensors[0]
    if first.ndim == 0:
        raise ValueError("cat: tensors without dims cannot be concatenated; use stack")
    at = normalize_dim(dim, first.ndim, "cat")
    for t in tensors[1:]:
        same = t.ndim == first.ndim and all(
            n == m for i, (n, m) in enumerate(zip(t.shape, first.shape)) if i != at
        )
        if not same:
            shapes = ", ".join(str(t.shape) for t in tensors)
            raise ValueError(f"cat: shapes {shapes} differ outside dim {dim}")
    return linear.cat(*common_dtype(tensors), dim=at)


def common_dtype(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors cast to the dtype that an operation between them would have."""
    from minidl.ops.pointwise import result_type

    dtype = result_type(*tensors)
    return [t if t.dtype == dtype else linear.cast(t, dtype=dtype) for t in tensors]


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new dim."""
    tensors = list(tensors)
    if len({t.shape for t in tensors}) > 1:
        raise ValueError(f"stack: shapes differ: {', '.join(str(t.shape) for t in tensors)}")
    return cat([unsqueeze(t, dim) for t in tensors], dim)


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """The elements start .. start + length - 1 along a dim."""
    at = normalize_dim(dim, input.ndim, "narrow")
    size = input.shape[at]
    first = start + size if start < 0 else start
    if not 0 <= first <= first + length <= size:
        raise IndexError(f"narrow: start {start}, length {length} leave dim {dim} of size {size}")
    return linear.getitem(input, index=(slice(None),) * at + (slice(first, first + length),))


def split(input: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of the given sizes (one number: all of that size, the last may be smaller)."""
    size = input.shape[normalize_dim(dim, input.ndim, "split")]
    sections = split_size_or_sections
    if isinstance(sections, int):
        if sections < 0 or (sections == 0 and size):
            raise ValueError(f"split: split_size must be positive, got {sections}")
        starts = range(0, size, sections) if size else [0]
        sections = [min(sections, size - start) for start in starts]
    if sum(sections) != size or min(sections) < 0:
        raise ValueError(f"split: sections {list(sections)} do not add up to the size {size} of dim {dim}")
    ends = np.cumsum(sections)
    return tuple(narrow(input, dim, int(end) - n, n) for end, n in zip(ends, sections))


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` parts of equal size (the last may be smaller)."""
    if chunks < 1:
        raise ValueError(f"chunk: expected at least 1 chunk, got {chunks}")
    size = input.shape[normalize_dim(dim, input.ndim, "chunk")]
    return split(input, max(-(-size // chunks), 1), dim) if size else (input,) * chunks


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along a dim, which disappears."""
    at = normalize_dim(dim, input.ndim, "unbind")
    return tuple(linear.getitem(input, index=(slice(None),) * at + (i,)) for i in range(input.shape[at]))


def flip(input: Tensor, *dims: Any) -> Tensor:
    """The order of the elements reversed along the given dims."""
    axes = normalize_dims(_sizes(dims), input.ndim, "flip") if _sizes(dims) else ()
    back = slice(None, None, -1)
    return linear.getitem(input, index=tuple(back if i in axes else slice(None) for i in range(input.ndim)))


def getitem(input: Tensor, index: Any) -> Tensor:
    """input[index] with NumPy's rules: integers, slices, None, ..., integer and boolean arrays or tensors."""

    def plain(part: Any) -> Any:
        if isinstance(part, Tensor):
            return part.array
        return np.asarray(part) if isinstance(part, list) else part

    parts = tuple(map(plain, index)) if isinstance(index, tuple) else plain(index)
    try:
        return linear.getitem(input, index=parts)
    except IndexError as error:
        raise IndexError(f"getitem: {error} (shape {input.shape}, index {index})") from None


def pad(input: Tensor, widths: Sequence[tuple[int, int]]) -> Tensor:
    """Zeros added before and after each dim (negative widths crop)."""
    return linear.pad(input, widths=tuple((int(a), int(b)) for a, b in widths))
