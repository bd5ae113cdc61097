"""Scripts that draw the figures: `python -m figures` redraws all, `python -m figures NAME` one.

A script `NAME.py` has one function, `draw(folder)`; what it draws is seen in the gallery, `README.md`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

SHARED = ("__init__", "__main__", "drawing", "palette", "shapes")
NAMES = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in SHARED))


def draw(name: str, folder: Path) -> None:
    """Draw one figure into a folder."""
    import_module(f"figures.{name}").draw(folder)
