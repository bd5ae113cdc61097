"""A summary as a table for the terminal: units that read well, and bars for the bytes kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minidl.summary.measure import Summary

BAR = 16  # characters of the longest bar
EIGHTHS = " ▏▎▍▌▋▊▉"


def count(value: float, unit: str = "") -> str:
    """123, 4.56 k, 7.89 M, 1.23 G, with three digits and a unit."""
    return _scaled(value, 1000, ("", "k", "M", "G", "T"), unit)


def size(value: float) -> str:
    """Bytes as B, KiB, MiB, GiB, TiB, with three digits."""
    return _scaled(value, 1024, ("", "Ki", "Mi", "Gi", "Ti"), "B")


def _scaled(value: float, step: int, prefixes: tuple[str, ...], unit: str) -> str:
    power = 0
    while value >= 999.5 and power < len(prefixes) - 1:
        value, power = value / step, power + 1
    digits = 0 if power == 0 else 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {prefixes[power]}{unit}".rstrip()


def bar(share: float) -> str:
    """A horizontal bar: `BAR` characters for a share of 1, in eighths of a character."""
    full, eighths = divmod(round(8 * BAR * share), 8)
    return "█" * full + (EIGHTHS[eighths] if eighths else "")


def table(summary: Summary) -> str:
    """The layers, the totals, and what the peak of a training step consists of."""
    largest = max([layer.kept for layer in summary.layers], default=0) or 1
    rows = [("layer", "", "output", "parameters", "multiply-adds", "kept for backward", "")]
    for layer in summary.layers:
        rows.append((
            layer.name,
            layer.kind,
            layer.output,
            f"{layer.parameters:,}" if layer.parameters else "",
            count(layer.multiply_adds) if layer.multiply_adds else "",
            size(layer.kept) if layer.kept else "",
            bar(layer.kept / largest),
        ))  # fmt: skip
    total = (f"{summary.parameters:,}", count(summary.multiply_adds), size(summary.kept), "")
    rows.append(("total", "", "", *total))
    widths = [max(map(len, column)) for column in zip(*rows)]
    head, *body, foot = (
        "  ".join(f"{cell:{align}{width}}" for cell, align, width in zip(row, "<<<>>><", widths)).rstrip()
        for row in rows
    )
    rule = "─" * max(map(len, body))
    parts = {**summary.parts, "predicted peak of a training step": summary.peak}
    width = max(map(len, parts))
    *accounts, peak = (f"{what:<{width}}  {size(value):>8}" for what, value in parts.items())
    layers = (summary.title, rule, head, rule, *body, rule, foot)
    return "\n".join((*layers, "", *accounts, "─" * len(peak), peak))
