"""Layers that resample, and that move samples between space and channels."""

from __future__ import annotations

from collections.abc import Sequence

from minidl.autograd import Tensor
from minidl.nn.functional import patches
from minidl.nn.functional.checks import Sizes
from minidl.nn.functional.resize import interpolate
from minidl.nn.module import Module


class Listed(Module):
    """A module whose repr lists the attributes that `shown` names."""

    shown: tuple[str, ...] = ()

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.shown)


class Upsample(Module):
    """`interpolate` to a size or by a scale factor."""

    def __init__(
        self,
        size: Sizes | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ):
        super().__init__()
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        self.align_corners, self.recompute_scale_factor = align_corners, recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        return interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self) -> str:
        where = f"size={self.size}" if self.size is not None else f"scale_factor={self.scale_factor}"
        return f"{where}, mode={self.mode!r}"


class PixelShuffle(Listed):
    """`pixel_shuffle`: (*, C·r², H, W) -> (*, C, H·r, W·r)."""

    shown = ("upscale_factor",)

    def __init__(self, upscale_factor: int):
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return patches.pixel_shuffle(input, self.upscale_factor)


class PixelUnshuffle(Listed):
    """`pixel_unshuffle`: (*, C, H·r, W·r) -> (*, C·r², H, W)."""

    shown = ("downscale_factor",)

    def __init__(self, downscale_factor: int):
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return patches.pixel_unshuffle(input, self.downscale_factor)


class Unfold(Listed):
    """`unfold`: (N, C, *S) -> (N, C·ΠK, L), each window a column."""

    shown = ("kernel_size", "dilation", "padding", "stride")

    def __init__(self, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1):
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return patches.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(Listed):
    """`fold`: columns (N, C·ΠK, L) added back where they came from, (N, C, *output_size)."""

    shown = ("output_size", "kernel_size", "dilation", "padding", "stride")

    def __init__(
        self,
        output_size: Sizes,
        kernel_size: Sizes,
        dilation: Sizes = 1,
        padding: Sizes = 0,
        stride: Sizes = 1,
    ):
        super().__init__()
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return patches.fold(
            input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )
