"""Is this pixel a lesion? A small field sees bright tissue, a large one sees where it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figures.drawing import outline, page, picture
from figures.field_of_pixel import SIZE, network, phantom
from figures.palette import ORANGE, SKY, SMALL
from minidl import nn
from minidl.receptive_field import analyze

PIXEL = (88, 52)


def draw(folder: Path) -> None:
    """The image with both fields, and what each network is given to decide with."""
    image = phantom()
    small = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    scale = {"vmin": 0, "vmax": np.percentile(image, 99.8)}
    with page(folder, "field_small_large", 3.1, layout="constrained") as figure:
        axes = figure.subplots(1, 3)
        picture(axes[0], image, "image", **scale)
        for axis, model, title, color in (
            (axes[1], small, "two convolutions", SKY),
            (axes[2], network(), "U-Net, four stages", ORANGE),
        ):
            field = analyze(model, (1, 1, SIZE, SIZE))
            (top, bottom), (left, right) = field.interval(PIXEL)
            outline(axes[0], left - 0.5, bottom + 0.5, right - left + 1, bottom - top + 1, color)
            picture(axis, image[field.region(PIXEL)], title, **scale)
            axis.set_xlabel(f"{bottom - top + 1}×{right - left + 1} pixels", fontsize=SMALL)
            axis.spines[:].set(visible=True, color=color, lw=2.2)
