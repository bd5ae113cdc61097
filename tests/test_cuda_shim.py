"""The CPU in place of a GPU shows what a GPU would hide: the faults of kernels that were made with them."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_shim import shim

from minidl.kernels import cuda_module, cuda_optim

pytestmark = pytest.mark.skipif(not shim.AVAILABLE, reason="kernels run on the CPU through g++")

KERNEL = """
extern "C" __global__ void reversed(float *y, const float *x, int skipped) {
    __shared__ float part[8];
    if ((int)threadIdx.x != skipped) part[threadIdx.x] = x[8 * blockIdx.x + threadIdx.x];
    BARRIER
    y[8 * blockIdx.x + threadIdx.x] = part[7 - threadIdx.x];
}
"""
X = np.arange(16, dtype=np.float32)


def run(order, barrier="__syncthreads();", skipped=-1):
    y = np.zeros_like(X)
    launch = shim._compiled(KERNEL.replace("BARRIER", barrier), "reversed", shim.ORDERS.index(order), False)
    launch((2,), (8,), (y, X, np.int32(skipped)))
    return y


@pytest.mark.parametrize("order", shim.ORDERS)
def test_barriers_and_shared_memory(order):
    np.testing.assert_array_equal(run(order), X.reshape(2, 8)[:, ::-1].ravel())


def test_a_missing_barrier_shows():
    assert any(np.isnan(run(order, barrier="")).any() for order in shim.ORDERS)


def test_shared_memory_is_spoilt_before_each_block():
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(run("forward", skipped=2))), [5, 13])


def test_what_a_kernel_does_not_declare_is_refused():
    """CuPy passes the bytes of whatever it gets, and takes a struct only as an array of one element."""
    kernel = cuda_module.function("optim.cu", "sgd_plain")
    parameter, options = (np.zeros(2, dtype) for dtype in (cuda_optim.PARAMETER, [("lr", np.float32)]))
    with pytest.raises(TypeError, match="p is a struct: an array of one element, not of 2"):
        kernel((1,), (1,), (parameter, options[:1]))
    with pytest.raises(TypeError, match="takes 2 arguments, got 1"):
        kernel((1,), (1,), (parameter,))
    kernel = cuda_module.function("pool.cu", "take_in_planes", REAL="float")
    x, index = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.int64)
    for wrong in (x.astype(float), index), (x, index.astype(np.int32)), (x.T[::2], index):
        with pytest.raises(TypeError, match=r"must be (float32|int64|contiguous)"):
            kernel((1,), (1,), (x, *wrong, 16, np.zeros(1)))
