"""Interpolation against PyTorch where it is installed, and against numbers written down where it is not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from examples import examples

import minidl
from minidl import nn
from minidl.autograd import Tensor, grad
from minidl.nn import functional as F
from minidl.nn.functional import resize
from minidl.testing import dot_test, gradcheck

SHAPES = {1: (2, 3, 7), 2: (1, 2, 5, 8), 3: (1, 2, 4, 3, 5)}
SIZES = {1: [3, 7, 11, 14, 1], 2: [(10, 16), (3, 11), (5, 4), (1, 1)], 3: [(8, 6, 10), (2, 5, 5), (1, 4, 1)]}
MODES = {
    1: ["nearest", "nearest-exact", "linear", "area"],
    2: ["nearest", "nearest-exact", "bilinear", "bicubic", "area"],
    3: ["nearest", "nearest-exact", "trilinear", "area"],
}
SMOOTH = ["linear", "bilinear", "trilinear", "bicubic"]
RANKS = pytest.mark.parametrize("rank", [1, 2, 3])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def assert_same(x, order=2, **kwargs):
    torch = pytest.importorskip("torch")
    from oracle import assert_matches_torch

    assert_matches_torch(
        lambda t: F.interpolate(t, **kwargs),
        lambda t: torch.nn.functional.interpolate(t, **kwargs),
        x,
        order=order,
    )


# ---- against PyTorch ---------------------------------------------------------------------------


@RANKS
def test_every_mode_equals_pytorch(rank):
    x = normal(*SHAPES[rank])
    for mode in MODES[rank]:
        for align in (None, False, True) if mode in SMOOTH else (None,):
            for size in SIZES[rank]:
                assert_same(x, size=size, mode=mode, align_corners=align)
            for factor in (2, 0.5, 1.7, 0.63, 1.0):
                for recompute in (None, True):
                    assert_same(
                        x, scale_factor=factor, mode=mode, align_corners=align, order=1,
                        recompute_scale_factor=recompute,
                    )  # fmt: skip


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("align", [False, True])
def test_antialiasing_equals_pytorch(mode, align):
    x = normal(1, 2, 13, 10)
    for size in ((5, 3), (26, 4), (13, 7), (1, 1), (2, 20)):
        assert_same(x, size=size, mode=mode, align_corners=align, antialias=True, order=1)
    for factor in (0.4, (0.5, 2), 0.37):
        assert_same(x, scale_factor=factor, mode=mode, align_corners=align, antialias=True, order=1)


def test_nearest_chooses_the_same_samples_as_pytorch():
    """Where an output's centre falls on an edge, rounding decides; and each dtype has its own."""
    torch = pytest.importorskip("torch")
    sizes = [dict(size=q) for q in range(1, 61)]
    factors = [dict(scale_factor=f) for f in (1.1, 1.2, 1.3, 1.4, 1.6, 1.7, 1 / 3, 2.3, 0.7, 3, 4.9)]
    modes, dtypes = ("nearest", "nearest-exact"), (np.float32, np.float64)
    for n, mode, dtype in itertools.product((1, 2, 3, 7, 14, 23, 40), modes, dtypes):
        x = np.arange(n, dtype=dtype).reshape(1, 1, n)
        for kwargs in sizes + factors:
            if n * kwargs.get("scale_factor", 1) >= 1:
                y = F.interpolate(Tensor(x), mode=mode, **kwargs).numpy()
                z = torch.nn.functional.interpolate(torch.tensor(x), mode=mode, **kwargs).numpy()
                np.testing.assert_array_equal(y, z, err_msg=f"{n} {mode} {dtype.__name__} {kwargs}")


def test_random_sizes_equal_pytorch():
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    axis = st.tuples(st.integers(1, 9), st.integers(1, 20))

    @examples(40)
    @hypothesis.given(st.lists(axis, min_size=1, max_size=3), st.integers(0, 99))
    def check(axes, seed):
        rank, (size, outputs) = len(axes), zip(*axes)
        mode = MODES[rank][seed % len(MODES[rank])]
        align = bool(seed % 2) if mode in SMOOTH else None
        assert_same(normal(1, 2, *size, seed=seed), size=outputs, mode=mode, align_corners=align, order=1)

    pytest.importorskip("torch")
    check()


