"""The U-Net, written once for 1, 2 and 3 dimensions.

An encoder halves the resolution step by step and so sees ever larger surroundings; a decoder doubles it
again. At each step the decoder also receives the encoder's features of the same resolution (the *skip*),
which still know where the edges are: that is what the U-Net adds to an encoder-decoder.

    image ─ stage 0 ───────────────── skip ───────────────── cat ─ stage ─ 1x1 conv ─ logits
              └─ half ─ stage 1 ───── skip ───── cat ─ stage ─ double ┘
                          └─ half ─ stage 2 (bottleneck) ─ double ┘
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import minidl
from minidl import nn
from minidl.autograd import Tensor
from minidl.nn import functional as F


def _of_rank(name: str, dims: int) -> Any:
    """The 1-D, 2-D or 3-D class of a layer: "Conv" of rank 2 is `nn.Conv2d`."""
    if dims not in (1, 2, 3):
        raise ValueError(f"UNet: dims must be 1, 2 or 3, got {dims}")
    return getattr(nn, f"{name}{dims}d")


def _norm(kind: str | None, channels: int, dims: int) -> nn.Module | None:
    if kind is None:
        return None
    if kind == "instance":
        return _of_rank("InstanceNorm", dims)(channels, affine=True)
    if kind == "batch":
        return _of_rank("BatchNorm", dims)(channels)
    raise ValueError(f"UNet: norm must be 'instance', 'batch' or None, got {kind!r}")


SLOPES = {"leaky_relu": 0.01, "relu": 0.0}  # of the activation φ(x) = x for x > 0, slope·x elsewhere


class ConvBlock(nn.Module):
    """Convolution of width 3, normalisation, activation: φ(norm(Ax + b))."""

    def __init__(
        self, channels: int, out: int, *, dims: int, stride: int, padding: int, norm: str | None, slope: float
    ):
        super().__init__()
        self.conv = _of_rank("Conv", dims)(channels, out, 3, stride, padding)
        self.norm = _norm(norm, out, dims)
        self.slope = slope

    def forward(self, input: Tensor) -> Tensor:
        x = self.conv(input)
        if self.norm is None:
            return F.leaky_relu(x, self.slope)
        return self.norm(x, negative_slope=self.slope)  # both in one pass over memory


class Upsample(nn.Module):
    """Twice the resolution by interpolation, then a 1x1 convolution to the wanted number of channels."""

    def __init__(self, channels: int, out: int, *, dims: int):
        super().__init__()
        self.mode = ("linear", "bilinear", "trilinear")[dims - 1]
        self.conv = _of_rank("Conv", dims)(channels, out, 1)

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(
            self.conv(input), scale_factor=2, mode=self.mode
        )  # the cheaper order: both are linear


def crop_to(input: Tensor, size: Sequence[int], centre: bool) -> Tensor:
    """The input (N, C, *S) cut down to a spatial size: its middle, or its beginning."""
    starts = [(n - m) // 2 if centre else 0 for n, m in zip(input.shape[2:], size)]
    if tuple(input.shape[2:]) == tuple(size):
        return input
    return input[(slice(None), slice(None), *(slice(a, a + m) for a, m in zip(starts, size)))]


class UNet(nn.Module):
    """U-Net: input (N, in_channels, *S) -> logits (N, out_channels, *S), for any size S.

    features: the number of channels per stage, from the full resolution down to the bottleneck; a pair
    gives the two convolutions of a stage different numbers. padding="same" keeps sizes; "valid" pads
    nothing (Ronneberger et al. 2015), so that every output pixel has seen real pixels only, and the output
    is smaller. norm "instance", "batch" or None; activation "leaky_relu" or "relu"; down "conv" (stride 2
    in a stage's first convolution) or "max" (pooling); up "transpose" (transposed convolution) or
    "interpolate" (linear, without checkerboards).

    Odd sizes: halving rounds up, and what doubling then has too much is cut off.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        features: Sequence[int | tuple[int, int]] = (32, 64, 128, 256, 512),
        *,
        dims: int = 2,
        padding: str = "same",
        norm: str | None = "instance",
        activation: str = "leaky_relu",
        down: str = "conv",
        up: str = "transpose",
    ):
        super().__init__()
        for name, value, known in (("padding", padding, ("same", "valid")),
                                   ("activation", activation, tuple(SLOPES)), ("down", down, ("conv", "max")),
                                   ("up", up, ("transpose", "interpolate"))):  # fmt: skip
            if value not in known:
                raise ValueError(f"UNet: {name} must be one of {known}, got {value!r}")
        self.dims, self.valid, self.up = dims, padding == "valid", up
        self._block: dict[str, Any] = dict(
            dims=dims, padding=int(not self.valid), norm=norm, slope=SLOPES[activation]
        )
        widths = [(f, f) if isinstance(f, int) else tuple(f) for f in features]

        self.encoder = nn.ModuleList()
        channels = in_channels
        for level, (first, second) in enumerate(widths):
            stride = 2 if down == "conv" and level > 0 else 1
            self.encoder.append(self._stage(channels, first, second, stride))
            channels = second
        self.pool = _of_rank("MaxPool", dims)(2, ceil_mode=True) if down == "max" else None

        self.upsamplers, self.decoder = nn.ModuleList(), nn.ModuleList()
        for _, width in reversed(widths[:-1]):
            raised = self._raised_channels(channels, width)
            self.upsamplers.append(self._upsampler(channels, raised))
            self.decoder.append(self._stage(raised + width, width, width, 1))
            channels = width
        self.head = _of_rank("Conv", dims)(channels, out_channels, 1)
        self.apply(self._initialise)

    def _stage(self, channels: int, first: int, second: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            ConvBlock(channels, first, stride=stride, **self._block),
            ConvBlock(first, second, stride=1, **self._block),
        )

    def _raised_channels(self, coarse: int, fine: int) -> int:
        """The number of channels after up-sampling from the coarse to the fine stage."""
        return fine

    def _upsampler(self, channels: int, out: int) -> nn.Module:
        if self.up == "interpolate":
            return Upsample(channels, out, dims=self.dims)
        return _of_rank("ConvTranspose", self.dims)(channels, out, 2, 2)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        """He's initialisation for the leaky ReLU, biases 0."""
        if "weight" in module._parameters and module.weight is not None and module.weight.ndim > 2:
            nn.init.kaiming_normal_(module.weight, a=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, input: Tensor) -> Tensor:
        skips = []
        for level, stage in enumerate(self.encoder):
            if level > 0 and self.pool is not None:
                input = self.pool(input)
            skips.append(input := stage(input))
        skips.pop()  # the bottleneck itself
        for upsampler, stage in zip(self.upsamplers, self.decoder):
            raised, skip = upsampler(input), skips.pop()
            size = [min(a, b) for a, b in zip(raised.shape[2:], skip.shape[2:])]
            skip = crop_to(
                skip, size, centre=True
            )  # wider than what valid convolutions left of the raised ones
            input = stage(minidl.cat([crop_to(raised, size, centre=False), skip], dim=1))
        return self.head(input)


