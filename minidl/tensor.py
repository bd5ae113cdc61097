"""Making tensors: from data, filled, evenly spaced, random. What tensors can do is in `minidl/methods.py`."""

from __future__ import annotations

from operator import index as integer
from typing import Any

import numpy as np

from minidl import backend
from minidl.autograd import Tensor
from minidl.dtypes import OF_PYTHON
from minidl.ops.shaping import sizes_of

Number = bool | int | float
Device = str | int | backend.device | None
DLPACK_HOST = (1, 3)  # kDLCPU and kDLCUDAHost: memory that NumPy can read

# ---- from data -----------------------------------------------------------------------------------


def tensor(data: Any, dtype: Any = None, device: Device = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of the data: numbers, nested lists, NumPy or CuPy arrays, tensors.

    An array keeps its dtype; Python floats become float32, integers int64.
    """
    data = data.array if isinstance(data, Tensor) else data
    array = backend.as_array(data, np)
    if dtype is None and not hasattr(data, "dtype") and array.dtype == np.float64:
        dtype = np.float32
    if array.dtype.kind not in "buif":
        raise TypeError(f"tensor: cannot make a tensor of {array.dtype} values from {type(data).__name__}")
    return _placed(array.astype(dtype or array.dtype, copy=True), device, requires_grad)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expected a numpy.ndarray, got {type(array).__name__}")
    return Tensor(array)


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor that shares the memory of an array of another library: of PyTorch, CuPy, JAX or NumPy.

    Errors: TypeError for what has no `__dlpack__`, and for dtypes that NumPy does not have (bfloat16);
    BufferError where the other library refuses, as PyTorch does for tensors that require a gradient.
    """
    if not (hasattr(ext_tensor, "__dlpack__") and hasattr(ext_tensor, "__dlpack_device__")):
        name = type(ext_tensor).__name__
        raise TypeError(f"from_dlpack: {name} has no __dlpack__; minidl.tensor(...) makes a copy")
    xp = np if ext_tensor.__dlpack_device__()[0] in DLPACK_HOST else backend.cupy()
    try:
        array = xp.from_dlpack(ext_tensor)
    except RuntimeError as error:  # what NumPy says to a dtype that it does not have
        raise TypeError(f"from_dlpack: cannot share {type(ext_tensor).__name__}: {error}") from error
    if array.dtype.kind not in "buif":
        raise TypeError(f"from_dlpack: cannot make a tensor of {array.dtype} values")
    return Tensor(array)


def as_tensor(data: Any, dtype: Any = None, device: Device = None) -> Tensor:
    """The data as a tensor, without a copy where that is possible."""
    if not isinstance(data, Tensor):
        is_array = hasattr(data, "dtype") and hasattr(data, "astype") and data.ndim
        data = Tensor(data) if is_array else tensor(data, dtype)
    return data.to(dtype=dtype, device=device)


def _placed(array: backend.Array, device: Device, requires_grad: bool = False) -> Tensor:
    where = backend.device_of(array) if device is None else backend.as_device(device)
    return Tensor(backend.to_device(array, where), requires_grad)


# ---- filled --------------------------------------------------------------------------------------


def _size(size: tuple) -> tuple[int, ...]:
    sizes = sizes_of(size)
    if any(n < 0 for n in sizes):
        raise ValueError(f"sizes must not be negative, got {sizes}")
    return sizes


def full(
    size: Any, fill_value: Number, dtype: Any = None, device: Device = "cpu", requires_grad: bool = False
) -> Tensor:
    """A tensor filled with one number."""
    dtype = dtype or OF_PYTHON[type(fill_value)]
    return _placed(np.full(_size((size,)), fill_value, dtype), device, requires_grad)


def zeros(*size: Any, dtype: Any = None, device: Device = "cpu", requires_grad: bool = False) -> Tensor:
    """A tensor of zeros."""
    return _placed(np.zeros(_size(size), dtype or np.float32), device, requires_grad)


def ones(*size: Any, dtype: Any = None, device: Device = "cpu", requires_grad: bool = False) -> Tensor:
    """A tensor of ones."""
    return _placed(np.ones(_size(size), dtype or np.float32), device, requires_grad)


def full_like(
    input: Tensor, fill_value: Number, dtype: Any = None, device: Device = None, requires_grad: bool = False
) -> Tensor:
    """One number in a tensor's shape; also of its dtype and on its device, unless others are given."""
    xp = backend.array_module(input.array)
    return _placed(xp.full_like(input.array, fill_value, dtype=dtype), device, requires_grad)


def zeros_like(
    input: Tensor, dtype: Any = None, device: Device = None, requires_grad: bool = False
) -> Tensor:
    """Zeros of a tensor's shape, dtype and device."""
    return full_like(input, 0, dtype, device, requires_grad)


def ones_like(input: Tensor, dtype: Any = None, device: Device = None, requires_grad: bool = False) -> Tensor:
    """Ones of a tensor's shape, dtype and device."""
    return full_like(input, 1, dtype, device, requires_grad)


def eye(
    n: int, m: int | None = None, dtype: Any = None, device: Device = "cpu", requires_grad: bool = False
) -> Tensor:
    """The n x m matrix with ones on its diagonal."""
    return _placed(
        np.eye(*_size((n, n if m is None else m)), dtype=dtype or np.float32), device, requires_grad
    )


# ---- evenly spaced -------------------------------------------------------------------------------


def arange(
    start: Number,
    end: Number | None = None,
    step: Number = 1,
    dtype: Any = None,
    device: Device = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... below end; integers make int64, floats float32."""
    start, end = (0, start) if end is None else (start, end)
    if step == 0 or (end - start) * step < 0:
        raise ValueError(f"arange: from {start} in steps of {step} one never comes to {end}")
    if dtype is None:
        dtype = np.float32 if any(isinstance(v, float) for v in (start, end, step)) else np.int64
    elif np.dtype(dtype).kind in "iu":
        start, end, step = int(start), int(end), int(step)
    return _placed(np.arange(start, end, step).astype(dtype), device, requires_grad)


def linspace(
    start: float,
    end: float,
    steps: int,
    dtype: Any = None,
    device: Device = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """`steps` numbers at equal distances from start to end, both included."""
    if steps < 0:
        raise ValueError(f"linspace: steps must not be negative, got {steps}")
    number = int if dtype is not None and np.dtype(dtype).kind in "iu" else float
    values = np.linspace(number(start), number(end), steps)
    return _placed(values.astype(dtype or np.float32), device, requires_grad)


# ---- random --------------------------------------------------------------------------------------


def randn(*size: Any, dtype: Any = None, device: Device = "cpu", requires_grad: bool = False) -> Tensor:
    """Normally distributed numbers: mean 0, standard deviation 1."""
    values = backend.generator().standard_normal(_size(size))
    return _placed(np.asarray(values, dtype or np.float32), device, requires_grad)


def rand(*size: Any, dtype: Any = None, device: Device = "cpu", requires_grad: bool = False) -> Tensor:
    """Uniformly distributed numbers in [0, 1)."""
    values = backend.generator().random(_size(size))
    return _placed(np.asarray(values, dtype or np.float32), device, requires_grad)


def randn_like(
    input: Tensor, dtype: Any = None, device: Device = None, requires_grad: bool = False
) -> Tensor:
    """Normally distributed numbers in a tensor's shape, dtype and device."""
    where = input.device if device is None else device
    return randn(input.shape, dtype=dtype or input.dtype, device=where, requires_grad=requires_grad)


def rand_like(input: Tensor, dtype: Any = None, device: Device = None, requires_grad: bool = False) -> Tensor:
    """Uniformly distributed numbers in [0, 1) in a tensor's shape, dtype and device."""
    where = input.device if device is None else device
    return rand(input.shape, dtype=dtype or input.dtype, device=where, requires_grad=requires_grad)


def randint(low: int, high: Any, size: Any = None, dtype: Any = None, device: Device = "cpu") -> Tensor:
    """Uniformly distributed integers in [low, high); randint(high, size) starts at 0."""
    if size is None:
        low, high, size = 0, low, high
    if low >= high:
        raise ValueError(f"randint: there are no integers from {low} to below {high}")
    values = backend.generator().integers(low, high, _size((size,)))
    return _placed(values.astype(dtype or np.int64), device)


def randperm(n: int, dtype: Any = None, device: Device = "cpu") -> Tensor:
    """The integers 0 .. n - 1 in random order."""
    return _placed(backend.generator().permutation(integer(n)).astype(dtype or np.int64), device)
