"""In 3-D the features of the finest stage fill the memory: 128 times what they need in 2-D."""

from __future__ import annotations

from math import prod
from pathlib import Path

from figures.drawing import page
from figures.palette import BLUE, SMALL, VERMILION
from figures.shapes import trace
from minidl.models import UNet

THIN, BASE = (1, 2, 4, 8, 16), 32  # the features 32, 64, ..., 512 with 1/32 of the channels
SIZE, FLOAT32 = 128, 4  # pixels or voxels along an axis; bytes of a number


def stage_megabytes(dims: int) -> list[float]:
    """The outputs of the two convolutions of each encoder stage of a U-Net, for one image, in MB."""
    calls = trace(UNet(1, 3, THIN, dims=dims, norm=None), 1, 1, *(SIZE,) * dims)
    stages = [call for call in calls if call.name.startswith("encoder.") and call.name.count(".") == 1]
    return [2 * prod(call.output) * BASE * FLOAT32 / 1e6 for call in stages]


def draw(folder: Path) -> None:
    """Bars per encoder stage for one image of 128² and one of 128³."""
    with page(folder, "memory_3d", 3.1, layout="constrained") as figure:
        axes = figure.subplots()
        for shift, dims, color, name in ((-0.2, 2, BLUE, "128² pixels"), (0.2, 3, VERMILION, "128³ voxels")):
            values = stage_megabytes(dims)
            bars = axes.bar([k + shift for k in range(5)], values, 0.38, color=color, label=name)
            axes.bar_label(bars, [f"{value:.3g}" for value in values], fontsize=SMALL, padding=2)
        sizes = [SIZE // 2**k for k in range(5)]
        axes.set_xticks(range(5), [f"{n} per axis\n{BASE * c} channels" for n, c in zip(sizes, THIN)])
        axes.set(yscale="log", ylim=(0.1, 3000))
        axes.set_title("features of a U-Net's encoder for one image (MB)", loc="left")
        axes.legend(loc="upper right")
        axes.grid(axis="y", alpha=0.3)
