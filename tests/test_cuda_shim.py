"""The CPU in place of a GPU shows what a GPU would hide: the faults of kernels that were made with them."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_shim import shim

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
