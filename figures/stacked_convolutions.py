"""One 3x3 convolution sees 3x3 pixels; two of them, one on the other, see 5x5."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes

from figures.drawing import canvas, polygon, text
from figures.palette import NORMAL, ORANGE, SKY, SMALL, VERMILION, WHITE, tint

CELL, SLANT, DEPTH = 0.34, 0.17, 0.2  # a cell's width; how far a row further back is to the right, and up


def corner(middle: float, y: float, size: int, column: float, row: float) -> tuple[float, float]:
    """The corner (column, row) of a tilted plane of size² cells, the plane's centre at (middle, y)."""
    across, back = column - size / 2, row - size / 2
    return middle + across * CELL + back * SLANT, y + back * DEPTH


def plane(axes: Axes, middle: float, y: float, size: int, marked: int, color: str) -> None:
    """A tilted plane of size² cells; those within the `marked`² in its centre are coloured."""
    for row in reversed(range(size)):
        for column in range(size):
            inside = all(abs(i - (size - 1) / 2) < marked / 2 for i in (row, column))
            points = [
                corner(middle, y, size, column + a, row + b) for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))
            ]
            polygon(axes, points, color if inside else WHITE, edgecolor="#777777", lw=0.7, zorder=y_order(y))


def y_order(y: float) -> float:
    """Planes further up cover what is below."""
    return 2 + y


def cone(axes: Axes, middle: float, upper: float, above: int, lower: float, below: int) -> None:
    """Lines from the corners of the `above`² cells of one plane to the `below`² cells of the next."""
    for a, b in ((0, 0), (1, 0), (1, 1), (0, 1)):
        ends = [corner(middle, y, n, a * n, b * n) for y, n in ((upper, above), (lower, below))]
        axes.plot(*zip(*ends), color="#777777", lw=0.9, ls=(0, (4, 2)), zorder=y_order(lower) + 0.5)


def draw(folder: Path) -> None:
    """Left one layer, right two; the planes are the image and the outputs of the layers."""
    top, first, image = 3.35, 2.15, 0.85
    colors = {1: tint(VERMILION, 0.75), 3: tint(ORANGE, 0.55), 5: tint(SKY, 0.6)}
    with canvas(folder, "stacked_convolutions", 4.2) as axes:
        for middle, title, planes in (
            (2.0, "one 3×3 convolution", [(first, 3, 1), (image, 7, 3)]),
            (5.35, "two 3×3 convolutions", [(top, 3, 1), (first, 5, 3), (image, 7, 5)]),
        ):
            text(axes, middle, 4.0, title, fontsize=NORMAL)
            for (upper, _, seen), (lower, _, sees) in pairwise(planes):
                cone(axes, middle, upper, seen, lower, sees)
            for y, size, marked in planes:
                plane(axes, middle, y, size, marked, colors[marked])
        for y, words in (
            (top, "after layer 2:\n1 position"),
            (first, "after layer 1:\n3×3 of them"),
            (image, "image:\n5×5 pixels"),
        ):
            text(axes, 7.2, y, words, fontsize=SMALL)
