"""Each further convolution sees a little more; with pooling in between, each stage doubles the field."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes

from figures.drawing import inches, page, text
from figures.palette import BLUE, GREY, SMALL, VERMILION, WHITE
from minidl.receptive_field import chain, conv

CONV, POOL = (3, 1), (2, 2)  # kernel, stride
NAMES = {CONV: "conv 3", POOL: "pool 2"}
WIDTH, SPACING, HEIGHT = 24, 0.148, 0.46  # samples of the image; inches between them, and between rows


def field_sizes(layers: list[tuple[int, int]]) -> list[int]:
    """The receptive field in samples after each layer."""
    return [layer.field.size[0] for layer in chain([conv(*layer) for layer in layers]).per_layer()]


def tree(axes: Axes, layers: list[tuple[int, int]], color: str) -> None:
    """Layers in 1-D as rows of dots, the image at the bottom, and all that one top dot depends on."""
    steps = [1]
    for _, stride in layers:
        steps.append(steps[-1] * stride)

    def place(row: int, i: int) -> tuple[float, float]:
        return 0.25 + (i * steps[row] + (steps[row] - 1) / 2) * SPACING, 0.2 + row * HEIGHT

    seen = {WIDTH // steps[-1] // 2}
    for row in range(len(layers), -1, -1):
        count = WIDTH // steps[row]
        filled = [color if i in seen else WHITE for i in range(count)]
        edges = [color if i in seen else GREY for i in range(count)]
        axes.scatter(*zip(*(place(row, i) for i in range(count))), s=26, c=filled, edgecolors=edges, zorder=2)
        if row == 0:
            return
        kernel, stride = layers[row - 1]
        links = [(i, i * stride + k - (kernel - 1) // 2) for i in seen for k in range(kernel)]
        for i, j in links:
            axes.plot(*zip(place(row, i), place(row - 1, j)), color=color, lw=0.9, alpha=0.6, zorder=1)
        text(axes, 3.82, place(row, 0)[1] - HEIGHT / 2, NAMES[layers[row - 1]], fontsize=SMALL, ha="left")
        seen = {j for _, j in links}


def draw(folder: Path) -> None:
    """Left what one output sees, without and with pooling; right the size against depth."""
    with page(folder, "field_growth", 5.15) as figure:
        plain, pooled = [CONV] * 3, [CONV, POOL, CONV, POOL, CONV]
        for y, layers, title, color in (
            (3.0, plain, "three convolutions", BLUE),
            (0.0, pooled, "the same with two poolings", VERMILION),
        ):
            axes = inches(figure, (0, y, 4.5, 3.0))
            tree(axes, layers, color)
            words = f"{title}: {field_sizes(layers)[-1]} samples"
            text(axes, 0.2, 0.5 + len(layers) * HEIGHT, words, ha="left")
        axes = figure.add_axes((0.645, 0.12, 0.335, 0.8))
        depth = range(1, 11)
        stages = [layer for k in depth for layer in ([CONV] if k % 2 else [CONV, POOL])]
        with_pooling = [size for size, layer in zip(field_sizes(stages), stages) if layer == CONV]
        axes.plot(depth, with_pooling, "o-", color=VERMILION, ms=4, label="pooling after\nevery second")
        axes.plot(depth, field_sizes([CONV] * 10), "o-", color=BLUE, ms=4, label="convolutions alone")
        axes.set(xlabel="number of 3-tap convolutions", xticks=range(2, 11, 2), ylim=(0, None))
        axes.set_title("receptive field (samples)", loc="left", fontsize=11)
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left")
