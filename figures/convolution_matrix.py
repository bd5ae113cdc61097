"""A convolution is a matrix product: every row of A holds the kernel, one step further on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figures.drawing import bracket, canvas, grid, outline, text
from figures.palette import GREY, LARGE, ORANGE, PALE, SKY, SMALL, WHITE, tint
from figures.sliding_window import KERNEL, SIGNAL

CELL = 0.36


def matrix(stride: int = 1) -> np.ndarray:
    """The matrix of the convolution with zero padding, from what it makes of the unit vectors."""
    columns = [np.correlate(np.pad(unit, 1), KERNEL)[::stride] for unit in np.eye(7, dtype=int)]
    return np.stack(columns, axis=1)


def matrix_cells(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is written in the cells of a convolution's matrix and their colours: zeros stay empty."""
    shown = np.where(values == 0, None, values)
    return shown, np.where(values == 0, PALE, tint(ORANGE, 0.4))


def draw(folder: Path) -> None:
    """y = A x + b with all numbers; one row and its output are marked."""
    A = matrix()
    shown, colors = matrix_cells(A)
    top, row = 3.05, 2
    with canvas(folder, "convolution_matrix", 3.45) as axes:
        places = {"y": 0.85, "A": 2.25, "x": 5.45, "b": 6.7}
        outputs = [tint(SKY, 0.5) if i == row else WHITE for i in range(7)]
        seen = [tint(SKY, 0.5) if A[row, j] else WHITE for j in range(7)]
        grid(axes, places["y"], top, (A @ SIGNAL)[:, None], colors=np.array(outputs)[:, None], size=CELL)
        grid(axes, places["A"], top, shown, colors=colors, size=CELL, edgecolor=GREY)
        grid(axes, places["x"], top, SIGNAL[:, None], colors=np.array(seen)[:, None], size=CELL)
        grid(axes, places["b"], top, np.zeros((7, 1), int), size=CELL)
        outline(axes, places["A"], top - row * CELL, 7 * CELL, CELL)
        for name, columns in (("y", 1), ("A", 7), ("x", 1), ("b", 1)):
            bracket(axes, places[name], top, columns, 7, CELL)
            text(axes, places[name] + columns * CELL / 2, top + 0.2, f"${name}$", fontsize=LARGE)
        middle = top - 3.5 * CELL
        for x, sign in ((1.73, "="), (5.12, "·"), (6.25, "+")):
            text(axes, x, middle, sign, fontsize=LARGE + 3)
        text(axes, 4, 0.22, "empty cells are 0: an output depends on three neighbours alone", fontsize=SMALL)
