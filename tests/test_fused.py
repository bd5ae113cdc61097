"""Fused ops: each equals its composition in values and in gradients of every order; so do its kernels."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import minidl
from minidl.autograd import Op
from minidl.kernels import Numpy, reference
from minidl.kernels.threads import get_num_threads, set_num_threads
from minidl.nn import functional as F
from minidl.ops import linear
from minidl.ops.fused import norm_leaky_relu, softmax_sums
from minidl.testing import gradcheck

SHAPES = [(2, 3, 7), (3, 4, 5, 6), (1, 2, 3, 4, 2), (2, 1, 1, 9), (2, 70, 40, 41)]


def normed(shape: tuple[int, ...], dtype: str = "float64") -> list[minidl.Tensor]:
    """An image, and a weight and a bias per channel."""
    rng = np.random.default_rng(0)
    arrays = rng.standard_normal(shape) + 0.5, rng.standard_normal(shape[1]), rng.standard_normal(shape[1])
    return [minidl.tensor(a.astype(dtype), requires_grad=True) for a in arrays]


def labelled(shape: tuple[int, ...], dtype: str = "float64") -> list[minidl.Tensor]:
    """Logits, and labels of which some are -1."""
    rng = np.random.default_rng(0)
    logits, label = 3 * rng.standard_normal(shape), rng.integers(-1, shape[1], (shape[0], *shape[2:]))
    return [minidl.tensor(logits.astype(dtype), requires_grad=True), minidl.tensor(label)]


FUSED = {
    "norm_leaky_relu": [
        (norm_leaky_relu, normed, dict(per_sample=per_sample, eps=1e-5, slope=slope))
        for per_sample, slope in product((True, False), (1, 0.01, 0.0))
    ],
    "softmax_sums": [(softmax_sums, labelled, dict(ignore_index=ignored)) for ignored in (None, -1, 0)],
}
ROWS = [pytest.param(*row, id=f"{name}-{row[-1]}") for name, rows in FUSED.items() for row in rows]


def test_the_table_holds_every_fused_op():
    assert set(FUSED) == {name for name, op in Op.registry.items() if op.law == "fused"}


@pytest.mark.parametrize(("op", "draw", "options"), ROWS)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_equal_the_composition(op, draw, options, shape):
    inputs = draw(shape)
    y, z = op(*inputs, **options), op.composition(*inputs, **options)
    np.testing.assert_allclose(y.array, z.array, rtol=1e-12, atol=1e-12)
    g = minidl.tensor(np.random.default_rng(1).standard_normal(y.shape))
    wanted = [x for x in inputs if x.requires_grad]
    for a, b in zip(minidl.autograd.grad(y, wanted, g), minidl.autograd.grad(z, wanted, g)):
        np.testing.assert_allclose(a.array, b.array, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("op", "draw", "options"), ROWS)
def test_gradients_of_the_second_order(op, draw, options):
    inputs = draw((2, 2, 3, 2))
    wanted = [x for x in inputs if x.requires_grad]
    assert gradcheck(lambda *xs: op(*xs, *inputs[len(xs) :], **options), wanted, order=2)


@pytest.mark.parametrize(("op", "draw", "options"), ROWS)
def test_the_result_is_the_same_for_every_number_of_threads(op, draw, options):
    inputs, before, found = draw((2, 4, 300, 301), "float32"), get_num_threads(), []
    try:
        for threads in (1, 3):
            set_num_threads(threads)
            y = op(*inputs, **options)
            found.append([y, *minidl.autograd.grad((y * y).sum(), [x for x in inputs if x.requires_grad])])
    finally:
        set_num_threads(before)
    for a, b in zip(*found):
        np.testing.assert_array_equal(a.array, b.array)


def test_a_weight_that_also_made_the_input_gets_both_parts():
    """With create_graph the derivative goes through the composition, and must not follow the way from w to
    x.
    """
    x, w, b = normed((2, 3, 4))
    run = lambda w: norm_leaky_relu(x * w.reshape(1, 3, 1), w, b, per_sample=True, eps=1e-2, slope=0.1)
    assert gradcheck(run, [w], order=2)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen_inputs_get_none(frozen):
    inputs = normed((2, 3, 4, 4))
    inputs[frozen].requires_grad_(False)
    norm_leaky_relu(*inputs, per_sample=True, eps=1e-5, slope=0.01).sum().backward()
    assert [x.grad is None for x in inputs] == [k == frozen for k in range(3)]


@pytest.mark.parametrize("per_sample", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_norm_kernels_equal_the_clear_version(per_sample, dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5, 8, 14))[..., ::2].astype(dtype)  # not contiguous
    w, b = rng.standard_normal((2, 5)).astype("float32")
    g = rng.standard_normal(x.shape).astype(dtype)
    x.flags.writeable = False
    options = dict(per_sample=per_sample, eps=1e-5, slope=0.2)
    exact = [a.astype(np.float64) for a in (x, w, b)]
    tol = 4e-3 if dtype == "float16" else 2e-5
    y = Numpy.norm_leaky_relu(x, w, b, **options)
    assert y.dtype == x.dtype
    np.testing.assert_allclose(y, reference.norm_leaky_relu(*exact, **options), rtol=tol, atol=tol)
    found = Numpy.norm_leaky_relu_backward(g, x, w, b, **options)
    expected = reference.norm_leaky_relu_backward(g.astype(np.float64), *exact, **options)
    for a, e in zip(found, expected):
        np.testing.assert_allclose(a, e, rtol=50 * tol, atol=50 * tol)


@pytest.mark.parametrize("ignore_index", [None, 255, 2])
@pytest.mark.parametrize("labels", ["uint8", "int64"])
def test_loss_kernels_equal_the_clear_version(ignore_index, labels):
    rng = np.random.default_rng(0)
    x = (9 * rng.standard_normal((2, 5, 31, 7, 40))).astype("float32")[..., ::2]  # not contiguous
    label = rng.integers(0, 5, (2, 31, 7, 20)).astype(labels)
    if ignore_index == 255:
        label[:, ::3] = 255
    g = rng.standard_normal((4, 2, 5)).astype("float32")
    x.flags.writeable = label.flags.writeable = False
    exact = x.astype(np.float64)
    y = Numpy.softmax_sums(x, label, ignore_index=ignore_index)
    assert y.dtype == x.dtype
    expected = reference.softmax_sums(exact, label, ignore_index=ignore_index)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    gx = Numpy.softmax_sums_backward(g, x, label, ignore_index=ignore_index)
    expected = reference.softmax_sums_backward(g.astype(np.float64), exact, label, ignore_index=ignore_index)
    np.testing.assert_allclose(gx, expected, rtol=1e-4, atol=1e-6)


def test_classes_that_are_ruled_out():
    """A logit of -inf is a probability of 0: no harm where the label is another, infinite surprise there."""
    x = np.array([[[0.0, 1.0, -np.inf], [-np.inf, 1.0, 0.0]]])
    for label, expected in (([0, 1, 1], [0, np.log(2)]), ([0, 1, 0], [np.inf, np.log(2)])):
        for kernels in (Numpy, reference):
            overlap, _, true, surprise = kernels.softmax_sums(x, np.array([label]), ignore_index=None)[:, 0]
            np.testing.assert_allclose(surprise, expected, atol=1e-12)
            assert true.sum() == 3 and np.isfinite(overlap).all()


def test_sure_predictions_have_exact_small_surprise():
    x = np.zeros((1, 2, 1000), np.float32)
    x[:, 0] = 1e4
    x[:, 1] = 1e4 - 8
    surprise = Numpy.softmax_sums(x, np.zeros((1, 1000), int), ignore_index=None)[3, 0, 0]
    assert surprise == pytest.approx(1000 * np.log1p(np.exp(-8)), rel=1e-3)


def test_no_voxels_and_no_samples():
    for shape in ((2, 3, 0), (0, 3, 4)):
        x, label = np.zeros(shape, np.float32), np.zeros((shape[0], shape[2]), int)
        assert not Numpy.softmax_sums(x, label, ignore_index=None).any()
        g = np.ones((4, *shape[:2]), np.float32)
        assert Numpy.softmax_sums_backward(g, x, label, ignore_index=None).shape == shape


@pytest.mark.parametrize("shape", [(3, 70, 40, 41), (150, 3, 30, 32), (1, 1, 400, 500), (2, 0, 3, 4)])
@pytest.mark.parametrize("kernels", [Numpy, reference])
def test_planes_are_worked_on_one_by_one(kernels, shape):
    """In blocks of a sample's planes, of several samples, of one; an array of one channel serves all."""
    rng = np.random.default_rng(0)
    x, shared = rng.random(shape)[..., ::-1], rng.random((shape[0], 1, shape[2]))
    y = kernels.over_planes(lambda a, b: a.sum(-1) * b, np.empty(shape[:3]), x, shared)
    np.testing.assert_array_equal(y, x.sum(-1) * shared)


