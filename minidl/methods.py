"""What tensors can do: one table hangs every operator and method on the engine's Tensor."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minidl import backend, dtypes, inplace
from minidl.autograd import Tensor
from minidl.ops import elementary, extrema, indexing, linear, logic, matrices, reductions, shaping
from minidl.ops import pointwise as pw

# ---- values out of the engine --------------------------------------------------------------------


def numpy(self: Tensor) -> np.ndarray:
    """The values as a NumPy array that shares memory; a tensor on a GPU or with a gradient refuses."""
    if self.requires_grad:
        raise RuntimeError("numpy: this tensor requires a gradient; use .detach().numpy()")
    if self.device != backend.CPU:
        raise TypeError(f"numpy: this tensor lives on {self.device}; use .cpu().numpy()")
    return self.array


def _as_array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    return np.array(numpy(self), dtype=dtype, copy=copy)


def _dlpack(
    self: Tensor,
    *,
    stream: Any = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[int, int] | None = None,
    copy: bool | None = None,
) -> Any:
    """The values for another library's `from_dlpack`, which then shares the memory."""
    if self.requires_grad:
        raise BufferError("__dlpack__: this tensor requires a gradient; use .detach()")
    options = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
    if self.device == backend.CPU and not (self.array.flags.writeable or copy):  # readers may not ask
        raise BufferError("__dlpack__: this tensor's memory is read-only and cannot be shared; use .clone()")
    return self.array.__dlpack__(**{name: value for name, value in options.items() if value is not None})


def item(self: Tensor) -> bool | int | float:
    """The one element as a Python number."""
    if self.array.size != 1:
        raise ValueError(f"item: expected one element, got shape {self.shape}")
    return self.array.item()


def _truth(self: Tensor) -> bool:
    if self.array.size != 1:
        raise ValueError(
            f"bool: the truth of a tensor of shape {self.shape} is ambiguous; use .any() or .all()"
        )
    return bool(self.array.item())


def _index(self: Tensor) -> int:
    if self.array.size != 1 or self.dtype.kind not in "bui":
        raise TypeError(f"index: expected one integer, got shape {self.shape} of {self.dtype}")
    return int(self.array.item())


def _size(self: Tensor, dim: int | None = None) -> Any:
    return self.shape if dim is None else self.shape[shaping.existing_dim(self, dim, "size")]


def _length(self: Tensor) -> int:
    if not self.ndim:
        raise TypeError("len: a tensor without dims has no length")
    return self.shape[0]


def _iterate(self: Tensor) -> Iterator[Tensor]:
    if not self.ndim:
        raise TypeError("iter: a tensor without dims cannot be iterated over")
    return iter(shaping.unbind(self))


def _contains(self: Tensor, element: Any) -> bool:
    return bool(logic.eq(self, element).array.any())


def _no_assignment(self: Tensor, index: Any, value: Any) -> None:
    raise TypeError(
        "tensors are not assigned to, since a recorded op may still need the old values; use minidl.where or "
        "minidl.index_put, or change .detach().numpy() before recording starts"
    )


# ---- copies, dtype and device --------------------------------------------------------------------


def clone(self: Tensor) -> Tensor:
    """A copy with its own memory, through which gradients flow."""
    return pw.mul(self, 1) if self.requires_grad else Tensor(self.array.copy())


def _deepcopy(self: Tensor, memo: dict) -> Tensor:
    if self.node is not None:
        raise RuntimeError(f"deepcopy: this tensor was made by {self.node.name}; only leaves can be copied")
    memo[id(self)] = twin = object.__new__(type(self))
    Tensor.__init__(twin, self.array.copy(), self.requires_grad)
    twin.grad = copy.deepcopy(self.grad, memo)
    return twin


def to(
    self: Tensor,
    *targets: Any,
    dtype: Any = None,
    device: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
) -> Tensor:
    """On another device ("cpu", "cuda", "cuda:1"), of another dtype, or both; like another tensor.

    If nothing changes, itself or a `copy`. `non_blocking` changes nothing: copies wait for each other.
    """
    dtype, where = destination(targets, dtype, device)
    moved = self if where is None or where == self.device else linear.to_device(self, target=where)
    y = moved if dtype is None or dtype == moved.dtype else linear.cast(moved, dtype=dtype)
    return clone(y) if copy and y is self else y


def destination(
    targets: tuple, dtype: Any = None, device: Any = None
) -> tuple[np.dtype | None, backend.device | None]:
    """The dtype and the device that the arguments of `to` name; None for what they leave as it is."""
    for target in targets:
        if isinstance(target, Tensor):
            dtype, device = target.dtype, target.device
        elif isinstance(target, (backend.device, int)) or str(target).partition(":")[0] in ("cpu", "cuda"):
            device = target
        else:
            dtype = target
    try:
        dtype = None if dtype is None else np.dtype(dtype)
    except TypeError:
        raise TypeError(f"to: expected a device, a dtype or a Tensor, got {dtype!r}") from None
    return dtype, None if device is None else backend.as_device(device)


def _to_dtype(dtype: np.dtype) -> Callable[[Tensor], Tensor]:
    return lambda self: to(self, dtype=dtype)


