"""The U-Net with same padding, written once for 1, 2 and 3 dimensions.

An encoder halves the resolution step by step and so sees ever larger surroundings; a decoder doubles it
again. At each step the decoder also receives the encoder's features of the same resolution (the *skip*),
which still know where the edges are: that is what the U-Net adds to an encoder-decoder.

    image ─ stage 0 ───────────────── skip ───────────────── cat ─ stage ─ 1x1 conv ─ logits
              └─ half ─ stage 1 ───── skip ───── cat ─ stage ─ double ┘
                          └─ half ─ stage 2 (bottleneck) ─ double ┘

What today's U-Net changes in that of 2015 (`unet2015`): it pads, so that the output is as large as the
input; it normalises, so that deep nets learn at any contrast; it halves by a strided convolution, which
learns what to keep, instead of a maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minidl import nn
from minidl.autograd import Tensor
from minidl.models.blocks import SLOPES, Interpolate, Width, initialize, join, of_rank, stage
from minidl.utils.checkpoint import checkpoint


class UNet(nn.Module):
    """U-Net: input (N, in_channels, *S) -> logits (N, out_channels, *S), for any size S.

    features: the number of channels per stage, from the full resolution down to the bottleneck; a pair
    gives the two convolutions of a stage different numbers. padding="same" keeps sizes; "valid" pads
    nothing (Ronneberger et al. 2015), so that every output pixel has seen real pixels only, and the output
    is smaller. norm "instance", "batch" or None; activation "leaky_relu" or "relu"; down "conv" (stride 2
    in a stage's first convolution) or "max" (pooling); up "transpose" (transposed convolution) or
    "interpolate" (linear, without checkerboards).

    checkpoint: backward keeps only what passes between the stages and computes each stage again when it comes
    to it (`minidl.utils.checkpoint`): the same gradients from less memory, in about a third more time.

    Odd sizes: halving rounds up, and what doubling then has too much is cut off.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        features: Sequence[Width] = (32, 64, 128, 256, 512),
        *,
        dims: int = 2,
        padding: str = "same",
        norm: str | None = "instance",
        activation: str = "leaky_relu",
        down: str = "conv",
        up: str = "transpose",
        checkpoint: bool = False,
    ):
        super().__init__()
        for name, value, known in (("padding", padding, ("same", "valid")),
                                   ("activation", activation, tuple(SLOPES)), ("down", down, ("conv", "max")),
                                   ("up", up, ("transpose", "interpolate"))):  # fmt: skip
            if value not in known:
                raise ValueError(f"UNet: {name} must be one of {known}, got {value!r}")
        self.dims, self.up, self.checkpoint = dims, up, checkpoint
        slope = SLOPES[activation]
        block: dict[str, Any] = dict(dims=dims, padding=padding, norm=norm, negative_slope=slope)
        widths = [(f, f) if isinstance(f, int) else tuple(f) for f in features]

        self.encoder = nn.ModuleList()
        channels = in_channels
        for level, (first, second) in enumerate(widths):
            stride = 2 if down == "conv" and level > 0 else 1
            self.encoder.append(stage(channels, (first, second), stride=stride, **block))
            channels = second
        self.pool = of_rank("MaxPool", dims)(2, ceil_mode=True) if down == "max" else None

        self.upsamplers, self.decoder = nn.ModuleList(), nn.ModuleList()
        for _, width in reversed(widths[:-1]):
            raised = self._raised_channels(channels, width)
            self.upsamplers.append(self._upsampler(channels, raised))
            self.decoder.append(stage(raised + width, width, **block))
            channels = width
        self.head = of_rank("Conv", dims)(channels, out_channels, 1)
        self.apply(initialize)

    def _raised_channels(self, coarse: int, fine: int) -> int:
        """The number of channels after up-sampling from the coarse to the fine stage."""
        return fine

    def _upsampler(self, channels: int, out: int) -> nn.Module:
        if self.up == "interpolate":
            return Interpolate(channels, out, dims=self.dims)
        return of_rank("ConvTranspose", self.dims)(channels, out, 2, 2)

    def forward(self, input: Tensor) -> Tensor:
        skips = []
        for level in range(len(self.encoder)):
            skips.append(input := self._run(self._encode, level, input))
        skips.pop()  # the bottleneck itself
        for level in range(len(self.decoder)):
            input = self._run(self._decode, level, input, skips.pop())
        return self.head(input)

    def _encode(self, level: int, input: Tensor) -> Tensor:
        if level > 0 and self.pool is not None:
            input = self.pool(input)
        return self.encoder[level](input)

    def _decode(self, level: int, input: Tensor, skip: Tensor) -> Tensor:
        return self.decoder[level](join(self.upsamplers[level](input), skip))

    def _run(self, stage: Callable[..., Tensor], *inputs: Any) -> Tensor:
        return checkpoint(stage, *inputs) if self.checkpoint else stage(*inputs)
