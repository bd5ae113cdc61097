"""The CUDA kernels of max-pooling, run on the CPU against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_shim import shim

from minidl import kernels
from minidl.kernels import cuda_module, cuda_pool, numpy_pool, reference
from minidl.nn.functional.maxpool import _adaptive, _sliding
from minidl.nn.functional.windows import pool_positions

# N, C, *S, then kernel, stride, padding, dilation, ceil_mode; or the output size of adaptive windows
CASES = {
    "halves": (2, 3, (8, 6), (2, 2), (2, 2), (0, 0), (1, 1), False),
    "overlapping windows": (2, 2, (7, 5), (3, 3), (2, 2), (1, 1), (1, 1), False),
    "a window for each sample": (1, 2, (6, 7), (3, 5), (1, 1), (1, 2), (1, 1), False),
    "1-D, many blocks": (2, 3, (301,), (3,), (1,), (1,), (1,), False),
    "3-D": (1, 2, (5, 4, 7), (3, 2, 3), (2, 1, 2), (1, 0, 1), (1, 1, 1), False),
    "axes of size 1": (2, 1, (1, 9, 1), (1, 3, 1), (1, 2, 1), (0, 1, 0), (1, 1, 1), False),
    "samples that no window sees": (1, 2, (9, 11), (2, 1), (3, 4), (0, 0), (1, 1), False),
    "a window over the edge": (1, 3, (7, 10), (2, 3), (2, 3), (0, 1), (1, 1), True),
    "dilation": (2, 2, (11, 9), (3, 2), (1, 2), (1, 1), (3, 2), False),
    "one window": (2, 3, (5, 6), (5, 6), (1, 1), (0, 0), (1, 1), False),
    "adaptive": (2, 2, (7, 10), (3, 4)),
    "adaptive, more outputs than samples": (1, 2, (3, 2), (5, 3)),
    "empty batch": (0, 2, (4, 4), (2, 2), (2, 2), (0, 0), (1, 1), False),
}
FLOATS = np.float32, np.float64, np.float16


def random_case(rng):
    rank = int(rng.integers(1, 4))
    draw = lambda low, high: tuple(map(int, rng.integers(low, high, rank)))
    size = draw(1, (400, 20, 9)[rank - 1])
    shape = int(rng.integers(1, 4)), int(rng.integers(1, 4)), size
    if rng.random() < 0.2:
        return (*shape, draw(1, 9))
    kernel, dilation = draw(1, 5), draw(1, 4)
    padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
    kernel = tuple(k if d * (k - 1) < n else 1 for n, k, d in zip(size, kernel, dilation))
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel))
    return (*shape, kernel, draw(1, 5), padding, dilation, bool(rng.integers(2)))


def windows_of(case):
    size = case[2]
    if len(case) == 4:
        return [_adaptive(*axis) for axis in zip(size, case[3])]
    *geometry, ceil_mode = case[3:]
    outputs = pool_positions(size, *geometry, ceil_mode, "test")
    return [_sliding(*axis, "test") for axis in zip(size, *geometry, outputs)]


def image(case, dtype, seed=0):
    """Few values, so that windows have many equal maxima; here and there infinite, and not a number."""
    rng, shape = np.random.default_rng(seed), (*case[:2], *case[2])
    x = (rng.integers(-3, 4, shape) / 4).astype(dtype)
    for value in np.inf, -np.inf, np.nan:
        x[rng.random(shape) < 0.05] = value
    x[:1, :1] = -np.inf
    return x


def check(case, dtype=np.float32, seed=0):
    """Places are equal; cotangents are multiples of 1/4, whose sums are exact, so they are equal, too."""
    x, windows, rng = image(case, dtype, seed), windows_of(case), np.random.default_rng(seed)
    index = reference.max_indices(x, windows)
    g = (rng.integers(-8, 9, index.shape) / 4).astype(dtype)
    for name, arguments, options in (
        ("max_indices", (x, windows), {}),
        ("take_in_planes", (x, index), {}),
        ("add_in_windows", (g, index), dict(windows=windows, size=x.shape[2:])),
    ):
        got, want = (getattr(k, name)(*arguments, **options) for k in (cuda_pool, reference))
        assert (got.dtype, got.shape) == (want.dtype, want.shape), name
        np.testing.assert_array_equal(got, want, err_msg=name)


pytestmark = pytest.mark.skipif(not shim.AVAILABLE, reason="kernels run on the CPU through g++")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_pooling_is_the_references(case):
    for order in shim.ORDERS:
        with shim.on_the_cpu(order):
            check(case)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_types(dtype):
    with shim.on_the_cpu():
        for case in CASES.values():
            check(case, dtype)


def test_the_blocked_search_is_the_references():
    for case in CASES.values():
        x, windows = image(case, np.float32), windows_of(case)
        index = reference.max_indices(x, windows)
        np.testing.assert_array_equal(numpy_pool.max_indices(x, windows), index)
        np.testing.assert_array_equal(numpy_pool.take_in_planes(x, index), reference.take_in_planes(x, index))


def test_float16_is_summed_in_float32():
    """2048 + 1 is 2048 in float16."""
    x, index = np.array([[[2048, 1, 1]]], np.float16), np.full((1, 1, 3), 2)
    windows = windows_of((1, 1, (5,), (3,), (1,), (0,), (1,), False))
    with shim.on_the_cpu():
        y = cuda_pool.add_in_windows(x, index, windows=windows, size=(5,))
    np.testing.assert_array_equal(y, [[[0, 0, 2050, 0, 0]]])


def test_arrays_in_any_layout_and_integers():
    case = CASES["overlapping windows"]
    x, windows = image(case, np.float32), windows_of(case)
    turned = np.asfortranarray(x)
    with shim.on_the_cpu():
        index = cuda_pool.max_indices(turned, windows)
        np.testing.assert_array_equal(index, reference.max_indices(x, windows))
        ones = np.broadcast_to(np.float32(1), index.shape)  # as a cotangent of `sum` is
        got = cuda_pool.add_in_windows(ones, np.asfortranarray(index), windows=windows, size=x.shape[2:])
        assert got.sum() == index.size
        whole = np.arange(x.size).reshape(x.shape) % 7
        np.testing.assert_array_equal(
            cuda_pool.max_indices(whole, windows), numpy_pool.max_indices(whole, windows)
        )


def test_the_gpu_has_these_kernels():
    for name in ("max_indices", "take_in_planes", "add_in_windows"):
        assert getattr(kernels.Cuda, name) is getattr(cuda_pool, name)


def test_what_does_not_fit_is_named(monkeypatch):
    monkeypatch.setattr(cuda_module, "MOST_ELEMENTS", 60)
    with pytest.raises(ValueError, match="32-bit indices"):
        check(CASES["overlapping windows"], np.float32)


@pytest.mark.slow
def test_random_geometries():
    rng = np.random.default_rng(0)
    for k in range(60):
        with shim.on_the_cpu(shim.ORDERS[k % 3]):
            check(random_case(rng), FLOATS[k % 3], seed=k)


# ---- planted faults ----------------------------------------------------------------------------------

FAULTS = {
    "one element too few": ("if (i >= count) return;", "if (i >= count - 1) return;"),
    "the last of equals": ("value > highest ||", "value >= highest ||"),
    "NaN is skipped": (" || value != value", ""),
    "the first NaN": ("value > highest || value != value", "!(value <= highest) && highest == highest"),
    "not the first sample": ("= spans[2 * at[axis]];", "= spans[2 * at[axis]] + 1;"),
    "one sample too few": ("= spans[2 * at[axis] + 1];", "= spans[2 * at[axis] + 1] - 1;"),
    "tables one axis early": ("spans += 2 * size[axis++]", "spans += size[axis++]"),
    "dilation": ("k2 += step[2]", "k2++"),
    "row stride": ("(i0 * size[1] + i1) * size[2]", "(i0 * size[1] + i1) * size[1]"),
    "all planes are the first": ("x += samples.plane * volume(p.size);", ""),
    "planes as large as the outputs": ("i / volume(p.outputs) * volume(p.size)", "i"),
    "an index in the whole array": ("i - windows.plane * volume(p.size)", "i"),
    "cotangents of the first plane": ("first = windows.plane * volume(p.outputs)", "first = 0"),
    "a sum is not cleared": (" = 0;\n    FOR_EACH_IN(windows", " = sum_t(y[i]);\n    FOR_EACH_IN(windows"),
    "the last cotangent stays": ("sum += sum_t(x[q])", "sum = sum_t(x[q])"),
    "every window adds": ("if (index[q] == here) ", ""),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_planted_faults_are_found(fault):
    assert shim.notices(check, CASES.values(), fault, "pool.cu")


@pytest.mark.slow
def test_nothing_is_read_or_written_outside():
    shim.run_sanitized("test_cuda_pool")
