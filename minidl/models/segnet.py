"""SegNet: Badrinarayanan, Kendall and Cipolla 2015 (arXiv 1511.00561), for scenes of the street.

What it adds to an encoder-decoder: the pooling indices. Max-pooling forgets where in its 2x2 window the
maximum stood; SegNet stores that place, and unpooling puts each value back there, zeros around it:

    4 1 │ 0 2               .─────────────.            4 . │ . .
    3 2 │ 7 1   ─ pool ─>   │ 4   7  where │ ─ unpool ─> . . │ 7 .   ─ convolutions fill the gaps ─>
                             `─────────────'

So an edge returns to the pixel it came from at the price of two bits a window, and up-sampling has no
weights. The U-Net, of the same year, hands over the features themselves, which costs memory and helps more.

The encoder has the 13 convolutions of VGG-16, the decoder mirrors them: each convolution 3x3, padded, with
batch norm and ReLU; the last one of a decoder stage goes over to the channels of the next finer one; the
very last gives the logits and has neither norm nor ReLU. Sizes (from the authors' prototxt): 360x480 pixels
of CamVid are pooled to 180x240, 90x120, 45x60, 23x30 (rounded up) and 12x15; unpooling must be told the size,
for both 45 and 46 give 23.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from minidl import nn
from minidl.autograd import Tensor
from minidl.models.blocks import ConvNormAct, initialize, of_rank

VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and convolutions per stage


class SegNet(nn.Module):
    """SegNet: input (N, in_channels, *S) -> logits (N, out_channels, *S), for any size S.

    stages: (channels, number of convolutions) from the full resolution down; with those of VGG-16, 3 channels
    and 11 classes the convolutions have 29,433,483 parameters. There is one pooling per stage, so the
    narrowest features are 2^5 times smaller than the image.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stages: Sequence[tuple[int, int]] = VGG16, *, dims: int = 2
    ):
        super().__init__()

        def convolutions(widths: Sequence[int]) -> list[nn.Module]:
            return [
                ConvNormAct(a, b, dims=dims, norm="batch", negative_slope=0.0) for a, b in pairwise(widths)
            ]

        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        channels = in_channels
        for width, count in stages:
            self.encoder.append(nn.Sequential(*convolutions([channels] + [width] * count)))
            channels = width
        finer = [width for width, _ in stages[:-1]]
        for (width, count), out in zip(reversed(stages[1:]), reversed(finer)):
            self.decoder.append(nn.Sequential(*convolutions([width] * count + [out])))
        width, count = stages[0]
        head = of_rank("Conv", dims)(width, out_channels, 3, padding=1)
        self.decoder.append(nn.Sequential(*convolutions([width] * count), head))
        self.pool = of_rank("MaxPool", dims)(2, ceil_mode=True, return_indices=True)
        self.unpool = of_rank("MaxUnpool", dims)(2)
        self.apply(initialize)

    def forward(self, input: Tensor) -> Tensor:
        places = []
        for stage in self.encoder:
            features = stage(input)
            input, indices = self.pool(features)
            places.append((indices, features.shape[2:]))
        for stage in self.decoder:
            indices, size = places.pop()
            input = stage(self.unpool(input, indices, size))
        return input
