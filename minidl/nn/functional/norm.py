"""Normalisation: y = (x - mean) / sqrt(var + eps) · weight + bias, over different sets of axes.

Batch norm takes mean and variance per channel over batch and space, instance norm per sample and channel over space.
"""

from __future__ import annotations

import math

from minidl.autograd import Tensor
from minidl.ops import pointwise as pw


def _per_channel(t: Tensor | None, input: Tensor, name: str, what: str) -> Tensor | None:
    """(C,) as (1, C, 1, ...), ready to meet (N, C, *S)."""
    if t is None:
        return None
    if t.shape != (input.shape[1],):
        raise ValueError(
            f"{name}: {what} must have shape ({input.shape[1]},) for input {input.shape}, got {t.shape}"
        )
    return t.reshape(1, -1, *(1,) * (input.ndim - 2))


def _standardize(input: Tensor, axes: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(var + eps), and the mean and the (biased) variance over the axes."""
    mean = input.mean(axes, keepdim=True)
    deviation = input - mean
    var = (deviation * deviation).mean(axes, keepdim=True)
    return deviation * pw.rsqrt(var + eps), mean, var


def _follow(running: Tensor | None, now: Tensor, momentum: float) -> None:
    """Move a running statistic (C,) in place towards the one just seen, averaged over the batch."""
    if running is not None:
        seen = now.array.reshape(-1, running.shape[0]).mean(0)
        running.array += (momentum * (seen - running.array)).astype(running.dtype)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _normalize(input, running_mean, running_var, weight, bias, axes, use_input_stats, momentum, eps, name):
    """What batch and instance norm share: all but the axes."""
    weight, bias, mean, var = (
        _per_channel(t, input, name, what)
        for t, what in (
            (weight, "weight"),
            (bias, "bias"),
            (running_mean, "running_mean"),
            (running_var, "running_var"),
        )
    )
    if not use_input_stats:
        if mean is None or var is None:
            raise ValueError(f"{name}: running_mean and running_var are needed for evaluation")
        return _affine((input - mean) * pw.rsqrt(var + eps), weight, bias)
    count = math.prod(input.shape[i] for i in axes)
    if count <= 1:
        raise ValueError(f"{name}: needs more than one value to normalise over, got shape {input.shape}")
    x, mean, var = _standardize(input, axes, eps)
    _follow(running_mean, mean, momentum)
    _follow(running_var, var * (count / (count - 1)), momentum)
    return _affine(x, weight, bias)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Per channel over batch and space (Ioffe and Szegedy 2015): input (N, C, *S), the rest (C,).

    In training with the batch's statistics, which also move the running ones (in place) by `momentum`: the mean,
    and the variance with n - 1 in its denominator. In evaluation with the running statistics.
    """
    if input.ndim < 2:
        raise ValueError(f"batch_norm: expected input (N, C, *S), got shape {input.shape}")
    axes = (0, *range(2, input.ndim))
    return _normalize(
        input, running_mean, running_var, weight, bias, axes, training, momentum, eps, "batch_norm"
    )


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Per sample and channel over space (Ulyanov et al. 2016): input (N, C, *S), weight and bias (C,).

    Running statistics are the mean over the batch of each sample's; they are used where use_input_stats is False.
    """
    if input.ndim < 3:
        raise ValueError(f"instance_norm: expected input (N, C, *S), got shape {input.shape}")
    axes = tuple(range(2, input.ndim))
    return _normalize(
        input,
        running_mean,
        running_var,
        weight,
        bias,
        axes,
        use_input_stats,
        momentum,
        eps,
        "instance_norm",
    )
