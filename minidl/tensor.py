"""Tensors for people: operators, methods and creation functions.

The engine's Tensor has a graph but no arithmetic. One table below hangs every operator and method on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import backend
from minidl.autograd import Tensor
from minidl.ops import linear, reductions, shaping
from minidl.ops import pointwise as pw

# ---- creation -----------------------------------------------------------------------------------

Number = bool | int | float


def tensor(
    data: Any,
    dtype: Any = None,
    device: str | backend.device | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A new tensor with a copy of the data: numbers, nested lists, NumPy or CuPy arrays.

    An array keeps its dtype; Python floats become float32, integers int64.
    """
    array = np.array(data) if not hasattr(data, "dtype") else data
    if dtype is None and not hasattr(data, "dtype") and array.dtype == np.float64:
        dtype = np.float32
    if array.dtype.kind not in "buif":
        raise TypeError(f"tensor: cannot make a tensor of {array.dtype} values from {type(data).__name__}")
    return _made(array.astype(dtype or array.dtype, copy=True), device, requires_grad)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expected a numpy.ndarray, got {type(array).__name__}")
    return Tensor(array)


def as_tensor(data: Any) -> Tensor:
    """The data as a tensor, without a copy where that is possible."""
    if isinstance(data, Tensor):
        return data
    return Tensor(data) if hasattr(data, "dtype") and hasattr(data, "astype") and data.ndim else tensor(data)


def _made(array: np.ndarray, device: str | backend.device | None, requires_grad: bool = False) -> Tensor:
    where = backend.device_of(array) if device is None else backend.as_device(device)
    return Tensor(backend.to_device(array, where), requires_grad)


def _size(size: tuple) -> tuple[int, ...]:
    size = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], (int, np.integer)) else size
    if any(n < 0 for n in size):
        raise ValueError(f"sizes must not be negative, got {size}")
    return size


