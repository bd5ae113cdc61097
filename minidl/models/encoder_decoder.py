"""The encoder-decoder without skips: the simplest network that sees far and answers for every pixel.

A classifier halves the resolution until one position has seen the whole image; it then knows *what* is there
and no longer *where*. Turning the path around, with as many doublings, gives an answer per pixel:

    image ─ stage 0 ─ half ─ stage 1 ─ half ─ stage 2 ─ double ─ stage ─ double ─ stage ─ 1x1 conv ─ logits

All that the decoder knows passes through the narrow middle. With L halvings one position of it stands for 2^L
pixels along each axis, and where exactly an edge ran among them must be coded in its channels. So the masks
are right as a whole and blurred at their borders. The networks that follow repair that in two ways: SegNet
keeps *where* each maximum was, the U-Net hands over the features themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from minidl import nn
from minidl.autograd import Tensor
from minidl.models.blocks import crop_to, initialize, of_rank, stage


class EncoderDecoder(nn.Module):
    """Encoder-decoder: input (N, in_channels, *S) -> logits (N, out_channels, *S), for any size S.

    features: the number of channels per stage, from the full resolution down to the bottleneck. Halving is a
    convolution of stride 2, doubling a transposed one, as in `UNet`; the same `features` make the two
    comparable, for the only difference is the skips.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        features: Sequence[int] = (32, 64, 128, 256, 512),
        *,
        dims: int = 2,
        norm: str | None = "instance",
    ):
        super().__init__()
        self.encoder, self.upsamplers, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(features):
            channels = features[level - 1] if level else in_channels
            self.encoder.append(stage(channels, width, stride=2 if level else 1, dims=dims, norm=norm))
        for coarse, fine in zip(features[:0:-1], features[-2::-1]):
            self.upsamplers.append(of_rank("ConvTranspose", dims)(coarse, fine, 2, 2))
            self.decoder.append(stage(fine, fine, dims=dims, norm=norm))
        self.head = of_rank("Conv", dims)(features[0], out_channels, 1)
        self.apply(initialize)

    def forward(self, input: Tensor) -> Tensor:
        sizes = []
        for convolutions in self.encoder:
            input = convolutions(input)
            sizes.append(input.shape[2:])  # all that the decoder learns of the way down
        sizes.pop()
        for upsampler, convolutions in zip(self.upsamplers, self.decoder):
            input = convolutions(crop_to(upsampler(input), sizes.pop()))
        return self.head(input)