# ---- numbers written down ----------------------------------------------------------------------


def line(*values):
    return minidl.tensor(np.array([[values]], np.float64), requires_grad=True)


def test_small_cases():
    x = line(0.0, 4.0, 8.0)
    rows = [
        (dict(size=6), [0, 0, 4, 4, 8, 8]),
        (dict(size=2), [0, 4]),
        (dict(size=2, mode="nearest-exact"), [0, 8]),
        (dict(size=6, mode="linear"), [0, 1, 3, 5, 7, 8]),
        (dict(size=5, mode="linear", align_corners=True), [0, 2, 4, 6, 8]),
        (dict(size=1, mode="linear", align_corners=True), [0]),
        (dict(size=1, mode="linear"), [4]),
        (dict(size=2, mode="area"), [2, 6]),
        (dict(size=5, mode="cubic", align_corners=True), [0, 1.625, 4, 6.375, 8]),
    ]
    for kwargs, expected in rows:
        np.testing.assert_allclose(F.interpolate(x, **kwargs).detach().numpy()[0, 0], expected, atol=1e-12)
    y = F.interpolate(x, scale_factor=2)
    assert grad(y, x, Tensor(np.arange(6.0).reshape(1, 1, 6)))[0].tolist() == [[[1, 5, 9]]]
    y = F.interpolate(x, size=6, mode="linear")
    np.testing.assert_allclose(grad(y.sum(), x)[0].numpy(), [[[2, 2, 2]]], atol=1e-12)


def test_antialiasing_by_hand():
    """From 4 samples to 2 the weights are (3, 3, 1) / 7. Where an image grows, Keys has a = -1/2."""
    x = line(7.0, 14.0, 0.0, 0.0)
    y = F.interpolate(x, 2, mode="linear", antialias=True)
    np.testing.assert_allclose(y.detach().numpy(), [[[9, 2]]], atol=1e-12)
    y = F.interpolate(line(0.0, 1.0, 0.0, 0.0), 8, mode="cubic", antialias=True)
    np.testing.assert_allclose(y.detach().numpy()[0, 0, 3], 0.8671875, atol=1e-12)


def test_the_scale_is_the_given_factor_or_that_of_the_sizes():
    """floor(3 · 1.7) = 5: output 1 lies at 1.5 / 1.7 - 0.5 or at 1.5 · 3 / 5 - 0.5."""
    x = line(0.0, 4.0, 8.0)
    for recompute, place in ((None, 1.5 / 1.7 - 0.5), (True, 0.4)):
        y = F.interpolate(x, scale_factor=1.7, mode="linear", recompute_scale_factor=recompute)
        assert y.shape == (1, 1, 5)
        np.testing.assert_allclose(y.detach().numpy()[0, 0, 1], 4 * place, atol=1e-12)


def test_nearest_rounds_in_the_precision_of_the_image():
    """23 · 14 / 46 is 7, and a little less in float32."""
    for dtype, expected in ((np.float32, 6), (np.uint8, 6), (np.float64, 7)):
        x = Tensor(np.arange(14, dtype=dtype).reshape(1, 1, 14))
        assert F.interpolate(x, 46).numpy()[0, 0, 23] == expected


def test_cubic_keeps_lines_and_passes_through_samples():
    """Keys' kernel reproduces a straight line away from the border, and the samples themselves."""
    x = line(*range(12))
    y = F.interpolate(x, 23, mode="cubic", align_corners=True).detach().numpy()[0, 0]
    np.testing.assert_allclose(y[::2], np.arange(12), atol=1e-12)
    np.testing.assert_allclose(y[2:-2], np.arange(1, 10.5, 0.5), atol=1e-12)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("align", [False, True])