def full(
    size: Any,
    fill_value: Number,
    dtype: Any = None,
    device: Any = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """A tensor filled with one number."""
    dtype = dtype or pw._PYTHON[type(fill_value)]
    return _made(np.full(_size((size,)), fill_value, dtype), device, requires_grad)


def zeros(*size: Any, dtype: Any = np.float32, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """A tensor of zeros."""
    return _made(np.zeros(_size(size), dtype), device, requires_grad)


def ones(*size: Any, dtype: Any = np.float32, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """A tensor of ones."""
    return _made(np.ones(_size(size), dtype), device, requires_grad)


def zeros_like(input: Tensor) -> Tensor:
    """Zeros of a tensor's shape, dtype and device."""
    return Tensor(backend.array_module(input.array).zeros_like(input.array))


def ones_like(input: Tensor) -> Tensor:
    """Ones of a tensor's shape, dtype and device."""
    return Tensor(backend.array_module(input.array).ones_like(input.array))


def eye(n: int, m: int | None = None, dtype: Any = np.float32, device: Any = "cpu") -> Tensor:
    """The n x m matrix with ones on its diagonal."""
    return _made(np.eye(n, m, dtype=dtype), device)


def arange(
    start: Number,
    end: Number | None = None,
    step: Number = 1,
    dtype: Any = None,
    device: Any = "cpu",
) -> Tensor:
    """start, start + step, ... below end; integers make int64, floats float32."""
    start, end = (0, start) if end is None else (start, end)
    if dtype is None:
        dtype = np.float32 if any(isinstance(v, float) for v in (start, end, step)) else np.int64
    return _made(np.arange(start, end, step).astype(dtype), device)


def linspace(start: float, end: float, steps: int, dtype: Any = np.float32, device: Any = "cpu") -> Tensor:
    """`steps` numbers at equal distances from start to end, both included."""
    return _made(np.linspace(start, end, steps, dtype=dtype), device)


def randn(*size: Any, dtype: Any = np.float32, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """Normally distributed numbers: mean 0, standard deviation 1."""
    return _made(backend.generator().standard_normal(_size(size)).astype(dtype), device, requires_grad)


def rand(*size: Any, dtype: Any = np.float32, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """Uniformly distributed numbers in [0, 1)."""
    return _made(backend.generator().random(_size(size)).astype(dtype), device, requires_grad)


def randint(low: int, high: int, size: Any, device: Any = "cpu") -> Tensor:
    """Uniformly distributed integers in [low, high)."""
    return _made(backend.generator().integers(low, high, _size((size,))), device)


def randperm(n: int) -> Tensor:
    """The integers 0 .. n - 1 in random order."""
    return Tensor(backend.generator().permutation(n))


# ---- out of the engine -------------------------------------------------------------------------


def numpy(self: Tensor) -> np.ndarray:
    """The values as a NumPy array that shares memory; a tensor on a GPU or with a gradient refuses."""
    if self.requires_grad:
        raise RuntimeError("numpy: this tensor requires a gradient; use .detach().numpy()")
    if self.device != backend.CPU:
        raise TypeError(f"numpy: this tensor lives on {self.device}; use .cpu().numpy()")
    return self.array


def item(self: Tensor) -> Number:
    """The one element as a Python number."""
    if self.array.size != 1:
        raise ValueError(f"item: expected one element, got shape {self.shape}")
    return self.array.item()


def to(self: Tensor, target: Any) -> Tensor:
    """On another device ("cpu", "cuda", "cuda:1") or of another dtype; itself if nothing changes."""
    if isinstance(target, (str, backend.device)) and str(target).partition(":")[0] in (
        "cpu",
        "cuda",
    ):
        where = backend.as_device(target)
        return self if self.device == where else linear.to_device(self, target=where)
    dtype = np.dtype(target)
    return self if self.dtype == dtype else linear.cast(self, dtype=dtype)


def _size_of(self: Tensor, dim: int | None = None) -> Any:
    return self.shape if dim is None else self.shape[dim]


def _length(self: Tensor) -> int:
    if not self.ndim:
        raise TypeError("len: a tensor without dims has no length")
    return self.shape[0]


def _truth(self: Tensor) -> bool:
    if self.array.size != 1:
        raise ValueError(f"the truth value of a tensor of shape {self.shape} is ambiguous")
    return bool(self.array.item())


def _no_assignment(self: Tensor, index: Any, value: Any) -> None:
    raise TypeError(
        "tensors are not assigned to, since a recorded op may still need the old values; "
        "use minidl.where, or change .detach().numpy() before recording starts"
    )


def clamp(input: Tensor, min: Number | None = None, max: Number | None = None) -> Tensor:
    """min(max(x, min), max)."""
    low = -np.inf if min is None else min
    high = np.inf if max is None else max
    if input.dtype.kind in "ui" and (min is None or max is None):
        info = np.iinfo(input.dtype)
        low, high = (info.min if min is None else min), (info.max if max is None else max)
    return pw.clamp(input, low=low, high=high)


def _swapped(function: Any) -> Any:
    return lambda self, other: function(other, self)


_METHODS = {
    # operators
    "__add__": pw.add, "__radd__": _swapped(pw.add), "__sub__": pw.sub, "__rsub__": _swapped(pw.sub),
    "__mul__": pw.mul, "__rmul__": _swapped(pw.mul), "__truediv__": pw.div, "__rtruediv__": _swapped(pw.div),
    "__pow__": pw.pow, "__rpow__": _swapped(pw.pow), "__neg__": pw.neg, "__abs__": pw.abs,
    "__matmul__": reductions.matmul, "__getitem__": shaping.getitem, "__setitem__": _no_assignment,
    "__eq__": pw.eq, "__ne__": pw.ne, "__lt__": pw.lt, "__le__": pw.le, "__gt__": pw.gt, "__ge__": pw.ge,
    "__and__": pw.logical_and, "__or__": pw.logical_or, "__invert__": pw.logical_not,
    "__len__": _length, "__bool__": _truth, "__float__": lambda self: float(item(self)),
    "__int__": lambda self: int(item(self)), "__format__": lambda self, spec: format(item(self), spec) if spec else repr(self),
    # pointwise
    "exp": pw.exp, "log": pw.log, "sqrt": pw.sqrt, "rsqrt": pw.rsqrt, "tanh": pw.tanh, "sigmoid": pw.sigmoid,
    "sin": pw.sin, "cos": pw.cos, "abs": pw.abs, "sign": pw.sign, "relu": pw.relu, "pow": pw.pow, "clamp": clamp,
    "maximum": pw.maximum, "minimum": pw.minimum, "eq": pw.eq, "square": lambda self: self * self,
    # reductions
    "sum": reductions.sum, "mean": reductions.mean, "var": reductions.var, "std": reductions.std,
    "amax": reductions.amax, "amin": reductions.amin, "max": reductions.max, "min": reductions.min,
    "argmax": reductions.argmax, "argmin": reductions.argmin, "softmax": reductions.softmax,
    "log_softmax": reductions.log_softmax, "logsumexp": reductions.logsumexp, "cumsum": reductions.cumsum,
    "matmul": reductions.matmul,
    # shape
    "reshape": shaping.reshape, "view": shaping.reshape, "flatten": shaping.flatten, "permute": shaping.permute,
    "movedim": shaping.movedim, "transpose": shaping.transpose, "squeeze": shaping.squeeze,
    "unsqueeze": shaping.unsqueeze, "expand": shaping.expand, "narrow": shaping.narrow, "split": shaping.split,
    "chunk": shaping.chunk, "unbind": shaping.unbind, "flip": shaping.flip, "size": _size_of,
    "numel": lambda self: self.array.size, "dim": lambda self: self.ndim,
    "mT": property(lambda self: shaping.transpose(self, -2, -1)),
    # dtype, device and values
    "numpy": numpy, "item": item, "to": to, "cpu": lambda self: to(self, "cpu"), "cuda": lambda self: to(self, "cuda"),
    "tolist": lambda self: self.array.tolist(), "float": lambda self: to(self, np.float32),
    "double": lambda self: to(self, np.float64), "half": lambda self: to(self, np.float16),
    "long": lambda self: to(self, np.int64), "int": lambda self: to(self, np.int32),
    "bool": lambda self: to(self, np.bool_), "clone": lambda self: self * 1 if self.requires_grad else Tensor(self.array.copy()),
}  # fmt: skip

for _name, _method in _METHODS.items():
    setattr(Tensor, _name, _method)
