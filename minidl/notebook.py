"""What lessons need around their text: a style, short runs, sliders that are pictures where none can move."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

FAST = os.environ.get("MINIDL_FAST", "0") not in ("", "0")
"""Whether lessons use smaller sizes and fewer steps (MINIDL_FAST=1); the code that runs is the same."""


def style() -> None:
    """The look of a lesson's figures: lettering of reading size, colours for colour-blind readers."""
    import matplotlib.pyplot as plt

    from minidl.plot import OKABE_ITO

    plt.rcParams.update({
        "figure.dpi": 110, "savefig.dpi": 110, "figure.constrained_layout.use": True,
        "figure.facecolor": "white", "font.size": 12, "axes.titlesize": 12, "image.cmap": "gray",
        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "lines.linewidth": 2,
        "axes.prop_cycle": plt.cycler(color=list(OKABE_ITO)),
    })  # fmt: skip


def explore(draw: Callable[..., Any], **choices: tuple) -> None:
    """Call `draw(name=value, ...)` whenever a slider moves.

    A choice is (start, lowest, highest) or (start, [values]).
    Without widgets (a page, a script, MINIDL_STATIC=1) the picture of the start values is drawn, once.
    """
    start = {name: choice[0] for name, choice in choices.items()}
    if not _widgets_work():
        draw(**start)
        return
    import ipywidgets

    def slider(name: str, choice: tuple) -> Any:
        start, *ends = choice
        if isinstance(ends[0], (list, tuple)):
            return ipywidgets.SelectionSlider(value=start, options=ends[0], description=name)
        low, high = ends
        if isinstance(start, int):
            return ipywidgets.IntSlider(value=start, min=low, max=high, description=name)
        step = (high - low) / 100
        return ipywidgets.FloatSlider(value=start, min=low, max=high, step=step, description=name)

    ipywidgets.interact(draw, **{name: slider(name, choice) for name, choice in choices.items()})


def _widgets_work() -> bool:
    if os.environ.get("MINIDL_STATIC") or "ipykernel" not in sys.modules:
        return False
    try:
        import ipywidgets  # noqa: F401
    except ImportError:
        return False
    return True
