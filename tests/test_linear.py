"""The linear law: the vjp is the adjoint, <Ax, v> = <x, A'v>, and needs the input's shape alone."""

from __future__ import annotations

import tracemalloc
import weakref

import numpy as np
import pytest

import minidl
from minidl.autograd import Like, Op, Tensor, grad
from minidl.nn.functional.pool import average_bands, total_bands
from minidl.nn.functional.resize import _linear
from minidl.ops import linear
from minidl.testing import dot_test, gradcheck

BACK, ALL = slice(None, None, -1), slice(None)
TWICE = np.array([2, 0, 2, 2, -1])
MASK = np.array([[True, False, True], [False, False, True]])
ALONG = np.array([[0, 0, 2], [1, 0, 0]])
WINDOWS = dict(kernel=(3, 2), stride=(2, 1), dilation=(1, 2))
LINE = dict(kernel=(3,), stride=(1,), dilation=(1,))
IN_PLANES, HALVES = np.array([4, 7, 1, 6]).reshape(2, 1, 2, 1), total_bands(4, 2, 2, 0, 2)

# op, shapes of the inputs, static arguments
ROWS = [
    (linear.expand, [(3,)], dict(shape=(2, 3))),
    (linear.expand, [(2, 1, 3)], dict(shape=(4, 2, 5, 3))),
    (linear.expand, [()], dict(shape=(2, 0))),
    (linear.expand, [(1, 1)], dict(shape=(1, 1))),
    (linear.sum_to, [(2, 3)], dict(shape=(3,))),
    (linear.sum_to, [(4, 2, 5, 3)], dict(shape=(2, 1, 3))),
    (linear.sum_to, [(2, 3)], dict(shape=())),
    (linear.sum_to, [(0, 3)], dict(shape=(1, 3))),
    (linear.sum_to, [(1, 3)], dict(shape=(1, 3))),
    (linear.sum, [(2, 3, 2)], dict(dims=(0, 2), keepdim=False)),
    (linear.sum, [(2, 3, 2)], dict(dims=(1,), keepdim=True)),
    (linear.sum, [(2, 0)], dict(dims=(1,), keepdim=False)),
    (linear.sum, [()], dict(dims=(), keepdim=False)),
    (linear.reshape, [(2, 6)], dict(shape=(3, 1, 4))),
    (linear.reshape, [(1,)], dict(shape=())),
    (linear.reshape, [(0, 3)], dict(shape=(3, 0, 2))),
    (linear.permute, [(2, 3, 4)], dict(axes=(2, 0, 1))),
    (linear.permute, [()], dict(axes=())),
    (linear.pad, [(2, 3)], dict(widths=((1, 0), (2, 3)))),
    (linear.pad, [(4, 5)], dict(widths=((-1, 2), (0, -2)))),
    (linear.pad, [(4,)], dict(widths=((-1, -2),))),
    (linear.pad, [(4,)], dict(widths=((-2, -2),))),
    (linear.pad, [(0, 2)], dict(widths=((1, 1), (0, 0)))),
    (linear.getitem, [(4, 3)], dict(index=1)),
    (linear.getitem, [(4, 3)], dict(index=(-1, 2))),
    (linear.getitem, [(6,)], dict(index=slice(4, 0, -2))),
    (linear.getitem, [(4, 3)], dict(index=(BACK, slice(1, 1)))),
    (linear.getitem, [(4, 3)], dict(index=(..., None, BACK))),
    (linear.getitem, [(4, 3)], dict(index=TWICE)),
    (linear.getitem, [(4, 3)], dict(index=(TWICE, np.array([0, 1, 0, 0, 2])))),
    (linear.getitem, [(4, 2, 3)], dict(index=(ALL, 1, np.array([0, 0])))),
    (linear.getitem, [(4, 2, 3)], dict(index=(TWICE[:, None], ALL, np.array([[0, 2]])))),
    (linear.getitem, [(2, 3)], dict(index=MASK)),
    (linear.getitem, [(2, 3)], dict(index=MASK & False)),
    (linear.getitem, [(3, 3)], dict(index=(ALL, MASK[0]))),
    (linear.scatter, [(5, 3)], dict(index=TWICE, shape=(4, 3))),
    (linear.scatter, [(3,)], dict(index=MASK, shape=(2, 3))),
    (linear.scatter, [(3, 2)], dict(index=slice(4, None, -2), shape=(5, 2))),
    (linear.scatter, [(0, 3)], dict(index=np.array([], np.int64), shape=(4, 3))),
    (linear.take_along, [(2, 3)], dict(index=ALONG, dim=1)),
    (linear.take_along, [(3, 3)], dict(index=ALONG, dim=0)),
    (linear.take_along, [(2, 1, 4)], dict(index=np.array([[[3, 3]], [[0, 3]]]), dim=2)),
    (linear.take_along, [(2, 3, 4)], dict(index=np.array([[[3, 3]], [[0, 3]]]), dim=2)),
    (linear.take_along, [(2, 3)], dict(index=np.zeros((2, 0), np.int64), dim=1)),
    (linear.put_along, [(2, 3)], dict(index=ALONG, dim=1, size=4)),
    (linear.put_along, [(2, 3)], dict(index=ALONG, dim=0, size=3)),
    (linear.put_along, [(2, 3, 2)], dict(index=np.array([[[3, 3]], [[0, 3]]]), dim=2, size=4)),
    (linear.put_along, [(2, 0)], dict(index=np.zeros((2, 0), np.int64), dim=1, size=2)),
    (linear.put_along, [(2, 3)], dict(index=ALONG - 3, dim=1, size=4)),
    (linear.overwrite_along, [(2, 3)], dict(index=np.array([[0, 3, 1], [2, 1, -1]]), dim=1, size=4)),
    (linear.overwrite_along, [(3, 2)], dict(index=np.array([[2, 0], [0, 3], [1, 1]]), dim=0, size=4)),
    (linear.overwrite_along, [(2, 0)], dict(index=np.zeros((2, 0), np.int64), dim=1, size=2)),
    (linear.take_in_windows, [(2, 1, 4, 3)], dict(index=IN_PLANES, windows=[HALVES, HALVES])),
    (linear.add_in_windows, [(2, 1, 2, 1)], dict(index=IN_PLANES, windows=[HALVES, HALVES], size=(4, 3))),
    (linear.put_in_windows, [(2, 1, 2, 1)], dict(index=IN_PLANES, windows=[HALVES, HALVES], size=(4, 3))),
    (linear.cat, [(2, 3), (1, 3), (0, 3)], dict(dim=0)),
    (linear.cat, [(2, 1), (2, 3)], dict(dim=1)),
    (linear.cat, [(2, 3)], dict(dim=1)),
    (linear.cumsum, [(2, 4)], dict(dim=1, reverse=False)),
    (linear.cumsum, [(4, 1)], dict(dim=0, reverse=True)),
    (linear.cumsum, [(0, 2)], dict(dim=0, reverse=False)),
    (linear.unfold, [(1, 2, 7, 5)], WINDOWS),
    (linear.unfold, [(2, 1, 3)], LINE),
    (linear.unfold, [(0, 1, 3)], LINE),
    (linear.fold, [(1, 2, 3, 2, 3, 3)], dict(size=(8, 5), **WINDOWS)),
    (linear.fold, [(2, 1, 3, 1)], dict(size=(3,), **LINE)),
    (linear.resample, [(2, 5, 2)], dict(bands=_linear(5, 8, 5 / 8, False), dim=1)),
    (linear.resample, [(2, 5)], dict(bands=_linear(5, 2, 5 / 2, False), dim=1)),
    (linear.resample, [(1, 4)], dict(bands=_linear(1, 3, 1 / 3, False), dim=0)),
    (linear.resample, [(5, 2)], dict(bands=average_bands(5, 3, 2, 1, 3, True), dim=0)),
    (linear.cast, [(2, 3)], dict(dtype=np.dtype(np.float64))),
    (linear.to_device, [(2, 3)], dict(target=minidl.device("cpu"))),
]  # fmt: skip


