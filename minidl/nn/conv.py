"""Convolution layers: all logic in N dimensions, the rank fixed by two-line subclasses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minidl.autograd import Tensor
from minidl.nn.functional.checks import Sizes, ntuple
from minidl.nn.functional.conv import conv_nd, conv_transpose_nd
from minidl.nn.functional.padding import pad
from minidl.nn.linear import reset_affine
from minidl.nn.module import Module, Parameter
from minidl.tensor import zeros


class _ConvNd(Module):
    rank: int
    padding_modes: tuple[str, ...] = ("zeros", "reflect", "replicate", "circular")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ):
        super().__init__()
        name = type(self).__name__
        if padding_mode not in self.padding_modes:
            raise ValueError(
                f"{name}: padding_mode must be one of {', '.join(self.padding_modes)}; got {padding_mode!r}"
            )
        self.padding_mode = padding_mode
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: {in_channels} input and {out_channels} output channels "
                f"do not divide into {groups} groups"
            )
        self.kernel_size = ntuple(kernel_size, self.rank, f"{name}: kernel_size", 1)
        self.stride = ntuple(stride, self.rank, f"{name}: stride", 1)
        self.padding: Any = (
            padding if isinstance(padding, str) else ntuple(padding, self.rank, f"{name}: padding")
        )
        self.dilation = ntuple(dilation, self.rank, f"{name}: dilation", 1)
        self.weight = Parameter(zeros(*self._weight_channels(), *self.kernel_size))
        self.register_parameter("bias", Parameter(zeros(out_channels)) if bias else None)
        reset_affine(self.weight, self.bias)

    def _weight_channels(self) -> tuple[int, int]:
        return self.out_channels, self.in_channels // self.groups

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = pad(input, self._margins(), self.padding_mode), 0
        return conv_nd(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups,
            rank=self.rank, name=type(self).__name__,
        )  # fmt: skip

    def _margins(self) -> list[int]:
        """The samples to add before and after each axis, the last axis first, as `pad` takes them."""
        if self.padding == "same":
            totals = [d * (k - 1) for k, d in zip(self.kernel_size, self.dilation)]
            return [n for total in reversed(totals) for n in (total // 2, total - total // 2)]
        each = (0,) * self.rank if self.padding == "valid" else self.padding
        return [n for p in reversed(each) for n in (p, p)]

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        ordinary = {"padding": (0,) * self.rank, "dilation": (1,) * self.rank, "groups": 1}
        for key, default in ordinary.items():
            if getattr(self, key) != default:
                text += f", {key}={getattr(self, key)}"
        text += "" if self.bias is not None else ", bias=False"
        return text if self.padding_mode == "zeros" else text + f", padding_mode={self.padding_mode}"


class Conv1d(_ConvNd):
    """`conv1d` with learned weight (O, C/groups, K) and bias (O,): input (N, C, L) -> (N, O, L')."""

    rank = 1


class Conv2d(_ConvNd):
    """`conv2d` with learned weight (O, C/groups, *K) and bias (O,): input (N, C, H, W) -> (N, O, H', W')."""

    rank = 2


class Conv3d(_ConvNd):
    """`conv3d` with learned weight (O, C/groups, *K) and bias (O,): (N, C, D, H, W) -> (N, O, D', H', W')."""

    rank = 3


class _ConvTransposeNd(_ConvNd):
    padding_modes = ("zeros",)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
    ):
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode
        )
        self.output_padding = ntuple(output_padding, self.rank, f"{type(self).__name__}: output_padding")

    def _weight_channels(self) -> tuple[int, int]:
        return self.in_channels, self.out_channels // self.groups

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        extra = self.output_padding if output_size is None else self._extra(input, output_size)
        return conv_transpose_nd(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation,
            rank=self.rank, name=type(self).__name__,
        )  # fmt: skip

    def _extra(self, input: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """The output_padding that gives this size: several sizes shrink to the same one under a stride."""
        size = tuple(output_size)[-self.rank :]
        smallest = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(
                input.shape[-self.rank :],
                self.stride,
                self.padding,
                self.dilation,
                self.kernel_size,
            )
        ]
        extra = tuple(int(n - low) for n, low in zip(size, smallest))
        if len(output_size) not in (self.rank, input.ndim) or any(
            not 0 <= e < s for e, s in zip(extra, self.stride)
        ):
            largest = [low + s - 1 for low, s in zip(smallest, self.stride)]
            raise ValueError(
                f"{type(self).__name__}: output_size {tuple(output_size)} must lie between "
                f"{tuple(smallest)} and {tuple(largest)} for input {input.shape}"
            )
        return extra


class ConvTranspose1d(_ConvTransposeNd):
    """`conv_transpose1d` with learned weight (C, O/groups, K): input (N, C, L) -> (N, O, L')."""

    rank = 1


class ConvTranspose2d(_ConvTransposeNd):
    """`conv_transpose2d` with learned weight (C, O/groups, *K): input (N, C, H, W) -> (N, O, H', W')."""

    rank = 2


class ConvTranspose3d(_ConvTransposeNd):
    """`conv_transpose3d` with learned weight (C, O/groups, *K): (N, C, D, H, W) -> (N, O, D', H', W')."""

    rank = 3
