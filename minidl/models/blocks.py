"""What the networks are built of: one convolution block, ways up in resolution, and He's initialisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import minidl
from minidl import nn
from minidl.autograd import Tensor
from minidl.nn import functional as F

SLOPES = {"leaky_relu": 0.01, "relu": 0.0}  # of the activation φ(x) = x for x > 0, slope·x elsewhere

Width = int | tuple[int, int]  # of a stage: the channels of its two convolutions, or of both


def of_rank(name: str, dims: int) -> Any:
    """The 1-D, 2-D or 3-D class of a layer: "Conv" of rank 2 is `nn.Conv2d`."""
    if dims not in (1, 2, 3):
        raise ValueError(f"models: dims must be 1, 2 or 3, got {dims}")
    return getattr(nn, f"{name}{dims}d")


def _norm(kind: str | None, channels: int, dims: int) -> nn.Module | None:
    if kind is None:
        return None
    if kind == "instance":
        return of_rank("InstanceNorm", dims)(channels, affine=True)
    if kind == "batch":
        return of_rank("BatchNorm", dims)(channels)
    raise ValueError(f"models: norm must be 'instance', 'batch' or None, got {kind!r}")


class ConvNormAct(nn.Module):
    """Convolution, normalisation, activation: φ(norm(A x + b)), (N, channels, *S) -> (N, out, *S').

    padding "same" keeps the size (but for the stride, S' = ceil(S / stride)); "valid" pads nothing.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        *,
        dims: int,
        kernel: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        padding: str = "same",
        norm: str | None = "instance",
        negative_slope: float = SLOPES["leaky_relu"],
    ):
        super().__init__()
        kernels = (kernel,) * dims if isinstance(kernel, int) else tuple(kernel)
        around = tuple((k - 1) // 2 for k in kernels) if padding == "same" else 0
        self.conv = of_rank("Conv", dims)(channels, out, kernels, stride, around)
        self.norm = _norm(norm, out, dims)
        self.slope = negative_slope

    def forward(self, input: Tensor) -> Tensor:
        x = self.conv(input)
        if self.norm is None:
            return F.leaky_relu(x, self.slope)
        return self.norm(x, negative_slope=self.slope)  # both in one pass over memory


def stage(channels: int, width: Width, *, stride: int | Sequence[int] = 1, **block: Any) -> nn.Sequential:
    """The two convolutions of one resolution; the first may have a stride."""
    first, second = (width, width) if isinstance(width, int) else width
    return nn.Sequential(
        ConvNormAct(channels, first, stride=stride, **block), ConvNormAct(first, second, **block)
    )


class Interpolate(nn.Module):
    """Twice the resolution by linear interpolation, and a 1x1 convolution to the wanted channels."""

    def __init__(self, channels: int, out: int, *, dims: int):
        super().__init__()
        self.mode = ("linear", "bilinear", "trilinear")[dims - 1]
        self.conv = of_rank("Conv", dims)(channels, out, 1)

    def forward(self, input: Tensor) -> Tensor:  # the convolution first: both are linear, this is cheaper
        return F.interpolate(self.conv(input), scale_factor=2, mode=self.mode)


def crop_to(input: Tensor, size: Sequence[int], centre: bool = False) -> Tensor:
    """The input (N, C, *S) cut down to a spatial size: its middle, or its beginning."""
    if tuple(input.shape[2:]) == tuple(size):
        return input
    starts = [(n - m) // 2 if centre else 0 for n, m in zip(input.shape[2:], size)]
    return input[(slice(None), slice(None), *(slice(a, a + m) for a, m in zip(starts, size)))]


def join(raised: Tensor, skip: Tensor) -> Tensor:
    """Concatenate [raised, skip] along the channels, both cut to the size they share.

    A size that was odd was rounded up when it was halved, so `raised` may have one sample too many, at its
    end; after valid convolutions it is `skip` that is larger, and its middle belongs to `raised`.
    """
    size = [min(a, b) for a, b in zip(raised.shape[2:], skip.shape[2:])]
    return minidl.cat([crop_to(raised, size), crop_to(skip, size, centre=True)], dim=1)


def initialize(module: nn.Module) -> None:
    """He's initialisation of a convolution for the leaky ReLU (as nnU-Net), biases 0: for `Module.apply`."""
    weight = module._parameters.get("weight")
    if weight is not None and weight.ndim > 2:
        nn.init.kaiming_normal_(weight, a=SLOPES["leaky_relu"])
        if module.bias is not None:
            nn.init.zeros_(module.bias)
