"""The 3-D U-Net: Çiçek, Abdulkadir, Lienkamp, Brox and Ronneberger 2016 (arXiv 1606.06650).

What it adds to the U-Net of 2015:

    volumes         every operation has three axes. A kernel of 27 taps and 8 voxels for each voxel of the
                    half resolution make memory the limit, so there are 3 halvings instead of 4.
    no bottleneck   channels double *before* a pool, not after it (32-64, 64-128, 128-256, 256-512): pooling
                    64 channels to 64 and doubling them later would force few numbers through a narrow place.
    batch norm      before each ReLU.
    sparse labels   a voxel without a label has weight 0 in the loss: few annotated slices teach a whole
                    volume (`cross_entropy` does so with `ignore_index`).

The up-convolutions keep their channels, so a decoder stage sees 512 + 256 channels, then 256 + 128, ...
"""

from __future__ import annotations

from minidl import nn
from minidl.models.unet import UNet


class UNet3d2016(UNet):
    """The 3-D U-Net of 2016: valid convolutions, ReLU, batch norm, max-pooling, up-convolutions without bias.

    (N, in_channels, 132, 132, 116) -> (N, out_channels, 44, 44, 28); with 3 channels and 3 classes 19,069,955
    parameters beside those of the batch norms. `base` is the number of channels of the first convolution.
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 3, base: int = 32):
        features = [(base * 2**level, base * 2 ** (level + 1)) for level in range(4)]
        super().__init__(
            in_channels, out_channels, features,
            dims=3, padding="valid", norm="batch", activation="relu", down="max",
        )  # fmt: skip

    def _raised_channels(self, coarse: int, fine: int) -> int:
        return coarse

    def _upsampler(self, channels: int, out: int) -> nn.Module:
        return nn.ConvTranspose3d(channels, out, 2, 2, bias=False)