@pytest.mark.parametrize("dim", range(4))
def test_taking_along_an_axis_reads_what_numpy_does(dim):
    rng = np.random.default_rng(0)
    x = rng.random((20, 30, 12, 40)).swapaxes(1, 2)
    shape = [7 if axis == dim else n for axis, n in enumerate(x.shape)]
    index = rng.integers(-x.shape[dim], x.shape[dim], shape)
    y = linear.take_along(minidl.Tensor(x), index=index, dim=dim)
    np.testing.assert_array_equal(y.array, np.take_along_axis(x, index, dim))
    if dim == 2:
        y = linear.take_along(minidl.Tensor(x), index=index[:, :1, :, :1].repeat(40, 3), dim=2)
        np.testing.assert_array_equal(y.array, np.take_along_axis(x, index[:, :1, :, :1], 2))


@pytest.mark.parametrize("kernels", [Numpy, reference])
def test_the_last_of_several_values_for_one_place_stays(kernels):
    places = np.random.default_rng(0).integers(0, 50_000, 100_000)
    y, expected = np.full(60_000, -1.0), np.full(60_000, -1.0)
    kernels.overwrite(y, places, np.arange(100_000.0))
    for place, value in zip(places.tolist(), range(100_000)):
        expected[place] = value
    np.testing.assert_array_equal(y, expected)


def test_norms_with_negative_slope_equal_norm_then_leaky_relu():
    x, w, b = normed((3, 4, 5, 5))
    mean, var = minidl.zeros(4, dtype="float64"), minidl.ones(4, dtype="float64")
    calls = [
        lambda **kw: F.instance_norm(x, None, None, w, b, **kw),
        lambda **kw: F.instance_norm(x, **kw),
        lambda **kw: F.batch_norm(x, None, None, w, b, True, **kw),
        lambda **kw: F.batch_norm(x, mean, var, w, b, False, **kw),
    ]
    for call in calls:
        np.testing.assert_allclose(
            call(negative_slope=0.1).array, F.leaky_relu(call(), 0.1).array, rtol=1e-12, atol=1e-12
        )
