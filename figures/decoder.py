"""The decoder doubles the size again and again, from few positions of many channels to a label per pixel."""

from __future__ import annotations

from pathlib import Path

from figures.drawing import arrow, page, picture, text
from figures.encoder import chain, phantom, stages
from figures.palette import BLUE, GREEN, INK, NORMAL, SMALL
from minidl.data import CLASSES
from minidl.plot import label_overlay


def draw(folder: Path) -> None:
    """The features after each stage as blocks, and the label map they end in."""
    image, label = phantom()
    with page(folder, "decoder", 2.6) as figure:
        bottleneck = stages("encoder")[-1]
        end = chain(figure, [bottleneck, *stages("decoder")], 1.2, BLUE, GREEN)
        axes = figure.axes[-1]
        text(axes, 0.2, 1.3, "features of\nthe encoder", ha="left", fontsize=NORMAL)
        arrow(axes, (end + 0.06, 1.3), (end + 0.5, 1.3), color=INK, lw=2)
        arrow(axes, (1.5, 0.22), (1.85, 0.22), color=GREEN, lw=2)
        text(axes, 1.95, 0.22, "transposed strided convolution", ha="left", fontsize=SMALL)
        result = figure.add_axes(((end + 0.56) / 8, 0.173, 1.7 / 8, 1.7 / 2.6))
        picture(result, label_overlay(image, label, len(CLASSES)))
