"""Where kernels of a transposed convolution overlap unevenly, equal weights already make a checkerboard."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import minidl
import minidl.nn.functional as F
from figures.drawing import box, canvas, grid, text
from figures.palette import BLUE, NORMAL, SMALL, WHITE, tint
from minidl.checkerboard import overlap

KERNELS, STRIDE, OUTPUTS, CELL = (2, 3, 4, 5), 2, 8, 0.2


def draw(folder: Path) -> None:
    """A column per kernel: what each input reaches, how often each output is reached, the same in 2-D."""
    with canvas(folder, "checkerboard_overlap", 4.75) as axes:
        for column, kernel in enumerate(KERNELS):
            left = 0.3 + column * 1.95
            counts = reached(kernel, 1)
            plane = reached(kernel, 2)
            even = len(set(overlap(kernel, STRIDE))) == 1
            text(axes, left + 4 * CELL, 4.57, f"kernel {kernel}, stride {STRIDE}", fontsize=NORMAL)
            for i in range(-3, OUTPUTS // STRIDE):  # one bar per input sample, cut at the window shown
                start, end = max(STRIDE * i, 0), min(STRIDE * i + kernel, OUTPUTS)
                if start < end:
                    y = 4.2 - 0.17 * (i % 4)
                    box(axes, left + start * CELL + 0.015, y, (end - start) * CELL - 0.03, 0.11, color=BLUE)
            grid(axes, left, 3.5, counts, size=CELL, colors=shades(counts), fontsize=SMALL)
            words = "even" if even else "uneven, " + " : ".join(map(str, sorted(set(counts), reverse=True)))
            text(axes, left + 4 * CELL, 3.12, words, fontsize=SMALL)
            grid(axes, left, 2.7, plane, size=CELL, colors=shades(plane), fontsize=SMALL, edgecolor=WHITE)
            ratio = " : ".join(map(str, sorted(set(plane.flat), reverse=True)))
            text(axes, left + 4 * CELL, 0.9, "in 2-D: " + (ratio if not even else "even"), fontsize=SMALL)
        text(
            axes,
            4,
            0.43,
            "bars: what one input reaches; numbers: how many inputs reach each output",
            fontsize=SMALL,
        )
        text(axes, 4, 0.23, "the gradient of a strided convolution spreads in the same way", fontsize=SMALL)


def reached(kernel: int, rank: int) -> np.ndarray:
    """How many inputs reach each of some outputs inside: a transposed convolution of ones with ones."""
    up = (F.conv_transpose1d, F.conv_transpose2d)[rank - 1]
    ones = up(minidl.ones(1, 1, *(12,) * rank), minidl.ones(1, 1, *(kernel,) * rank), stride=STRIDE)
    return ones.numpy()[(0, 0, *(slice(8, 8 + OUTPUTS),) * rank)].astype(int)


def shades(counts: np.ndarray) -> np.ndarray:
    """A colour per count, the darker the more."""
    return np.vectorize(lambda share: tint(BLUE, 0.5 * share**1.5))(counts / counts.max())
