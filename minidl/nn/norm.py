"""Normalisation layers."""

from __future__ import annotations

import numpy as np

from minidl.autograd import Tensor
from minidl.nn import functional as F
from minidl.nn.functional.checks import batched
from minidl.nn.module import Module, Parameter
from minidl.tensor import ones, tensor, zeros


class _Norm(Module):
    """Parameters and buffers, by PyTorch's names, of batch and instance norm."""

    rank: int

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float,
        affine: bool,
        track_running_stats: bool,
    ):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.track_running_stats = track_running_stats
        self.register_parameter("weight", Parameter(ones(num_features)) if affine else None)
        self.register_parameter("bias", Parameter(zeros(num_features)) if affine else None)
        self.register_buffer("running_mean", zeros(num_features) if track_running_stats else None)
        self.register_buffer("running_var", ones(num_features) if track_running_stats else None)
        count = tensor(np.array(0)) if track_running_stats else None
        self.register_buffer("num_batches_tracked", count)

    def _batched(self, input: Tensor) -> tuple[Tensor, bool]:
        name = type(self).__name__
        input, added = batched(input, self.rank, name, unbatched=isinstance(self, _InstanceNorm))
        if input.shape[1] != self.num_features:
            raise ValueError(
                f"{name}: expected {self.num_features} channels, got input of shape {input.shape}"
            )
        return input, added

    def _count_batch(self) -> None:
        if self.training and self.track_running_stats:
            self.num_batches_tracked.array += 1

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.weight is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_Norm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, input: Tensor) -> Tensor:
        if self.rank == 1 and input.ndim == 2:
            return self.forward(input.unsqueeze(-1)).squeeze(-1)
        input, _ = self._batched(input)
        self._count_batch()
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or not self.track_running_stats, self.momentum, self.eps,
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


class _InstanceNorm(_Norm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, input: Tensor) -> Tensor:
        input, added = self._batched(input)
        self._count_batch()
        y = F.instance_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or not self.track_running_stats, self.momentum, self.eps,
        )  # fmt: skip
        return y.squeeze(0) if added else y


class InstanceNorm1d(_InstanceNorm):
    """`instance_norm` of (N, C, L); without parameters unless affine=True."""

    rank = 1


class InstanceNorm2d(_InstanceNorm):
    """`instance_norm` of (N, C, H, W); without parameters unless affine=True."""

    rank = 2


class InstanceNorm3d(_InstanceNorm):
    """`instance_norm` of (N, C, D, H, W); without parameters unless affine=True."""

    rank = 3
