"""grid_sample and affine_grid, against PyTorch where it is installed and against numbers written down."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import minidl
from minidl.autograd import Tensor, grad
from minidl.nn import functional as F
from minidl.testing import dot_test, gradcheck

MODES, PADDINGS = ["bilinear", "nearest", "bicubic"], ["zeros", "border", "reflection"]
CASES = list(itertools.product(MODES, PADDINGS, [False, True]))
each_case = pytest.mark.parametrize("mode, padding, align", CASES)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def points(*shape, seed=1, reach=2.5):
    """Points inside and well outside [-1, 1]."""
    return np.random.default_rng(seed).uniform(-reach, reach, shape)


def assert_same(x, grid, order, mode, padding, align):
    torch = pytest.importorskip("torch")
    from oracle import assert_matches_torch

    def sample(module):
        return lambda x, g: module.grid_sample(x, g, mode=mode, padding_mode=padding, align_corners=align)

    assert_matches_torch(sample(F), sample(torch.nn.functional), x, grid, order=order)


# ---- against PyTorch ---------------------------------------------------------------------------


@each_case
def test_planes_equal_pytorch(mode, padding, align):
    for size in ((5, 7), (1, 6), (4, 1)):
        assert_same(normal(2, 3, *size), points(2, 4, 5, 2), 1, mode, padding, align)


@each_case
def test_volumes_equal_pytorch(mode, padding, align):
    if mode != "bicubic":
        assert_same(normal(2, 2, 3, 5, 4), points(2, 2, 3, 4, 3), 1, mode, padding, align)


@each_case
def test_points_on_samples_and_borders_equal_pytorch(mode, padding, align):
    """The derivative jumps there, and the side must be PyTorch's: quarters of a sample, ends included."""
    axis = np.arange(-8, 9) / 4
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)[None]
    assert_same(normal(1, 2, 4, 4), grid, 1, mode, padding, align)


def test_points_without_a_place_equal_pytorch():
    """PyTorch on NaN and infinity in the modes where its answer is a number."""
    torch = pytest.importorskip("torch")
    grid = np.array([[[[np.nan, 0.1], [np.inf, 0.1], [-1e30, 0.1]]]])
    x = np.arange(1.0, 17).reshape(1, 1, 4, 4)
    for mode, padding in (("bilinear", "border"), ("nearest", "border"), ("nearest", "reflection")):
        options = dict(mode=mode, padding_mode=padding, align_corners=False)
        y = F.grid_sample(Tensor(x), Tensor(grid), **options).numpy()
        z = torch.nn.functional.grid_sample(torch.tensor(x), torch.tensor(grid), **options).numpy()
        np.testing.assert_allclose(y, z)


@pytest.mark.filterwarnings("ignore:.*affine_grid behavior:UserWarning")
@pytest.mark.parametrize("align", [False, True])
def test_affine_grids_equal_pytorch(align):
    torch = pytest.importorskip("torch")
    from oracle import assert_matches_torch

    for theta, size in (
        (normal(2, 2, 3), (2, 1, 4, 5)),
        (normal(1, 2, 3), (1, 1, 1, 3)),
        (normal(2, 3, 4), (2, 1, 3, 1, 4)),
    ):
        assert_matches_torch(
            lambda t, size=size: F.affine_grid(t, size, align),
            lambda t, size=size: torch.nn.functional.affine_grid(t, size, align),
            theta,
        )


# ---- numbers written down ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [(3, 5), (2, 4, 3)])
@pytest.mark.parametrize("mode, padding, align", CASES)
def test_the_identity_changes_nothing(size, mode, padding, align):
    if len(size) == 3 and mode == "bicubic":
        return  # there is no such mode
    x = Tensor(normal(1, 2, *size))
    theta = Tensor(np.eye(len(size), len(size) + 1)[None])
    grid = F.affine_grid(theta, x.shape, align)
    y = F.grid_sample(x, grid, mode, padding, align)
    np.testing.assert_allclose(y.numpy(), x.numpy(), atol=1e-12)


def sampled(values, xs, **options):
    """The row of values read at the places xs, counted in samples."""
    n = len(values)
    image = Tensor(np.array(values, np.float64).reshape(1, 1, 1, n))
    grid = np.zeros((1, 1, len(xs), 2))
    grid[..., 0] = (2 * np.array(xs, np.float64) + 1) / n - 1
    return F.grid_sample(image, Tensor(grid), **options).numpy().ravel()


