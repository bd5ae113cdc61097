"""Tables of an ablation: the one like the lecture's, the lecture's own, and all cells for CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from minidl.segment import metrics
from minidl.segment.ablate import lecture
from minidl.segment.ablate.arms import ARMS, VANILLA
from minidl.segment.ablate.cells import Result
from minidl.segment.ablate.statistics import Effect
from minidl.segment.metrics import Row


def change_table(found: Mapping[str, Sequence[Effect]]) -> str:
    """A row for each arm and a column for each data set: vanilla's Dice, then changes in % with intervals."""
    columns = {name: [_cell(effect) for effect in column] for name, column in found.items()}
    titles = [effect.arm.title for effect in next(iter(found.values()))]
    return metrics.format_table(
        [{"": title, **{n: column[i] for n, column in columns.items()}} for i, title in enumerate(titles)]
    )


def _cell(effect: Effect) -> str:
    lost = f", {effect.collapsed}/{effect.seeds} collapsed" if effect.collapsed else ""
    if effect.arm == VANILLA:
        return f"{effect.dice:.3f}{lost}"
    if math.isnan(effect.difference):
        return f"-{lost}"
    interval = "" if math.isnan(effect.low) else f" [{effect.low:+.1f}, {effect.high:+.1f}]"
    return f"{effect.difference:+.1f} %{interval}{lost}"


def lecture_table() -> str:
    """The lecture's table, in the same form."""
    rows = [{"": VANILLA.title, **{n: f"{d:.2f}" for n, d in zip(lecture.DATA_SETS, lecture.DICE)}}]
    for name, changes in lecture.CHANGES.items():
        values = {n: f"{change:+.1f} %" for n, change in zip(lecture.DATA_SETS, changes)}
        rows.append({"": ARMS[name].title, **values})
    return metrics.format_table(rows)


def cell_rows(data_set: str, found: Sequence[Effect], results: Mapping[str, Sequence[Result]]) -> list[Row]:
    """A row for each cell, with its difference from vanilla of the same seed in %."""
    rows = []
    for effect in found:
        for result, difference in zip(results[effect.arm.name], effect.differences):
            rows.append({
                "data set": data_set, "arm": effect.arm.name, "seed": result.config.seed,
                "dice": result.score, "difference %": difference, "collapsed": result.collapsed,
                "steps": result.steps, "minutes": result.minutes, "failure": result.failure or "",
                **{f"dice {name}": dice for name, dice in result.dice.items()},
            })  # fmt: skip
    return rows


def effect_rows(data_set: str, found: Sequence[Effect]) -> list[Row]:
    """A row for each arm: its mean Dice, how much it varies, its paired difference and interval in %."""
    return [
        {
            "data set": data_set, "arm": effect.arm.name, "seeds": effect.seeds, "dice": effect.dice,
            "sd over seeds": effect.deviation, "collapsed": effect.collapsed,
            "difference %": effect.difference, "low %": effect.low, "high %": effect.high,
        }
        for effect in found
    ]  # fmt: skip
