"""phantoms.png: what the generated images look like, and why no threshold finds the lesions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from minidl.data import CLASSES, phantom_case
from minidl.plot import class_colors, label_overlay

COLUMNS = 5


def draw(folder: Path) -> None:
    """Three rows: phantoms, the same ones labelled, and phantoms of the shifted test split."""
    figure = Figure(figsize=(11, 7.2), layout="constrained")
    axes = figure.subplots(3, COLUMNS)
    for k in range(COLUMNS):
        image, label = phantom_case("train", k, (128, 128))
        shifted, _ = phantom_case("shifted", k, (128, 128))
        pictures = (image, label_overlay(image, label, len(CLASSES)), shifted)
        for axis, picture in zip(axes[:, k], pictures):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=np.percentile(picture, 99.8))
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, text in zip(axes[:, 0], ("image", "label", "shifted split")):
        axis.set_ylabel(text, fontsize=13)
    colors = class_colors(len(CLASSES))
    handles = [axes[1, 0].scatter([], [], s=140, marker="s", color=colors[c]) for c in (1, 2)]
    figure.legend(handles, CLASSES[1:], loc="outside lower center", ncols=2, fontsize=13, frameon=False)
    figure.savefig(folder / "phantoms.png", dpi=110)
