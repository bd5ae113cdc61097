"""Two ways to halve an image: the largest of each 2x2 block, or a convolution at every second place."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import minidl
import minidl.nn.functional as F
from figures.drawing import arrow, canvas, grid, outline, text
from figures.palette import GREEN, GREY, NORMAL, ORANGE, PALE, PINK, SKY, SMALL, WHITE, YELLOW, tint

IMAGE = np.array([[1, 3, 2, 1], [0, 4, 1, 0], [2, 1, 0, 5], [1, 0, 3, 2]])
KERNEL = np.array([[0, 1, 0], [1, 2, 1], [0, 1, 0]])
CELL = 0.36


def draw(folder: Path) -> None:
    """Left max-pooling, right a strided convolution with zero padding, on the same 4x4 image."""
    image = minidl.tensor(IMAGE[None, None].astype(np.float32))
    kernel = minidl.tensor(KERNEL[None, None].astype(np.float32))
    pooled = F.max_pool2d(image, 2).numpy()[0, 0]
    strided = F.conv2d(image, kernel, stride=2, padding=1).numpy()[0, 0]
    blocks = np.array([[tint(SKY, 0.5), tint(ORANGE, 0.4)], [tint(GREEN, 0.35), tint(PINK, 0.4)]])
    with canvas(folder, "downsampling", 2.95) as axes:
        text(axes, 1.9, 2.77, "max-pooling 2×2", fontsize=NORMAL)
        grid(axes, 0.45, 2.25, IMAGE, size=CELL, colors=blocks.repeat(2, 0).repeat(2, 1))
        arrow(axes, (2.05, 1.53), (2.6, 1.53))
        grid(axes, 2.75, 2.25 - CELL, pooled, size=CELL, colors=blocks)
        text(axes, 0.45 + 2 * CELL, 0.3, "4×4", fontsize=SMALL)
        text(axes, 2.75 + CELL, 0.3, "2×2", fontsize=SMALL)

        text(axes, 5.9, 2.77, "strided convolution 3×3, stride 2", fontsize=NORMAL)
        left, top = 4.05, 2.25 + CELL
        padded = np.pad(IMAGE, ((1, 0), (1, 0)))
        colors = np.full(padded.shape, WHITE)
        colors[0] = colors[:, 0] = PALE
        grid(axes, left, top, padded, size=CELL, colors=colors, edgecolor=GREY)
        outline(axes, left, top, 3 * CELL, 3 * CELL)
        outline(axes, left + 2 * CELL, top - 2 * CELL, 3 * CELL, 3 * CELL, ORANGE)
        arrow(axes, (6.2, 1.53), (6.75, 1.53))
        text(axes, 6.475, 2.53, "kernel", fontsize=SMALL)
        grid(axes, 6.1, 2.42, KERNEL, size=0.25, fontsize=SMALL, colors=tint(YELLOW, 0.4), edgecolor=GREY)
        grid(axes, 6.95, 2.25 - CELL, strided, size=CELL)
        outline(axes, 6.95, 2.25 - CELL, CELL, CELL)
        outline(axes, 6.95 + CELL, 2.25 - 2 * CELL, CELL, CELL, ORANGE)
        text(axes, left + 2.5 * CELL, 0.3, "4×4, zeros before it", fontsize=SMALL)
        text(axes, 6.95 + CELL, 0.3, "2×2", fontsize=SMALL)