def unet2015(in_channels: int = 1, out_channels: int = 2, base: int = 64) -> UNet:
    """The U-Net of Ronneberger, Fischer and Brox 2015 (arXiv 1505.04597): valid 3x3 convolutions, ReLU, no
    normalisation, max-pooling, 2x2 up-convolutions; 572² -> 388² pixels, 31,030,658 parameters.
    """
    features = [base * 2**level for level in range(5)]
    return UNet(
        in_channels, out_channels, features, padding="valid", norm=None, activation="relu", down="max"
    )


class UNet3d2016(UNet):
    """The 3-D U-Net of Çiçek et al. 2016 (arXiv 1606.06650): channels double before pooling, batch norm,
    and up-convolutions that keep their channels and have no bias; 132x132x116 -> 44x44x28 voxels,
    19,069,955 parameters beside those of the batch norms (with 3 channels and 3 classes).
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 3, base: int = 32):
        features = [(base * 2**level, base * 2 ** (level + 1)) for level in range(4)]
        super().__init__(
            in_channels,
            out_channels,
            features,
            dims=3,
            padding="valid",
            norm="batch",
            activation="relu",
            down="max",
        )

    def _raised_channels(self, coarse: int, fine: int) -> int:
        return coarse

    def _upsampler(self, channels: int, out: int) -> nn.Module:
        return nn.ConvTranspose3d(channels, out, 2, 2, bias=False)
