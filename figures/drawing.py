"""What the figures share: pages measured in inches, grids of numbers, boxes, arrows.

A page is 8 inches wide, the width of a column of text, and lettering is at least 9 points high there. Files
are the same bytes every time: no date, and ids that depend on nothing but the drawing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

from figures.palette import BLUE, INK, NORMAL, SMALL, WHITE, tint
from minidl.files import atomic_write

WIDTH = 8.0  # inches

STYLE: Any = {
    "svg.hashsalt": "minidl",
    "font.size": NORMAL,
    "axes.titlesize": NORMAL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.8,
    "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.1,
    "mathtext.fontset": "dejavusans",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


# ---- pages -------------------------------------------------------------------------------------


@contextmanager
def page(folder: Path, name: str, height: float, width: float = WIDTH, **options: Any) -> Iterator[Figure]:
    """An empty figure of that size in inches; at the end of the block it is saved as SVG and PNG."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), **options)
        yield figure
        for suffix, metadata in (("svg", {"Date": None}), ("png", None)):
            with atomic_write(folder / f"{name}.{suffix}") as temporary:
                figure.savefig(temporary, format=suffix, dpi=144, metadata=metadata)


@contextmanager
def canvas(folder: Path, name: str, height: float, width: float = WIDTH) -> Iterator[Axes]:
    """A page to draw on in inches: x to the right, y upwards from the lower left corner."""
    with page(folder, name, height, width) as figure:
        yield inches(figure, (0, 0, width, height))


def inches(figure: Figure, place: Sequence[float]) -> Axes:
    """Axes to draw on in inches at place (x, y, width, height) of the page."""
    x, y, width, height = place
    page_width, page_height = figure.get_size_inches()
    axes = figure.add_axes((x / page_width, y / page_height, width / page_width, height / page_height))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return axes


def picture(axes: Axes, image: np.ndarray, title: str = "", **options: Any) -> None:
    """An image (H, W) or (H, W, 3) with its pixels as they are, grey unless `cmap` says otherwise."""
    axes.imshow(image, **{"cmap": "gray", "interpolation": "nearest", **options})
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title)


# ---- things on a canvas ------------------------------------------------------------------------


def number(value: float) -> str:
    """A number as it is typeset, with a real minus sign."""
    return f"{value:g}".replace("-", "−")


def text(axes: Axes, x: float, y: float, words: str, **options: Any) -> None:
    """Words centred at a point, unless `ha` and `va` say otherwise."""
    axes.text(x, y, words, **{"ha": "center", "va": "center", **options})


def grid(
    axes: Axes,
    x: float,
    y: float,
    values: Any,
    *,
    size: float = 0.36,
    colors: Any = WHITE,
    fontsize: float = NORMAL,
    **options: Any,
) -> None:
    """A row or a matrix of numbers in square cells; (x, y) is its upper left corner.

    `colors` is one colour or one per cell. None as a value leaves its cell without a number.
    """
    values = np.atleast_2d(np.asarray(values, dtype=object))
    colors = np.broadcast_to(np.asarray(colors, dtype=object), values.shape)
    for (i, j), value in np.ndenumerate(values):
        corner = x + j * size, y - (i + 1) * size
        axes.add_patch(
            Rectangle(
                corner, size, size, **{"facecolor": colors[i, j], "edgecolor": INK, "lw": 0.8, **options}
            )
        )
        if value is not None:
            text(axes, corner[0] + size / 2, corner[1] + size / 2 - 0.01, number(value), fontsize=fontsize)


def bracket(axes: Axes, x: float, y: float, columns: float, rows: float, size: float = 0.36) -> None:
    """Square brackets around a matrix whose upper left corner is (x, y)."""
    right, bottom, lip = x + columns * size, y - rows * size, 0.07
    for edge, inward in ((x - 0.05, lip), (right + 0.05, -lip)):
        axes.plot(
            [edge + inward, edge, edge, edge + inward],
            [y + 0.04, y + 0.04, bottom - 0.04, bottom - 0.04],
            color=INK,
            lw=1.3,
        )


def outline(axes: Axes, x: float, y: float, width: float, height: float, color: str = BLUE) -> None:
    """A frame around something already drawn; (x, y) is its upper left corner."""
    axes.add_patch(
        Rectangle((x, y - height), width, height, facecolor="none", edgecolor=color, lw=2.2, zorder=3)
    )


def box(
    axes: Axes, x: float, y: float, width: float, height: float, words: str = "", *, color: str = BLUE,
    fontsize: float = NORMAL, **options: Any,
) -> None:  # fmt: skip
    """A rounded box with words in its middle; (x, y) is its lower left corner."""
    style = {"facecolor": tint(color, 0.18), "edgecolor": color, "lw": 1.4, **options}
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.06", **style))
    text(axes, x + width / 2, y + height / 2, words, fontsize=fontsize)


def block(axes: Axes, x: float, y: float, width: float, height: float, color: str = BLUE) -> None:
    """A feature map from the side: as high as it is large, wider with more channels; y is its middle."""
    axes.add_patch(
        Rectangle((x, y - height / 2), width, height, facecolor=tint(color, 0.45), edgecolor=color, lw=1)
    )


def polygon(axes: Axes, points: Sequence[Sequence[float]], color: str, **options: Any) -> None:
    """A filled area between points."""
    axes.add_patch(Polygon(points, **{"closed": True, "facecolor": color, "edgecolor": "none", **options}))


def arrow(
    axes: Axes, start: Sequence[float], end: Sequence[float], *, color: str = INK, **options: Any
) -> None:
    """An arrow between two points; `connectionstyle` bends it."""
    style = {"arrowstyle": "-|>", "mutation_scale": 11, "lw": 1.4, "shrinkA": 0, "shrinkB": 0, **options}
    axes.add_patch(FancyArrowPatch(tuple(start), tuple(end), color=color, **style))
