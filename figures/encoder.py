"""The encoder halves the image again and again: fewer positions, more channels, a larger field for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from figures.drawing import arrow, block, inches, page, picture, text
from figures.palette import BLUE, INK, NORMAL, SMALL, VERMILION
from figures.shapes import Call, trace
from minidl.data import phantom_case
from minidl.models import EncoderDecoder

SIZE, CASE, TALL = 128, 3, 1.7  # pixels, which phantom, inches of the full size


def stages(part: str) -> list[Call]:
    """The calls of the stages of an encoder-decoder for 2-D images, in order."""
    calls = trace(EncoderDecoder(1, 3), 1, 1, SIZE, SIZE)
    return [call for call in calls if call.name.split(".")[0] == part and call.name.count(".") == 1]


def phantom() -> tuple[np.ndarray, np.ndarray]:
    """The image and label map that stand at either end."""
    return phantom_case("train", CASE, (SIZE, SIZE))


def chain(figure: Figure, calls: list[Call], left: float, color: str, arrows: str) -> float:
    """Blocks from left to right with sizes below and channels above; returns where the last one ends."""
    width, height = figure.get_size_inches()
    axes = inches(figure, (0, 0, width, height))
    x, middle = left, height / 2
    for k, call in enumerate(calls):
        channels, size = call.output[1], call.output[-1]
        wide, tall = 0.06 + 0.4 * channels / 512, TALL * size / SIZE
        arrow(axes, (x + 0.06, middle), (x + 0.5, middle), color=arrows if k else INK, lw=2)
        x += 0.56
        block(axes, x, middle, wide, tall, color)
        text(axes, x + wide / 2, middle + tall / 2 + 0.13, str(channels), fontsize=SMALL)
        text(axes, x + wide / 2, middle - tall / 2 - 0.13, f"{size}×{size}", fontsize=SMALL)
        x += wide
    return x


def draw(folder: Path) -> None:
    """A phantom, and the features after each stage as blocks."""
    with page(folder, "encoder", 2.6) as figure:
        image = figure.add_axes((0.02, 0.173, 1.7 / 8, 1.7 / 2.6))
        picture(image, phantom()[0], vmin=0, vmax=1)
        end = chain(figure, stages("encoder"), 0.16 + 1.7, BLUE, VERMILION)
        axes = figure.axes[-1]
        text(axes, end + 0.15, 1.3, "features:\nwhat is there,\nno longer where", ha="left", fontsize=NORMAL)
        arrow(axes, (4.5, 0.22), (4.85, 0.22), color=VERMILION, lw=2)
        text(axes, 4.95, 0.22, "strided convolution", ha="left", fontsize=SMALL)
