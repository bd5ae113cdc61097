"""The CUDA kernels of the convolution trio, run on the CPU against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_shim import shim

from minidl.kernels import cuda_conv, reference
from minidl.kernels.windows import output_size

# N, C, O, groups, *S, *K, stride, padding, dilation
CASES = {
    "odd sizes": (2, 3, 5, 1, (7, 5), (3, 3), (1, 1), (1, 1), (1, 1)),
    "1-D, many pixels": (1, 4, 40, 1, (300,), (3,), (1,), (1,), (1,)),
    "3-D": (1, 2, 3, 1, (5, 4, 6), (3, 2, 3), (1, 1, 1), (1, 0, 1), (1, 1, 1)),
    "axes of size 1": (1, 2, 3, 1, (1, 6, 1), (1, 3, 1), (1, 2, 1), (0, 1, 0), (1, 1, 1)),
    "kernel larger than input": (1, 2, 3, 1, (2, 3), (5, 5), (1, 1), (2, 2), (1, 1)),
    "stride with a remainder": (2, 2, 3, 1, (8, 11), (2, 3), (3, 4), (0, 1), (1, 1)),
    "stride larger than input": (1, 2, 3, 1, (3, 4), (2, 1), (5, 7), (0, 0), (1, 1)),
    "phases that no tap meets": (1, 2, 3, 1, (9, 9), (2, 1), (4, 2), (1, 0), (2, 1)),
    "dilation and stride": (1, 3, 2, 1, (12, 13), (3, 2), (2, 3), (2, 3), (3, 2)),
    "kernel = stride": (1, 4, 6, 1, (4, 6), (2, 2), (2, 2), (0, 0), (1, 1)),
    "1 x 1, aligned": (2, 8, 4, 1, (4, 4), (1, 1), (1, 1), (0, 0), (1, 1)),
    "groups": (2, 6, 9, 3, (5, 6), (3, 3), (1, 2), (1, 1), (1, 1)),
    "groups with many channels": (1, 10, 70, 2, (4, 5), (3, 1), (1, 1), (1, 0), (1, 1)),
    "depthwise": (2, 5, 5, 5, (6, 7), (3, 3), (2, 1), (1, 1), (1, 2)),
    "depthwise, three outputs": (1, 2, 6, 2, (4, 3, 5), (2, 3, 2), (1, 2, 1), (1, 1, 0), (1, 1, 1)),
    "five steps": (1, 8, 3, 1, (5, 3), (3, 3), (1, 1), (1, 1), (1, 1)),
    "130 channels": (1, 3, 130, 1, (3, 5), (3, 3), (1, 1), (1, 1), (1, 1)),
}


def random_case(rng):
    rank, groups = int(rng.integers(1, 4)), int(rng.choice([1, 1, 1, 2, 3]))
    N, C, O = int(rng.integers(1, 3)), groups * int(rng.integers(1, 6)), groups * int(rng.integers(1, 30))
    while True:
        draw = lambda low, high: tuple(map(int, rng.integers(low, high, rank)))
        size = draw(1, (24, 9, 6)[rank - 1])
        case = (N, C, O, groups, size, draw(1, 4), draw(1, 4), draw(0, 3), draw(1, 4))
        if min(outputs(*case)) > 0:
            return case


def outputs(N, C, O, groups, size, kernel, stride, padding, dilation):
    return output_size([n + 2 * p for n, p in zip(size, padding)], kernel, stride, dilation)


def arrays(case, dtype, seed=0):
    """x, w, u of multiples of 1/4: every sum is exact, so the results must be equal to the last bit."""
    N, C, O, groups, size, kernel, *_ = case
    rng = np.random.default_rng(seed)
    shapes = (N, C, *size), (O, C // groups, *kernel), (N, O, *outputs(*case))
    return [(rng.integers(-8, 9, shape) / 4).astype(dtype) for shape in shapes]


def trio(kernels, case, dtype):
    x, w, u = arrays(case, dtype)
    geometry = dict(zip(("stride", "padding", "dilation"), case[6:]), groups=case[3])
    yield "conv", kernels.conv(x, w, **geometry)
    yield "conv_input", kernels.conv_input(u, w, size=x.shape[2:], **geometry)
    yield "conv_weight", kernels.conv_weight(x, u, size=w.shape[2:], **geometry)


def check(case, dtype=np.float32):
    for (name, got), (_, want) in zip(trio(cuda_conv, case, dtype), trio(reference, case, dtype)):
        assert got.dtype == want.dtype, name
        np.testing.assert_array_equal(got, want, err_msg=name)


pytestmark = pytest.mark.skipif(not shim.AVAILABLE, reason="kernels run on the CPU through g++")
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def short_parts(monkeypatch):
    """Split the inner index of small products, too."""
    cuda_conv._plan.cache_clear()
    monkeypatch.setattr(cuda_conv, "SHORTEST", cuda_conv.BK)
    yield
    cuda_conv._plan.cache_clear()


@every_case
def test_the_trio_is_the_references(case):
    for order in shim.ORDERS:
        with shim.on_the_cpu(order):
            check(case)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
@pytest.mark.parametrize(
    "name", ["odd sizes", "dilation and stride", "groups with many channels", "depthwise"]
)
def test_other_types(name, dtype):
    with shim.on_the_cpu():
        check(CASES[name], dtype)


def test_tf32_on_tensor_cores(monkeypatch):
    monkeypatch.setattr(cuda_conv, "allow_tf32", True)
    for name in ("odd sizes", "dilation and stride", "130 channels", "groups with many channels"):
        with shim.on_the_cpu("scrambled"):
            check(CASES[name])
    x, w = np.float32([[[1 + 2**-12]]]), np.float32([[[1.0]]])
    with shim.on_the_cpu():
        y = cuda_conv.conv(x, w, stride=(1,), padding=(0,), dilation=(1,), groups=1)
    assert y.item() == 1  # 10 bits of the factor are left


@pytest.mark.parametrize("name", ["conv", "conv_input", "conv_weight"])
def test_the_plain_kernels_are_the_references(name, monkeypatch):
    monkeypatch.setattr(cuda_conv, "SMALL_GROUP", 10**6)
    monkeypatch.setitem(CASES, "groups", (2, 4, 6, 2, (5, 6), (3, 2), (1, 2), (1, 1), (2, 1)))
    case = CASES["groups"]
    with shim.on_the_cpu("backward"):
        found, want = dict(trio(cuda_conv, case, np.float32)), dict(trio(reference, case, np.float32))
    np.testing.assert_array_equal(found[name], want[name])


@pytest.mark.slow
def test_random_geometries():
    rng = np.random.default_rng(0)
    for k in range(60):
        with shim.on_the_cpu(shim.ORDERS[k % 3]):
            check(random_case(rng), (np.float32, np.float32, np.float64, np.float16)[k % 4])


def test_empty_arrays_launch_nothing():
    for shape in ((0, 2, 5), (2, 2, 5)):
        x, w = np.zeros(shape, np.float32), np.zeros((0 if shape[0] else 3, 2, 3), np.float32)
        y = cuda_conv.conv(x, w, stride=(1,), padding=(1,), dilation=(1,), groups=1)
        assert y.shape == (shape[0], len(w), 5)


def test_what_does_not_fit_is_named():
    x = np.broadcast_to(np.float32(0), (1, 1, 2**31))
    with pytest.raises(ValueError, match="32-bit indices"):
        cuda_conv.conv(x, np.zeros((1, 1, 1), "f"), stride=(1,), padding=(0,), dilation=(1,), groups=1)
    with pytest.raises(TypeError, match="int64"):
        cuda_conv.conv(*[np.zeros((1, 1, 1), int)] * 2, stride=(1,), padding=(0,), dilation=(1,), groups=1)


# ---- planted faults ----------------------------------------------------------------------------------

FAULTS = {
    "rows described a step late": ("describe(step + 2)", "describe(step + 1)"),
    "no barrier": ("        if (step + 1 < steps) stash(step + 1);\n        __syncthreads();",
                   "        if (step + 1 < steps) stash(step + 1);"),
    "one position too many": ("(unsigned)axis[2].size;", "(unsigned)axis[2].size + 1;"),
    "one position too few": ("(unsigned)axis[1].size\n", "(unsigned)axis[1].size - 1\n"),
    "stride": ("v[2] * axis[2].stride", "v[2]"),
    "a plane is a row": ("return out_size[0] * out_size[1] * ", "return out_size[1] * "),
    "phases side by side": ("-(d * step / s), r, s, first, step}", "-(d * step / s), r, 1, first, step}"),
    "uninitialised output": ("    Tile tile;\n", "    if (K < 8) return;\n    Tile tile;\n"),
    "the last inner index": ("k < end ?", "k < end - 1 ?"),
    "vectors backwards": ("a_items[4 * i + j] = four.v[j]", "a_items[4 * i + j] = four.v[3 - j]"),
    "one part is not added": ("split < splits; split++", "split < splits - 1; split++"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_planted_faults_are_found(fault, monkeypatch):
    def fails(shortest):
        cuda_conv._plan.cache_clear()
        monkeypatch.setattr(cuda_conv, "SHORTEST", shortest)
        return shim.notices(check, CASES.values(), fault, "conv.cu", "conv_tensor.cu")

    assert fails(10**6) or fails(cuda_conv.BK)  # the inner index in one part, and in many


WATCHED = {name: CASES[name] for name in ("odd sizes", "3-D", "groups", "depthwise")} | {
    "vectors": (1, 4, 4, 1, (3, 4), (1, 1), (1, 1), (0, 0), (1, 1))
}


@pytest.mark.slow
def test_nothing_is_read_or_written_outside():
    shim.run_sanitized("test_cuda_conv", "WATCHED")
