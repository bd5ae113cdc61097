"""Pictures of receptive fields: on an image, layer by layer, sample by sample, and as derivatives weigh them.

Every function returns a matplotlib figure, which a notebook shows; with `path` it is also saved as a PNG.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minidl import backend
from minidl.autograd import Tensor
from minidl.files import atomic_write
from minidl.plot import INK, OKABE_ITO, STYLE
from minidl.receptive_field.chain import ChainLayer, chain
from minidl.receptive_field.effective import EffectiveField
from minidl.receptive_field.field import ReceptiveField

BLUE, ORANGE, SKY, VERMILION = OKABE_ITO[0], OKABE_ITO[1], OKABE_ITO[2], OKABE_ITO[6]
PATH = str | os.PathLike[str] | None
Position = int | Sequence[int]


# ---- on an image -----------------------------------------------------------------------------------


def on_image(
    field: ReceptiveField, image: Any, position: Position | None = None, path: PATH = None
) -> Figure:
    """What one position of the output sees of an image (*S) or (C, *S): the rest is darkened.

    The position, by default the middle, is marked where it lies. A volume shows the plane
    through the middle of the field.
    """
    with page(5.4, 5.2, path) as figure:
        draw_field(figure.subplots(), field, image, position)
    return figure


def compare(
    fields: Mapping[str, ReceptiveField], image: Any, position: Position | None = None, path: PATH = None
) -> Figure:
    """What the same position sees through several networks, side by side: a small against a large field."""
    with page(4.2 * len(fields), 4.1, path) as figure:
        for axes, (name, field) in zip(
            np.atleast_1d(figure.subplots(1, len(fields))), fields.items(), strict=True
        ):
            draw_field(axes, field, image, position, name)
    return figure


def growth(
    field: ReceptiveField, image: Any, point: Sequence[float] | None = None, path: PATH = None
) -> Figure:
    """What the units above one point of the image see, layer by layer: boxes that grow with depth.

    Of each layer the unit nearest to the point (row, column; by default the middle) is taken. Layers with a
    field of a size that was there before are left out.
    """
    rows = {layer.field.size: layer for layer in reversed(field.layers)}
    layers = sorted(rows.values(), key=lambda layer: layer.field.size)
    at = [n / 2 for n in field.input_size or ()] if point is None else point
    with page(8.4, 5.2, path) as figure:
        axes = figure.subplots()
        _show(axes, _plane_of(image, field.rank))
        for i, layer in enumerate(layers):
            region = layer.field.region(nearest(layer.field, at))
            color = colormaps["plasma"](i / max(len(layers) - 1, 1))
            label = f"{_by(layer.field.size)}   {layer.name}"
            axes.add_patch(Rectangle(**_box(region), fill=False, ec=color, lw=2, label=label))
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), title="field in samples, first layer",
                    fontsize=10)  # fmt: skip
    return figure


def _box(region: Sequence[slice]) -> dict[str, Any]:
    """A region of the image, whose last two axes are shown, as matplotlib wants it."""
    rows, columns = (slice(0, 1), *region)[-2:]
    return dict(
        xy=(columns.start - 0.5, rows.start - 0.5),
        width=columns.stop - columns.start,
        height=rows.stop - rows.start,
    )


def draw_field(
    axes: Any, field: ReceptiveField, image: Any, position: Position | None, title: str = ""
) -> None:
    """`on_image` into axes of a larger figure."""
    at = _middle(field) if position is None else position
    plane = _plane_of(image, field.rank)
    region = field.region(at)
    _show(axes, plane)
    shade = np.zeros((*plane.shape, 4))
    shade[..., 3] = 0.55
    rows, columns = (slice(0, 1), *region)[-2:]
    shade[rows, columns, 3] = 0
    axes.imshow(shade, interpolation="nearest", aspect="auto" if field.rank == 1 else "equal")
    axes.add_patch(Rectangle(**_box(region), fill=False, ec=SKY, lw=2.2))
    y, x = (0.0, *place(field, at))[-2:]
    axes.plot(x, y, marker="o", ms=6.5, mfc=VERMILION, mec="white", mew=1.2)
    size = _by([part.stop - part.start for part in region])
    axes.set_title(f"{title}: {size} samples" if title else f"position {_tuple(at)} sees {size} samples")


def _steps(field: ReceptiveField) -> Iterator[tuple[int, int, float]]:
    """Per axis the samples of the image, the positions of the output, and the samples between two."""
    for n, count, stride in zip(field.input_size or (), field.positions or (), field.stride):
        yield n, count, n / count if stride is None else float(stride)


def place(field: ReceptiveField, position: Position) -> list[float]:
    """Where a position of the output lies in the image, in samples: their middles lie over each other."""
    at = [position] if isinstance(position, int) else position
    return [step * (u + 0.5 - count / 2) + n / 2 - 0.5 for u, (n, count, step) in zip(at, _steps(field))]


def nearest(field: ReceptiveField, point: Sequence[float]) -> list[int]:
    """The position of the output that lies nearest to a point of the image."""
    found = (
        round((x + 0.5 - n / 2) / step + count / 2 - 0.5) for x, (n, count, step) in zip(point, _steps(field))
    )
    return [min(max(u, 0), count - 1) for u, count in zip(found, field.positions or ())]


def _middle(field: ReceptiveField) -> tuple[int, ...]:
    return tuple(n // 2 for n in field.positions or ())


def _plane_of(image: Any, rank: int) -> np.ndarray:
    """A picture (H, W): the first sample and channel; of a volume the middle plane, of a signal one row."""
    array = backend.to_numpy(image.array) if isinstance(image, Tensor) else np.asarray(image)
    if array.ndim < rank:
        raise ValueError(f"plot: an image of shape {array.shape} has fewer than {rank} axes")
    while array.ndim > rank:
        array = array[0]
    return array[None] if rank == 1 else array[array.shape[0] // 2] if rank == 3 else array


def _show(axes: Any, plane: np.ndarray) -> None:
    low, high = np.percentile(plane, (1, 99))
    flat = plane.shape[0] == 1
    axes.imshow(plane, cmap="gray", vmin=low, vmax=max(high, low + 1e-12), interpolation="nearest",
                aspect="auto" if flat else "equal")  # fmt: skip
    axes.grid(False)
    axes.set_xlabel("samples" if flat else "column")
    if flat:
        axes.set_yticks([])
    else:
        axes.set_ylabel("row")


# ---- sample by sample ------------------------------------------------------------------------------


def diagram(
    layers: Sequence[ChainLayer], positions: int = 5, chosen: int | None = None, path: PATH = None
) -> Figure:
    """Which samples reach which, in one dimension: a row of dots for the input and for each layer above it.

    `positions` dots of the last layer; what the chosen one (the middle) sees is coloured on the way down.
    Branches are drawn as one layer.
    """
    fields = [chain([layer]) for layer in layers]
    sees = [_positions_seen(field) for field in fields]
    shown, lit = [range(positions)], [{positions // 2 if chosen is None else chosen}]
    for find in reversed(sees):  # from the last layer down to the input
        below = [i for o in shown[-1] for i in find(o)]
        shown.append(range(min(below, default=0), max(below, default=0) + 1))
        lit.append({i for o in lit[-1] for i in find(o)})
    shown, lit = shown[::-1], lit[::-1]
    places = _places(shown, fields)
    width = min(max(0.34 * max(map(len, shown)) + 2.2, 5), 12)
    with page(width, 0.95 * len(shown) + 0.5, path) as figure:
        axes = figure.subplots()
        for level, find in enumerate(sees, 1):
            for o in shown[level]:
                on = o in lit[level]
                style: Any = dict(color=BLUE, lw=1.6, zorder=1) if on else dict(color=INK, lw=0.6, alpha=0.35)
                for i in find(o):
                    axes.plot([places[level][o], places[level - 1][i]], [level, level - 1], **style)
        for level, positions_lit in enumerate(lit):
            for o, x in places[level].items():
                fill = ORANGE if o in positions_lit else "white"
                axes.plot(x, level, "o", ms=9, mfc=fill, mec=INK, mew=1.2, zorder=3)
        labels = ["input", *(repr(layer) for layer in layers)]
        axes.set_yticks(range(len(shown)), labels)
        axes.set_xlabel("sample of the input")
        axes.set_title(f"the coloured output sees {len(lit[0])} samples")
        axes.grid(False)
        axes.spines["left"].set_visible(False)
        axes.tick_params(left=False)
        axes.margins(y=0.18)
    return figure


def _positions_seen(field: ReceptiveField) -> Any:
    def find(o: int) -> list[int]:
        line = field.lines[0]
        start, bits = line[1].at(o) if line else (0, 0)
        return [start + j for j in range(bits.bit_length()) if bits >> j & 1]

    return find


def _places(rows: list[range], fields: list[ReceptiveField]) -> list[dict[int, float]]:
    """Where each position is drawn, in samples of the input: over the centre of what it sees below."""
    places = [{i: float(i) for i in rows[0]}]
    for row, field in zip(rows[1:], fields):
        line = field.lines[0]
        stride = float(line[1].stride) if line else 1.0
        shift = sum(line[1].shifts) / len(line[1].shifts) if line and line[1].shifts else 0.0
        below = places[-1]
        first = min(below)
        step = (max(below.values()) - below[first]) / max(len(below) - 1, 1)
        places.append({o: below[first] + step * (stride * (o + 0.5) + shift - 0.5 - first) for o in row})
    return places


# ---- as derivatives weigh it -----------------------------------------------------------------------


def effective_map(
    measured: EffectiveField | Mapping[str, EffectiveField],
    field: ReceptiveField | None = None,
    path: PATH = None,
) -> Figure:
    """Effective fields as heat maps, and below each its profile with the Gaussian that fits it.

    Several (before and after training) stand side by side. `field` adds the frame of the theoretical field of
    the output's middle.
    """
    each = {"effective field": measured} if isinstance(measured, EffectiveField) else dict(measured)
    with page(4.4 * len(each), 6.2, path) as figure:
        grid = figure.subplots(2, len(each), squeeze=False, height_ratios=(3, 1.5))
        for (name, found), top, below in zip(each.items(), *grid, strict=True):
            while found.map.ndim > 2:
                found = EffectiveField(found.map.sum(axis=0))
            plane = np.atleast_2d(found.map)
            flat = plane.shape[0] == 1
            shown = top.imshow(plane / plane.max(), cmap="magma", vmin=0, vmax=1, interpolation="nearest",
                               aspect="auto" if flat else "equal")  # fmt: skip
            top.grid(False)
            top.set_title(f"{name}\nσ = {_by([f'{s:.1f}' for s in found.sigma])} samples", loc="left")
            if flat:
                top.set_yticks([])
            figure.colorbar(shown, ax=top, label="|dy/dx|, share of the peak", shrink=0.8)
            x = np.arange(plane.shape[1])
            below.fill_between(x, found.profile(-1), color=SKY, alpha=0.5, lw=0, label="measured")
            below.plot(x, found.gaussian(found.map.ndim - 1), color=VERMILION, label="Gaussian")
            if field is not None:
                box = _box(field.region(_middle(field)))
                top.add_patch(Rectangle(**box, fill=False, ec="white", lw=1.6, ls="--"))
                left, right = box["xy"][0], box["xy"][0] + box["width"]
                below.axvspan(left, right, fc=INK, alpha=0.15, lw=0, label="theoretical field")
            below.set_xlabel("column in samples")
            below.set_ylabel("share of\nthe whole")
            below.set_ylim(bottom=0)
            below.margins(x=0)
        figure.legend(
            *grid[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=10
        )
    return figure


# ---- pages -----------------------------------------------------------------------------------------


class Page(Figure):
    """A figure that shows itself in a notebook.

    IPython learns to show those of Matplotlib when pyplot starts its backend, and nothing here needs pyplot.
    """

    def png(self, file: Any) -> None:
        """Write the picture into a path or an open file."""
        with rc_context(STYLE):  # some of it is made only now
            self.savefig(file, format="png", dpi=120)

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.png(file)
        return file.getvalue()


@contextmanager
def page(width: float, height: float, path: PATH = None) -> Iterator[Page]:
    """An empty figure of that size in inches; at the end of the block it is saved if there is a path."""
    with rc_context(STYLE):
        yield (figure := Page(figsize=(width, height), layout="constrained"))
    if path is not None:
        with atomic_write(path) as temporary:
            figure.png(temporary)


def _by(sizes: Sequence[Any]) -> str:
    return " x ".join(map(str, sizes))


def _tuple(position: Position) -> str:
    values = [position] if isinstance(position, int) else position
    return f"({', '.join(map(str, values))})"
