"""Image, truth, prediction and errors of a good, the median and the worst case after 250 training steps."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from minidl.segment import job

STEPS = 250


def draw(folder: Path) -> None:
    """predictions.png: train on the generated phantoms (a few minutes) and keep the figure of the run."""
    with tempfile.TemporaryDirectory() as temporary:
        run = job.train(None, steps=STEPS, out=Path(temporary) / "run")
        shutil.copy(run / "predictions.png", folder / "predictions.png")
