"""Down by 8 and up again: large things survive, the exact edge of the lesion does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import minidl
import minidl.nn.functional as F
from figures.drawing import outline, page, picture
from figures.palette import VERMILION
from minidl.data import phantom_case

CASE, SIZE, WINDOW = 3, 128, 48


def draw(folder: Path) -> None:
    """A phantom, the same after average pooling by 8 and interpolation, and both close to a lesion's edge."""
    image, label = phantom_case("train", CASE, (SIZE, SIZE))
    tensor = minidl.tensor(image[None, None])
    coarse = F.interpolate(F.avg_pool2d(tensor, 8), scale_factor=8, mode="bilinear").numpy()[0, 0]
    rows, columns = np.nonzero(label == 2)
    corner = [int(np.clip(np.mean(i) - WINDOW / 2, 0, SIZE - WINDOW)) for i in (rows, columns)]
    window = tuple(slice(c, c + WINDOW) for c in corner)
    scale = {"vmin": 0, "vmax": np.percentile(image, 99.8)}
    with page(folder, "lost_detail", 2.3, layout="constrained") as figure:
        axes = figure.subplots(1, 4)
        titles = ("image, 128×128", "through 16×16", "where is the edge?", "the edge")
        for k, (axis, title) in enumerate(zip(axes, titles)):
            shown = (image, coarse, coarse[window], image[window])[k]
            picture(axis, shown, title, **scale)
            if k < 2:
                outline(axis, corner[1] - 0.5, corner[0] - 0.5 + WINDOW, WINDOW, WINDOW, VERMILION)
        axes[3].contour(label[window] == 2, levels=[0.5], colors=VERMILION, linewidths=1.6)
