"""Charts as SVG text: curves, and strips of dots. Lettering and rules take their colours from the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 34, 44


class Line(NamedTuple):
    """A curve: its name, its colour, and a value per place, which may be nan."""

    name: str
    color: str
    values: Sequence[float]


def line_chart(
    title: str, steps: Sequence[float], lines: Sequence[Line], limits: tuple[float, float] | None = None
) -> str:
    """Curves against the training step, their names beside the title."""
    finite = [v for line in lines for v in line.values if math.isfinite(v)] or [0.0, 1.0]
    y_ticks = ticks(*(limits or (min(finite), max(finite))))
    low, high = y_ticks[0], y_ticks[-1]
    last = max(max(steps), 1)
    x = lambda step: LEFT + (WIDTH - LEFT - RIGHT) * step / last
    y = lambda value: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)
    parts = [f'<text x="0" y="14" class="name">{escape(title)}</text>', _key(lines)]
    for tick in y_ticks:
        parts.append(f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for tick in (tick for tick in ticks(0, last, 5) if tick <= last):
        parts.append(
            f'<text class="tick" x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
            f"{tick:g}</text>"
        )
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">step</text>')
    for line in lines:
        points = [(x(s), y(v)) for s, v in zip(steps, line.values) if math.isfinite(v)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{line.color}" stroke-width="2"/>')
        if len(points) < 30:
            parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{line.color}"/>' for a, b in points]
    return _svg(title, WIDTH, HEIGHT, parts)


def strip_chart(
    measure: str,
    strips: Sequence[tuple[str, str, Sequence[tuple[str, float]], Mapping[str, float]]],
) -> str:
    """A strip per class of a measure from 0 to 1: name, colour, named values, marks to compare them with."""
    width, band = 520, 92
    height = band * len(strips) + 48
    x = lambda value: 12 + (width - 24) * value
    parts = []
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1.0):
        parts.append(f'<path class="grid" d="M{x(tick):.1f} 0V{height - 44}"/>')
        parts.append(
            f'<text class="tick" x="{x(tick):.1f}" y="{height - 28}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(f'<text x="{width / 2}" y="{height - 6}" text-anchor="middle">{escape(measure)}</text>')
    for i, (name, color, values, marks) in enumerate(strips):
        top, middle = band * i, band * i + 38
        parts.append(f'<text x="12" y="{top + 16}" class="name">{escape(name)}</text>')
        heights = np.random.default_rng(0).uniform(-13, 13, len(values))  # so that equal values are seen
        parts += [
            f'<circle cx="{x(v):.1f}" cy="{middle + h:.1f}" r="4" fill="{color}" fill-opacity=".65">'
            f"<title>{escape(str(case))}: {v:.3f}</title></circle>"
            for (case, v), h in zip(values, heights)
        ]
        if values:
            mean = float(np.mean([v for _, v in values]))
            parts.append(
                f'<path class="axis" stroke-width="3" d="M{x(mean):.1f} {middle - 19}v38">'
                f"<title>mean {mean:.3f}</title></path>"
            )
        end = -math.inf
        for method, value in sorted(marks.items(), key=lambda item: item[1]):
            if not math.isfinite(value):
                continue
            # A label that would run into the one before goes a line lower.
            left = min(x(value), width - 6.6 * len(method))
            lower = 14 if left < end else 0
            end = left + 6.6 * len(method)
            parts.append(
                f'<path class="axis" d="M{x(value):.1f} {middle - 19}V{middle + 24}"/>'
                f'<text class="tick" x="{left:.1f}" y="{middle + 36 + lower}">{escape(method)}</text>'
            )
    return _svg(measure, width, height, parts)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers, about so many, of which the first is at most `low` and the last at least `high`."""
    span = (high - low) or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(span / count))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= span / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, max(last, first + 1) + 1)]


def _key(lines: Sequence[Line]) -> str:
    """Names of curves from the right edge leftwards."""
    parts, x = [], WIDTH - RIGHT
    for line in reversed(lines):
        x -= 7 * len(line.name)
        parts.append(f'<text x="{x}" y="14">{escape(line.name)}</text>')
        parts.append(f'<path d="M{x - 22} 10h16" stroke="{line.color}" stroke-width="3"/>')
        x -= 38
    return "".join(parts)


def _svg(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
