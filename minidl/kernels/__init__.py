"""Array code without autodiff, chosen by where the arrays live."""

from __future__ import annotations

from typing import Any

from minidl.kernels import (
    cuda_conv,
    cuda_loss,
    cuda_norm,
    cuda_optim,
    cuda_pool,
    numpy_conv,
    numpy_local,
    numpy_loss,
    numpy_norm,
    numpy_optim,
    numpy_pool,
    reference,
)


class Numpy:
    """The kernels for NumPy arrays: blocked for the cache, spread over threads."""

    conv, conv_input, conv_weight = numpy_conv.conv, numpy_conv.conv_input, numpy_conv.conv_weight
    norm_leaky_relu = numpy_norm.norm_leaky_relu
    norm_leaky_relu_backward = numpy_norm.norm_leaky_relu_backward
    local_sum, local_spread = numpy_local.local_sum, numpy_local.local_spread
    local_dot = numpy_local.local_dot
    softmax_sums, softmax_sums_backward = numpy_loss.softmax_sums, numpy_loss.softmax_sums_backward
    over_planes, overwrite = numpy_pool.over_planes, numpy_pool.overwrite
    max_indices, take_in_planes = numpy_pool.max_indices, numpy_pool.take_in_planes
    add_in_windows = numpy_pool.add_in_windows
    sgd, adam = numpy_optim.sgd, numpy_optim.adam


class Cuda:
    """The kernels for CuPy arrays: in CUDA C, but for the local sums and what overwrites."""

    conv, conv_input, conv_weight = cuda_conv.conv, cuda_conv.conv_input, cuda_conv.conv_weight
    norm_leaky_relu = cuda_norm.norm_leaky_relu
    norm_leaky_relu_backward = cuda_norm.norm_leaky_relu_backward
    local_sum, local_spread = reference.local_sum, reference.local_spread
    local_dot = reference.local_dot
    softmax_sums, softmax_sums_backward = cuda_loss.softmax_sums, cuda_loss.softmax_sums_backward
    over_planes, overwrite = reference.over_planes, reference.overwrite
    max_indices, take_in_planes = cuda_pool.max_indices, cuda_pool.take_in_planes
    add_in_windows = cuda_pool.add_in_windows
    sgd, adam = cuda_optim.sgd, cuda_optim.adam


def of(xp: Any) -> Any:
    """The kernels for arrays of this array module, under the same names."""
    return {"numpy": Numpy, "cupy": Cuda}.get(xp.__name__, reference)
