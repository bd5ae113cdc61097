"""The README's picture of the saved results: minidl's time and memory beside another's, as ratios."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from benchmarks.results import FILE, Comparison, load
from minidl.files import atomic_write
from minidl.plot import INK, OKABE_ITO, STYLE

# Benchmark: the heading of its bars, and their colour.
SECTIONS = {
    "unet": ("time of a training step", OKABE_ITO[1]),
    "memory": ("peak memory of a training step", OKABE_ITO[4]),
    "conv": ("time of a convolution and both gradients", OKABE_ITO[0]),
    "overhead": ("overhead of a scalar op", OKABE_ITO[3]),
    "peers": ("time of conv2d and its backward", OKABE_ITO[2]),
}
TICKS = {0.01: "1/100", 0.1: "1/10", 0.2: "1/5", 0.5: "1/2", 1: "1", 2: "2", 5: "5"}


def _bars(name: str, rows: list[Comparison]) -> list[tuple[str, float, list[float]]]:
    """(label, ratio of the sums, each row's ratio) of every bar. Convolutions and peers are summed up."""
    bars: dict[str, list[Comparison]] = defaultdict(list)
    for row in rows:
        summed = name in ("conv", "peers")
        bars[row.group if summed else f"{row.group}, {row.what}".removeprefix("training step, ")].append(row)
    return [
        (label, sum(r.minidl for r in rows) / sum(r.other for r in rows), [r.ratio for r in rows])
        for label, rows in bars.items()
    ]


def draw(source: Path = FILE) -> Path:
    """Draw the results beside their file, as a PNG of the same name."""
    results = load(source)
    sections = [name for name in SECTIONS if name in results]
    lines: list[tuple] = []  # from the top: a heading, or a bar with the ratios it sums up
    for name in sections:
        heading, color = SECTIONS[name]
        others = " or ".join(sorted({row.against for row in results[name][1]}))
        lines.append((f"{heading}, against {others}", None, [], color))
        lines += [(*bar, color) for bar in _bars(name, results[name][1])]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.31 * len(lines) + 1.1), layout="constrained")
        axes = figure.subplots()
        for y, (label, ratio, parts, color) in enumerate(lines):
            if ratio is None:
                axes.text(0.0, y, label, transform=axes.get_yaxis_transform(), va="center", weight="bold")
                continue
            axes.barh(y, ratio - 1, left=1, height=0.62, color=color, alpha=0.75)
            if len(parts) > 1:
                axes.plot(parts, [y] * len(parts), "o", ms=3.5, color="black", mec="white", mew=0.5)
            end = max([ratio, *parts]) if ratio > 1 else min([ratio, *parts])
            sign = 1 if ratio > 1 else -1
            axes.annotate(f"{ratio:.2f}", (end, y), (6 * sign, 0), textcoords="offset points",
                          ha="left" if sign > 0 else "right", va="center", fontsize=10)  # fmt: skip
        ratios = [r for _, ratio, parts, _ in lines if ratio is not None for r in (ratio, *parts)]
        low, high = min(0.5, *ratios), max(2.0, *ratios)
        axes.set(xscale="log", xlim=(low / 1.6, high * 1.3), ylim=(len(lines) - 0.4, -0.6))
        axes.axvline(1, color=INK, lw=1.5)
        bars = [y for y, line in enumerate(lines) if line[1] is not None]
        axes.set_yticks(bars, [lines[y][0] for y in bars], fontsize=11)
        axes.tick_params(axis="y", length=0)
        axes.set_xticks([], minor=True)
        axes.set_xticks([t for t in TICKS if low / 1.6 < t < high * 1.3])
        axes.set_xticklabels([TICKS[t] for t in TICKS if low / 1.6 < t < high * 1.3])
        axes.grid(axis="y", visible=False)
        axes.spines[["left"]].set_visible(False)
        machine = results[sections[0]][0]
        axes.set_xlabel(
            "minidl / other: left of 1 minidl is faster or smaller (log scale)\n"
            f"{machine['processor']}, {machine['threads']} threads, NumPy {machine['NumPy']}, "
            f"PyTorch {machine['PyTorch']}; dots: the single shapes"
        )
        path = source.with_suffix(".png")
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120, transparent=True)
    return path


def main(threads: int, rounds: int) -> None:
    """Draw what `--save` has saved."""
    print(draw())
