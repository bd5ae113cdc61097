"""The first U-Net: Ronneberger, Fischer and Brox 2015 (arXiv 1505.04597), for pictures of cells.

What it adds to an encoder-decoder: the skips. What a later U-Net does otherwise (`unet`):

    padding        none: a 3x3 convolution takes one pixel off every side, so 572² pixels in give 388² out.
                   No output pixel has ever seen an invented one; the skips are wider than what comes up
                   from below, and their middle is cut out (crop and concatenate).
    any image      overlap-tile: the image is mirrored around its border and cut into 572² tiles that
                   overlap, so that their 388² middles cover it without a seam (`minidl.segment.inference`).
    normalisation  none, so initialisation matters: He's keeps the variance through ReLU layers.
    halving        2x2 max-pooling, 4 times: 64, 128, 256, 512 and 1024 channels.

A pool must see an even size, or a pixel at the border has no partner: sizes 572 - 16k fit at all 4 of them.
Here an odd size is rounded up.
"""

from __future__ import annotations

from minidl.models.unet import UNet


def unet2015(in_channels: int = 1, out_channels: int = 2, base: int = 64) -> UNet:
    """The U-Net of 2015: valid 3x3 convolutions, ReLU, no normalisation, max-pooling, 2x2 up-convolutions.

    (N, in_channels, 572, 572) -> (N, out_channels, 388, 388); 31,030,658 parameters by default. `base` is the
    number of channels of the first stage.
    """
    return UNet(
        in_channels, out_channels, [base * 2**level for level in range(5)],
        padding="valid", norm=None, activation="relu", down="max",
    )  # fmt: skip
