"""The numbers of a strided convolution and of an up-convolution, as minidl computes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

import minidl
import minidl.nn.functional as F
from figures.drawing import arrow, canvas, grid, text
from figures.palette import GREEN, GREY, NORMAL, ORANGE, SKY, SMALL, VERMILION, WHITE, tint
from figures.sliding_window import KERNEL, SIGNAL

CELL = 0.4
Row = tuple[np.ndarray, Any]  # numbers and the colours of their cells


def signal(values: np.ndarray) -> minidl.Tensor:
    """The numbers as a batch of one signal with one channel, (1, 1, L)."""
    return minidl.tensor(np.asarray(values, np.float32)).reshape(1, 1, -1)


def draw(folder: Path) -> None:
    """Left upwards: convolution, then every second. Right downwards: zeros in between, then convolution."""
    kernel = signal(KERNEL)
    full = F.conv1d(signal(SIGNAL), kernel, padding=1).flatten().numpy()
    down = F.conv1d(signal(SIGNAL), kernel, padding=1, stride=2).flatten().numpy()
    up = F.conv_transpose1d(signal(down), kernel, padding=1, stride=2).flatten().numpy()
    spread = np.zeros(7)
    spread[::2] = down
    every_second = [WHITE if i % 2 == 0 else "#EEEEEE" for i in range(7)]
    top, middle = (down, tint(GREEN, 0.3)), (full, every_second)
    with canvas(folder, "strided_and_up", 3.55) as axes:
        text(axes, 1.95, 3.35, "strided convolution", fontsize=NORMAL)
        column(axes, 1.95, top, middle, (SIGNAL, tint(SKY, 0.4)), "every second", up=True)
        text(axes, 6.0, 3.35, "up-convolution", fontsize=NORMAL)
        column(axes, 6.0, top, (spread, every_second), (up, tint(VERMILION, 0.3)), "zeros between", up=False)


def column(axes: Axes, middle: float, top: Row, between: Row, bottom: Row, step: str, *, up: bool) -> None:
    """Three rows of numbers and their colours, joined by a step and a convolution, upwards or downwards."""
    for y, (values, colors) in zip((3.05, 1.9, 0.75), (top, between, bottom)):
        grid(axes, middle - len(values) / 2 * CELL, y, values, size=CELL, colors=colors)
    for y, words in ((2.275, step), (1.125, "convolve")):
        ends = [(middle, y - 0.305), (middle, y + 0.305)]
        arrow(axes, *(ends if up else ends[::-1]))
        text(axes, middle - 0.12, y, words, fontsize=SMALL, ha="right")
    taps = {"size": 0.3, "fontsize": SMALL, "colors": tint(ORANGE, 0.4), "edgecolor": GREY}
    grid(axes, middle + 0.15, 1.275, KERNEL if up else KERNEL[::-1], **taps)
    if not up:
        text(axes, middle + 1.1, 1.125, "flipped", fontsize=SMALL, ha="left")
