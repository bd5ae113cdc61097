"""The configuration of a run: everything that is needed to build the network again and to repeat the
training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from minidl.files import atomic_write
from minidl.models import UNet

LARGEST_PATCH = {2: (128, 128), 3: (64, 64, 64)}
SMALLEST_EDGE = 4  # of the bottleneck: halving stops before an axis gets shorter
LARGEST_DEPTH = 4
LARGEST_FEATURES = 256


@dataclass(frozen=True)
class Config:
    """What was trained on what, and how. `minutes` or `steps` is the budget; the other one is None."""

    data: str | None  # the folder, None for the generated phantom
    dims: int
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    patch: tuple[int, ...]
    features: tuple[int, ...]
    batch: int
    minutes: float | None
    steps: int | None
    learning_rate: float
    mirror: bool
    seed: int
    split: tuple[int, int, int]

    def network(self) -> UNet:
        """A new network, initialised by the engine's random numbers."""
        return UNet(len(self.channels), len(self.classes), self.features, dims=self.dims)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Config:
        """Read what `save` wrote; ValueError that names the file where it holds anything else."""
        try:
            values = json.loads(path.read_text())
            if not isinstance(values, dict) or set(values) != {f.name for f in fields(cls)}:
                raise ValueError("the keys are not those of a configuration")
            converted: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            config = cls(**converted)
            config._check()
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{path} is not a readable configuration: {error}") from error
        return config

    def _check(self) -> None:
        def whole(values: Sequence[Any], largest: int) -> bool:
            return all(isinstance(v, int) and 0 < v <= largest for v in values)

        names = (*self.classes, *self.channels)
        if self.dims not in (2, 3) or len(self.patch) != self.dims or not whole(self.patch, 4096):
            raise ValueError(f"dims {self.dims!r} and patch {self.patch!r} do not fit together")
        if not self.features or not whole(self.features, 4096) or len(self.features) > 12:
            raise ValueError(f"features {self.features!r} are not the channels of at most 12 stages")
        if not (2 <= len(self.classes) <= 256 and 1 <= len(self.channels) <= 256):
            raise ValueError("needs 2 to 256 classes and 1 to 256 channels")
        if not all(isinstance(name, str) for name in names):
            raise ValueError("classes and channels must be names")


def choose_patch(shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], int]:
    """The training patch for images of these shapes, and how often it can be halved.

    The patch is the median shape, at most `LARGEST_PATCH`. It is halved while the longest axis stays at least
    `SMALLEST_EDGE` long, and rounded up so that every halving is even.
    """
    dims = len(shapes[0])
    median = [sorted(axis)[len(shapes) // 2] for axis in zip(*shapes)]
    size = [min(n, largest) for n, largest in zip(median, LARGEST_PATCH[dims])]
    depth = 0
    while min(size) / 2 ** (depth + 1) >= SMALLEST_EDGE and depth < LARGEST_DEPTH:
        depth += 1
    unit = 2**depth
    return tuple(-(-n // unit) * unit for n in size), depth


def choose_features(base: int, depth: int) -> tuple[int, ...]:
    """The number of channels per stage: doubled with every halving of the resolution, up to a limit."""
    return tuple(min(base * 2**level, LARGEST_FEATURES) for level in range(depth + 1))
