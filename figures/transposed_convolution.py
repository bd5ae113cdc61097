"""The transposed matrix maps 4 samples back to 7; the same by zeros in between and the flipped kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from figures.convolution_matrix import matrix, matrix_cells
from figures.drawing import arrow, bracket, canvas, grid, text
from figures.palette import GREEN, GREY, LARGE, NORMAL, ORANGE, PALE, SKY, SMALL, VERMILION, tint
from figures.sliding_window import KERNEL, SIGNAL

CELL = 0.32
COLORS = {"$x$": tint(SKY, 0.4), "$y$": tint(GREEN, 0.3), "$u$": tint(VERMILION, 0.3)}


def product(
    axes: Axes, x: float, top: float, A: np.ndarray, vector: np.ndarray, names: tuple[str, str, str]
) -> None:
    """names[0] = names[1] · names[2] as columns and a matrix, from x to the right."""
    shown, colors = matrix_cells(A)
    middle = top - max(A.shape) * CELL / 2
    parts = [
        ((A @ vector)[:, None], COLORS[names[0]]),
        (shown, colors),
        (vector[:, None], COLORS[names[2]]),
    ]
    for name, (values, color), sign in zip(names, parts, ("=", "·", "")):
        rows, columns = values.shape
        first = middle + rows * CELL / 2
        grid(axes, x, first, values, size=CELL, colors=color, fontsize=10, edgecolor=GREY)
        bracket(axes, x, first, columns, rows, CELL)
        text(axes, x + columns * CELL / 2, first + 0.19, name, fontsize=NORMAL)
        x += columns * CELL + 0.22
        text(axes, x, middle, sign, fontsize=LARGE + 2)
        x += 0.2


def draw(folder: Path) -> None:
    """Above: the strided convolution as a matrix and its transpose. Below: zero insertion."""
    A = matrix(stride=2)
    down = A @ SIGNAL
    up = A.T @ down
    zeros = np.zeros(7, int)
    zeros[::2] = down
    with canvas(folder, "transposed_convolution", 5.35) as axes:
        text(axes, 1.95, 5.15, "down: strided convolution", fontsize=NORMAL)
        product(axes, 0.2, 4.65, A, SIGNAL, ("$y$", "$A$", "$x$"))
        text(axes, 6.05, 5.15, "up: transposed convolution", fontsize=NORMAL)
        product(axes, 4.7, 4.65, A.T, down, ("$u$", "$A^{T}$", "$y$"))
        axes.plot([0.2, 7.8], [2.1, 2.1], color=GREY, lw=0.8)

        left, size = 2.75, 0.36
        for label, y, values, colors in (
            ("$y$ with zeros in between", 1.65, zeros,
             [COLORS["$y$"] if i % 2 == 0 else PALE for i in range(7)]),
            ("$u$: the same numbers", 0.7, up, COLORS["$u$"]),
        ):  # fmt: skip
            text(axes, left - 0.15, y - size / 2, label, ha="right", fontsize=SMALL + 0.5)
            grid(axes, left, y, values, size=size, colors=colors)
        arrow(axes, (left + 3.5 * size, 1.25), (left + 3.5 * size, 0.74))
        taps = {"size": size * 0.9, "colors": tint(ORANGE, 0.4), "fontsize": 10}
        grid(axes, left + 3.9 * size, 1.17, KERNEL[::-1], **taps)
        text(axes, left + 6.9 * size, 1.0, "kernel flipped, zero padding", fontsize=SMALL, ha="left")
