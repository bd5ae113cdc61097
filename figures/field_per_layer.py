"""The field of one pixel grows from layer to layer, fastest where the resolution is lowest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figures.drawing import outline, page, picture
from figures.field_of_pixel import SIZE, network, phantom
from figures.palette import GREEN, ORANGE, SKY, SMALL, VERMILION, YELLOW
from minidl.receptive_field import analyze
from minidl.receptive_field.plot import nearest

PIXEL = (88, 52)
COLORS = {
    "encoder.0": SKY,
    "encoder.1": GREEN,
    "encoder.2": YELLOW,
    "encoder.3": ORANGE,
    "decoder": VERMILION,
}


def draw(folder: Path) -> None:
    """Left what one position sees after each encoder stage and at the output; right all layers' sizes."""
    image = phantom()
    whole = analyze(network(), (1, 1, SIZE, SIZE))
    layers = [layer for layer in whole.per_layer() if layer.name.endswith(".conv")]
    with page(folder, "field_per_layer", 3.5, layout="constrained") as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
        picture(left, image, vmin=0, vmax=np.percentile(image, 99.8))
        for k, layer in enumerate(layers):
            part = next(part for part in COLORS if layer.name.startswith(part))
            size = layer.field.size[0]
            right.bar(k, size, color=COLORS[part], width=0.8)
            right.text(k, size + 1, size, ha="center", fontsize=SMALL)
            if k in (1, 3, 5, 7, len(layers) - 1):  # the ends of the encoder's stages, and the output
                (top, bottom), (first, last) = layer.field.interval(nearest(layer.field, PIXEL))
                outline(left, first - 0.5, bottom + 0.5, last - first + 1, bottom - top + 1, COLORS[part])
        right.set_xticks((0.5, 2.5, 4.5, 6.5, 10.5), ("stage 1", "2", "3", "4", "decoder"), fontsize=SMALL)
        right.tick_params(axis="x", length=0)
        right.set(xlabel="3×3 convolutions, from the image to the output")
        right.set_title("receptive field (pixels)", loc="left")
