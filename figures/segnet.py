"""SegNet: the decoder puts each value back where the maximum stood, and convolutions fill the gaps."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes

from figures.drawing import arrow, block, canvas, text
from figures.palette import BLUE, GREEN, GREY, INK, SKY, SMALL, VERMILION
from figures.shapes import trace
from minidl.models import SegNet

THIN = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # the real net's stages with 1/64 of its channels
SCALE, CLASSES = 64, 11
MIDDLE, TALL, WIDE, STEP, BETWEEN = 1.72, 1.9, 0.125, 0.164, 0.15  # inches


def draw(folder: Path) -> None:
    """A block per convolution, as high as its output; arcs carry the pooling indices over."""
    with canvas(folder, "segnet", 4.2) as axes:
        layers(axes)
        rows = ((BLUE, "3×3 convolution, batch norm, ReLU"), (INK, "2×2 max-pooling"), (GREEN, "unpooling"),
                (VERMILION, "3×3 convolution to 11 classes"))  # fmt: skip
        for k, (color, words) in enumerate(rows):
            y = 4.0 - 0.24 * k
            block(axes, 0.2, y, WIDE, 0.16, color)
            text(axes, 0.42, y, words, ha="left", fontsize=SMALL)
        arrow(axes, (5.25, 4.0), (5.6, 4.0), color=GREY, lw=1.4)
        text(axes, 5.72, 4.0, "where each maximum stood", ha="left", fontsize=SMALL)


def layers(axes: Axes) -> None:
    """All layers from left to right, with sizes and channels below each stage."""
    words = {"fontsize": SMALL - 0.5, "linespacing": 1.1}
    text(axes, 0.1, 0.45, "size", ha="left", **words)
    text(axes, 0.1, 0.12, "channels", ha="left", **words)
    block(axes, 0.62, MIDDLE, 0.04, TALL, SKY)
    pools: list[tuple[float, float]] = []  # where the arcs begin
    x = begin = 0.76
    for call in trace(SegNet(3, CLASSES, THIN), 1, 3, 360, 480):
        part, *place = call.name.split(".")
        height = TALL * call.output[2] / 360
        top = x + WIDE / 4, MIDDLE + height / 2 + 0.05
        if part == "pool":
            block(axes, x, MIDDLE, WIDE / 2, height, INK)
            pools.append(top)
            narrowest = len(pools) == len(THIN)
            x = begin = x + BETWEEN + (0.3 if narrowest else 0)  # room for the shortest arc
        elif part == "unpool":
            block(axes, x, MIDDLE, WIDE / 2, height, GREEN)
            bend = f"arc3,rad={-0.2 - 0.06 * len(pools)}"
            arrow(axes, pools.pop(), top, color=GREY, lw=1.4, connectionstyle=bend)
            x = begin = x + STEP
        elif len(place) == 2:  # a convolution with its norm and activation
            block(axes, x, MIDDLE, WIDE, height, VERMILION if call.output[1] == CLASSES else BLUE)
            x += STEP
        elif len(place) == 1:  # a stage is complete
            channels = SCALE * (call.output if part == "encoder" else call.input)[1]
            text(axes, (begin + x) / 2, 0.45, "{}\n×{}".format(*call.output[2:]), **words)
            text(axes, (begin + x) / 2, 0.12, str(channels), **words)
            x += BETWEEN / 2
