"""ReLU sets what is negative to 0; the leaky ReLU keeps a small share a of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import minidl
import minidl.nn.functional as F
from figures.drawing import page
from figures.palette import BLUE, GREY, VERMILION


def draw(folder: Path) -> None:
    """Both functions on one pair of axes each; below zero they differ."""
    x = np.linspace(-3, 3, 121, dtype=np.float32)
    functions = (
        (r"ReLU: $\varphi(x) = \max(x, 0)$", BLUE, F.relu),
        (r"leaky ReLU: $\varphi_a(x) = \max(x, a x)$, $a = 0.1$", VERMILION, lambda t: F.leaky_relu(t, 0.1)),
    )
    with page(folder, "activations", 2.9, layout="constrained") as figure:
        for axes, (title, color, function) in zip(figure.subplots(1, 2, sharey=True), functions):
            axes.axhline(0, color=GREY, lw=0.8)
            axes.axvline(0, color=GREY, lw=0.8)
            axes.plot(x, function(minidl.tensor(x)).numpy(), color=color, lw=2.4)
            axes.set(
                title=title, xlabel="$x$", xticks=range(-3, 4), xlim=(-3, 3), ylim=(-0.8, 3), aspect="equal"
            )
        figure.axes[0].set_ylabel(r"$\varphi(x)$")
