"""Pooling against PyTorch where it is installed, and against numbers written down where it is not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from examples import examples

import minidl
from minidl import nn
from minidl.autograd import Tensor, grad
from minidl.nn import functional as F
from minidl.nn.functional.pool import adaptive_bands, average_bands
from minidl.ops.bands import Bands, runs
from minidl.testing import dot_test, gradcheck

SHAPES = {1: (2, 3, 11), 2: (2, 2, 7, 10), 3: (1, 2, 5, 7, 6)}
RANKS = pytest.mark.parametrize("rank", [1, 2, 3])
NAN, INF = float("nan"), float("inf")


def of(name, rank):
    return getattr(F, f"{name}{rank}d")


def theirs(name, rank):
    torch = pytest.importorskip("torch")
    return getattr(torch.nn.functional, f"{name}{rank}d")


def assert_same(name, rank, x, *args, order=2, **kwargs):
    from oracle import assert_matches_torch

    assert_matches_torch(
        lambda t: of(name, rank)(t, *args, **kwargs),
        lambda t: theirs(name, rank)(t, *args, **kwargs),
        x,
        order=order,
    )


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def leaf(values):
    return minidl.tensor(np.asarray(values, np.float64), requires_grad=True)


# ---- against PyTorch ---------------------------------------------------------------------------

MAX = [
    dict(kernel_size=2),
    dict(kernel_size=3, stride=2),
    dict(kernel_size=3, stride=2, padding=1),
    dict(kernel_size=2, stride=1, dilation=3),
    dict(kernel_size=3, stride=3, padding=1, ceil_mode=True),
    dict(kernel_size=2, stride=3, ceil_mode=True),
    dict(kernel_size=3, stride=2, padding=1, dilation=2, ceil_mode=True),
    dict(kernel_size=1, stride=2),
    dict(kernel_size=4, stride=1, padding=2),
]
AVG = [{k: v for k, v in row.items() if k != "dilation"} for row in MAX]


@RANKS
@pytest.mark.parametrize("row", MAX, ids=str)
@pytest.mark.parametrize("whole_numbers", [False, True])  # whole numbers tie
def test_max_pool_equals_pytorch(rank, row, whole_numbers):
    x = normal(*SHAPES[rank])
    x = np.round(x) if whole_numbers else x
    assert_same("max_pool", rank, x, **row, return_indices=True)
    assert_same("max_pool", rank, x[0], **row, return_indices=True)


@RANKS
@pytest.mark.parametrize("row", AVG, ids=str)
@pytest.mark.parametrize("count_include_pad", [False, True])
def test_avg_pool_equals_pytorch(rank, row, count_include_pad):
    x = normal(*SHAPES[rank])
    assert_same("avg_pool", rank, x, **row, count_include_pad=count_include_pad)
    assert_same("avg_pool", rank, x[0], **row, count_include_pad=count_include_pad)
    if rank > 1:
        assert_same("avg_pool", rank, x, **row, divisor_override=-3)


def test_each_axis_has_its_own_geometry():
    x = normal(2, 2, 8, 11)
    for ceil_mode in (False, True):
        row = dict(kernel_size=(2, 5), stride=(1, 3), padding=(1, 2), ceil_mode=ceil_mode)
        assert_same("max_pool", 2, x, **row, dilation=(3, 1), return_indices=True)
        assert_same("avg_pool", 2, x, **row)
    assert_same("max_pool", 3, normal(1, 1, 4, 6, 5), (1, 2, 3), (2, 1, 2), (0, 1, 1))


@RANKS
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_adaptive_pools_equal_pytorch(rank, size):
    x = np.round(normal(*SHAPES[rank]), 1)
    assert_same("adaptive_avg_pool", rank, x, size)
    assert_same("adaptive_max_pool", rank, x, size, return_indices=True)
    assert_same("adaptive_avg_pool", rank, x[0], size)
    assert_same("adaptive_max_pool", rank, x[0], size, return_indices=True)


def test_adaptive_pools_with_a_size_left_open():
    x = normal(2, 3, 6, 7)
    for size in ((None, 3), (4, None), (None, None), (1, 12)):
        assert_same("adaptive_avg_pool", 2, x, size)
        assert_same("adaptive_max_pool", 2, x, size)
    np.testing.assert_allclose(F.adaptive_avg_pool2d(Tensor(x), None).numpy(), x)


@RANKS
@pytest.mark.parametrize("p", [1, 2, 3, 0.5, 2.5, INF, -INF])
def test_lp_pool_equals_pytorch(rank, p):
    x = np.abs(normal(*SHAPES[rank])) + 0.1
    assert_same("lp_pool", rank, x, p, 2)
    assert_same("lp_pool", rank, x, p, 3, 2, ceil_mode=True)


def test_avg_pool_of_integers_cuts_towards_0():
    x = minidl.arange(-6, 6).reshape(1, 2, 6)
    assert F.avg_pool1d(x, 3).tolist() == [[[-5, -2], [1, 4]]]
    assert F.avg_pool1d(x, 4, 3, 2).tolist() == [[[-2, -3, 0], [0, 2, 2]]]
    assert F.avg_pool1d(x, 4, 3, 2, count_include_pad=False).tolist() == [[[-5, -3, -1], [0, 2, 4]]]
    assert F.avg_pool3d(x.reshape(2, 6, 1, 1), (3, 1, 1), divisor_override=-2).tolist()[0] == [[[7]], [[3]]]
    assert F.avg_pool1d(x, 3).dtype == minidl.int64


def test_lp_pool_of_integers_is_float32():
    y = F.lp_pool1d(minidl.tensor([[[3, -4, 0, 5]]]), 2, 2)
    assert y.tolist() == [[[5, 5]]] and y.dtype == minidl.float32


def test_lp_pool_of_zeros_has_no_gradient():
    assert_same("lp_pool", 1, np.array([[[0.0, 0.0, 3.0, 4.0]]]), 2, 2, order=1)


@RANKS
@pytest.mark.parametrize("k, s, p", [(2, 2, 0), (3, 3, 1), (2, 3, 0)])
def test_unpool_equals_pytorch(rank, k, s, p):
    pytest.importorskip("torch")
    from oracle import assert_matches_torch

    y, index = of("max_pool", rank)(Tensor(normal(*SHAPES[rank])), k, s, p, return_indices=True)
    for size in (None, SHAPES[rank][2:], SHAPES[rank]):
        if size is None:  # the natural size may be too small for the indices
            size = tuple((n - 1) * s - 2 * p + k for n in y.shape[2:])
            if np.prod(size) <= index.array.max():
                continue
        assert_matches_torch(
            lambda t, i, size=size: of("max_unpool", rank)(t, i, k, s, p, output_size=size),
            lambda t, i, size=size: theirs("max_unpool", rank)(t, i, k, s, p, output_size=size),
            y.numpy(), index.numpy(),
        )  # fmt: skip


def test_unpool_puts_back_what_pool_took():
    x = np.arange(2 * 3 * 4 * 6, dtype=np.float64).reshape(2, 3, 4, 6)
    for batch in (x, x[0]):
        y, index = F.max_pool2d(Tensor(batch), 2, return_indices=True)
        back = F.max_unpool2d(y, index, 2).numpy()
        expected = np.where((np.indices(batch.shape)[-2:] % 2 == 1).all(0), batch, 0)
        np.testing.assert_array_equal(back, expected)


def test_unpool_keeps_the_last_of_several_values_for_one_place():
    x = leaf([[[1.0, 2.0, 3.0]]])
    y = F.max_unpool1d(x, Tensor(np.array([[[4, 0, 4]]])), 2)
    assert y.tolist() == [[[2, 0, 0, 0, 3, 0]]]
    g = leaf([[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]])
    (dx,) = grad(y, x, g, create_graph=True)  # PyTorch's gradient is a gather at all the indices
    assert dx.tolist() == [[[5, 1, 5]]]
    assert grad(dx, g, Tensor(np.array([[[1.0, 2.0, 4.0]]])))[0].tolist() == [[[2, 0, 0, 0, 5, 0]]]


def test_random_geometries_equal_pytorch():
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    axis = st.integers(1, 3).flatmap(
        lambda k: st.tuples(st.integers(1, 8), st.just(k), st.integers(1, 4), st.integers(0, k // 2))
    )

    @examples(40)
    @hypothesis.given(st.lists(axis, min_size=1, max_size=3), st.booleans(), st.integers(0, 9))
    def check(axes, ceil_mode, seed):
        size, kernel, stride, padding = zip(*axes)
        hypothesis.assume(all(n + 2 * p >= k for n, k, _, p in axes))
        x = np.round(normal(1, 2, *size, seed=seed), 0)
        row = dict(kernel_size=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)
        assert_same("max_pool", len(axes), x, **row, return_indices=True)
        if len(axes) < 3 or all(n >= k for n, k, *_ in axes):  # PyTorch's avg_pool3d refuses these
            assert_same("avg_pool", len(axes), x, **row, count_include_pad=bool(seed % 2))

    pytest.importorskip("torch")
    check()


# ---- adversarial cases, with the numbers written down ------------------------------------------


@RANKS
def test_windows_that_share_a_peak_add_up(rank):
    """Kernel 3, stride 2 on 5 samples: the peak in the middle lies in every window of every axis."""
    x = np.zeros((1, 1, *(5,) * rank))
    x[(0, 0, *(2,) * rank)] = 7
    x = leaf(x)
    y = of("max_pool", rank)(x, 3, 2)
    assert y.shape == (1, 1, *(2,) * rank) and (y.detach().numpy() == 7).all()
    expected = np.zeros(x.shape)
    expected[(0, 0, *(2,) * rank)] = 2**rank
    np.testing.assert_array_equal(grad(y.sum(), x)[0].numpy(), expected)


@RANKS
def test_the_first_of_equals_takes_the_whole_gradient(rank):
    x = leaf(np.zeros((1, 1, *(4,) * rank)))
    y, index = of("max_pool", rank)(x, 2, return_indices=True)
    g = grad(y.sum(), x)[0].numpy()
    expected = (np.indices(g.shape)[2:] % 2 == 0).all(0) * 1.0
    np.testing.assert_array_equal(g, expected)
    np.testing.assert_array_equal(index.numpy().ravel(), np.flatnonzero(expected))


def test_the_first_of_equals_is_the_first_in_memory():
    x = leaf([[[[0.0, 1.0], [1.0, 0.0]]]])
    for y, index in (F.max_pool2d(x, 2, return_indices=True), F.adaptive_max_pool2d(x, 1, True)):
        assert index.tolist() == [[[[1]]]]
        assert grad(y.sum(), x)[0].tolist() == [[[[0, 1], [0, 0]]]]


@RANKS
@pytest.mark.parametrize("value", [-1.0, -INF, np.finfo(np.float64).min])
def test_padding_never_wins(rank, value):
    x = minidl.tensor(np.full((1, 1, *(4,) * rank), value))
    y, index = of("max_pool", rank)(x, 3, 2, 1, return_indices=True)
    assert (y.numpy() == value).all()
    assert index.array.ravel()[0] == 0 and index.array.min() == 0 and index.array.max() < 4**rank


def test_padding_never_wins_among_integers():
    for dtype in (np.int8, np.int64, np.uint8):
        x = np.full((1, 1, 4), np.iinfo(dtype).min, dtype)
        y = F.max_pool1d(Tensor(x), 3, 2, 1)
        assert y.dtype == dtype and (y.numpy() == np.iinfo(dtype).min).all()


def test_nan_is_the_maximum_of_its_windows():
    x = Tensor(np.array([[[1, NAN, 3, 2, 1, 0, NAN, NAN]]]))
    y, index = F.max_pool1d(x, 2, return_indices=True)
    np.testing.assert_array_equal(y.numpy(), [[[NAN, 3, 1, NAN]]])
    assert index.tolist() == [[[1, 2, 4, 7]]]
    y, index = F.adaptive_max_pool1d(x, 2, return_indices=True)
    np.testing.assert_array_equal(y.numpy(), [[[NAN, NAN]]])
    assert index.tolist() == [[[1, 7]]]


def test_non_square_input_and_kernel():
    x = leaf(np.arange(12.0).reshape(1, 1, 2, 6))
    y, index = F.max_pool2d(x, (2, 3), return_indices=True)
    assert (y.tolist(), index.tolist()) == ([[[[8, 11]]]], [[[[8, 11]]]])
    assert F.avg_pool2d(x, (1, 3)).tolist() == [[[[1, 4], [7, 10]]]]
    row = leaf(np.arange(6.0).reshape(1, 1, 1, 6))
    assert F.max_pool2d(row, (1, 2)).tolist() == [[[[1, 3, 5]]]]
    column = leaf(np.arange(6.0).reshape(1, 1, 6, 1))
    assert F.max_pool2d(column, (2, 1)).tolist() == [[[[1], [3], [5]]]]


def test_strides_that_leave_a_remainder():
    x = leaf(np.arange(7.0).reshape(1, 1, 7))
    assert F.max_pool1d(x, 2, 3).tolist() == [[[1, 4]]]
    assert F.max_pool1d(x, 2, 3, ceil_mode=True).tolist() == [[[1, 4, 6]]]
    assert F.avg_pool1d(x, 2, 3, ceil_mode=True).tolist() == [[[0.5, 3.5, 6]]]
    three = leaf([[[1.0, 2.0, 3.0]]])  # a third window would lie in the padding alone
    assert F.max_pool1d(three, 2, 2, 1, ceil_mode=True).tolist() == [[[1, 3]]]
    assert grad(F.max_pool1d(x, 2, 3).sum(), x)[0].tolist() == [[[0, 1, 0, 0, 1, 0, 0]]]
    assert grad(F.avg_pool1d(x, 2, 3).sum(), x)[0].tolist() == [[[0.5, 0.5, 0, 0.5, 0.5, 0, 0]]]


def test_the_window_is_the_whole_axis():
    x = leaf([[[3.0, 1.0, 5.0, 5.0]]])
    for y in (F.max_pool1d(x, 4), F.adaptive_max_pool1d(x, 1)):
        assert y.tolist() == [[[5]]]
        assert grad(y.sum(), x)[0].tolist() == [[[0, 0, 1, 0]]]
    for y in (F.avg_pool1d(x, 4), F.adaptive_avg_pool1d(x, 1)):
        assert y.tolist() == [[[3.5]]]
        assert grad(y.sum(), x)[0].tolist() == [[[0.25, 0.25, 0.25, 0.25]]]


def test_average_counts_the_padding_or_not():
    x = Tensor(np.array([[[2.0, 4.0, 6.0]]]))
    assert F.avg_pool1d(x, 2, 2, 1).tolist() == [[[1, 5]]]
    assert F.avg_pool1d(x, 2, 2, 1, count_include_pad=False).tolist() == [[[2, 5]]]
    assert F.avg_pool1d(x, 2, 2, 1, divisor_override=1).tolist() == [[[2, 10]]]


def test_an_infinite_sample_stays_where_it_is():
    x = np.zeros((1, 1, 2, 8))
    x[0, 0, 0, 0] = INF
    y = F.avg_pool2d(Tensor(x), (1, 3), 2, (0, 1)).numpy()
    np.testing.assert_array_equal(y, [[[[INF, 0, 0, 0]]]])
    g = grad(F.avg_pool2d(t := leaf(x), 2), t, Tensor(np.array([[[[INF, 1, 1, 1]]]])))[0].numpy()
    np.testing.assert_array_equal(np.isinf(g), [[[[True, True] + [False] * 6] * 2]])


# ---- laws, dtypes, memory ----------------------------------------------------------------------

FUNCTIONS = [
    lambda x: F.max_pool2d(x, 3, 2, 1),
    lambda x: F.adaptive_max_pool2d(x, (2, 3)),
    lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    lambda x: F.adaptive_avg_pool2d(x, (3, 4)),
    lambda x: F.lp_pool2d(x * x + 1.0, 3, 2),
    lambda x: F.max_unpool2d(x, Tensor(np.arange(30).reshape(1, 1, 5, 6)[..., ::-1]), 1),
]
AVERAGES = FUNCTIONS[2:4]


@pytest.mark.parametrize("f", FUNCTIONS)
def test_gradients_of_two_orders(f):
    assert gradcheck(f, [leaf(normal(1, 1, 5, 6))], order=2)


@pytest.mark.parametrize("f", AVERAGES)
def test_averages_are_linear(f):
    assert dot_test(f, leaf(normal(1, 1, 5, 6)))


@pytest.mark.parametrize("f", FUNCTIONS)
def test_layouts_and_dtypes(f):
    x = normal(1, 1, 6, 5).swapaxes(2, 3)
    x.flags.writeable = False
    y = f(Tensor(np.ascontiguousarray(x))).numpy()
    np.testing.assert_array_equal(f(Tensor(x)).numpy(), y)
    for dtype, tol in ((np.float32, 1e-5), (np.float16, 1e-2)):
        t = Tensor(x.astype(dtype), requires_grad=True)
        z = f(t)
        assert z.dtype == dtype and grad(z.sum(), t)[0].dtype == dtype
        np.testing.assert_allclose(z.detach().numpy(), y, rtol=tol, atol=tol)


def test_broadcast_input_and_a_tensor_used_twice():
    x = Tensor(np.broadcast_to(np.float64(2), (1, 2, 4)), requires_grad=True)
    y = F.max_pool1d(x, 2) * F.avg_pool1d(x, 2)
    assert grad(y.sum(), x)[0].tolist() == [[[3, 1, 3, 1]] * 2]


def test_an_empty_batch():
    x = Tensor(np.zeros((0, 2, 4, 4)), requires_grad=True)
    for f in (F.max_pool2d, F.avg_pool2d, F.adaptive_max_pool2d, F.adaptive_avg_pool2d):
        y = f(x, 2)
        assert y.shape == (0, 2, 2, 2) and grad(y.sum(), x)[0].shape == x.shape
    assert F.adaptive_avg_pool1d(Tensor(np.zeros((1, 1, 4))), 0).shape == (1, 1, 0)


# ---- banded matrices ---------------------------------------------------------------------------

BANDS = [
    average_bands(7, 3, 2, 1, 4, True),
    average_bands(8, 2, 3, 0, 2, True),
    adaptive_bands(11, 4),
    adaptive_bands(3, 40),
    Bands(np.array([[2, 2], [0, 1]]), np.array([[1.0, 2.0], [0.0, 0.0]]), 4),
]


@pytest.mark.parametrize("bands", BANDS)
def test_bands_are_their_dense_matrix(bands):
    x = normal(2, bands.size, 3)
    np.testing.assert_allclose(bands.apply(np, x, 1), np.einsum("ij,njc->nic", bands.dense, x), atol=1e-14)
    np.testing.assert_allclose(bands.T.dense, bands.dense.T, atol=1e-15)
    y = normal(2, len(bands.index))
    np.testing.assert_allclose(bands.T.apply(np, y, -1), y @ bands.dense, atol=1e-14)


def test_runs_cover_every_row_once_and_read_the_right_samples():
    rng = np.random.default_rng(0)
    tables = [rng.integers(0, 9, (12, 2)), np.arange(40)[::-1, None], np.repeat(np.arange(20), 3)[:, None]]
    tables += [np.array([[3]]), np.arange(20)[:, None] * [0, 1], np.zeros((5, 1), int)]
    for index in tables:
        found = np.full(index.shape, -1)
        samples = np.arange(index.max() + 1)
        for rows, columns in runs(index):
            assert (found[rows] == -1).all()
            for t, column in enumerate(columns):
                found[rows, t] = samples[column]
        np.testing.assert_array_equal(found, index)
    assert len(runs(np.repeat(np.arange(50), 2)[:, None])) == 2  # up-sampling by 2: even rows and odd rows


# ---- modules and errors ------------------------------------------------------------------------


@RANKS
def test_modules_are_their_functions(rank):
    x = Tensor(np.abs(normal(*SHAPES[rank])))
    rows = [
        ("MaxPool", (2, 1, 1), {}, "max_pool", (2, 1, 1)),
        ("AvgPool", (3, 2, 1, True, False), {}, "avg_pool", (3, 2, 1, True, False)),
        ("LPPool", (2, 3), {}, "lp_pool", (2, 3)),
        ("AdaptiveAvgPool", (3,), {}, "adaptive_avg_pool", (3,)),
        ("AdaptiveMaxPool", (3,), {}, "adaptive_max_pool", (3,)),
    ]
    for module, args, kwargs, function, same in rows:
        layer = getattr(nn, f"{module}{rank}d")(*args, **kwargs)
        np.testing.assert_array_equal(layer(x).numpy(), of(function, rank)(x, *same).numpy())
    y, index = getattr(nn, f"MaxPool{rank}d")(2, return_indices=True)(x)
    unpool = getattr(nn, f"MaxUnpool{rank}d")(2)
    z = unpool(y, index, output_size=x.shape)
    assert z.shape == x.shape and set(np.unique(z.numpy())) - {0} <= set(np.unique(x.numpy()))


def test_modules_print_as_in_pytorch():
    torch = pytest.importorskip("torch")
    for name, args in [
        ("MaxPool2d", (2,)), ("AvgPool3d", (3, 2, 1)), ("LPPool1d", (2, 3)), ("AdaptiveMaxPool1d", (3,)),
        ("AdaptiveAvgPool2d", ((1, None),)),
    ]:  # fmt: skip
        assert repr(getattr(nn, name)(*args)) == repr(getattr(torch.nn, name)(*args))


X1, X2 = Tensor(np.zeros((1, 1, 6))), Tensor(np.zeros((1, 1, 4, 4)))
THREE = Tensor(np.zeros((1, 1, 3)))


def places(*numbers):
    return Tensor(np.array([[numbers]]))


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: F.max_pool1d(X1, 7), ValueError, ["max_pool1d", "(7,)", "(6,)"]),
        (lambda: F.max_pool1d(X1, 2, padding=2), ValueError, ["padding (2,)", "kernel_size (2,)"]),
        (lambda: F.max_pool1d(X1, 2, 0), ValueError, ["stride", "at least 1"]),
        (lambda: F.max_pool1d(X1, 0), ValueError, ["kernel_size", "at least 1"]),
        (lambda: F.max_pool1d(X1, 2, dilation=0), ValueError, ["dilation", "at least 1"]),
        (lambda: F.max_pool2d(X2, (2, 2, 2)), ValueError, ["max_pool2d", "2, got (2, 2, 2)"]),
        (lambda: F.max_pool2d(X1[0], 2), ValueError, ["max_pool2d", "(1, 6)"]),
        (lambda: F.max_pool2d(np.zeros((1, 1, 4, 4)), 2), TypeError, ["max_pool2d", "ndarray"]),
        (
            lambda: F.max_pool1d(X1[..., :2], 2, 1, 1, 3),
            ValueError,
            ["max_pool1d", "dilation 3", "2 samples"],
        ),
        (lambda: F.avg_pool2d(X2, 5), ValueError, ["avg_pool2d", "(5, 5)", "(4, 4)"]),
        (lambda: F.avg_pool2d(X2, 2, divisor_override=0), ValueError, ["avg_pool2d", "divisor_override"]),
        (lambda: F.avg_pool1d(X1.int(), 2), TypeError, ["avg_pool1d", "int32"]),
        (lambda: F.avg_pool1d(X1[:, :0], 2), ValueError, ["avg_pool1d", "(1, 0, 6)"]),
        (lambda: F.max_pool2d(X2[0, :0], 2), ValueError, ["max_pool2d", "no channels", "(0, 4, 4)"]),
        (lambda: F.adaptive_avg_pool1d(X1, -1), ValueError, ["adaptive_avg_pool1d", "-1"]),
        (lambda: F.adaptive_avg_pool2d(X2, (1, 2, 3)), ValueError, ["adaptive_avg_pool2d", "(1, 2, 3)"]),
        (lambda: F.adaptive_max_pool1d(X1[..., :0], 2), ValueError, ["adaptive_max_pool1d", "size 0"]),
        (lambda: F.adaptive_avg_pool1d(X1.long(), 2), TypeError, ["adaptive_avg_pool1d", "int64"]),
        (lambda: F.lp_pool1d(X1, 0, 2), ValueError, ["lp_pool1d", "norm_type"]),
        (lambda: F.max_unpool1d(THREE, places(0, 2, 6), 2), IndexError, ["max_unpool1d", "6", "(6,)"]),
        (lambda: F.max_unpool1d(THREE, places(0, -1, 4), 2), IndexError, ["max_unpool1d", "-1"]),
        (lambda: F.max_unpool1d(THREE, places(0, 2), 2), ValueError, ["(1, 1, 3)", "(1, 1, 2)"]),
        (lambda: F.max_unpool1d(THREE, THREE, 2), TypeError, ["max_unpool1d", "float64"]),
        (lambda: F.max_unpool1d(THREE, places(0, 2, 4), 2, output_size=[9]), ValueError, ["(9,)", "(6,)"]),
        (lambda: F.max_unpool1d(THREE, places(0, 2, 4), 2, output_size=[1] * 4), ValueError, ["output_size"]),
    ],
)
def test_errors_say_what_clashed(call, error, words):
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def test_every_small_window_by_brute_force():
    """Every (size, kernel, stride, padding) of up to 5 samples, against a loop over the windows."""
    for n, k, s in itertools.product(range(1, 6), range(1, 5), range(1, 4)):
        for p in range(k // 2 + 1):
            x = normal(1, 1, n, seed=n)
            if n + 2 * p < k:
                continue
            padded = np.pad(x[0, 0], p, constant_values=-INF)
            windows = [padded[q * s : q * s + k] for q in range((n + 2 * p - k) // s + 1)]
            y = F.max_pool1d(Tensor(x), k, s, p).numpy()[0, 0]
            np.testing.assert_array_equal(y, [w.max() for w in windows])
            z = F.avg_pool1d(Tensor(x), k, s, p).numpy()[0, 0]
            np.testing.assert_allclose(z, [np.where(np.isinf(w), 0, w).mean() for w in windows])