def test_cubic_of_other_ranks_is_bicubic_along_the_other_axes(antialias, align):
    x = normal(1, 2, 4, 5, 6)
    options = dict(align_corners=align, antialias=antialias)
    planes = F.interpolate(Tensor(x[0]), (7, 3), mode="bicubic", **options)  # (C, D, H, W) -> (C, D, 7, 3)
    lines = planes.permute(0, 2, 3, 1).reshape(2, 21, 4)
    expected = F.interpolate(lines, 9, mode="cubic", **options).reshape(2, 7, 3, 9).permute(0, 3, 1, 2)
    y = F.interpolate(Tensor(x), (9, 7, 3), mode="tricubic", **options)[0]
    np.testing.assert_allclose(y.numpy(), expected.numpy(), atol=1e-12)
    column = F.interpolate(Tensor(x[:, :, 0, 0]), 11, mode="cubic", **options)
    flat = F.interpolate(Tensor(x[:, :, 0, :1]), (1, 11), mode="bicubic", **options)
    np.testing.assert_allclose(column.numpy(), flat.numpy()[:, :, 0], atol=1e-12)


def test_what_does_not_change_is_returned():
    x = Tensor(normal(1, 2, 5, 8))
    for mode in MODES[2]:
        np.testing.assert_array_equal(F.interpolate(x, (5, 8), mode=mode).numpy(), x.numpy())


def test_label_images_are_resized_by_nearest():
    for dtype in (np.int64, np.uint8, np.bool_):
        x = np.arange(6).reshape(1, 1, 2, 3).astype(dtype)
        y = F.interpolate(Tensor(x), scale_factor=2)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.numpy(), x.repeat(2, 2).repeat(2, 3))


def test_images_of_bytes_are_rounded_after_each_axis():
    x = Tensor(np.array([[[[0, 1], [0, 255]]]], np.uint8))
    y = F.interpolate(x, (1, 1), mode="bilinear")  # first (0 + 1)/2 and (0 + 255)/2, halves up, then 64.5
    assert y.dtype == np.uint8 and y.tolist() == [[[[65]]]]
    edge = Tensor(np.array([[[[0, 0, 255, 255]]]], np.uint8))  # a cubic overshoots: it is clipped
    assert F.interpolate(edge, (1, 8), mode="bicubic").tolist() == [[[[0, 0, 0, 58, 197, 255, 255, 255]]]]


def test_bytes_are_pytorchs_up_to_one():
    from oracle import torch

    rng = np.random.default_rng(0)
    for mode, align, antialias in itertools.product(("bilinear", "bicubic"), (None, True), (False, True)):
        x = rng.integers(0, 256, (2, 3, *rng.integers(3, 9, 2)), np.uint8)
        options = dict(size=(11, 4), mode=mode, align_corners=align, antialias=antialias)
        expected = torch.nn.functional.interpolate(torch.tensor(x), **options).numpy()
        difference = np.abs(F.interpolate(Tensor(x), **options).numpy().astype(int) - expected)
        assert difference.max() <= 1 and difference.mean() < 0.05


def test_an_infinite_sample_reaches_only_its_neighbours():
    x = np.zeros((1, 1, 1, 8))
    x[..., 3] = np.inf
    for size in ((1, 16), (1, 13)):
        y = F.interpolate(Tensor(x), size, mode="bilinear").numpy()
        assert np.isfinite(y[..., :4]).all() and np.isfinite(y[..., -5:]).all()


# ---- laws, dtypes, memory ----------------------------------------------------------------------

ALL = [
    ((1, 1, 6), dict(size=9, mode="linear")),
    ((1, 1, 6), dict(size=4, mode="cubic")),
    ((1, 1, 6), dict(size=4, mode="nearest")),
    ((1, 1, 4, 5), dict(scale_factor=2, mode="bicubic")),
    ((1, 1, 4, 5), dict(size=(2, 3), mode="bilinear", antialias=True)),
    ((1, 1, 4, 5), dict(size=(3, 7), mode="area")),
    ((1, 1, 2, 3, 2), dict(size=(3, 2, 4), mode="tricubic", align_corners=True)),
]


@pytest.mark.parametrize("shape, kwargs", ALL, ids=str)
def test_interpolation_is_linear(shape, kwargs):
    x = Tensor(normal(*shape), requires_grad=True)
    assert dot_test(lambda t: F.interpolate(t, **kwargs), x)
    assert gradcheck(lambda t: F.interpolate(t, **kwargs), [x], order=2)


