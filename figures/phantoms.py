"""Generated phantoms, their labels, and those of the shifted test split: no grey value belongs to a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figures.drawing import page, picture
from figures.palette import SMALL
from minidl.data import CLASSES, phantom_case
from minidl.plot import class_colors, label_overlay

COLUMNS, SIZE = 4, 88


def draw(folder: Path) -> None:
    """Three rows: phantoms, the same ones labelled, and phantoms of the shifted test split."""
    with page(folder, "phantoms", 6.05, layout="constrained") as figure:
        axes = figure.subplots(3, COLUMNS)
        for k in range(COLUMNS):
            image, label = phantom_case("train", k, (SIZE, SIZE))
            shifted, _ = phantom_case("shifted", k, (SIZE, SIZE))
            shown = (image, label_overlay(image, label, len(CLASSES)), shifted)
            for axis, pixels in zip(axes[:, k], shown):
                picture(axis, pixels, vmin=0, vmax=np.percentile(pixels, 99.8))
        for axis, words in zip(axes[:, 0], ("image", "label", "shifted split")):
            axis.set_ylabel(words)
        colors = class_colors(len(CLASSES))
        handles = [axes[1, 0].scatter([], [], s=110, marker="s", color=color) for color in colors[1:]]
        figure.legend(handles, CLASSES[1:], loc="outside lower center", ncols=2, fontsize=SMALL + 1)