def test_a_row_by_hand():
    row, xs = [10, 20, 40, 80], [0, 0.5, 2.25, 3, -0.5, -1.5, 3.75, 5]
    for padding, expected in (
        ("zeros", [10, 15, 50, 80, 5, 0, 20, 0]),
        ("border", [10, 15, 50, 80, 10, 10, 80, 80]),
        ("reflection", [10, 15, 50, 80, 10, 15, 80, 40]),
    ):
        np.testing.assert_allclose(sampled(row, xs, padding_mode=padding), expected, atol=1e-12)
    np.testing.assert_array_equal(sampled(row, [0.4, 0.6, 2.5, 9], mode="nearest"), [10, 20, 40, 0])
    middle = sampled(row, [1.5], mode="bicubic")  # -3/32, 19/32, 19/32, -3/32
    np.testing.assert_allclose(middle, [(19 * 60 - 3 * 90) / 32], atol=1e-12)


def test_the_first_coordinate_belongs_to_the_last_axis():
    x = Tensor(np.arange(6.0).reshape(1, 1, 2, 3))
    grid = Tensor(np.array([[[[1.0, -1.0], [-1.0, 1.0]]]]))
    assert F.grid_sample(x, grid, align_corners=True).tolist() == [[[[2, 3]]]]


def test_points_without_a_place():
    x = Tensor(np.arange(1.0, 17).reshape(1, 1, 4, 4), requires_grad=True)
    places = np.array([[[[np.nan, np.nan], [np.inf, 0], [-np.inf, np.inf], [1e30, -1e30]]]])
    for mode, padding, align in CASES:
        grid = minidl.tensor(places, requires_grad=True)
        y = F.grid_sample(x, grid, mode, padding, align)
        for values in (y.detach(), *grad(y.sum(), [x, grid])):
            assert np.isfinite(values.numpy()).all()
    assert F.grid_sample(x, Tensor(places), align_corners=True).tolist() == [[[[1, 0, 0, 0]]]]


