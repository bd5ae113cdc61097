"""Normalisation layers, with PyTorch's names for parameters and buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl.autograd import Tensor
from minidl.nn import functional as F
from minidl.nn.functional.checks import batched
from minidl.nn.module import Module, Parameter
from minidl.tensor import ones, tensor, zeros
from minidl.utils.checkpoint import is_recomputing


class _Norm(Module):
    """Learned weight and bias, of one shape, or neither."""

    def __init__(self, shape: tuple[int, ...], eps: float, affine: bool, bias: bool = True):
        super().__init__()
        self.eps = eps
        self.register_parameter("weight", Parameter(ones(*shape)) if affine else None)
        self.register_parameter("bias", Parameter(zeros(*shape)) if affine and bias else None)


class _ChannelNorm(_Norm):
    """What batch and instance norm share: C channels, and running statistics of each.

    Called with negative_slope, they apply a leaky ReLU to their result in the same pass over memory.
    """

    rank: int
    unbatched: bool

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
    ):
        super().__init__((num_features,), eps, affine)
        self.num_features = num_features
        self.momentum: Any = momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.register_buffer("running_mean", zeros(num_features) if track_running_stats else None)
        self.register_buffer("running_var", ones(num_features) if track_running_stats else None)
        count = tensor(np.array(0)) if track_running_stats else None
        self.register_buffer("num_batches_tracked", count)

    def _batched(self, input: Tensor) -> tuple[Tensor, bool]:
        name = type(self).__name__
        input, added = batched(input, self.rank, name, self.unbatched)
        if input.shape[1] != self.num_features:
            raise ValueError(
                f"{name}: expected {self.num_features} channels, got input of shape {input.shape}"
            )
        return input, added

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, track_running_stats={self.track_running_stats}"
        )


# ---- batch norm ----------------------------------------------------------------------------------


class _BatchNorm(_ChannelNorm):
    unbatched = False

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def _momentum(self) -> float:
        """How far the running statistics move; with momentum=None they are the mean of all batches so far."""
        if self.momentum is not None:
            return self.momentum
        return 1 / self.num_batches_tracked.item() if self.training and self.track_running_stats else 0.0

    def forward(self, input: Tensor, negative_slope: float = 1.0) -> Tensor:
        if self.rank == 1 and input.ndim == 2:
            return self.forward(input.unsqueeze(-1), negative_slope).squeeze(-1)
        input, _ = self._batched(input)
        if self.training and self.track_running_stats and not is_recomputing():
            self.num_batches_tracked.array += 1
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or not self.track_running_stats, self._momentum(), self.eps,
            negative_slope=negative_slope,
        )  # fmt: skip


class BatchNorm1d(_BatchNorm):
    """`batch_norm` of (N, C) or (N, C, L) with learned weight and bias (C,) and running statistics."""

    rank = 1


class BatchNorm2d(_BatchNorm):
    """`batch_norm` of (N, C, H, W) with learned weight and bias (C,) and running statistics."""

    rank = 2


class BatchNorm3d(_BatchNorm):
    """`batch_norm` of (N, C, D, H, W) with learned weight and bias (C,) and running statistics."""

    rank = 3


# ---- instance norm -------------------------------------------------------------------------------


class _InstanceNorm(_ChannelNorm):
    unbatched = True

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
    ):
        if momentum is None:
            raise ValueError(
                f"{type(self).__name__}: momentum must be a number; None is for batch norm alone"
            )
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, input: Tensor, negative_slope: float = 1.0) -> Tensor:
        input, added = self._batched(input)
        y = F.instance_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or not self.track_running_stats, self.momentum, self.eps,
            negative_slope=negative_slope,
        )  # fmt: skip
        return y.squeeze(0) if added else y


class InstanceNorm1d(_InstanceNorm):
    """`instance_norm` of (N, C, L) or (C, L); without parameters unless affine=True."""

    rank = 1


class InstanceNorm2d(_InstanceNorm):
    """`instance_norm` of (N, C, H, W) or (C, H, W); without parameters unless affine=True."""

    rank = 2


class InstanceNorm3d(_InstanceNorm):
    """`instance_norm` of (N, C, D, H, W) or (C, D, H, W); without parameters unless affine=True."""

    rank = 3


# ---- group and layer norm ------------------------------------------------------------------------


class GroupNorm(_Norm):
    """`group_norm` of (N, C, *S) in num_groups groups of channels, with learned weight and bias (C,)."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True):
        super().__init__((num_channels,), eps, affine)
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"GroupNorm: {num_channels} channels do not divide into {num_groups} groups")
        self.num_groups, self.num_channels, self.affine = num_groups, num_channels, affine

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class LayerNorm(_Norm):
    """`layer_norm` over the last dims, with learned weight and bias of the shape normalized_shape."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ):
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        super().__init__(shape, eps, elementwise_affine, bias)
        self.normalized_shape, self.elementwise_affine = shape, elementwise_affine

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