def name(value):
    return getattr(value, "name", "")


def arrays(shapes):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for shape in shapes]


def leaves(shapes):
    return [Tensor(np.asarray(a), requires_grad=True) for a in arrays(shapes)]


each_row = pytest.mark.parametrize("op, shapes, static", ROWS, ids=name)


def test_the_table_holds_every_linear_op():
    assert {op.name for op, *_ in ROWS} == {key for key, op in Op.registry.items() if op.law == "linear"}


@each_row
def test_the_vjp_is_the_adjoint(op, shapes, static):
    assert dot_test(lambda *x: op(*x, **static), *leaves(shapes))


@each_row
def test_gradients_of_two_orders(op, shapes, static):
    assert gradcheck(lambda *x: op(*x, **static), leaves(shapes), order=2)


@each_row
def test_strange_memory_layouts_change_nothing(op, shapes, static):
    plain = arrays(shapes)
    strange = [np.repeat(a, 2, -1)[..., ::2] if a.ndim else a.copy() for a in plain]
    strange = [np.asfortranarray(a) if k % 2 else a for k, a in enumerate(strange)]
    for a in strange:
        a.flags.writeable = False
    y = op(*map(Tensor, plain), **static)
    xs = [Tensor(a, requires_grad=True) for a in strange]
    z = op(*xs, **static)
    np.testing.assert_array_equal(z.detach().numpy(), y.numpy())
    v = np.broadcast_to(np.float64(2), y.shape)  # a read-only cotangent, all of whose strides are 0
    for g, x in zip(grad(z, xs, Tensor(v)), xs):
        assert (g.shape, g.dtype) == (x.shape, x.dtype)


