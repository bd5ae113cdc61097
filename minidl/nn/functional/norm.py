"""Normalisation: y = (x - mean) / sqrt(var + eps) · weight + bias, over different sets of axes.

Of an input (N, C, *S), mean and variance are taken

    batch norm      over N and S: one for each channel
    instance norm   over S: one for each sample and channel
    group norm      over S and the channels of a group: one for each sample and group
    layer norm      over the last dims: one for each position in the others

The variance is the biased one, Σ (x - mean)² / n. Statistics of float16 inputs are taken in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import Array
from minidl.mixed_precision import autocasts
from minidl.nn.functional.checks import floating, same_dtype, widened
from minidl.ops import pointwise as pw
from minidl.ops.fused import norm_leaky_relu
from minidl.utils.checkpoint import is_recomputing


def _check(name: str, input: Tensor, shape: tuple[int, ...], **given: Tensor | None) -> None:
    """What all of them ask for: parameters and running statistics of that shape and of the input's dtype.

    A float16 input may come with float32 ones, which lose nothing.
    """
    floating(name, input)
    same_dtype(name, **({} if input.dtype == np.float16 else {"input": input}), **given)
    for what, tensor in given.items():
        if tensor is not None and tensor.shape != shape:
            raise ValueError(
                f"{name}: {what} must have shape {shape} for input {input.shape}, got {tensor.shape}"
            )


def _per_channel(t: Tensor | None, input: Tensor) -> Tensor | None:
    """(C,) as (1, C, 1, ...), ready to meet (N, C, *S)."""
    return None if t is None else t.reshape(1, -1, *(1,) * (input.ndim - 2))


def _standardize(input: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    """(x - mean) / sqrt(var + eps), with mean and variance over the axes."""
    deviation = input - input.mean(axes, keepdim=True)
    var = (deviation * deviation).mean(axes, keepdim=True)
    return deviation * pw.rsqrt(var + eps)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None, like: Tensor) -> Tensor:
    """x · weight + bias, in the dtype of the function's input."""
    x = x if weight is None else x * weight
    x = x if bias is None else x + bias
    return x.to(like.dtype)


# ---- with running statistics ---------------------------------------------------------------------


def _follow(running: Tensor, now: Array, momentum: float) -> None:
    """Move a running statistic (C,) in place towards the one just seen, averaged over the batch."""
    seen = now.reshape(-1, running.shape[0]).mean(0)
    running.array += (momentum * (seen - running.array)).astype(running.dtype)


def _leaky_relu(x: Tensor, slope: float) -> Tensor:
    return x if slope == 1 else pw.leaky_relu(x, slope=slope)


def _normalize(
    name, input, running_mean, running_var, weight, bias, axes, use_input_stats, momentum, eps, slope
):
    """What batch and instance norm share: all but the axes."""
    _check(name, input, (input.shape[1],), weight=weight, bias=bias)
    _check(name, input, (input.shape[1],), running_mean=running_mean, running_var=running_var)
    if (running_mean is None) != (running_var is None):
        raise ValueError(f"{name}: running_mean and running_var must be given both, or neither")
    x, w, b = widened(input), _per_channel(weight, input), _per_channel(bias, input)
    if not use_input_stats:
        if running_mean is None:
            raise ValueError(f"{name}: running_mean and running_var are needed for evaluation")
        deviation = x - _per_channel(running_mean, input)
        scale = pw.rsqrt(_per_channel(running_var, input) + eps)
        return _leaky_relu(_affine(deviation * scale, w, b, input), slope)
    count = math.prod(input.shape[i] for i in axes)
    if count == 1:
        raise ValueError(f"{name}: needs more than one value to normalise over, got shape {input.shape}")
    if running_mean is not None and input.array.size and not is_recomputing():  # nothing has no statistics
        _follow(running_mean, x.array.mean(axes, keepdims=True), momentum)
        _follow(running_var, x.array.var(axes, keepdims=True) * (count / (count - 1)), momentum)
    if weight is None or bias is None or not input.array.size:
        return _leaky_relu(_affine(_standardize(x, axes, eps), w, b, input), slope)
    return norm_leaky_relu(input, weight, bias, per_sample=0 not in axes, eps=eps, slope=slope)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    negative_slope: float = 1.0,
) -> Tensor:
    """Per channel over batch and space (Ioffe and Szegedy 2015): input (N, C, *S), the rest (C,).

    In training with the batch's statistics, which also move the running ones (in place) by `momentum`: the
    mean, and the variance with n - 1 in its denominator. In evaluation with the running statistics.
    negative_slope: of a leaky ReLU on the result, in the same pass over memory; 1 is none.
    """
    floating("batch_norm", input)
    if eps < 0 or (training and eps == 0):
        bound = "positive in training" if training else "at least 0"
        raise ValueError(f"batch_norm: eps must be {bound}, got {eps}")
    if input.shape == (0,):
        return input  # nothing to normalise, which PyTorch lets through
    if input.ndim < 2:
        raise ValueError(f"batch_norm: expected input (N, C, *S), got shape {input.shape}")
    axes = (0, *range(2, input.ndim))
    return _normalize(
        "batch_norm", input, running_mean, running_var, weight, bias, axes, training, momentum, eps,
        negative_slope,
    )  # fmt: skip


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    negative_slope: float = 1.0,
) -> Tensor:
    """Per sample and channel over space (Ulyanov et al. 2016): input (N, C, *S), weight and bias (C,).

    Running statistics are the batch's mean of each sample's; they serve where use_input_stats is False.
    negative_slope: of a leaky ReLU on the result, in the same pass over memory; 1 is none.
    """
    if input.ndim < 3:
        raise ValueError(f"instance_norm: expected input (N, C, *S), got shape {input.shape}")
    axes = tuple(range(2, input.ndim))
    return _normalize(
        "instance_norm", input, running_mean, running_var, weight, bias, axes, use_input_stats, momentum,
        eps, negative_slope,
    )  # fmt: skip


# ---- without -------------------------------------------------------------------------------------


@autocasts
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Per sample over space and over C / num_groups neighbouring channels (Wu and He 2018).

    input (N, C, *S), weight and bias (C,). With one group all channels are normalised together, with C groups
    each alone, as in instance norm.
    """
    if input.ndim < 2:
        raise ValueError(f"group_norm: expected input (N, C, *S), got shape {input.shape}")
    samples, channels = input.shape[:2]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(
            f"group_norm: {channels} channels do not divide into {num_groups} groups (input {input.shape})"
        )
    _check("group_norm", input, (channels,), weight=weight, bias=bias)
    count = channels // num_groups * math.prod(input.shape[2:])
    if count == 1:
        raise ValueError(
            f"group_norm: {num_groups} groups leave one value each to normalise, input {input.shape}"
        )
    grouped = widened(input).reshape(samples, num_groups, channels // num_groups, *input.shape[2:])
    x = _standardize(grouped, tuple(range(2, grouped.ndim)), eps)
    return _affine(x.reshape(input.shape), _per_channel(weight, input), _per_channel(bias, input), input)


@autocasts
def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Over the last dims, those of normalized_shape (Ba et al. 2016): input (*, *normalized_shape).

    weight and bias have the shape normalized_shape.
    """
    shape = tuple(normalized_shape)
    if not shape or input.shape[-len(shape) :] != shape:
        raise ValueError(f"layer_norm: input {input.shape} does not end in normalized_shape {shape}")
    _check("layer_norm", input, shape, weight=weight, bias=bias)
    x = _standardize(widened(input), tuple(range(input.ndim - len(shape), input.ndim)), eps)
    return _affine(x, weight, bias, input)
