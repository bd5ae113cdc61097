"""The effective field: pixels in the middle of the field count most, those at its edge hardly at all."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

import minidl
from figures.drawing import outline, page, picture
from figures.field_of_pixel import network
from figures.palette import BLUE, INK, ORANGE, SMALL, tint
from minidl import nn
from minidl.receptive_field import analyze, effective

SIZE, SAMPLES, DEPTH = 96, 12, 10


def stack() -> nn.Module:
    """Ten 3x3 convolutions with ReLU."""
    minidl.manual_seed(0)
    widths = [1, *[8] * DEPTH]
    layers = [[nn.Conv2d(a, b, 3, padding=1), nn.ReLU()] for a, b in pairwise(widths)]
    return nn.Sequential(*[layer for pair in layers for layer in pair])


def draw(folder: Path) -> None:
    """A row per network: the mean derivative of one output as a map, and its profile with a Gaussian."""
    middle, shape, columns = (SIZE // 2, SIZE // 2), (1, 1, SIZE, SIZE), np.arange(SIZE)
    with page(folder, "field_effective", 5.6, layout="constrained") as figure:
        rows = figure.subplots(2, 2, width_ratios=(1, 1.5))
        for (left, right), model, name in zip(rows, (stack(), network()), (f"{DEPTH} convolutions", "U-Net")):
            (first, last), _ = analyze(model, shape).interval(middle)
            size = last - first + 1
            found = effective(model, shape, samples=SAMPLES)
            picture(left, np.sqrt(found.map), name, cmap="cividis")
            outline(left, first - 0.5, last + 0.5, size, size, ORANGE)
            left.set_xlabel("root of the mean |∂output / ∂pixel|", fontsize=SMALL)
            right.axvspan(first, last, color=tint(ORANGE, 0.12))
            for k, edge in enumerate((first, last)):
                right.axvline(edge, color=ORANGE, label=None if k else f"theoretical: {size} pixels")
            right.plot(columns, found.profile(1), color=BLUE, label="share of each column")
            gaussian = f"Gaussian, σ = {found.sigma[1]:.1f} pixels"
            right.plot(columns, found.gaussian(1), "--", color=INK, lw=1.4, label=gaussian)
            top = 1.5 * found.profile(1).max()  # leaves room for the legend
            right.set(xlabel="column (pixels)", xlim=(first - 6, last + 6), ylim=(0, top))
            right.legend(loc="upper right", frameon=True, framealpha=1, edgecolor="none")
