"""Seven samples halve to four, and four double to eight: an odd size does not come back by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figures.drawing import arrow, canvas, grid, text
from figures.palette import GREEN, GREY, NORMAL, PALE, SKY, SMALL, VERMILION, tint

CELL = 0.34


def draw(folder: Path) -> None:
    """The mismatch at the skip connection, and three ways to mend it."""
    blank = lambda n: np.full(n, None)
    with canvas(folder, "odd_sizes", 3.35) as axes:
        grid(axes, 0.3, 3.0, blank(7), size=CELL, colors=tint(SKY, 0.5))
        text(axes, 0.3 + 3.5 * CELL, 3.17, "encoder: 7", fontsize=SMALL)
        arrow(axes, (1.5, 2.58), (1.5, 2.05))
        text(axes, 1.62, 2.32, "halve", fontsize=SMALL, ha="left")
        grid(axes, 0.3 + 1.5 * CELL, 2.0, blank(4), size=CELL, colors=tint(GREEN, 0.4))
        text(axes, 0.2 + 1.5 * CELL, 2.0 - CELL / 2, "4", fontsize=SMALL, ha="right")
        arrow(axes, (1.5, 1.58), (1.5, 1.05))
        text(axes, 1.62, 1.32, "double", fontsize=SMALL, ha="left")
        colors = [tint(VERMILION, 0.35)] * 8
        grid(axes, 0.3, 1.0, blank(8), size=CELL, colors=colors)
        text(axes, 0.3 + 4 * CELL, 0.42, "decoder: 8 ≠ 7", fontsize=SMALL)

        text(axes, 4.4, 3.17, "three ways to mend it:", fontsize=SMALL, ha="left")
        rows = (
            (2.6, "cut the last off", [tint(VERMILION, 0.35)] * 7 + [PALE]),
            (1.75, "interpolate to 7 instead of 8", [tint(VERMILION, 0.35)] * 7),
            (0.9, "pad the image to 8 first, cut at the end", [tint(SKY, 0.5)] * 7 + [PALE]),
        )
        for y, words, colors in rows:
            text(axes, 4.4, y + 0.2, words, fontsize=NORMAL, ha="left")
            grid(axes, 4.4, y, blank(len(colors)), size=CELL, colors=colors)
            for k in np.flatnonzero(np.array(colors) == PALE):
                grid(
                    axes, 4.4 + k * CELL, y, blank(1), size=CELL, colors=PALE, edgecolor=GREY, linestyle="--"
                )