@pytest.mark.parametrize("shape, kwargs", ALL, ids=str)
def test_layouts_and_dtypes(shape, kwargs):
    x = normal(*shape[::-1]).transpose()
    x.flags.writeable = False
    y = F.interpolate(Tensor(np.ascontiguousarray(x)), **kwargs).numpy()
    np.testing.assert_array_equal(F.interpolate(Tensor(x), **kwargs).numpy(), y)
    for dtype, tol in ((np.float32, 1e-5), (np.float16, 1e-2)):
        t = Tensor(x.astype(dtype), requires_grad=True)
        z = F.interpolate(t, **kwargs)
        assert z.dtype == dtype and grad(z.sum(), t)[0].dtype == dtype
        np.testing.assert_allclose(z.detach().numpy(), y, rtol=tol, atol=tol)


def test_an_empty_batch():
    assert F.interpolate(Tensor(np.zeros((0, 2, 3, 4))), (6, 2), mode="bilinear").shape == (0, 2, 6, 2)


def test_matrices_are_made_once():
    x = Tensor(normal(1, 1, 37))
    F.interpolate(x, scale_factor=2, mode="linear")
    before = resize._matrix.cache_info()
    F.interpolate(x, scale_factor=2, mode="linear")
    after = resize._matrix.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)


# ---- modules and errors ------------------------------------------------------------------------


def test_upsample_is_interpolate():
    x = Tensor(normal(1, 1, 3, 4))
    for kwargs in (
        dict(scale_factor=2),
        dict(size=(5, 5), mode="bilinear", align_corners=True),
        dict(scale_factor=1.3, mode="bicubic", recompute_scale_factor=True),
    ):
        layer = nn.Upsample(**kwargs)
        np.testing.assert_array_equal(layer(x).numpy(), F.interpolate(x, **kwargs).numpy())
    assert "scale_factor=2" in repr(nn.Upsample(scale_factor=2)) and "nearest" in repr(nn.Upsample(size=3))


X = Tensor(np.zeros((1, 1, 6)))
IMAGE = Tensor(np.zeros((1, 1, 4, 4)))


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: F.interpolate(X), ValueError, ["size", "scale_factor"]),
        (lambda: F.interpolate(X, 3, 2.0), ValueError, ["size", "scale_factor"]),
        (lambda: F.interpolate(X, (3, 3)), ValueError, ["size", "(3, 3)"]),
        (lambda: F.interpolate(X, 0), ValueError, ["size", "at least 1"]),
        (lambda: F.interpolate(X, scale_factor=(2.0, 2.0)), ValueError, ["scale_factor", "(2.0, 2.0)"]),
        (lambda: F.interpolate(X, scale_factor=-1), ValueError, ["positive scale_factor", "-1"]),
        (lambda: F.interpolate(X, scale_factor=float("nan")), ValueError, ["positive scale_factor", "nan"]),
        (lambda: F.interpolate(X, scale_factor=0.1), ValueError, ["(6,)", "(0,)"]),
        (lambda: F.interpolate(X, 3, mode="bilinear"), ValueError, ["'bilinear'", "(1, 1, 6)", "'linear'"]),
        (lambda: F.interpolate(X[0], 3), ValueError, ["(1, 6)"]),
        (lambda: F.interpolate(X, 3, align_corners=False), ValueError, ["align_corners", "'nearest'"]),
        (lambda: F.interpolate(X, 3, mode="area", antialias=True), ValueError, ["antialias", "'area'"]),
        (lambda: F.interpolate(X, 3, recompute_scale_factor=True), ValueError, ["recompute_scale_factor"]),
        (lambda: F.interpolate(X.long(), 3, mode="linear"), TypeError, ["int64"]),
        (lambda: F.interpolate(X[..., :0], 3), ValueError, ["(0,)", "(3,)"]),
        (lambda: F.interpolate(IMAGE, 3, mode="cubic"), ValueError, ["'cubic'", "'bicubic'"]),
        (lambda: F.interpolate(np.zeros((1, 1, 6)), 3), TypeError, ["ndarray"]),
    ],
)
def test_errors_say_what_clashed(call, error, words):
    with pytest.raises(error) as caught:
        call()
    for word in ("interpolate", *words):
        assert word in str(caught.value)
