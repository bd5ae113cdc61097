"""Without padding seven samples become five; with a zero at either end they stay seven."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figures.drawing import canvas, grid, number, text
from figures.palette import GREY, NORMAL, ORANGE, PALE, SKY, SMALL, WHITE, tint
from figures.sliding_window import KERNEL, SIGNAL

CELL = 0.38
WEIGHT = {"boxstyle": "round,pad=0.2", "facecolor": tint(ORANGE, 0.4), "edgecolor": "none"}


def draw(folder: Path) -> None:
    """Left without, right with zero padding; the input above, the output below."""
    with canvas(folder, "zero_padding", 2.25) as axes:
        for left, pad, title in (
            (0.35, 0, "no padding: 7 − 3 + 1 = 5"),
            (4.25, 1, "zero padding: 7 + 2 − 3 + 1 = 7"),
        ):
            middle = left + 4.5 * CELL
            padded = np.pad(SIGNAL, pad)
            outputs = np.correlate(padded, KERNEL)
            start = middle - len(padded) / 2 * CELL
            text(axes, middle, 2.05, title, fontsize=NORMAL)
            grid(axes, middle - 3.5 * CELL, 1.65, SIGNAL, size=CELL, colors=WHITE)
            for x in (start, start + (len(padded) - 1) * CELL) if pad else ():
                grid(axes, x, 1.65, 0, size=CELL, colors=PALE, linestyle="--", edgecolor=GREY)
            first = middle - len(outputs) / 2 * CELL
            for k in range(3):  # the first output, what it has seen and with which weight
                ends = start + (k + 0.5) * CELL, first + 0.5 * CELL
                axes.plot(ends, [1.27, 0.52], color=GREY, lw=1.2, zorder=0)
                at = ends[0] + 0.45 * (ends[1] - ends[0])
                text(axes, at, 0.93, number(KERNEL[k]), fontsize=SMALL, bbox=WEIGHT)
            colors = [tint(SKY, 0.5), *[WHITE] * (len(outputs) - 1)]
            grid(axes, first, 0.52, outputs, size=CELL, colors=colors)
