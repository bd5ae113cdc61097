"""Trained networks, from the folders of their runs."""

from __future__ import annotations

from pathlib import Path

import minidl
from minidl.models import PlannedUNet
from minidl.segment.checkpoint import CHECKPOINT
from minidl.segment.config import Config


def run_folders(path: Path) -> list[Path]:
    """The run in a folder, or the folds of cross-validation in it."""
    if (path / "config.json").is_file():
        return [path]
    folds = sorted(folder for folder in path.glob("fold_*") if (folder / "config.json").is_file())
    if not folds:
        raise ValueError(f"{path} is no run: it holds neither config.json nor folders fold_0, fold_1, ...")
    return folds


def load_run(run: Path, device: str = "cpu") -> tuple[Config, PlannedUNet]:
    """The configuration and the trained network of a run folder, wherever it was trained, on that device."""
    config, weights = Config.load(run / "config.json"), run / "weights.safetensors"
    if not weights.is_file() and (run / CHECKPOINT).is_file():
        raise ValueError(f"{run} is not finished; `minidl train --resume {run}` goes on with it")
    tensors = minidl.load(weights)
    check_size(config, weights)
    model = config.network()
    try:
        model.load_state_dict(tensors)
    except ValueError as error:
        raise ValueError(f"{weights} does not fit {run / 'config.json'}: {error}") from error
    model.to(device=device).eval()
    return config, model


def check_size(config: Config, weights: Path) -> None:
    """Refuse a configuration whose network is larger than the file of its weights, before it is built."""
    size = weights.stat().st_size
    if config.least_bytes() > size:
        raise ValueError(
            f"{weights} has {size} bytes, too few for a network with features {config.configuration.features}"
        )
