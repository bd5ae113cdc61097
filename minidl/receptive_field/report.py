"""The answer in words and as a table, for terminals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minidl.receptive_field.field import Layer, ReceptiveField


def by(values: Sequence[Any] | None) -> str:
    """One entry per axis: "3 x 5", or one number where all are equal."""
    if not values:
        return "-"
    shown = ["-" if value is None else str(value) for value in values]
    return shown[0] if len(set(shown)) == 1 else " x ".join(shown)


def summary(field: ReceptiveField) -> str:
    """What `print(field)` shows."""
    lines = [f"receptive field  {by(field.size)}"]
    if any(sizes and len(set(sizes)) > 1 for sizes in field.sizes):
        ranges = [f"{min(s)} .. {max(s)}" if s else None for s in field.sizes]
        lines.append(f"  by position    {by(ranges)}, repeating every {by(field.period)} positions")
    lines.append(f"stride           {by(field.stride)}")
    if any(p is not None for p in field.padding):
        lines.append(f"padding          {by(field.padding)}")
    if all(field.halo):
        halo = by([f"{ends[0]} before, {ends[1]} after" for ends in field.halo if ends])
        lines.append(f"halo             {halo}; tiles start at multiples of {by(field.alignment)}")
    lines += [f"note: {warning}" for warning in field.warnings]
    return "\n".join(lines)


def layer_table(layers: Sequence[Layer]) -> str:
    """The rows of `per_layer` in columns."""
    head = ("layer", "kind", "positions", "field", "stride", "padding", "whole axes")
    rows: list[tuple[str, ...]] = [head]
    for name, kind, field in layers:
        told = (field.positions, field.size, field.stride, field.padding)
        rows.append((name, kind, *map(by, told), "too" if field.sees_whole_axes else ""))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    aligned = [
        [f"{cell:{'<' if i < 2 else '>'}{w}}" for i, (cell, w) in enumerate(zip(row, widths))] for row in rows
    ]
    return "\n".join("  ".join(row).rstrip() for row in aligned)
