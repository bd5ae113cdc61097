"""Padding, patches and pixel blocks, against PyTorch and against numbers written down."""

from __future__ import annotations

import numpy as np
import pytest
from examples import examples

import minidl
from minidl import nn
from minidl.autograd import Tensor, grad
from minidl.nn import functional as F
from minidl.testing import dot_test, gradcheck

MODES = ["constant", "reflect", "replicate", "circular"]
RANKS = pytest.mark.parametrize("rank", [1, 2, 3])
SHAPES = {1: (2, 3, 6), 2: (1, 2, 4, 6), 3: (1, 2, 4, 3, 5)}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def assert_same(name, x, *args, order=2, **kwargs):
    torch = pytest.importorskip("torch")
    from oracle import assert_matches_torch

    assert_matches_torch(
        lambda t: getattr(F, name)(t, *args, **kwargs),
        lambda t: getattr(torch.nn.functional, name)(t, *args, **kwargs),
        x,
        order=order,
    )


# ---- pad ---------------------------------------------------------------------------------------


@RANKS
@pytest.mark.parametrize("mode", MODES)
def test_pad_equals_pytorch(rank, mode):
    x = normal(*SHAPES[rank])
    for pad in ((1, 2), (0, 2), (2, 0), (0, 0), (2, -1), (-1, 1)):
        if mode == "circular" and min(pad) < 0 < max(pad):
            continue  # PyTorch writes over the memory it still reads
        assert_same("pad", x, pad * rank, mode)
        assert_same("pad", x[0], pad * rank, mode)
    assert_same("pad", x, (1, 2, 2, 1, 0, 2)[: 2 * rank], mode)


@pytest.mark.parametrize("value", [2.5, -np.inf, np.nan, -1])
def test_constant_pad_equals_pytorch(value):
    x = normal(2, 3, 4)
    for pad in ((1, 2), (1, 0, 0, 2), (1, 1, 1, 1, 2, 0), (-1, 2), (-2, -2), ()):
        assert_same("pad", x, pad, value=value)
    assert_same("pad", x[0, 0], (1, 1), value=value)
    assert_same("pad", np.arange(6).reshape(1, 6), (1, 2), value=-1)


def test_random_pads_equal_pytorch():
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    axis = st.integers(1, 6).flatmap(lambda n: st.tuples(st.just(n), *(st.integers(0, n - 1),) * 2))

    @examples(40)
    @hypothesis.given(st.lists(axis, min_size=1, max_size=3), st.sampled_from(MODES))
    def check(axes, mode):
        size = [n for n, _, _ in axes]
        pad = [width for _, a, b in reversed(axes) for width in (a, b)]
        assert_same("pad", normal(1, 2, *size), pad, mode, order=1)

    pytest.importorskip("torch")
    check()


def line(*values):
    return minidl.tensor(np.array([values], np.float64), requires_grad=True)


def test_small_pads():
    x = line(1.0, 2.0, 3.0, 4.0)
    rows = [
        ((2, 1), "constant", None, [0, 0, 1, 2, 3, 4, 0], [1, 1, 1, 1]),
        ((1, 1), "constant", 9, [9, 1, 2, 3, 4, 9], [1, 1, 1, 1]),
        ((-1, 1), "constant", 9, [2, 3, 4, 9], [0, 1, 1, 1]),
        ((-2, -1), "constant", 9, [3], [0, 0, 1, 0]),
        ((2, 3), "reflect", None, [3, 2, 1, 2, 3, 4, 3, 2, 1], [2, 3, 3, 1]),
        ((-1, 2), "reflect", None, [2, 3, 4, 3, 2], [0, 2, 2, 1]),
        ((2, 1), "replicate", None, [1, 1, 1, 2, 3, 4, 4], [3, 1, 1, 2]),
        ((9, -3), "replicate", None, [1] * 10, [10, 0, 0, 0]),
        ((4, 1), "circular", None, [1, 2, 3, 4, 1, 2, 3, 4, 1], [3, 2, 2, 2]),
        ((-1, 2), "circular", None, [2, 3, 4, 2, 3], [0, 2, 2, 1]),
    ]
    for pad, mode, value, expected, counts in rows:
        y = F.pad(x, pad, mode, value)
        assert y.tolist() == [expected]
        assert grad(y.sum(), x)[0].tolist() == [counts]


def test_the_last_axis_comes_first():
    y = F.pad(Tensor(np.ones((1, 1))), (1, 0, 0, 2)).numpy()
    np.testing.assert_array_equal(y, [[0, 1], [0, 0], [0, 0]])


def test_integers_and_booleans_keep_their_dtype():
    for dtype in (np.uint8, np.int64, np.bool_):
        x = Tensor(np.array([[1, 0, 1]], dtype))
        for mode in MODES:
            assert F.pad(x, (1, 1), mode).dtype == dtype
        assert F.pad(x, (1, 1), value=1).tolist() == [[1, 1, 0, 1, 1]]


