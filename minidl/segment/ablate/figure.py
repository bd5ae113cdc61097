"""The picture of an ablation: every seed, the mean and its interval, for each arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from minidl.files import atomic_write
from minidl.plot import INK, OKABE_ITO, STYLE
from minidl.segment.ablate.statistics import Effect

LINEAR = 10.0  # per cent around 0 where the axis is linear, if some differences are much larger
TICKS = (-300, -100, -30, -10, -5, 0, 5, 10, 30, 100, 300)
BLUE, ORANGE = OKABE_ITO[:2]


def draw(found: Mapping[str, Sequence[Effect]], path: Path) -> None:
    """A panel for each data set, a line for each arm; vanilla is the line at 0."""
    import matplotlib
    from matplotlib.figure import Figure

    arms = len(next(iter(found.values()))) - 1
    with matplotlib.rc_context(STYLE):
        figure = Figure((3.4 + 4.2 * len(found), 1.9 + 0.5 * arms), layout="constrained")
        panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for axes, (name, effects) in zip(panels, found.items()):
            _panel(axes, name, effects)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120, transparent=True)


def _panel(axes, name: str, effects: Sequence[Effect]) -> None:
    vanilla, *others = effects
    places = np.arange(len(others))
    dots = [(d, place) for place, effect in zip(places, others) for d in effect.differences]
    ends = np.array([(effect.low, effect.high) for effect in others])
    means = np.array([effect.difference for effect in others])
    axes.axvline(0, color=INK, lw=1.2)
    axes.scatter(*zip(*dots), color=BLUE, alpha=0.6, s=30, lw=0, label="one seed", zorder=2)
    widths = np.nan_to_num(np.stack([means - ends[:, 0], ends[:, 1] - means]))
    axes.errorbar(means, places + 0.22, xerr=widths, color=ORANGE, fmt="D", ms=6, capsize=4, lw=2, zorder=3,
                  label="mean, 95 % interval")  # fmt: skip
    shown = [0, *ends[~np.isnan(ends)], *(d for d, _ in dots if not np.isnan(d))]
    left, right = min(shown), max(shown)
    if max(-left, right) > 3 * LINEAR:
        axes.set_xscale("symlog", linthresh=LINEAR)
        ticks = [t for t in TICKS if 1.2 * left <= t <= 1.2 * right]
        axes.set_xticks(ticks, [f"{t:+d}" if t else "0" for t in ticks])
        axes.set_xlabel(f"change of Dice, % of vanilla's\n(logarithmic beyond ±{LINEAR:g})")
    else:
        axes.set_xlabel("change of Dice, % of vanilla's")
    axes.set_yticks(places, [effect.arm.title for effect in others])
    axes.set_ylim(len(others) - 0.4, -0.6)
    axes.set_title(f"{name}: vanilla Dice {vanilla.dice:.3f}, {vanilla.seeds} seeds", loc="left")