@each_row
def test_float16_stays_float16(op, shapes, static):
    static = {**static, **({"dtype": np.dtype(np.float16)} if op is linear.cast else {})}
    xs = [Tensor(np.asarray(a).astype(np.float16), requires_grad=True) for a in arrays(shapes)]
    y = op(*xs, **static)
    assert y.dtype == np.float16
    assert {g.dtype for g in grad(y, xs, Tensor(np.ones(y.shape, np.float16)))} == {np.dtype(np.float16)}


# ---- a linear op keeps no array ----------------------------------------------------------------


@each_row
def test_only_shapes_are_kept(op, shapes, static):
    saved = op(*leaves(shapes), **static).node.saved
    for kept in saved.values():
        assert all(isinstance(k, Like) for k in (kept if type(kept) is tuple else (kept,)))


@each_row
def test_the_input_is_freed_while_the_output_lives(op, shapes, static):
    xs = [x * 2.0 for x in leaves(shapes)]
    y = op(*xs, **static)
    views = {id(y.array), id(y.array.base)}
    freed = [weakref.ref(x.array) for x in xs if id(x.array) not in views]
    del xs
    assert all(array() is None for array in freed)


def test_a_chain_of_linear_ops_needs_the_memory_of_one(xp):
    if xp is not np:
        pytest.skip("a second run has memory of its own")
    x = minidl.zeros(1 << 17, dtype=np.float64, requires_grad=True)  # 1 MiB
    tracemalloc.start()
    y = x
    for _ in range(20):
        y = linear.cumsum(y, dim=0, reverse=False)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1.5 * 2**20 and peak < 4 * 2**20


# ---- values that are easily wrong --------------------------------------------------------------


def test_an_element_that_was_chosen_twice_receives_twice():
    x = minidl.zeros(4, requires_grad=True)
    x[[1, 1, 3, 1]].backward(minidl.tensor([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(x.grad.numpy(), [0, 7, 0, 3])


def test_negative_widths_crop():
    x = minidl.arange(5)
    np.testing.assert_array_equal(linear.pad(x, widths=((-1, -2),)).numpy(), [1, 2])
    np.testing.assert_array_equal(linear.pad(x, widths=((-3, 2),)).numpy(), [3, 4, 0, 0])


def test_float16_is_summed_in_float32():
    assert minidl.ones(4096, dtype=np.float16).sum().item() == 4096
    x = minidl.zeros(1, dtype=np.float16, requires_grad=True)
    (x + minidl.zeros(4096, dtype=np.float16)).sum().backward()
    assert x.grad.item() == 4096


INDICES = [
    2, -1, slice(None, None, 2), (slice(None), -1), (..., 0), None, (None, 1, None), [0, 2, 0],
    ([0, 1], [2, 2]), (slice(None), [1, 1]), np.array([[True, False, True]] * 4), (1, slice(2, 0)),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indexing_as_in_pytorch(index):
    from oracle import assert_matches_torch, torch

    parts = [torch.tensor(p) if isinstance(p, (list, np.ndarray)) else p
             for p in (index if isinstance(index, tuple) else (index,))]  # fmt: skip
    x = np.random.default_rng(0).standard_normal((4, 3))
    assert_matches_torch(lambda x: x[index] * x[index], lambda x: x[tuple(parts)] ** 2, x)


def test_a_tensor_as_an_index():
    x = minidl.tensor([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(x[minidl.tensor([1, 1])].numpy(), [[3, 4], [3, 4]])
    np.testing.assert_array_equal(x[x > 1.5].numpy(), [2, 3, 4])
    with pytest.raises(IndexError, match=r"getitem: .*\(shape \(2, 2\), index 2\)"):
        x[2]