@RANKS
def test_pad_layers_are_their_functions(rank):
    torch = pytest.importorskip("torch")
    x = normal(*SHAPES[rank])
    widths = (1, 2, 0, 1, 2, 0)[: 2 * rank]
    for kind, mode, extra in [
        ("Zero", "constant", ()), ("Constant", "constant", (3.5,)), ("Reflection", "reflect", ()),
        ("Replication", "replicate", ()), ("Circular", "circular", ()),
    ]:  # fmt: skip
        for padding in (1, widths):
            name = f"{kind}Pad{rank}d"
            layer, other = getattr(nn, name)(padding, *extra), getattr(torch.nn, name)(padding, *extra)
            flat = (padding,) * (2 * rank) if padding == 1 else padding
            np.testing.assert_array_equal(
                layer(Tensor(x)).numpy(), F.pad(Tensor(x), flat, mode, *extra).numpy()
            )
            np.testing.assert_array_equal(layer(Tensor(x)).numpy(), other(torch.tensor(x)).numpy())
            assert kind == "Zero" or repr(layer) == repr(other)


# ---- unfold and fold ---------------------------------------------------------------------------

WINDOWS = [
    dict(kernel_size=2),
    dict(kernel_size=(3, 2), padding=1, stride=2),
    dict(kernel_size=(2, 3), dilation=(2, 1), padding=(0, 2), stride=(1, 2)),
    dict(kernel_size=1, stride=3),
]


@pytest.mark.parametrize("row", WINDOWS, ids=str)
def test_unfold_and_fold_equal_pytorch(row):
    x = normal(2, 3, 6, 7)
    assert_same("unfold", x, **row)
    assert_same("unfold", x[0], **row)
    columns = F.unfold(Tensor(x), **row).numpy()
    assert_same("fold", columns, (6, 7), **row)
    assert_same("fold", columns[0], (6, 7), **row)


@pytest.mark.parametrize("size, kernel", [((5,), (3,)), ((4, 5), (2, 3)), ((3, 4, 3), (2, 1, 3))])
def test_fold_is_the_adjoint_of_unfold_in_every_rank(size, kernel):
    x, options = Tensor(normal(2, 2, *size)), dict(padding=1, stride=2)
    columns = F.unfold(x, kernel, **options)
    v = Tensor(normal(*columns.shape, seed=1))
    back = F.fold(v, size, kernel, **options)
    np.testing.assert_allclose((columns * v).sum().item(), (x * back).sum().item(), rtol=1e-12)


def test_small_unfold():
    x = Tensor(np.arange(6.0).reshape(1, 1, 2, 3))
    y = F.unfold(x, 2)
    assert y.tolist() == [[[0, 1], [1, 2], [3, 4], [4, 5]]]
    assert F.fold(y, (2, 3), 2).tolist() == [[[[0, 2, 2], [3, 8, 5]]]]
    assert F.unfold(x[:, :, 0], (2,)).tolist() == [[[0, 1], [1, 2]]]


# ---- pixel blocks ------------------------------------------------------------------------------


def test_pixel_blocks_equal_pytorch():
    for r in (1, 2, 3):
        x = normal(2, 2 * r * r, 3, 2)
        for batch in (x, x[0], x[None]):
            assert_same("pixel_shuffle", batch, r)
            assert_same("pixel_unshuffle", F.pixel_shuffle(Tensor(batch), r).numpy(), r)


def test_small_pixel_blocks():
    x = Tensor(np.arange(8.0).reshape(4, 1, 2))
    y = F.pixel_shuffle(x, 2)
    assert y.tolist() == [[[0, 2, 1, 3], [4, 6, 5, 7]]]
    assert F.pixel_unshuffle(y, 2).tolist() == x.tolist()


def test_layers_are_their_functions_and_print_as_in_pytorch():
    torch = pytest.importorskip("torch")
    x = Tensor(normal(1, 4, 4, 6))
    rows = [
        ("PixelShuffle", (2,), F.pixel_shuffle(x, 2)),
        ("PixelUnshuffle", (2,), F.pixel_unshuffle(x, 2)),
        ("Unfold", (2, 1, 1, 2), F.unfold(x, 2, 1, 1, 2)),
        ("Fold", ((3, 3), 2), F.fold(x.reshape(1, 4, 24)[..., :4], (3, 3), 2)),
    ]
    for name, args, expected in rows:
        layer = getattr(nn, name)(*args)
        given = x.reshape(1, 4, 24)[..., :4] if name == "Fold" else x
        np.testing.assert_array_equal(layer(given).numpy(), expected.numpy())
        assert repr(layer) == repr(getattr(torch.nn, name)(*args))


# ---- laws, dtypes, memory ----------------------------------------------------------------------

LINEAR = [
    lambda x: F.pad(x, (1, 2, 0, -1)),
    lambda x: F.pad(x, (3, 2, 1, 1), "reflect"),
    lambda x: F.pad(x, (3, 2, 1, -1), "replicate"),
    lambda x: F.pad(x, (4, 2, -1, 1), "circular"),
    lambda x: F.unfold(x, (2, 3), dilation=(2, 1), padding=1, stride=2),
    lambda x: F.fold(x.reshape(1, 4, 4), (3, 3), 2),
    lambda x: F.pixel_shuffle(x.reshape(1, 4, 2, 2), 2),
    lambda x: F.pixel_unshuffle(x, 2),
]


