"""The bilinear law: one form T with three slots, evaluated three ways; each op is T with one slot open."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import minidl
from minidl.autograd import Like, Op, grad
from minidl.kernels import numpy_local, reference
from minidl.kernels.windows import output_size
from minidl.ops import bilinear
from minidl.testing import gradcheck, triple_test


def geometry(size, kernel, stride=1, padding=0, dilation=1, groups=1, channels=(1, 1), batch=1):
    """x, w and u as shapes, and the static arguments; channels are those of x and u in each group."""
    stride, padding, dilation = (
        (v,) * len(size) if isinstance(v, int) else v for v in (stride, padding, dilation)
    )
    padded = [n + 2 * p for n, p in zip(size, padding)]
    outputs = output_size(padded, kernel, stride, dilation)
    assert min(outputs) > 0
    c, o = channels
    shapes = (batch, groups * c, *size), (groups * o, c, *kernel), (batch, groups * o, *outputs)
    return shapes, dict(stride=stride, padding=padding, dilation=dilation, groups=groups)


LINES = [
    geometry((7,), (k,), s, p, d, g, (1, 2), batch=2)
    for k, s, p, d, g in product((1, 3), (1, 2, 3), (0, 2), (1, 2), (1, 2))
]
PICKED = {
    "kernel as large as the padded input": geometry((4,), (6,), padding=1, channels=(2, 2)),
    "stride that leaves a remainder": geometry((6,), (2,), stride=4, channels=(2, 1)),
    "stride beyond the kernel": geometry((8,), (2,), stride=3),
    "padding beyond the kernel": geometry((3,), (2,), padding=3),
    "one sample": geometry((1,), (1,), channels=(3, 2), batch=2),
    "plane": geometry((4, 5), (3, 2), channels=(2, 2)),
    "plane with all options": geometry((4, 5), (2, 2), (2, 3), (1, 0), (1, 2), 2),
    "row": geometry((1, 6), (1, 3), (1, 2), (0, 1)),
    "column": geometry((6, 1), (3, 1), (2, 1), (1, 0)),
    "depthwise plane": geometry((3, 3), (2, 3), padding=1, groups=3),
    "1 x 1": geometry((3, 2), (1, 1), channels=(3, 2), batch=2),
    "1 x 1 with stride": geometry((5, 4), (1, 1), 2, channels=(2, 2)),
    "plane to a point": geometry((2, 3), (2, 3), channels=(2, 3)),
    "volume": geometry((2, 3, 2), (2, 2, 1), channels=(2, 1)),
    "volume with all options": geometry((3, 2, 3), (2, 1, 2), (2, 1, 1), (1, 0, 0), (2, 1, 1), 2),
    "depthwise volume": geometry((2, 2, 3), (2, 2, 2), 2, 1, groups=2),
    "flat volume": geometry((1, 4, 3), (1, 3, 3), padding=(0, 1, 1)),
}  # fmt: skip
GEOMETRIES = [*LINES, *PICKED.values()]
every_geometry = pytest.mark.parametrize("shapes, static", GEOMETRIES, ids=str)
picked_geometries = pytest.mark.parametrize("shapes, static", PICKED.values(), ids=PICKED)
EXACT = dict(eps=1.0, atol=1e-9, rtol=1e-9)  # linear in each argument: no step is too long


def leaves(*shapes):
    rng = np.random.default_rng(0)
    return [minidl.tensor(rng.standard_normal(s), requires_grad=True) for s in shapes]


def trio(x_shape, w_shape, static):
    """conv(x, w), conv_input(u, w), conv_weight(x, u) of one geometry."""
    return (
        lambda x, w: bilinear.conv(x, w, **static),
        lambda u, w: bilinear.conv_input(u, w, size=x_shape[2:], **static),
        lambda x, u: bilinear.conv_weight(x, u, size=w_shape[2:], **static),
    )


def brute_force(x, w, u_shape, stride, padding, dilation, groups):
    """The defining sum, index by index."""
    y, share = np.zeros(u_shape), w.shape[1]
    for n, o, *q in np.ndindex(u_shape):
        first = o // (w.shape[0] // groups) * share
        for c, *k in np.ndindex(w.shape[1:]):
            i = [s * q + d * k - p for s, q, d, k, p in zip(stride, q, dilation, k, padding)]
            if all(0 <= at < size for at, size in zip(i, x.shape[2:])):
                y[(n, o, *q)] += x[(n, first + c, *i)] * w[(o, c, *k)]
    return y


def test_the_tables_hold_every_bilinear_op():
    assert {"matmul", "conv", "conv_input", "conv_weight", "local_sum", "local_spread", "local_dot"} == {
        name for name, op in Op.registry.items() if op.law == "bilinear"
    }


# ---- the trio ----------------------------------------------------------------------------------


@every_geometry
def test_conv_is_its_defining_sum(shapes, static):
    x, w = leaves(*shapes[:2])
    y = bilinear.conv(x, w, **static)
    np.testing.assert_allclose(
        y.detach().numpy(), brute_force(x.array, w.array, shapes[2], **static), atol=1e-12
    )


@every_geometry
def test_the_form_is_the_same_three_ways(shapes, static):
    x, w, u = leaves(*shapes)
    assert triple_test(*trio(*shapes[:2], static), x, w)
    conv, conv_input, conv_weight = trio(*shapes[:2], static)
    assert conv(x, w).shape == u.shape
    assert conv_input(u, w).shape == x.shape
    assert conv_weight(x, u).shape == w.shape


@every_geometry
def test_first_gradients(shapes, static):
    x, w, u = leaves(*shapes)
    for op, inputs in zip(trio(*shapes[:2], static), ((x, w), (u, w), (x, u))):
        assert gradcheck(op, inputs, **EXACT)


@picked_geometries
def test_gradients_of_three_orders(shapes, static):
    x, w, u = leaves(*shapes)
    for op, inputs in zip(trio(*shapes[:2], static), ((x, w), (u, w), (x, u))):
        assert gradcheck(op, inputs, order=3, **EXACT)


@picked_geometries
def test_a_frozen_argument_has_no_gradient_and_frees_the_other(shapes, static):
    for op, pair in zip(trio(*shapes[:2], static), ((0, 1), (2, 1), (0, 2))):
        for live in (0, 1):
            inputs = leaves(*(shapes[k] for k in pair))
            inputs[1 - live].requires_grad_(False)
            y = op(*inputs)
            kept = [v for v in y.node.saved.values() if not isinstance(v, Like)]
            assert len(kept) == 1 and kept[0] is inputs[1 - live]
            y.sum().backward()
            both = leaves(*(shapes[k] for k in pair))
            op(*both).sum().backward()
            np.testing.assert_allclose(inputs[live].grad.numpy(), both[live].grad.numpy(), atol=1e-12)
            assert inputs[1 - live].grad is None


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_an_empty_batch(rank):
    (_, w_shape, _), static = geometry((4,) * rank, (3,) * rank, padding=1, channels=(2, 3))
    x, w = leaves((0, 2, *(4,) * rank), w_shape)
    y = bilinear.conv(x, w, **static)
    assert y.shape == (0, 3, *(4,) * rank)
    y.sum().backward()
    assert x.grad.shape == x.shape
    np.testing.assert_array_equal(w.grad.numpy(), np.zeros(w_shape))


@picked_geometries
def test_strange_memory_layouts_change_nothing(shapes, static):
    x, w, u = leaves(*shapes)
    strange = [minidl.autograd.Tensor(np.repeat(t.array, 2, -1)[..., ::2], True) for t in (x, w, u)]
    strange = [
        minidl.autograd.Tensor(np.asfortranarray(t.array) if k else t.array) for k, t in enumerate(strange)
    ]
    for t in strange:
        t.array.flags.writeable = False
    for op, (a, b) in zip(trio(*shapes[:2], static), ((0, 1), (2, 1), (0, 2))):
        plain = op((x, w, u)[a], (x, w, u)[b])
        np.testing.assert_allclose(op(strange[a], strange[b]).numpy(), plain.detach().numpy(), atol=1e-12)


@pytest.mark.parametrize("dtype, tol", [(np.float16, 2e-2), (np.float32, 1e-5)], ids=["float16", "float32"])
@picked_geometries
def test_low_precision(shapes, static, dtype, tol):
    exact = leaves(*shapes)
    rounded = [minidl.tensor(t.array.astype(dtype)) for t in exact]
    for op, (a, b) in zip(trio(*shapes[:2], static), ((0, 1), (2, 1), (0, 2))):
        found = op(rounded[a], rounded[b])
        assert found.dtype == dtype
        expected = op(exact[a], exact[b]).detach().numpy()
        np.testing.assert_allclose(found.numpy(), expected, atol=tol * np.abs(expected).max())


# ---- sums over neighbourhoods --------------------------------------------------------------------

NEIGHBOURHOODS = [
    ((5,), (3,)),
    ((2,), (7,)),
    ((1, 4), (3, 3)),
    ((3, 4), (1, 5)),
    ((2, 3, 2), (3, 1, 3)),
    ((0, 2), (3, 3)),
]
every_neighbourhood = pytest.mark.parametrize("size, window", NEIGHBOURHOODS, ids=str)


def neighbourhood(size, window, channels=2, batch=2):
    return leaves((batch, *window, *size), (batch, channels, *size), (batch, channels, *size))


def local_trio(window):
    """local_sum(w, q), local_spread(w, u), local_dot(q, u)."""
    return bilinear.local_sum, bilinear.local_spread, lambda q, u: bilinear.local_dot(q, u, window=window)


@every_neighbourhood
def test_local_sum_is_its_defining_sum(size, window):
    w, q, _ = neighbourhood(size, window)
    y = np.zeros(q.shape)
    for n, c, *i in np.ndindex(q.shape):
        for d in np.ndindex(*window):
            j = [a + b - k // 2 for a, b, k in zip(i, d, window)]
            if all(0 <= a < m for a, m in zip(j, size)):
                y[(n, c, *i)] += w.array[(n, *d, *i)] * q.array[(n, c, *j)]
    np.testing.assert_allclose(bilinear.local_sum(w, q).detach().numpy(), y, atol=1e-12)


@every_neighbourhood
def test_the_local_form_is_the_same_three_ways(size, window):
    w, q, u = (t.detach().numpy() for t in neighbourhood(size, window))
    total, spread, dot = (f(*map(minidl.tensor, pair)).numpy()
                          for f, pair in zip(local_trio(window), ((w, q), (w, u), (q, u))))  # fmt: skip
    np.testing.assert_allclose([(total * u).sum(), (spread * q).sum()], [(dot * w).sum()] * 2, atol=1e-11)


@pytest.mark.parametrize("size, window", NEIGHBOURHOODS[:5], ids=str)
def test_local_gradients_of_three_orders(size, window):
    w, q, u = neighbourhood(size, window, batch=1)
    for op, inputs in zip(local_trio(window), ((w, q), (w, u), (q, u))):
        assert gradcheck(op, inputs, order=3, **EXACT)


@every_neighbourhood
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_the_threaded_local_kernels_are_the_clear_ones(size, window, dtype, monkeypatch):
    monkeypatch.setattr(numpy_local, "BLOCK", 4)  # many blocks, also of small images
    w, q, u = (np.asfortranarray(t.array.astype(dtype)) for t in neighbourhood(size, window))
    for name, *inputs in (("local_sum", w, q), ("local_spread", w, u), ("local_dot", q, u)):
        options = {"window": window} if name == "local_dot" else {}
        found, clear = (getattr(k, name)(*inputs, **options) for k in (numpy_local, reference))
        assert found.dtype == clear.dtype == dtype
        np.testing.assert_allclose(found, clear, atol=3 * np.finfo(dtype).eps * 10)


# ---- matmul ------------------------------------------------------------------------------------

PRODUCTS = [
    ((2, 3), (3, 4)),
    ((1, 1), (1, 1)),
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((2, 2, 3), (2, 3, 1)),
    ((2, 2, 3), (3, 2)),
    ((2, 3), (2, 3, 2)),
    ((2, 1, 1, 3), (3, 3, 2)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 2)),
]


@pytest.mark.parametrize("a, b", PRODUCTS, ids=str)
def test_matmul(a, b):
    x, y = leaves(a, b)
    np.testing.assert_allclose((x @ y).detach().numpy(), x.array @ y.array, atol=1e-12)
    assert gradcheck(lambda x, y: x @ y, [x, y], order=3, **EXACT)


@pytest.mark.parametrize("lead", [(), (2,), (2, 1)], ids=str)
def test_the_form_of_matmul_is_the_same_three_ways(lead):
    x, w = leaves((*lead, 2, 3), (*lead, 3, 4))
    assert triple_test(bilinear.matmul, lambda u, w: u @ w.mT, lambda x, u: x.mT @ u, x, w)


def test_matmul_keeps_what_the_other_gradient_needs():
    x, w = leaves((2, 3), (3, 4))
    w.requires_grad_(False)
    y = x @ w
    assert y.node.saved == {"b": w}
    assert grad(y.sum(), x)[0].shape == x.shape


MISTAKES = [
    ((2, 3), (2, 3), r"matmul: inner sizes differ: \(2, 3\) @ \(2, 3\)"),
    ((3,), (2,), "inner sizes differ"),
    ((2, 2, 3), (3, 3, 2), "batch dims do not broadcast"),
    ((), (3,), "expected tensors with dims"),
]


@pytest.mark.parametrize("a, b, message", MISTAKES, ids=str)
def test_matmul_names_shapes_that_clash(a, b, message):
    with pytest.raises(ValueError, match=message):
        minidl.zeros(*a) @ minidl.zeros(*b)


def test_float16_products_are_summed_in_float32():
    ones = minidl.ones(1, 4096, dtype=np.float16)
    assert (ones @ ones.mT).item() == 4096
