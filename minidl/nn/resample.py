"""Layers that change the resolution: pooling and up-sampling."""

from __future__ import annotations

from collections.abc import Sequence

from minidl.autograd import Tensor
from minidl.nn.functional.checks import Sizes
from minidl.nn.functional.pool import avg_pool_nd, max_pool_nd
from minidl.nn.functional.resize import interpolate
from minidl.nn.module import Module


class _MaxPoolNd(Module):
    rank: int

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return max_pool_nd(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
            self.return_indices, rank=self.rank, name=type(self).__name__,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool1d(_MaxPoolNd):
    """`max_pool1d` of (N, C, L)."""

    rank = 1


class MaxPool2d(_MaxPoolNd):
    """`max_pool2d` of (N, C, H, W)."""

    rank = 2


class MaxPool3d(_MaxPoolNd):
    """`max_pool3d` of (N, C, D, H, W)."""

    rank = 3


class _AvgPoolNd(Module):
    rank: int

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, input: Tensor) -> Tensor:
        return avg_pool_nd(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad, self.divisor_override, rank=self.rank, name=type(self).__name__,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPoolNd):
    """`avg_pool1d` of (N, C, L)."""

    rank = 1


class AvgPool2d(_AvgPoolNd):
    """`avg_pool2d` of (N, C, H, W)."""

    rank = 2


class AvgPool3d(_AvgPoolNd):
    """`avg_pool3d` of (N, C, D, H, W)."""

    rank = 3


class Upsample(Module):
    """`interpolate` to a size or by a scale factor."""

    def __init__(
        self,
        size: Sizes | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ):
        super().__init__()
        self.size, self.scale_factor, self.mode, self.align_corners = (
            size,
            scale_factor,
            mode,
            align_corners,
        )

    def forward(self, input: Tensor) -> Tensor:
        return interpolate(input, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        where = f"size={self.size}" if self.size is not None else f"scale_factor={self.scale_factor}"
        return f"{where}, mode={self.mode!r}"
