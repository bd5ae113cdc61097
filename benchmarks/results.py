"""What a benchmark found, as a file: the processor, the versions, and both sides' numbers of each row."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minidl import cuda
from minidl.devices import processor
from minidl.files import atomic_write

FILE = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Comparison:
    """One row: what was measured, and how much of `unit` minidl and another took."""

    group: str
    what: str
    minidl: float
    other: float
    unit: str = "s"
    against: str = "PyTorch"

    @property
    def ratio(self) -> float:
        return self.minidl / self.other


def machine(threads: int) -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "processor": processor(),
        "threads": threads,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "PyTorch": torch.__version__,
        **({"GPU": cuda.get_device_name()} if cuda.is_available() else {}),
    }


def save(name: str, threads: int, rows: Iterable[Comparison], path: Path) -> None:
    """Put a benchmark's rows into the file, in place of its former ones; other benchmarks' stay."""
    results = json.loads(path.read_text()) if path.exists() else {}
    results[name] = {"machine": machine(threads), "rows": [asdict(row) for row in rows]}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def load(path: Path) -> dict[str, tuple[dict[str, Any], list[Comparison]]]:
    """For each benchmark the machine and the rows."""
    if not path.exists():
        raise SystemExit("nothing to draw: run benchmarks with --save first")
    results = json.loads(path.read_text())
    return {name: (r["machine"], [Comparison(**row) for row in r["rows"]]) for name, r in results.items()}
