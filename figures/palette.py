"""The colours of the figures, those of Okabe and Ito, and the sizes of their lettering."""

from __future__ import annotations

from matplotlib.colors import to_hex, to_rgb

from minidl.plot import OKABE_ITO

BLUE, ORANGE, SKY, PINK, GREEN, YELLOW, VERMILION = OKABE_ITO
INK, GREY, PALE, WHITE = "#333333", "#BBBBBB", "#F4F4F4", "#FFFFFF"
SMALL, NORMAL, LARGE = 9.5, 11, 13  # points, at a width of 8 inches


def tint(color: str, amount: float = 0.3) -> str:
    """The colour thinned with white: `amount` 1 leaves it, 0 is white."""
    return to_hex([1 - amount * (1 - c) for c in to_rgb(color)])
