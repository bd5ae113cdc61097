"""Choosing and replacing elements by index or mask: against PyTorch, NumPy, and expectations by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl import Tensor

X = np.arange(24.0).reshape(2, 3, 4)
IDS = dict(ids=lambda v: str(v) if not callable(v) else "")


def same(call, *arrays):
    from oracle import assert_matches_torch, torch

    assert_matches_torch(partial(call, minidl), partial(call, torch), *arrays)


# ---- x[index] ------------------------------------------------------------------------------------

A, B = [1, 0, 1], [0, 2, 2]
MASK = X[0] % 3 == 0
ALL = slice(None)
INDICES = [
    0, -1, (1, 2, 3), (..., 1), slice(1, None), (ALL, slice(None, None, 2)), None,
    (0, None, ..., None), (slice(5, 2),), A, (A, B), (A, ALL, B), (ALL, A, B),
    (ALL, B), (..., A), (A, ..., 0), (0, ALL, A), (ALL, 0, A), (A, 0), (0, A, B),
    (A, None, B), (None, A, 1), ([[0, 1], [1, 0]], 2), ([],), (ALL, [True, False, True]), True,
    False, (1, [2]), (ALL, A, 0), (A, slice(1, 3), -1),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indices_are_pytorchs_to_the_second_gradient(index):
    same(lambda m, x: x[index], X)


def as_tensors(index, m):
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(m.tensor(part) if isinstance(part, list) and part else part for part in parts)


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_index_tensors_are_lists(index):
    same(lambda m, x: x[as_tensors(index, m)], X)


def test_masks_of_several_dims():
    same(lambda m, x: x[:, m.tensor(MASK)], X)
    same(lambda m, x: x[x > 5], X)
    same(lambda m, x: x[1, m.tensor(MASK[:, 0])], X)
    same(lambda m, x: x[0, m.tensor(MASK)], X)


def test_negative_steps_are_numpys():
    x = minidl.tensor(X, requires_grad=True)
    y = x[::-1, :, 3:0:-2]
    np.testing.assert_array_equal(y.detach().numpy(), X[::-1, :, 3:0:-2])
    y.sum().backward()
    assert x.grad.sum().item() == y.numel()


def test_the_gradient_counts_how_often_an_element_was_chosen():
    x = minidl.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x[[0, 2, 0, 0]].sum().backward()
    assert x.grad.tolist() == [3, 0, 1]


part = st.one_of(
    st.integers(-2, 1), st.just(slice(None)), st.just(None), st.just(slice(0, 1)),
    st.lists(st.integers(-2, 1), min_size=3, max_size=3), st.lists(st.booleans(), min_size=2, max_size=2),
)  # fmt: skip


@examples(150)
@given(parts=st.lists(part, max_size=5))
def test_any_mixture_of_parts(parts):
    from oracle import torch

    a = np.arange(16).reshape(2, 2, 2, 2)
    try:
        expected = torch.tensor(a)[tuple(parts)]
    except IndexError:
        with pytest.raises(IndexError):
            minidl.tensor(a)[tuple(parts)]
        return
    found = minidl.tensor(a)[tuple(parts)]
    assert found.shape == tuple(expected.shape) and found.tolist() == expected.tolist()


INDEX_ERRORS = [
    (3, IndexError, r"getitem: .*out of bounds.*\(shape \(2, 3, 4\), index 3\)"),
    ((0, 0, 0, 0), IndexError, "4 indices and 0 ellipses are too many for 3 dims"),
    ((..., 0, ...), IndexError, "2 ellipses"),
    ([0, 2], IndexError, "indices from 0 to 2 leave dim 0 of size 2"),
    ((slice(None), [-4]), IndexError, "indices from -4 to -4 leave dim 1 of size 3"),
    ([0.5], IndexError, "expected indices of int64 or int32, got float64"),
    (np.array([0, 1], np.uint8), IndexError, "got uint8"),
    ([True, False, True], IndexError, r"mask of shape \(3,\) meets dims of sizes \(2,\)"),
    (0.5, TypeError, "getitem: .*float"),
    ("a", TypeError, "getitem: only integer"),
]


@pytest.mark.parametrize("index, kind, message", INDEX_ERRORS, **IDS)
def test_mistakes_in_indices_are_named(index, kind, message):
    with pytest.raises(kind, match=message):
        minidl.tensor(X)[index]


def test_tensors_are_not_assigned_to():
    with pytest.raises(TypeError, match="tensors are not assigned to"):
        minidl.ones(2)[0] = 1


# ---- functions -------------------------------------------------------------------------------------

GATHERED = np.array([[[0, 1, 2, 0], [2, 2, 2, 1]], [[1, 0, 0, 0], [0, 1, 2, 2]]])
CALLS = {
    "gather": lambda m, x, s: m.gather(x, 1, m.tensor(GATHERED)),
    "gather of a corner": lambda m, x, s: x.gather(-2, m.tensor(GATHERED[:1, :, :2])),
    "gather more": lambda m, x, s: x.gather(1, m.tensor(np.concatenate([GATHERED] * 3, 1))),
    "gather nothing": lambda m, x, s: x.gather(1, m.tensor(GATHERED[:, :0])),
    "scatter_add": lambda m, x, s: m.scatter_add(x, 1, m.tensor(GATHERED), s),
    "scatter_add of a corner": lambda m, x, s: x.scatter_add(1, m.tensor(GATHERED[:1, :, :3]), s[:1, :, :3]),
    "scatter_add along the last": lambda m, x, s: x.scatter_add(-1, m.tensor(GATHERED), s),
    "take_along_dim": lambda m, x, s: m.take_along_dim(x, m.argsort(x, 1), 1),
    "take_along_dim, broadcast": lambda m, x, s: m.take_along_dim(x, m.tensor([[[1], [-1]]]), 1),
    "take_along_dim, broadcast input": lambda m, x, s: m.take_along_dim(x[:1], m.tensor(GATHERED), 1),
    "take_along_dim of all": lambda m, x, s: x.take_along_dim(m.tensor([5, 0, 5])),
    "index_select": lambda m, x, s: m.index_select(x, 1, m.tensor([2, 0, 2])),
    "index_select none": lambda m, x, s: x.index_select(-1, m.tensor(np.zeros(0, np.int64))),
    "index_add": lambda m, x, s: m.index_add(x, 1, m.tensor([2, 2]), s),
    "index_add alpha": lambda m, x, s: x.index_add(1, m.tensor([0, 2]), s, alpha=-0.5),
    "masked_select": lambda m, x, s: m.masked_select(x, x > 7),
    "masked_select, broadcast": lambda m, x, s: x.masked_select(m.tensor(MASK)),
    "masked_select, broadcast input": lambda m, x, s: x[0].masked_select(m.tensor(X > 4)),
    "masked_fill": lambda m, x, s: m.masked_fill(x, x > 7, -1),
    "masked_fill inf": lambda m, x, s: x.masked_fill(m.tensor(MASK), -np.inf)[:, ~m.tensor(MASK)],
    "masked_fill by a tensor": lambda m, x, s: x.masked_fill(m.tensor(MASK), s.sum()),
    "where": lambda m, x, s: m.where(m.tensor(MASK), x, -x * x),
    "where method": lambda m, x, s: x.where(x > 7, 0.0),
    "index_put": lambda m, x, s: m.index_put(x, (m.tensor([1, 0]), m.tensor([2, 2])), s[0]),
    "index_put one value": lambda m, x, s: x.index_put((m.tensor([1]),), m.tensor(5.0, dtype=x.dtype)),
    "index_put mask": lambda m, x, s: x.index_put((x > 20,), s[0, 0, :3]),
    "index_put accumulate": lambda m, x, s: x.index_put((m.tensor([1, 1]), m.tensor([2, 2])), s[0], True),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_functions_are_pytorchs_to_the_second_gradient(name):
    same(CALLS[name], X, np.random.default_rng(0).standard_normal((2, 2, 4)))


def test_gather_and_scatter_add_by_hand():
    x = minidl.tensor([[1.0, 2.0], [3.0, 4.0]])
    index = minidl.tensor([[0, 0], [1, 0]])
    assert minidl.gather(x, 1, index).tolist() == [[1, 1], [4, 3]]
    assert minidl.gather(x, 0, index).tolist() == [[1, 2], [3, 2]]
    assert minidl.zeros(2, 2).scatter_add(1, index, x).tolist() == [[3, 0], [4, 3]]


def test_a_tensor_without_dims_is_a_vector_of_one_element():
    x, one, zero = minidl.tensor(2.0, requires_grad=True), minidl.tensor([0]), minidl.tensor(0)
    assert x.gather(0, zero).tolist() == 2 and x.gather(0, minidl.tensor([0, 0])).tolist() == [2, 2]
    assert minidl.tensor([2.0, 3.0]).gather(0, minidl.tensor(1)).tolist() == 3
    assert x.index_select(0, one).tolist() == 2
    assert x.scatter_add(0, one, minidl.tensor(5.0)).tolist() == 7
    assert minidl.zeros(2).scatter_add(0, minidl.tensor(1), x).tolist() == [0, 2]
    y = x.index_add(0, one, x * x, alpha=-1)
    assert y.tolist() == -2 and minidl.autograd.grad(y, x)[0].tolist() == -3


def test_an_index_without_elements_may_have_any_shape():
    x, none = minidl.ones(5, requires_grad=True), minidl.zeros(2, 0, dtype=np.uint8)
    assert x.gather(0, none).shape == (2, 0)
    assert minidl.autograd.grad(x.gather(0, none).sum(), x)[0].tolist() == [0] * 5
    assert x.scatter_add(0, none, minidl.ones(3)).tolist() == [1] * 5


def test_index_put_by_hand():
    x = minidl.tensor([0.0, 0.0, 0.0], requires_grad=True)
    values = minidl.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x.index_put((minidl.tensor([0, 2, 0]),), values)
    assert y.tolist() == [3, 0, 2]  # the last value stays
    y.sum().backward()
    assert values.grad.tolist() == [0, 1, 1] and x.grad.tolist() == [0, 1, 0]
    assert x.index_put(([0, 2, 0],), values, accumulate=True).tolist() == [4, 0, 2]
    assert x.tolist() == [0, 0, 0]


@examples(40)
@given(dim=st.integers(-3, 2), data=st.data())
def test_gather_of_any_index(dim, data):
    shape = [data.draw(st.integers(0, n)) for n in X.shape]
    shape[dim] = data.draw(st.integers(0, 5))
    index = np.random.default_rng(1).integers(0, X.shape[dim], shape)
    same(lambda m, x: m.gather(x, dim, m.tensor(index)), X)
    same(lambda m, x, s: m.scatter_add(x, dim, m.tensor(index), s), X, np.random.default_rng(2).random(shape))


def test_scatter_add_reads_as_much_of_the_source_as_the_index_has():
    source = minidl.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    y = minidl.zeros(2, 2).scatter_add(1, minidl.tensor([[1, 1]]), source)
    assert y.tolist() == [[0, 3], [0, 0]]
    y.sum().backward()
    assert source.grad.tolist() == [[1, 1, 0], [0, 0, 0]]


def ix(*data, dtype=np.int64) -> Tensor:
    return minidl.tensor(np.array(data, dtype))


x2 = minidl.ones(2, 3)
ERRORS = [
    (lambda: x2.gather(1, ix([3])), IndexError, "gather: indices from 3 to 3 leave dim 1 of size 3"),
    (lambda: x2.gather(1, ix([-1])), IndexError, "gather: negative index -1"),
    (lambda: x2.gather(1, ix(0)), ValueError, r"gather: shapes \(2, 3\), \(1,\), \(1,\) differ in dims"),
    (lambda: x2.gather(0, ix([0] * 4)), ValueError, r"gather: index of shape \(1, 4\) is larger"),
    (lambda: x2.gather(2, ix([0])), IndexError, "gather: dim 2 is out of range"),
    (lambda: x2.gather(1, ix([0.5], dtype=float)), IndexError, "gather: expected indices .* float64"),
    (lambda: x2.scatter_add(1, ix([0, 0]), ix([1], dtype=np.float32)), ValueError, "scatter_add: index of"),
    (lambda: x2.scatter_add(1, ix([0]), ix([1])), TypeError, "scatter_add: src is int64, the input is"),
    (lambda: x2.scatter_add(1, ix([5]), x2), IndexError, "scatter_add: indices from 5 to 5"),
    (lambda: minidl.take_along_dim(x2, ix([7]), 1), IndexError, "take_along_dim: indices from 7"),
    (lambda: minidl.take_along_dim(x2, ix([0], [0], [0]), 1), ValueError, "take_along_dim: .* broadcast"),
    (lambda: minidl.take_along_dim(x2, ix(0), 1), ValueError, "take_along_dim: .* differ in dims"),
    (lambda: x2.index_select(0, ix(2)), IndexError, "index_select: indices from 2 to 2 leave dim 0"),
    (lambda: x2.index_select(0, ix([0])), IndexError, r"index_select: expected a vector .* \(1, 1\)"),
    (lambda: x2.sum().index_select(0, ix(0, 0)), IndexError, r"index_select: expected one index .* \(2,\)"),
    (lambda: x2.sum().index_add(0, ix(0), x2[0, :1]), ValueError, r"index_add: .* expected \(\)"),
    (lambda: x2.sum().index_add(0, ix(0, 0), x2.sum()), ValueError, r"index_add: .* index of shape \(2,\)"),
    (lambda: x2.index_add(0, ix(0), minidl.ones(2, 3)), ValueError, r"index_add: .* expected \(1, 3\)"),
    (lambda: x2.index_add(0, ix(4), minidl.ones(1, 3)), IndexError, "index_add: indices from 4"),
    (lambda: x2.index_add(0, ix(0), minidl.ones(1, 3).double()), TypeError, "index_add: source is float64"),
    (lambda: x2.masked_select(ix([1, 0, 1])), TypeError, "masked_select: expected a mask .* int64"),
    (lambda: x2.masked_select(x2[:, :2] > 0), ValueError, r"masked_select: shapes \(2, 3\) and \(2, 2\)"),
    (lambda: ix(1, 2).masked_fill(ix(1, 2) > 1, 0.5), TypeError, "masked_fill: a value of float32 .* int64"),
    (lambda: x2.masked_fill(x2 > 0, minidl.ones(1)), ValueError, "masked_fill: expected one value"),
    (lambda: x2.index_put((ix(2),), 1.0), IndexError, "indices from 2 to 2 leave dim 0 of size 2"),
    (lambda: x2.index_put((ix(0),), minidl.ones(2)), ValueError, r"index_put: values .* \(2,\) .* \(1, 3\)"),
    (lambda: x2.index_put((ix(0),), ix(1)), TypeError, "index_put: values are int64, the input is float32"),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, message", ERRORS, **IDS)
def test_mistakes_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
