"""The CUDA kernels of softmax and its sums, run on the CPU against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_shim import shim

from minidl.kernels import cuda_loss, cuda_module, reference

CASES = {  # x, the type of the labels, the label that does not count; strips of 16, blocks of 8 threads
    "many strips": ((2, 3, 7, 11), "int64", None),
    "a label that does not count": ((1, 4, 5, 9), "uint8", 255),
    "a class that does not count": ((2, 3, 40), "int32", 1),
    "negative labels": ((1, 2, 3, 3, 3), "int16", -1),
    "labels of no class": ((1, 2, 19), "int64", 7),
    "whole strips": ((1, 2, 32), "int64", None),
    "one class": ((2, 1, 21), "int64", None),
    "one voxel": ((3, 4, 1), "uint8", None),
}
TOLERANCE = {"float16": 4e-3, "float32": 2e-5, "float64": 1e-12}


def arrays(case, dtype, seed=0):
    """g (4, N, C), x and labels: those of the classes, a few of others."""
    shape, label_type, ignored = case
    rng = np.random.default_rng(seed)
    g = rng.standard_normal((4, *shape[:2])).astype(dtype)
    x = (4 * rng.standard_normal(shape)).astype(dtype)
    label = rng.integers(0, shape[1] + 1, (shape[0], *shape[2:]))
    if ignored is not None:
        label[rng.random(label.shape) < 0.3] = ignored
    return g, x, label.astype(label_type)


def run(kernels, g, x, label, ignored):
    return (
        kernels.softmax_sums(x, label, ignore_index=ignored),
        kernels.softmax_sums_backward(g, x, label, ignore_index=ignored),
    )


def compare(found, wanted, dtype):
    for f, w in zip(found, wanted, strict=True):
        assert (f.dtype, f.shape) == (w.dtype, w.shape)
        np.testing.assert_allclose(
            f, w, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * max(1, abs(w).max(initial=0))
        )


def check(case, dtype="float32", seed=0):
    given = *arrays(case, dtype, seed), case[2]
    compare(run(cuda_loss, *given), run(reference, *given), dtype)


pytestmark = pytest.mark.skipif(not shim.AVAILABLE, reason="kernels run on the CPU through g++")
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def short_strips_and_blocks(monkeypatch):
    monkeypatch.setattr(cuda_loss, "STRIP", 16)
    monkeypatch.setattr(cuda_loss, "BLOCK", 8)
    monkeypatch.setattr(cuda_module, "BLOCK", 8)


def test_the_usual_block_takes_a_usual_strip(monkeypatch):
    monkeypatch.undo()
    with shim.on_the_cpu():
        check(((1, 2, 600), "int64", None))


@every_case
def test_sums_are_the_references(case):
    for order in shim.ORDERS:
        with shim.on_the_cpu(order):
            check(case)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_types(dtype):
    with shim.on_the_cpu("scrambled"):
        check(CASES["many strips"], dtype)


def test_classes_that_are_ruled_out_and_numbers_that_are_none():
    g, x, label = arrays(((3, 3, 20), "int64", None), "float64")
    label %= 3
    x[0, 1] = -np.inf
    x[1, 0, ::3], x[1, 2, 5] = 1e300, np.inf
    x[2, 1, 4] = np.nan
    with shim.on_the_cpu(), np.errstate(all="ignore"):
        (sums, gx), (sums_wanted, gx_wanted) = (run(k, g, x, label, None) for k in (cuda_loss, reference))
    np.testing.assert_allclose(sums[:, 0], sums_wanted[:, 0])
    np.testing.assert_allclose(gx, gx_wanted, atol=1e-12)
    assert np.isnan(sums[1, 1:]).all() and np.isinf(sums[3, 0, 1]) and np.isfinite(sums[:3, 0]).all()


def test_sure_predictions_have_exact_small_surprise():
    x = np.full((1, 2, 100), 1e4, np.float32)
    x[:, 1] -= 8
    with shim.on_the_cpu():
        surprise = cuda_loss.softmax_sums(x, np.zeros((1, 100), int), ignore_index=None)[3, 0, 0]
    assert surprise == pytest.approx(100 * np.log1p(np.exp(-8)), rel=1e-3)


def test_views_are_taken_as_they_look():
    g, x, label = arrays(((2, 3, 4, 6), "int64", None), "float32")
    views = g.swapaxes(1, 2).copy().swapaxes(1, 2), x[..., ::-1], label.swapaxes(1, 2).copy().swapaxes(1, 2)
    with shim.on_the_cpu():
        compare(run(cuda_loss, *views, None), run(reference, *views, None), "float32")


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 3, 0), (2, 0, 3)])
def test_empty_arrays_launch_nothing(shape):
    g, x, label = arrays((shape, "int64", None), "float32")
    sums, gx = run(cuda_loss, g, x, label, None)
    assert sums.shape == (4, *shape[:2]) and not sums.any() and gx.shape == shape


@every_case
def test_the_plain_kernel_is_the_reference(case):
    _, x, label = arrays(case, "float32")
    settings, rows = cuda_loss._Run(x, label, case[2]), x.shape[0] * x.shape[1]
    with shim.on_the_cpu("backward"):
        sums = np.empty((4, *x.shape[:2]), np.float32)
        plain = cuda_module.function("loss.cu", "softmax_sums_plain", **settings.macros)
        plain((1,), (rows + 1,), (sums, settings.x, settings.label, settings.sizes))
    compare([sums], [reference.softmax_sums(x, label, ignore_index=case[2])], "float32")


@pytest.mark.slow
def test_random_geometries():
    rng = np.random.default_rng(0)
    for k in range(45):
        rank = int(rng.integers(1, 4))
        shape = tuple(
            map(int, (rng.integers(1, 4), rng.integers(1, 6), *rng.integers(1, 60 // rank**2, rank)))
        )
        ignored = (None, 0, 255, 1)[k % 4]
        with shim.on_the_cpu(shim.ORDERS[k % 3]):
            check((shape, ("uint8", "int32", "int64")[k % 3], ignored), list(TOLERANCE)[k // 3 % 3], k)


# ---- planted faults ----------------------------------------------------------------------------------

FAULTS = {
    "no barrier in the sum": ("__syncthreads();\n        if (threadIdx.x < half)", "if (threadIdx.x < half)"),
    "the strip after the last": ("v < end;", "v < start + STRIP - 1;"),
    "the first voxel is left out": ("v = start + threadIdx.x", "v = start + threadIdx.x + 1"),
    "the label of the first sample": ("i = n * s.voxels + v;", "i = v;"),
    "columns without classes": ("i / voxels * classes * voxels", "i / voxels * voxels"),
    "all labels count": ("return !ignores || (long long)label != ignored;", "return true;"),
    "a class is forgotten": ("c = 0; c < s.classes; c++) total", "c = 1; c < s.classes; c++) total"),
    "the maximum is not taken off": ("exp(sum_t(x) - highest)", "exp(sum_t(x))"),
    "wrong order of the sums": ("sums[i + count] = predicted", "sums[i + count] = overlap"),
    "uninitialised output": ("if (threadIdx.x == 0) found", "if (threadIdx.x == BLOCK) found"),
    "the cotangent of the wrong sum": ("-g[c + 3 * rows]", "-g[c + 2 * rows]"),
    "the cotangent of the first sample": ("g += i / s.voxels * s.classes;", ""),
    "voxels that do not count": ("gx[c * s.voxels] = counts ?", "gx[c * s.voxels] = true ?"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_planted_faults_are_found(fault):
    assert shim.notices(check, CASES.values(), fault, "loss.cu")


@pytest.mark.slow
def test_nothing_is_read_or_written_outside():
    shim.run_sanitized("test_cuda_loss")
