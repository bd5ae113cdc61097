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
    "unet": ("Training step, time", OKABE_ITO[1]),
    "memory": ("Training step, peak memory", OKABE_ITO[4]),
    "conv": ("Convolution and both gradients", OKABE_ITO[0]),
    "overhead": ("Overhead of a scalar op", OKABE_ITO[3]),
    "peers": ("conv2d and its backward, against", OKABE_ITO[2]),
}
TICKS = {1 / 100: "1/100", 1 / 30: "1/30", 1 / 10: "1/10", 1 / 3: "1/3", 1: "1", 3: "3", 10: "10"}


def _label(name: str, row: Comparison) -> str:
    """What a bar stands for. The kinds of convolutions and the peers are summed up."""
    if name == "memory":
        return row.what + row.group.removeprefix("minidl")
    return row.group if name in ("conv", "peers") else row.what


def _bars(name: str, rows: list[Comparison]) -> list[tuple[str, float, list[float]]]:
    """(label, ratio of the sums, ratios of the rows) of every bar."""
    bars: dict[str, list[Comparison]] = defaultdict(list)
    for row in rows:
        bars[_label(name, row)].append(row)
    return [
        (label, sum(r.minidl for r in rows) / sum(r.other for r in rows), [r.ratio for r in rows])
        for label, rows in bars.items()
    ]


def draw(source: Path = FILE) -> Path:
    """Draw the results beside their file, as a PNG of the same name."""
    results = load(source)
    sections = {name: _bars(name, results[name][1]) for name in SECTIONS if name in results}
    ratios = [ratio for bars in sections.values() for _, whole, parts in bars for ratio in (whole, *parts)]
    low, high = min(0.3, *ratios) / 1.3, max(3.0, *ratios) * 1.3
    lines = sum(1.3 + len(bars) for bars in sections.values())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.28 * lines + 1), layout="constrained")
        axes = figure.subplots()
        labels: dict[float, str] = {}
        y = -0.3
        for name, bars in sections.items():
            heading, color = SECTIONS[name]
            labels[y] = heading
            for label, whole, parts in bars:
                y += 1
                labels[y] = label
                axes.barh(y, whole - 1, left=1, height=0.66, color=color)
                if len(parts) > 1:
                    axes.plot(parts, [y] * len(parts), "o", ms=5, color=INK, mec="white", mew=0.8)
                axes.text(1.02, y, f"{whole:.2f}", transform=axes.get_yaxis_transform(), va="center_baseline")
            y += 1.3
        axes.set(xscale="log", xlim=(low, high), ylim=(y - 0.9, -0.9))
        axes.axvline(1, color=INK, lw=1.5)
        axes.set_yticks(list(labels), list(labels.values()))
        for text in axes.get_yticklabels():
            if text.get_text() in (SECTIONS[name][0] for name in sections):
                text.set_weight("bold")
        axes.tick_params(axis="y", length=0)
        axes.set_xticks([], minor=True)
        axes.set_xticks([t for t in TICKS if low < t < high], [s for t, s in TICKS.items() if low < t < high])
        axes.grid(axis="y", visible=False)
        axes.spines[["left"]].set_visible(False)
        machine, _ = results[next(iter(sections))]
        figure.supxlabel(
            "minidl / PyTorch, below minidl / another engine. Left of 1, minidl is faster or smaller.\n"
            "Bars: all shapes of a kind together; dots: each shape. "
            f"{machine['processor']}, {machine['threads']} threads.",
            fontsize=11,
        )
        path = source.with_suffix(".png")
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120, transparent=True)
    return path


def main(threads: int, rounds: int) -> None:
    """Draw what `--save` has saved."""
    print(draw())