# ---- operators -----------------------------------------------------------------------------------


def _swapped(name: str, function: Callable) -> Callable:
    def operator(self: Tensor, other: Any) -> Tensor:
        shaping.check_tensor(self, name)
        return function(other, self)

    return operator


def _comparable(function: Callable) -> Callable:
    """== and != with anything: Python decides about what is neither number nor array."""

    def compare(self: Tensor, other: Any) -> Any:
        numeric = isinstance(other, (Tensor, bool, int, float)) or hasattr(other, "dtype")
        return function(self, other) if numeric else NotImplemented

    return compare


_OPERATORS: dict[str, Any] = {
    "add": pw.add, "sub": pw.sub, "mul": pw.mul, "truediv": pw.div, "pow": pw.pow, "matmul": matrices.matmul,
    "floordiv": elementary.floor_divide, "mod": elementary.remainder,
    "and": logic.bitwise_and, "or": logic.bitwise_or, "xor": logic.bitwise_xor,
}  # fmt: skip
_IN_PLACE: dict[str, Any] = {
    "add": inplace.add_,
    "sub": inplace.sub_,
    "mul": inplace.mul_,
    "truediv": inplace.div_,
}

_METHODS: dict[str, Any] = {
    **{f"__{name}__": function for name, function in _OPERATORS.items()},
    **{f"__r{name}__": _swapped(f"__r{name}__", function) for name, function in _OPERATORS.items()},
    **{f"__i{name}__": inplace.augmented(_OPERATORS[name], method) for name, method in _IN_PLACE.items()},
    "__neg__": pw.neg, "__abs__": pw.abs, "__invert__": logic.bitwise_not,
    "__eq__": _comparable(logic.eq), "__ne__": _comparable(logic.ne),
    "__lt__": logic.lt, "__le__": logic.le, "__gt__": logic.gt, "__ge__": logic.ge,
    "__getitem__": indexing.getitem, "__setitem__": _no_assignment,
    "__len__": _length, "__iter__": _iterate, "__contains__": _contains,
    "__bool__": _truth, "__index__": _index, "__array__": _as_array, "__dlpack__": _dlpack,
    "__dlpack_device__": lambda self: self.array.__dlpack_device__(), "__deepcopy__": _deepcopy,
    "__float__": lambda self: float(item(self)), "__int__": lambda self: int(item(self)),
    "__format__": lambda self, spec: format(item(self), spec) if spec else repr(self),
    # values
    "numpy": numpy, "item": item, "tolist": lambda self: self.array.tolist(),
    "size": _size, "numel": lambda self: self.array.size, "dim": lambda self: self.ndim,
    # copies, dtype and device
    "clone": clone, "contiguous": lambda self: self, "to": to,
    "type_as": lambda self, other: to(self, dtype=other.dtype),
    "cpu": lambda self: to(self, "cpu"), "cuda": lambda self, device="cuda": to(self, device=device),
    "float": _to_dtype(dtypes.float32), "double": _to_dtype(dtypes.float64),
    "half": _to_dtype(dtypes.float16), "long": _to_dtype(dtypes.int64), "int": _to_dtype(dtypes.int32),
    "bool": _to_dtype(dtypes.bool),
    "is_floating_point": lambda self: self.dtype.kind == "f",
    "data": property(inplace.data, inplace.set_data),
    # arguments in another order, or other names
    "T": property(lambda self: linear.permute(self, axes=tuple(reversed(range(self.ndim))))),
    "mT": property(lambda self: shaping.transpose(self, -2, -1)),
    "view": shaping.reshape, "where": lambda self, condition, other: pw.where(condition, self, other),
}  # fmt: skip

# The rooms whose functions are methods under their own names.
_FUNCTIONS = {
    pw: "mul neg pow exp expm1 log log1p sqrt rsqrt tanh sigmoid sin cos abs sign relu maximum minimum",
    elementary: """add sub div log2 log10 tan asin acos atan atan2 sinh cosh erf floor ceil trunc round
        floor_divide remainder fmod reciprocal square clamp nan_to_num""",
    logic: """eq ne lt le gt ge isnan isinf isfinite logical_not logical_and logical_or logical_xor
        bitwise_not bitwise_and bitwise_or bitwise_xor""",
    reductions: """sum mean var std cumsum prod cumprod norm any all count_nonzero softmax log_softmax
        logsumexp""",
    extrema: "amax amin max min argmax argmin sort argsort topk",
    matrices: "matmul mm bmm mv dot outer diagonal diag tril triu",
    shaping: """reshape flatten squeeze unsqueeze permute movedim transpose t flip roll expand expand_as
        broadcast_to tile repeat narrow split chunk unbind""",
    indexing: """index_put gather scatter_add take_along_dim index_select index_add masked_select
        masked_fill""",
    inplace: "add_ sub_ mul_ div_ copy_ fill_ zero_",
}

for _module, _names in _FUNCTIONS.items():
    _METHODS |= {name: getattr(_module, name) for name in _names.split()}
for _name, _method in _METHODS.items():
    setattr(Tensor, _name, _method)
