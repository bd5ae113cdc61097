"""Three pixels of a phantom and the part of the image that a U-Net looks at to label each of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

import minidl
from figures.drawing import outline, page, picture
from figures.palette import GREEN, ORANGE, SKY, SMALL
from minidl.data import phantom_case
from minidl.models import UNet
from minidl.receptive_field import analyze

SIZE, CASE = 128, 3
PIXELS = (("lesion", (88, 52), ORANGE), ("skull", (40, 96), SKY), ("background", (16, 20), GREEN))


def network() -> UNet:
    """A U-Net of four stages without normalisation, which would let every pixel see the whole image."""
    minidl.manual_seed(0)
    return UNet(1, 3, (8, 16, 32, 64), norm=None)


def phantom() -> np.ndarray:
    """The image that the fields are drawn on, (H, W)."""
    return phantom_case("train", CASE, (SIZE, SIZE))[0]


def draw(folder: Path) -> None:
    """Left the image with the three fields, cut off at its border; right what each of them holds."""
    field, image = analyze(network(), (1, 1, SIZE, SIZE)), phantom()
    scale = {"vmin": 0, "vmax": np.percentile(image, 99.8)}
    with page(folder, "field_of_pixel", 3.0, layout="constrained") as figure:
        whole, *parts = figure.subplots(1, 4, width_ratios=(1.75, 1, 1, 1))
        picture(whole, image, **scale)
        for (name, pixel, color), axes in zip(PIXELS, parts):
            (top, bottom), (left, right) = field.interval(pixel)
            height, width = bottom - top + 1, right - left + 1
            extent = (left - 0.5, right + 0.5, bottom + 0.5, top - 0.5)
            picture(axes, image[field.region(pixel)], name, extent=extent, **scale)
            axes.set_xlabel(f"{height}×{width} pixels", fontsize=SMALL)
            axes.spines[:].set(visible=True, color=color, lw=2.2)
            outline(whole, left - 0.5, bottom + 0.5, width, height, color)
            for drawn in (whole, axes):
                mark(drawn, pixel, color)


def mark(axes: Axes, pixel: tuple[int, int], color: str) -> None:
    """A dot on a pixel (row, column)."""
    axes.plot(pixel[1], pixel[0], "o", color=color, ms=6, mec="white", mew=0.8)