def test_a_point_on_the_border_is_held_there():
    x = Tensor(np.array([[[[1.0, 2.0, 4.0]]]]))
    grid = minidl.tensor([[[[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]]], dtype=np.float64, requires_grad=True)
    for padding, slopes in (("zeros", [1, 2, -4]), ("border", [0, 2, 0]), ("reflection", [0, 2, 0])):
        y = F.grid_sample(x, grid, padding_mode=padding, align_corners=True)
        assert y.tolist() == [[[[1, 2, 4]]]]
        assert grad(y.sum(), grid)[0].numpy()[..., 0].tolist() == [[slopes]]


def test_two_points_at_one_place_add_up():
    x = minidl.tensor(np.ones((1, 1, 1, 3)), requires_grad=True)
    grid = Tensor(np.zeros((1, 1, 2, 2)))
    assert grad(F.grid_sample(x, grid).sum(), x)[0].tolist() == [[[[0, 2, 0]]]]


# ---- laws, dtypes, memory ----------------------------------------------------------------------


@each_case
def test_gradients_of_two_orders_in_image_and_grid(mode, padding, align):
    x = minidl.tensor(normal(1, 1, 3, 4), requires_grad=True)
    grid = minidl.tensor(points(1, 1, 3, 2, reach=1.6), requires_grad=True)
    f = lambda x, g: F.grid_sample(x, g, mode, padding, align)
    assert gradcheck(f, [x, grid], order=2)
    assert dot_test(lambda x: f(x, grid.detach()), x)


def test_gradients_of_two_orders_in_a_volume():
    x = minidl.tensor(normal(1, 1, 2, 3, 2), requires_grad=True)
    grid = minidl.tensor(points(1, 1, 1, 2, 3, reach=1.2), requires_grad=True)
    assert gradcheck(lambda x, g: F.grid_sample(x, g, padding_mode="border"), [x, grid], order=2)


def test_an_affine_grid_is_linear_in_theta():
    theta = minidl.tensor(normal(2, 2, 3), requires_grad=True)
    assert dot_test(lambda t: F.affine_grid(t, (2, 1, 3, 4)), theta)


@each_case
def test_layouts_and_dtypes(mode, padding, align):
    x, grid = normal(1, 2, 5, 4).swapaxes(2, 3), points(2, 3, 4, 1, reach=1).transpose(3, 1, 2, 0)
    for a in (x, grid):
        a.flags.writeable = False
    y = F.grid_sample(*map(Tensor, map(np.ascontiguousarray, (x, grid))), mode, padding, align).numpy()
    np.testing.assert_array_equal(F.grid_sample(Tensor(x), Tensor(grid), mode, padding, align).numpy(), y)
    for dtype, tol in ((np.float32, 1e-4), (np.float16, 2e-2)):
        ts = [Tensor(a.astype(dtype), requires_grad=True) for a in (x, grid)]
        z = F.grid_sample(*ts, mode, padding, align)
        assert z.dtype == dtype and {g.dtype for g in grad(z.sum(), ts)} == {np.dtype(dtype)}
        np.testing.assert_allclose(z.detach().numpy(), y, rtol=tol, atol=tol)


def test_nothing_to_read():
    x = Tensor(np.zeros((0, 2, 3, 4)))
    assert F.grid_sample(x, Tensor(np.zeros((0, 5, 6, 2)))).shape == (0, 2, 5, 6)
    assert F.grid_sample(Tensor(np.zeros((1, 2, 3, 4))), Tensor(np.zeros((1, 0, 6, 2)))).shape == (1, 2, 0, 6)


# ---- errors ------------------------------------------------------------------------------------

IMAGE, GRID = Tensor(np.zeros((1, 3, 4, 5))), Tensor(np.zeros((1, 2, 2, 2)))
VOLUME, SPACE = Tensor(np.zeros((1, 3, 4, 5, 2))), Tensor(np.zeros((1, 2, 2, 2, 3)))
THETA = Tensor(np.zeros((2, 2, 3)))


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: F.grid_sample(IMAGE, SPACE), ValueError, ["(1, 3, 4, 5)", "(1, 2, 2, 2, 3)"]),
        (lambda: F.grid_sample(VOLUME, GRID), ValueError, ["(1, 3, 4, 5, 2)", "(1, 2, 2, 2)"]),
        (lambda: F.grid_sample(IMAGE, SPACE[:, 0]), ValueError, ["2 last", "(1, 2, 2, 3)"]),
        (lambda: F.grid_sample(IMAGE.expand(2, 3, 4, 5), GRID), ValueError, ["N first", "(2, 3, 4, 5)"]),
        (lambda: F.grid_sample(IMAGE[0], GRID), ValueError, ["(N, C, H, W)", "(3, 4, 5)"]),
        (lambda: F.grid_sample(IMAGE[:, :, :0], GRID), ValueError, ["size 0", "(1, 3, 0, 5)"]),
        (lambda: F.grid_sample(VOLUME, SPACE, "bicubic"), ValueError, ["'bicubic'", "2-D"]),
        (lambda: F.grid_sample(IMAGE, GRID, "linear"), ValueError, ["'linear'", "bilinear"]),
        (lambda: F.grid_sample(IMAGE, GRID, padding_mode="wrap"), ValueError, ["'wrap'", "reflection"]),
        (lambda: F.grid_sample(IMAGE, GRID.float()), TypeError, ["float64", "float32"]),
        (lambda: F.grid_sample(IMAGE.long(), GRID.long()), TypeError, ["int64"]),
        (lambda: F.affine_grid(THETA, (2, 1, 3)), ValueError, ["(2, 1, 3)"]),
        (lambda: F.affine_grid(THETA, (2, 1, 0, 3)), ValueError, ["positive", "(2, 1, 0, 3)"]),
        (lambda: F.affine_grid(THETA, (1, 1, 3, 3)), ValueError, ["(1, 2, 3)", "(2, 2, 3)"]),
        (lambda: F.affine_grid(THETA, (2, 1, 3, 3, 3)), ValueError, ["(2, 3, 4)", "(2, 2, 3)"]),
        (lambda: F.affine_grid(THETA.long(), (2, 1, 3, 3)), TypeError, ["int64"]),
    ],
)
def test_errors_say_what_clashed(call, error, words):
    with pytest.raises(error) as caught:
        call()
    name = "affine_grid" if "theta" in str(caught.value) or "affine" in str(caught.value) else "grid_sample"
    for word in (name, *words):
        assert word in str(caught.value)