@pytest.mark.parametrize("f", LINEAR)
def test_they_are_linear(f):
    x = Tensor(normal(1, 1, 4, 4), requires_grad=True)
    assert dot_test(f, x)
    assert gradcheck(f, [x], order=2)


@pytest.mark.parametrize("f", [*LINEAR, lambda x: F.pad(x, (1, 1), value=2.0)])
def test_layouts_and_dtypes(f):
    x = normal(1, 1, 4, 4).swapaxes(2, 3)
    x.flags.writeable = False
    y = f(Tensor(np.ascontiguousarray(x))).numpy()
    np.testing.assert_array_equal(f(Tensor(x)).numpy(), y)
    for dtype, tol in ((np.float32, 1e-6), (np.float16, 1e-2)):
        t = Tensor(x.astype(dtype), requires_grad=True)
        z = f(t)
        assert z.dtype == dtype and grad(z.sum(), t)[0].dtype == dtype
        np.testing.assert_allclose(z.detach().numpy(), y, rtol=tol, atol=tol)


# ---- errors ------------------------------------------------------------------------------------

X, IMAGE = Tensor(np.zeros((1, 1, 6))), Tensor(np.zeros((1, 3, 4, 5)))


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: F.pad(X, (1, 0, 0)), ValueError, ["pad", "3 axes", "(1, 0, 0)"]),
        (lambda: F.pad(X, (1, 1) * 4), ValueError, ["pad", "3 axes"]),
        (lambda: F.pad(X, (1.0, 1)), TypeError, ["pad", "integers"]),
        (lambda: F.pad(X, (-4, -3)), ValueError, ["pad", "(-4, -3)", "(1, 1, 6)"]),
        (lambda: F.pad(X, (-7, 9)), ValueError, ["pad", "(-7, 9)", "(1, 1, 6)"]),
        (lambda: F.pad(X, (1, 1), "mirror"), ValueError, ["'mirror'", "reflect"]),
        (lambda: F.pad(X, (1, 1), "reflect", 2.0), ValueError, ["value=2.0", "'reflect'"]),
        (lambda: F.pad(X, (6, 0), "reflect"), ValueError, ["'reflect'", "size 6", "(6, 0)"]),
        (lambda: F.pad(X, (-3, 7), "reflect"), ValueError, ["'reflect'", "size 6", "(-3, 7)"]),
        (lambda: F.pad(X, (7, 0), "circular"), ValueError, ["'circular'", "size 6", "(7, 0)"]),
        (lambda: F.pad(X, (-6, 0), "replicate"), ValueError, ["'replicate'", "(-6, 0)"]),
        (lambda: F.pad(X[..., :0], (1, 0), "replicate"), ValueError, ["'replicate'", "size 0"]),
        (lambda: F.pad(X[0, 0], (1, 1), "reflect"), ValueError, ["2 or 3 axes", "(6,)"]),
        (lambda: F.pad(X, (1, 1) * 3, "replicate"), ValueError, ["4 or 5 axes", "(1, 1, 6)"]),
        (lambda: F.pad(X.long(), (1, 1), value=2.5), ValueError, ["2.5", "int64"]),
        (lambda: F.pad(np.zeros(3), (1, 1)), TypeError, ["pad", "ndarray"]),
        (lambda: nn.ReflectionPad2d((1, 2)), ValueError, ["ReflectionPad2d", "(1, 2)"]),
        (lambda: F.unfold(IMAGE, 5), ValueError, ["unfold", "(5, 5)", "(4, 5)"]),
        (lambda: F.unfold(X[0], 2), ValueError, ["unfold", "(N, C, H, W)", "(1, 6)"]),
        (lambda: F.unfold(IMAGE, 0), ValueError, ["unfold", "kernel_size"]),
        (lambda: F.fold(Tensor(np.zeros((12, 8))), 4, 2), ValueError, ["fold", "(1, 12, 8)", "9"]),
        (lambda: F.fold(Tensor(np.zeros((11, 9))), 4, 2), ValueError, ["fold", "C * 4", "(1, 11, 9)"]),
        (lambda: F.fold(IMAGE, 4, 2), ValueError, ["fold", "(1, 3, 4, 5)"]),
        (lambda: F.pixel_shuffle(IMAGE, 2), ValueError, ["pixel_shuffle", "3 channels", "(1, 3, 4, 5)"]),
        (lambda: F.pixel_unshuffle(IMAGE, 2), ValueError, ["pixel_unshuffle", "4 x 5", "2 x 2"]),
        (lambda: F.pixel_shuffle(IMAGE[0, 0], 2), ValueError, ["pixel_shuffle", "(4, 5)"]),
        (lambda: F.pixel_shuffle(IMAGE, 0), ValueError, ["pixel_shuffle", "0"]),
    ],
)
def test_errors_say_what_clashed(call, error, words):
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
