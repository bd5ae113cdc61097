"""The CUDA kernels of normalisation and leaky ReLU, run on the CPU against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_shim import shim

from minidl.kernels import cuda_module, cuda_norm, reference

CASES = {  # x, and whether each sample is normalised by itself; strips of 16, blocks of 8 threads
    "many strips": ((2, 3, 7, 11), True),
    "strips of a whole batch": ((3, 2, 5, 5), False),
    "more strips than threads": ((1, 1, 150), True),
    "planes shorter than a strip": ((4, 3, 2, 3), False),
    "3-D with axes of size 1": ((2, 2, 1, 19, 1), True),
    "one element": ((1, 3, 1), True),
    "whole strips": ((1, 2, 32), True),
}
TOLERANCE = {"float16": 4e-3, "float32": 2e-5, "float64": 1e-12}
EPS, SLOPE = 1e-5, 0.01


def arrays(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x, g = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    w, b = (rng.standard_normal(shape[1]).astype(np.promote_types(dtype, np.float32)) for _ in range(2))
    return g, x + x.dtype.type(3), w, b


def compare(found, wanted, dtype):
    for f, w in zip(found, wanted, strict=True):
        assert f.dtype == w.dtype and f.shape == w.shape
        np.testing.assert_allclose(
            f, w, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * max(1, abs(w).max(initial=0))
        )


def run(kernels, arrays, options):
    g, x, w, b = arrays
    return [
        kernels.norm_leaky_relu(x, w, b, **options), *kernels.norm_leaky_relu_backward(g, x, w, b, **options)
    ]  # fmt: skip


def check(case, dtype="float32", slope=SLOPE):
    shape, per_sample = case
    options = {"per_sample": per_sample, "eps": EPS, "slope": slope}
    given = arrays(shape, dtype)
    compare(run(cuda_norm, given, options), run(reference, given, options), dtype)


pytestmark = pytest.mark.skipif(not shim.AVAILABLE, reason="kernels run on the CPU through g++")
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def short_strips_and_blocks(monkeypatch):
    monkeypatch.setattr(cuda_norm, "STRIP", 16)
    monkeypatch.setattr(cuda_norm, "BLOCK", 8)


def test_the_usual_block_takes_a_usual_strip(monkeypatch):
    monkeypatch.undo()
    with shim.on_the_cpu():
        check(((1, 1, 500), True))


@every_case
def test_norm_is_the_references(case):
    for order in shim.ORDERS:
        with shim.on_the_cpu(order):
            check(case)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_types_and_slopes(dtype):
    with shim.on_the_cpu("scrambled"):
        check(CASES["many strips"], dtype)
        check(CASES["strips of a whole batch"], dtype, slope=1)
        check(CASES["strips of a whole batch"], dtype, slope=0)


def test_a_mean_far_from_zero_does_not_cancel():
    x = np.float32(1e4) + np.random.default_rng(0).standard_normal((1, 1, 400)).astype(np.float32)
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    with shim.on_the_cpu():
        y = cuda_norm.norm_leaky_relu(x, one, zero, per_sample=True, eps=0.0, slope=1)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(y, (wide - wide.mean()) / wide.std(), atol=2e-3)


def test_views_are_taken_as_they_look():
    g, x, w, b = arrays((2, 3, 4, 6), np.float32)
    options = {"per_sample": False, "eps": EPS, "slope": SLOPE}
    views = g[..., ::-1], x.transpose(0, 1, 3, 2).copy().transpose(0, 1, 3, 2), w[::-1], b
    with shim.on_the_cpu():
        compare(run(cuda_norm, views, options), run(reference, views, options), "float32")


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_empty_arrays_launch_nothing(shape):
    g, x, w, b = arrays(shape, np.float32)
    y, gx, gw, gb = run(cuda_norm, (g, x, w, b), {"per_sample": True, "eps": EPS, "slope": SLOPE})
    assert y.shape == gx.shape == shape and not gw.any() and not gb.any() and gw.shape == (shape[1],)


@every_case
def test_the_plain_kernels_are_the_references(case):
    shape, per_sample = case
    g, x, w, b = arrays(shape, np.float32)
    options = {"per_sample": per_sample, "eps": EPS, "slope": SLOPE}
    layout = cuda_norm._Run(x, w, b, per_sample).layout
    groups = int(layout["groups"][0])
    y, gx = np.empty_like(x), np.empty_like(x)
    with shim.on_the_cpu("backward"):
        hx, h = np.empty(groups, np.float32), np.empty(groups, np.float32)
        plain = cuda_module.function("norm.cu", "norm_leaky_relu_plain", **cuda_module.MACROS[x.dtype])
        plain((1,), (groups + 1,), (y, x, w, b, layout, EPS, SLOPE))
        plain = cuda_module.function(
            "norm.cu", "norm_leaky_relu_backward_plain", **cuda_module.MACROS[x.dtype]
        )
        plain((1,), (groups + 1,), (gx, hx, h, g, x, w, b, layout, EPS, SLOPE))
    gw, gb = (a.reshape(-1, shape[1]).sum(0) for a in (hx, h))
    compare([y, gx, gw, gb], run(reference, (g, x, w, b), options), "float32")


@pytest.mark.slow
def test_random_geometries():
    rng = np.random.default_rng(0)
    for k in range(45):
        rank = int(rng.integers(1, 4))
        shape = tuple(
            map(int, (rng.integers(1, 4), rng.integers(1, 5), *rng.integers(1, 40 // rank**2, rank)))
        )
        with shim.on_the_cpu(shim.ORDERS[k % 3]):
            check((shape, bool(k % 2)), list(TOLERANCE)[k % 3])


# ---- planted faults ----------------------------------------------------------------------------------

FAULTS = {
    "no barrier in the sum": ("__syncthreads();\n        if (threadIdx.x < half)", "if (threadIdx.x < half)"),
    "the sum is overwritten": ("    __syncthreads();  // all have", "    // all have"),
    "half of a sum": ("half = BLOCK / 2", "half = BLOCK / 4"),
    "one element too few": ("e < s.start + s.count;", "e < s.start + s.count - 1;"),
    "one strip too few": ("k < l.planes * l.strips;", "k < l.planes * l.strips - 1;"),
    "every strip is full": ("/ s.count", "/ STRIP"),
    "planes without channels": ("((long long)n * channels + group)", "((long long)n + group)"),
    "weight of the wrong channel": ("w[s.group % l.channels]", "w[s.group / l.channels]"),
    "means are not apart": ("apart * apart", "0"),
    "strips weigh the same": ("l.count(k) * means", "STRIP * means"),
    "h without the slope": ("> 0 ? g : g * slope", "> 0 ? g : g"),
    "uninitialised output": ("if (threadIdx.x == 0) means", "if (threadIdx.x == BLOCK) means"),
    "the first strip of all": ("sum_h[s.first + k]", "sum_h[k]"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_planted_faults_are_found(fault):
    assert shim.notices(check, CASES.values(), fault, "norm.cu")


@pytest.mark.slow
def test_nothing_is_read_or_written_outside():
    shim.run_sanitized("test_cuda_norm")
