"""Pooling layers: all logic in N dimensions, the rank fixed by two-line subclasses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minidl.autograd import Tensor
from minidl.nn.functional import maxpool, pool
from minidl.nn.functional.checks import Sizes
from minidl.nn.resample import Listed


class _Ranked(Listed):
    """One logic for 1, 2 and 3 dimensions."""

    rank: int

    def _apply(self, function: Any, *arguments: Any) -> Any:
        return function(*arguments, rank=self.rank, name=type(self).__name__)


# ---- max-pooling -------------------------------------------------------------------------------


class _MaxPoolNd(_Ranked):
    shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

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
        return self._apply(
            maxpool.max_pool_nd, input, self.kernel_size, self.stride, self.padding, self.dilation,
            self.ceil_mode, self.return_indices,
        )  # fmt: skip


class MaxPool1d(_MaxPoolNd):
    """`max_pool1d` of (N, C, L)."""

    rank = 1


class MaxPool2d(_MaxPoolNd):
    """`max_pool2d` of (N, C, H, W)."""

    rank = 2


class MaxPool3d(_MaxPoolNd):
    """`max_pool3d` of (N, C, D, H, W)."""

    rank = 3


class _MaxUnpoolNd(_Ranked):
    shown = ("kernel_size", "stride", "padding")

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return self._apply(
            maxpool.max_unpool_nd, input, indices, self.kernel_size, self.stride, self.padding, output_size
        )


class MaxUnpool1d(_MaxUnpoolNd):
    """`max_unpool1d` of (N, C, L) and the indices of `MaxPool1d(return_indices=True)`."""

    rank = 1


class MaxUnpool2d(_MaxUnpoolNd):
    """`max_unpool2d` of (N, C, H, W) and the indices of `MaxPool2d(return_indices=True)`."""

    rank = 2


class MaxUnpool3d(_MaxUnpoolNd):
    """`max_unpool3d` of (N, C, D, H, W) and the indices of `MaxPool3d(return_indices=True)`."""

    rank = 3


class _AdaptiveMaxPoolNd(_Ranked):
    shown = ("output_size",)

    def __init__(self, output_size: int | Sequence[int | None] | None, return_indices: bool = False):
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self._apply(maxpool.adaptive_max_pool_nd, input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPoolNd):
    """`adaptive_max_pool1d` of (N, C, L)."""

    rank = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPoolNd):
    """`adaptive_max_pool2d` of (N, C, H, W)."""

    rank = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPoolNd):
    """`adaptive_max_pool3d` of (N, C, D, H, W)."""

    rank = 3


# ---- averages ----------------------------------------------------------------------------------


class _AvgPoolNd(_Ranked):
    shown = ("kernel_size", "stride", "padding")

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
        return self._apply(
            pool.avg_pool_nd, input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad, self.divisor_override,
        )  # fmt: skip


class AvgPool1d(_AvgPoolNd):
    """`avg_pool1d` of (N, C, L)."""

    rank = 1


class AvgPool2d(_AvgPoolNd):
    """`avg_pool2d` of (N, C, H, W)."""

    rank = 2


class AvgPool3d(_AvgPoolNd):
    """`avg_pool3d` of (N, C, D, H, W)."""

    rank = 3


class _AdaptiveAvgPoolNd(_Ranked):
    shown = ("output_size",)

    def __init__(self, output_size: int | Sequence[int | None] | None):
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return self._apply(pool.adaptive_avg_pool_nd, input, self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPoolNd):
    """`adaptive_avg_pool1d` of (N, C, L)."""

    rank = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPoolNd):
    """`adaptive_avg_pool2d` of (N, C, H, W)."""

    rank = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPoolNd):
    """`adaptive_avg_pool3d` of (N, C, D, H, W)."""

    rank = 3


class _LPPoolNd(_Ranked):
    shown = ("norm_type", "kernel_size", "stride", "ceil_mode")

    def __init__(
        self, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None, ceil_mode: bool = False
    ):
        super().__init__()
        self.norm_type, self.kernel_size, self.stride = norm_type, kernel_size, stride
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        return self._apply(
            pool.lp_pool_nd, input, self.norm_type, self.kernel_size, self.stride, self.ceil_mode
        )


class LPPool1d(_LPPoolNd):
    """`lp_pool1d` of (N, C, L)."""

    rank = 1


class LPPool2d(_LPPoolNd):
    """`lp_pool2d` of (N, C, H, W)."""

    rank = 2


class LPPool3d(_LPPoolNd):
    """`lp_pool3d` of (N, C, D, H, W)."""

    rank = 3
