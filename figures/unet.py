"""The U-Net of 2015: four times down and up again, and at each resolution a skip that remembers the edges."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes

from figures.drawing import arrow, block, canvas, text
from figures.palette import BLUE, GREEN, GREY, INK, NORMAL, SKY, SMALL, VERMILION
from figures.shapes import trace
from minidl.models import unet2015

BASE, STEP = 64, 0.395  # channels of the first stage; inches from block to block
LEVELS = (4.7, 3.12, 2.12, 1.3, 0.58)  # height of each resolution on the page
Shape = tuple[int, int]  # channels, size


def draw(folder: Path) -> None:
    """Blocks as high as the features are large, wider with more channels; all sizes from the model."""
    # The thin twin has all sizes of the real one and 1/64 of its channels.
    calls = {call.name: call for call in trace(unet2015(base=1), 1, 1, 572, 572)}
    inside = lambda shape: (shape[1] * BASE, shape[-1])
    with canvas(folder, "unet", 5.75) as axes:
        x = 0.2
        for level, y in enumerate(LEVELS):
            first = calls[f"encoder.{level}.0"]
            feed = (1, first.input[-1]) if level == 0 else inside(first.input)
            shapes = [feed, inside(first.output), inside(calls[f"encoder.{level}.1"].output)]
            ends = row(axes, x, y, shapes, BLUE)
            x += 2 * STEP
            if level < 4:
                down(axes, x, y, shapes[-1], LEVELS[level + 1], inside(calls[f"encoder.{level + 1}.0"].input))
                target = x_of_decoder(level)
                arrow(axes, (ends + 0.04, y), (target - 0.04, y), color=GREY, lw=2.2)
        for k in range(4):
            level = 3 - k
            x, y = x_of_decoder(level), LEVELS[level]
            first, below = calls[f"decoder.{k}.0"], calls[f"upsamplers.{k}"]
            shapes = [inside(first.input), inside(first.output), inside(calls[f"decoder.{k}.1"].output)]
            up(axes, x, LEVELS[level + 1], inside(below.input), y, shapes[0])
            row(axes, x, y, shapes, BLUE)
            block(axes, x + width(shapes[0][0]) / 2, y, width(shapes[0][0]) / 2, height(shapes[0][1]), GREY)
        head = calls["head"].output
        x += 2 * STEP
        arrow(axes, (x + width(BASE) + 0.03, y), (x + STEP - 0.03, y), color=INK)
        labelled(axes, x + STEP, y, (head[1], head[-1]), VERMILION)
        text(axes, 0.2, 5.58, "image", ha="left", fontsize=NORMAL)
        text(axes, 7.9, 5.4, "label map", ha="right", fontsize=NORMAL)
        legend(axes)


def x_of_decoder(level: int) -> float:
    """Where the decoder's first block of a level stands: above the last of the level below."""
    return 0.2 + 2 * STEP * 5 + 2 * STEP * (3 - level)


def width(channels: int) -> float:
    """Inches: a little for the first channel, 0.24 for 1024."""
    return 0.05 + 0.19 * channels / 1024


def height(size: int) -> float:
    """Inches: 1.2 for the image."""
    return 1.2 * size / 572


def labelled(axes: Axes, x: float, y: float, shape: Shape, color: str) -> None:
    """A block with its channels above and its size below."""
    channels, size = shape
    block(axes, x, y, width(channels), height(size), color)
    middle, half = x + width(channels) / 2, height(size) / 2
    text(axes, middle, y + half + 0.1, str(channels), fontsize=SMALL - 0.5)
    text(axes, middle, y - half - 0.1, f"{size}²", fontsize=SMALL - 0.5)


def row(axes: Axes, x: float, y: float, shapes: list[Shape], color: str) -> float:
    """Blocks joined by convolutions; returns where the last one ends."""
    for k, shape in enumerate(shapes):
        labelled(axes, x + k * STEP, y, shape, SKY if shape[0] == 1 else color)
        if k:
            start = x + (k - 1) * STEP + width(shapes[k - 1][0])
            arrow(axes, (start + 0.03, y), (x + k * STEP - 0.03, y), color=BLUE, mutation_scale=8)
    return x + (len(shapes) - 1) * STEP + width(shapes[-1][0])


def down(axes: Axes, x: float, y: float, shape: Shape, below: float, pooled: Shape) -> None:
    """The arrow of a pooling, between the labels of the two blocks."""
    start, end = y - height(shape[1]) / 2 - 0.2, below + height(pooled[1]) / 2 + 0.19
    middle = x + width(shape[0]) / 2
    arrow(axes, (middle, start), (middle, end), color=VERMILION, lw=2)


def up(axes: Axes, x: float, below: float, coarse: Shape, y: float, joined: Shape) -> None:
    """The arrow of an up-convolution, between the labels of the two blocks."""
    start, end = below + height(coarse[1]) / 2 + 0.2, y - height(joined[1]) / 2 - 0.19
    middle = x + width(joined[0]) / 2
    arrow(axes, (middle, start), (middle, end), color=GREEN, lw=2)


def legend(axes: Axes) -> None:
    """What the arrows stand for."""
    rows = ((BLUE, "3×3 convolution, ReLU"), (VERMILION, "2×2 max-pooling"), (GREEN, "2×2 up-convolution"),
            (GREY, "copy and crop"), (INK, "1×1 convolution"))  # fmt: skip
    for k, (color, words) in enumerate(rows):
        y = 1.3 - 0.25 * k
        arrow(axes, (0.2, y), (0.55, y), color=color, lw=2)
        text(axes, 0.68, y, words, ha="left", fontsize=SMALL)
