"""predictions.png: what `minidl train` leaves after 250 steps, which can be repeated exactly."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from minidl.segment import job


def draw(folder: Path) -> None:
    """Train on the generated phantoms (a few minutes) and keep the figure of the run."""
    with tempfile.TemporaryDirectory() as temporary:
        run = job.train(None, steps=250, out=Path(temporary) / "run")
        shutil.copy(run / "predictions.png", folder / "predictions.png")
