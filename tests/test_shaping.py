"""Rearranging, repeating, joining and parting tensors: against PyTorch and by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

import minidl

X = np.arange(24.0).reshape(2, 3, 4) + 1


def same(call, *arrays, **options):
    from oracle import assert_matches_torch, torch

    assert_matches_torch(partial(call, minidl), partial(call, torch), *arrays, **options)


# the same call in both libraries, m being either
CALLS = {
    "reshape": lambda m, x: m.reshape(x, (4, -1)),
    "view": lambda m, x: x.view(-1, 2, 2),
    "flatten": lambda m, x: m.flatten(x, 1),
    "flatten a scalar": lambda m, x: x[0, 0, 0].flatten(),
    "squeeze": lambda m, x: m.squeeze(x[:1, :, :1]),
    "squeeze a dim": lambda m, x: x[:1, :, :1].squeeze(-1),
    "squeeze dims": lambda m, x: x[:1, :, :1].squeeze((0, 1)),
    "unsqueeze": lambda m, x: m.unsqueeze(x, -1) + x.unsqueeze(1).mean(),
    "permute": lambda m, x: m.permute(x, (2, 0, -2)),
    "transpose": lambda m, x: x.transpose(-1, 0),
    "movedim": lambda m, x: m.movedim(x, 0, -1),
    "movedims": lambda m, x: x.movedim((0, 2), (1, 0)),
    "t": lambda m, x: x[0].t() + m.t(x[0]),
    "T": lambda m, x: x[0].T,
    "mT": lambda m, x: x.mT,
    "flip": lambda m, x: m.flip(x, (0, -1)),
    "dims by name": lambda m, x: x.flip(dims=(0, 1)).permute(dims=(2, 0, 1)).reshape(shape=(6, 4)),
    "repeats by name": lambda m, x: m.tile(x, dims=(2, 1)) + x[:1].expand(size=(2, -1, 4)).repeat(1, 2, 1),
    "squeeze no dims": lambda m, x: m.squeeze(x[:1], ()),
    "roll": lambda m, x: m.roll(x, 1),
    "roll a dim": lambda m, x: x.roll(-2, 2),
    "roll dims": lambda m, x: m.roll(x, (5, -1), (0, 1)),
    "expand": lambda m, x: x[:, :1].expand(5, -1, 3, -1),
    "expand_as": lambda m, x: x[:1].expand_as(x),
    "broadcast_to": lambda m, x: m.broadcast_to(x[0], (2, 3, 4)),
    "tile": lambda m, x: m.tile(x, (2,)),
    "tile more": lambda m, x: x.tile(2, 1, 2, 1),
    "repeat": lambda m, x: x.repeat(2, 1, 3),
    "repeat more": lambda m, x: x.repeat(2, 1, 1, 2),
    "repeat zero times": lambda m, x: x.repeat(1, 0, 1),
    "meshgrid": lambda m, x: m.meshgrid(x[0, 0], x[0, 1, :2], indexing="ij"),
    "meshgrid xy": lambda m, x: m.meshgrid(x[0, 0], x[0, 1, :2], x[0, 1, :1], indexing="xy"),
    "cat": lambda m, x: m.cat([x, x * x], 1),
    "cat along the last": lambda m, x: m.cat((x, x[..., :1], x[..., :0]), -1),
    "cat with an empty vector": lambda m, x: m.cat([m.zeros(0, dtype=x.dtype), x]),
    "stack": lambda m, x: m.stack([x, -x], -1),
    "narrow": lambda m, x: m.narrow(x, 1, -2, 2),
    "split": lambda m, x: m.split(x, 3, 2),
    "split sections": lambda m, x: x.split([1, 0, 2], dim=1),
    "chunk": lambda m, x: m.chunk(x, 3, -1),
    "chunk more than there are": lambda m, x: x.chunk(5),
    "unbind": lambda m, x: m.unbind(x, 1),
    "iterate": lambda m, x: list(x),
}


@pytest.mark.parametrize("name", CALLS)
def test_values_and_two_orders_of_gradients_are_pytorchs(name):
    same(CALLS[name], X)


@pytest.mark.parametrize(
    "name", ["reshape", "flatten", "permute", "flip", "roll", "tile", "repeat", "cat", "stack"]
)
def test_integers_and_booleans_can_be_rearranged_too(name):
    same(CALLS[name], X.astype(np.int64))
    same(CALLS[name] if name != "cat" else lambda m, x: m.cat([x, x]), X > 4) if name != "stack" else None


@examples(60)
@given(
    shape=st.lists(st.integers(0, 3), max_size=4),
    shift=st.integers(-5, 5),
    times=st.lists(st.integers(0, 2), min_size=4, max_size=5),
    data=st.data(),
)
def test_any_shape(shape, shift, times, data):
    x = np.arange(float(np.prod(shape))).reshape(shape)
    order = data.draw(st.permutations(range(len(shape))))
    dim = data.draw(st.integers(-len(shape), len(shape) - 1)) if shape else None
    same(lambda m, x: m.permute(x, tuple(order)), x)
    same(lambda m, x: m.roll(x, shift) if dim is None else m.roll(x, shift, dim), x)
    same(lambda m, x: x.repeat(*times), x, order=1)
    same(lambda m, x: x.reshape(-1, 1).reshape(x.shape) if x.numel() else x + 0, x)
    if dim is not None:
        same(lambda m, x: m.flip(x, (dim,)), x)
        same(lambda m, x: m.cat([x, x], dim), x)
        same(lambda m, x: m.stack([x, x], dim), x)
        same(lambda m, x: x.chunk(2, dim), x)


def test_by_hand():
    x = minidl.tensor([1, 2, 3, 4])
    assert x.roll(1).tolist() == [4, 1, 2, 3]
    assert x[:2].tile(2).tolist() == [1, 2, 1, 2]
    assert x[:2].repeat(2, 2).tolist() == [[1, 2, 1, 2], [1, 2, 1, 2]]
    assert [part.tolist() for part in x.chunk(3)] == [[1, 2], [3, 4]]
    assert x.reshape(2, 2).T.tolist() == [[1, 3], [2, 4]]
    a, b = minidl.meshgrid(x[:2], x[:3])
    assert a.tolist() == [[1, 1, 1], [2, 2, 2]] and b.tolist() == [[1, 2, 3], [1, 2, 3]]


def test_cat_and_stack_promote():
    half, long = minidl.ones(1).half(), minidl.ones(1).long()
    assert minidl.cat([long, half]).dtype == minidl.float16
    assert minidl.stack([half, half.double()]).dtype == minidl.float64


# ---- creation --------------------------------------------------------------------------------------

CREATED = {
    "zeros": lambda m: m.zeros(2, 3),
    "zeros of a tuple": lambda m: m.zeros((2, 3), dtype=m.int64),
    "zeros without dims": lambda m: m.zeros(()),
    "ones": lambda m: m.ones(2, dtype=m.bool),
    "full": lambda m: m.full((2,), 3),
    "full of floats": lambda m: m.full((2, 1), 0.5),
    "full of booleans": lambda m: m.full((2,), True),
    "full_like": lambda m: m.full_like(m.ones(2).half(), 3),
    "full_like, dtype": lambda m: m.full_like(m.ones(2, 2), 3, dtype=m.int32),
    "zeros_like": lambda m: m.zeros_like(m.ones(2, 2, dtype=m.float64)),
    "ones_like": lambda m: m.ones_like(m.zeros(2), dtype=m.int64),
    "eye": lambda m: m.eye(2, 3),
    "eye of integers": lambda m: m.eye(2, dtype=m.int64),
    "arange": lambda m: m.arange(3),
    "arange by 2": lambda m: m.arange(1, 6, 2),
    "arange down": lambda m: m.arange(3, 0, -1),
    "arange of floats": lambda m: m.arange(0, 1, 0.25),
    "arange, dtype": lambda m: m.arange(2, dtype=m.float64),
    "arange of nothing": lambda m: m.arange(2, 2),
    "linspace": lambda m: m.linspace(0, 1, 5),
    "linspace of one": lambda m: m.linspace(2, 3, 1),
    "linspace, dtype": lambda m: m.linspace(-1, 1, 3, dtype=m.float64),
    "tensor of floats": lambda m: m.tensor([[1.5, 2]]),
    "tensor of integers": lambda m: m.tensor([1, 2]),
    "tensor of booleans": lambda m: m.tensor([True, False]),
    "tensor of a number": lambda m: m.tensor(2.5),
    "tensor of nothing": lambda m: m.tensor([]),
    "tensor of an array": lambda m: m.tensor(np.ones(2)),
    "as_tensor, dtype": lambda m: m.as_tensor([1, 2], dtype=m.float32),
}


@pytest.mark.parametrize("name", CREATED)
def test_what_is_created_is_pytorchs(name):
    from oracle import torch

    ours, theirs = CREATED[name](minidl), CREATED[name](torch)
    assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")
    assert ours.shape == tuple(theirs.shape) and ours.tolist() == theirs.tolist()


def test_random_tensors_have_shape_dtype_and_range():
    minidl.manual_seed(0)
    x = minidl.zeros(100, 2, dtype=minidl.float64)
    for y in (minidl.rand_like(x), minidl.randn_like(x)):
        assert y.shape == x.shape and y.dtype == x.dtype and abs(y.mean().item()) < 0.7
    assert minidl.rand(2, 3).dtype == minidl.randn(()).dtype == minidl.float32
    assert minidl.randn(2, requires_grad=True).requires_grad
    y = minidl.randint(2, 5, (100,))
    assert set(y.tolist()) == {2, 3, 4} and y.dtype == minidl.int64
    assert set(minidl.randint(2, (50,)).tolist()) == {0, 1}
    assert sorted(minidl.randperm(5).tolist()) == [0, 1, 2, 3, 4]
    minidl.manual_seed(7)
    first = minidl.rand(3).tolist()
    minidl.manual_seed(7)
    assert minidl.rand(3).tolist() == first


def test_memory_is_shared_or_copied_as_promised():
    a = np.zeros(2)
    copied, shared, also = minidl.tensor(a), minidl.from_numpy(a), minidl.as_tensor(a)
    a[0] = 1
    assert copied[0].item() == 0 and shared[0].item() == also[0].item() == 1
    assert minidl.as_tensor(shared) is shared
    assert minidl.as_tensor(a, dtype=minidl.float32).dtype == minidl.float32


# ---- errors ----------------------------------------------------------------------------------------

x = minidl.ones(2, 3)
scalar = minidl.tensor(1.0)
ERRORS = [
    (lambda: x.reshape(4, 2), ValueError, r"reshape: 6 elements of shape \(2, 3\) do not fit \(4, 2\)"),
    (lambda: x.reshape(-1, -1), ValueError, r"reshape: invalid shape \(-1, -1\)"),
    (lambda: x.reshape(2, 3.0), TypeError, "float"),
    (lambda: x.flatten(1, 0), ValueError, "flatten: start_dim 1 comes after end_dim 0"),
    (lambda: x.permute(0, 0), ValueError, r"permute: \(0, 0\) does not name each of 2 dims once"),
    (lambda: x.transpose(0, 2), IndexError, r"transpose: dim 2 is out of range for 2 dimensions, \[-2, 1\]"),
    (lambda: x.movedim((0, 1), 0), ValueError, r"movedim: \(0, 1\) and 0 name different numbers of dims"),
    (lambda: x[None].t(), ValueError, r"t: expected at most 2 dims, got shape \(1, 2, 3\)"),
    (lambda: x.flip(2), IndexError, "flip: dim 2 is out of range"),
    (lambda: x.flip(0, -2), ValueError, "flip: a dim appears twice"),
    (lambda: x.roll(1, 2), IndexError, "roll: dim 2 is out of range"),
    (lambda: x.unsqueeze(3), IndexError, "unsqueeze: dim 3 is out of range"),
    (lambda: x.squeeze(5), IndexError, "squeeze: dim 5 is out of range"),
    (lambda: x.expand(2, 4), ValueError, r"expand: shape \(2, 3\) cannot be expanded to \(2, 4\)"),
    (lambda: x.expand(3), ValueError, r"expand: shape \(2, 3\) cannot be expanded to \(3,\)"),
    (lambda: x.expand(-1, 2, 3), ValueError, "expand"),
    (lambda: x.repeat(2), ValueError, r"repeat: \(2,\) does not say how often to repeat each dim"),
    (lambda: x.repeat(1, -1), ValueError, r"repeat: \(1, -1\)"),
    (lambda: minidl.cat([]), ValueError, "cat: expected at least one tensor"),
    (lambda: minidl.cat([x, x[:, :2]]), ValueError, r"cat: shapes \(2, 3\), \(2, 2\) differ outside dim 0"),
    (lambda: minidl.cat([x, 1]), TypeError, "cat: expected a Tensor, got int"),
    (lambda: minidl.cat([scalar, scalar]), ValueError, "cat: tensors without dims"),
    (lambda: minidl.cat([x, x], 2), IndexError, "cat: dim 2 is out of range"),
    (lambda: minidl.stack([x, x[0]]), ValueError, r"stack: shapes differ: \(2, 3\), \(3,\)"),
    (lambda: x.narrow(1, 2, 2), IndexError, "narrow: start 2, length 2 leave dim 1 of size 3"),
    (lambda: x.split([1, 1], 1), ValueError, r"split: sections \[1, 1\] do not add up to the size 3"),
    (lambda: x.split(0), ValueError, "split: split_size must be positive, got 0"),
    (lambda: x.chunk(0), ValueError, "chunk: expected at least 1 chunk, got 0"),
    (lambda: scalar.unbind(), IndexError, "unbind: expected a tensor with at least one dim"),
    (lambda: scalar.narrow(0, 0, 1), IndexError, "narrow: expected a tensor with at least one dim"),
    (lambda: scalar.chunk(2), IndexError, "chunk: expected a tensor with at least one dim"),
    (lambda: minidl.meshgrid(x), ValueError, r"meshgrid: expected vectors, got shapes \(2, 3\)"),
    (lambda: minidl.meshgrid(x[0], indexing="ji"), ValueError, "meshgrid: indexing must .* got 'ji'"),
    (lambda: minidl.zeros(2, -1), ValueError, r"sizes must not be negative, got \(2, -1\)"),
    (lambda: minidl.arange(0, 5, -1), ValueError, "arange: from 0 in steps of -1 one never comes to 5"),
    (lambda: minidl.arange(0, 5, 0), ValueError, "arange: from 0 in steps of 0"),
    (lambda: minidl.linspace(0, 1, -2), ValueError, "linspace: steps must not be negative, got -2"),
    (lambda: minidl.randint(3, 3, (1,)), ValueError, "randint: there are no integers from 3 to below 3"),
    (lambda: minidl.tensor("word"), TypeError, "tensor: cannot make a tensor"),
    (lambda: minidl.from_numpy([1]), TypeError, "from_numpy: expected a numpy.ndarray, got list"),
    (lambda: x.size(2), IndexError, "size: dim 2 is out of range"),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, message", ERRORS, ids=[row[2] for row in ERRORS])
def test_mistakes_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
