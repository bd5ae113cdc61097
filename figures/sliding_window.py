"""A kernel of three numbers slides over seven samples: each place gives one output, a weighted sum."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figures.drawing import arrow, canvas, grid, number, text
from figures.palette import ORANGE, PALE, SKY, SMALL, WHITE, tint

SIGNAL, KERNEL = np.array([1, 3, 2, 1, 0, 0, 1]), np.array([-1, 2, 1])
CELL, GAP = 0.34, 0.2
SEEN, WEIGHT, EMPTY = tint(SKY, 0.5), tint(ORANGE, 0.4), PALE


def draw(folder: Path) -> None:
    """Three places of the window side by side, each with its sum written out."""
    outputs = np.correlate(SIGNAL, KERNEL)
    with canvas(folder, "sliding_window", 2.8) as axes:
        for step in range(3):
            left = 0.23 + step * (7 * CELL + GAP)
            start, window = left + step * CELL, slice(step, step + 3)
            seen = [SEEN if step <= i < step + 3 else WHITE for i in range(7)]
            grid(axes, left, 2.5, SIGNAL, size=CELL, colors=seen)
            for k in range(3):
                text(axes, start + (k + 0.5) * CELL, 2.04, "×", fontsize=SMALL)
            grid(axes, start, 1.92, KERNEL, size=CELL, colors=WEIGHT)
            terms = " + ".join(f"{a}·{signed(w)}" for a, w in zip(SIGNAL[window], KERNEL))
            text(axes, left + 3.5 * CELL, 1.3, f"{terms} = {number(outputs[step])}", fontsize=SMALL)
            middle = start + 1.5 * CELL
            arrow(axes, (middle, 1.14), (middle, 0.84))
            done = [outputs[i] if i <= step else None for i in range(5)]
            colors = [SEEN if i == step else WHITE if i < step else EMPTY for i in range(5)]
            grid(axes, left + CELL, 0.78, done, size=CELL, colors=colors)
            text(axes, left + 3.5 * CELL, 0.24, f"output {step + 1} of 5", fontsize=SMALL)
        text(axes, 0.23, 2.65, "input x", fontsize=SMALL, ha="left")
        text(axes, 0.3 + 3 * CELL, 1.75, "kernel w", fontsize=SMALL, ha="left")


def signed(value: float) -> str:
    """The number as a factor: brackets around what has a minus sign."""
    return f"({number(value)})" if value < 0 else number(value)
