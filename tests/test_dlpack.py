"""DLPack: memory shared with NumPy and PyTorch both ways, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import from_dlpack

DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
LAYOUTS = {
    "whole": lambda x: x,
    "transposed": lambda x: x.mT,
    "part": lambda x: x[1:, ::2],
    "without elements": lambda x: x[:0],
    "scalar": lambda x: x[1, 1],
}


def numbers(dtype="float32"):
    return minidl.tensor(np.arange(20).reshape(4, 5).astype(dtype))


def writes_are_seen(ours, theirs):
    """Both see what is written through the other."""
    if not ours.size:
        return
    ours[...] = 1
    assert (np.asarray(theirs) == 1).all()
    theirs[...] = 0
    assert (ours == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_numpy_shares_our_memory(layout, dtype):
    x = LAYOUTS[layout](numbers(dtype))
    y = np.from_dlpack(x)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    np.testing.assert_array_equal(y, x.numpy())
    writes_are_seen(x.array, y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_we_share_numpys_memory(layout, dtype):
    y = np.asarray(LAYOUTS[layout](numbers(dtype)).array)
    x = from_dlpack(y)
    assert (x.shape, x.dtype, x.requires_grad) == (y.shape, y.dtype, False)
    writes_are_seen(x.array, y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pytorch_and_we_share_memory_both_ways(layout, dtype):
    torch = pytest.importorskip("torch")
    x = LAYOUTS[layout](numbers(dtype))
    y = torch.from_dlpack(x)
    assert (tuple(y.shape), str(y.dtype)) == (x.shape, f"torch.{dtype}")
    writes_are_seen(x.array, y)
    z = from_dlpack(y)
    assert (z.shape, z.dtype) == (x.shape, x.dtype)
    writes_are_seen(z.array, y)
    if x.array.size:
        z.array[...] = 1
        assert (x.array == 1).all()  # all three are one


def test_memory_lives_as_long_as_somebody_uses_it():
    torch = pytest.importorskip("torch")
    x = from_dlpack(torch.full((1000,), 3.0))
    y = torch.from_dlpack(minidl.full((1000,), 4.0))
    assert x.numpy().sum() == 3000 and y.sum() == 4000


def test_gradients_flow_from_what_was_shared():
    x = from_dlpack(np.arange(3.0)).requires_grad_()
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 2, 4])


@pytest.mark.parametrize("tensor", [
    lambda: minidl.zeros(3, requires_grad=True), lambda: minidl.zeros(3, requires_grad=True) * 2,
])  # fmt: skip
def test_a_tensor_that_requires_a_gradient_is_refused_as_by_pytorch(tensor):
    with pytest.raises(BufferError, match=r"use \.detach\(\)"):
        np.from_dlpack(tensor())
    np.from_dlpack(tensor().detach())
    torch = pytest.importorskip("torch")
    with pytest.raises(BufferError):
        from_dlpack(torch.zeros(3, requires_grad=True))


def test_read_only_memory_is_refused():
    array = np.zeros(3)
    array.flags.writeable = False
    for x in (minidl.from_numpy(array), minidl.zeros(1).expand(3)):
        with pytest.raises(BufferError, match=r"read-only.*use \.clone\(\)"):
            np.from_dlpack(x)
        np.from_dlpack(x.clone())
    assert not from_dlpack(array).array.flags.writeable  # coming in, it stays what it is


def test_a_copy_shares_nothing():
    x = minidl.zeros(3)
    y = np.from_dlpack(x, copy=True)
    y[...] = 1
    assert not x.array.any()


def test_what_cannot_be_shared():
    with pytest.raises(TypeError, match="list has no __dlpack__"):
        from_dlpack([1, 2])
    with pytest.raises(TypeError, match="complex128"):
        from_dlpack(np.zeros(2, complex))
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="cannot share Tensor"):
        from_dlpack(torch.zeros(2, dtype=torch.bfloat16))


def test_the_device_is_told():
    assert tuple(minidl.zeros(1).__dlpack_device__()) == (1, 0)
