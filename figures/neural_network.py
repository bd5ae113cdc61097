"""A neural network is a chain of layers: an affine map A x + b, then a nonlinear function of each number."""

from __future__ import annotations

from pathlib import Path

from figures.drawing import arrow, box, canvas, polygon, text
from figures.palette import BLUE, GREEN, GREY, LARGE, NORMAL, ORANGE, SMALL, tint


def draw(folder: Path) -> None:
    """Above the chain of functions, below one of its layers and one of that layer's neurons."""
    with canvas(folder, "neural_network", 4.3) as axes:
        places = {"$f_1$": 1.35, "$f_2$": 2.95, "$f_n$": 5.75}
        text(axes, 0.6, 3.45, "$x$", fontsize=LARGE)
        text(axes, 0.6, 2.98, "image", fontsize=SMALL)
        for name, x in places.items():
            box(axes, x, 3.1, 0.9, 0.7, name, fontsize=LARGE + 2)
            text(axes, x + 0.45, 4.12, name.replace("f", "W"), fontsize=LARGE)
            arrow(axes, (x + 0.45, 3.99), (x + 0.45, 3.83), color=ORANGE)
        for start, end in ((0.8, 1.31), (2.28, 2.91), (3.88, 4.45), (5.15, 5.71), (6.68, 7.2)):
            arrow(axes, (start, 3.45), (end, 3.45))
        text(axes, 4.8, 3.45, "···", fontsize=LARGE)
        text(axes, 7.45, 3.45, r"$\hat{y}$", fontsize=LARGE)
        text(axes, 7.45, 2.98, "label map", fontsize=SMALL)

        polygon(axes, [(2.95, 3.07), (3.85, 3.07), (4.85, 2.25), (0.25, 2.25)], tint(BLUE, 0.1))
        box(axes, 0.25, 0.3, 4.6, 1.95, color=BLUE, facecolor=tint(BLUE, 0.06), lw=1)
        text(axes, 2.55, 1.97, r"one layer: $f_k(x) = \varphi(A_k x + b_k)$", fontsize=NORMAL)
        steps = (
            (0.75, "$A_k\\,x$", "linear"),
            (2.05, "$+\\; b_k$", "constant"),
            (3.35, r"$\varphi$", "nonlinear"),
        )
        for x, words, kind in steps:
            box(
                axes,
                x,
                0.85,
                0.85,
                0.65,
                words,
                color=GREEN if kind == "nonlinear" else ORANGE,
                fontsize=LARGE,
            )
            text(axes, x + 0.42, 0.58, kind, fontsize=SMALL)
        for start, end in ((0.35, 0.72), (1.63, 2.02), (2.93, 3.32), (4.23, 4.7)):
            arrow(axes, (start, 1.175), (end, 1.175))

        text(axes, 6.45, 2.05, "one neuron: a row of $A$", fontsize=NORMAL)
        for k, y in enumerate((1.7, 1.175, 0.65)):
            text(axes, 5.25, y, f"$x_{k + 1}$", fontsize=LARGE)
            arrow(axes, (5.42, y), (6.28, 1.175 + 0.1 * (1 - k)), color=GREY)
            text(axes, 5.78, (y + 1.175) / 2 + (0.2, 0.12, -0.2)[k], f"$a_{k + 1}$", fontsize=NORMAL)
        box(axes, 6.3, 0.9, 0.55, 0.55, r"$\Sigma$", color=ORANGE, fontsize=LARGE)
        text(axes, 6.575, 0.38, "$b$", fontsize=NORMAL)
        arrow(axes, (6.575, 0.52), (6.575, 0.87), color=GREY)
        box(axes, 7.1, 0.9, 0.5, 0.55, r"$\varphi$", color=GREEN, fontsize=LARGE)
        arrow(axes, (6.87, 1.175), (7.08, 1.175))
        arrow(axes, (7.62, 1.175), (7.92, 1.175))
