"""The configuration of a run: everything that is needed to build the network again and to repeat the
training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidl.data.augment import AUGMENTATIONS
from minidl.files import atomic_write
from minidl.models import PlannedUNet
from minidl.segment.plan import Configuration, Normalization
from minidl.segment.plan.cost import memory_proxy, multiply_adds
from minidl.segment.plan.schema import parse, to_text
from minidl.segment.plan.topology import MIN_EDGE, Topology, nnunet_topology
from minidl.segment.schedule import LEARNING_RATES

FOLDS = 5

LOSSES: dict[str, Any] = {  # the weights of their parts
    "dice_ce": {"weight_dice": 1.0, "weight_ce": 1.0},
    "dice": {"weight_dice": 1.0, "weight_ce": 0.0},
    "ce": {"weight_dice": 0.0, "weight_ce": 1.0},
}
NORMS = ("instance", "batch", None)

# The rule for a run without a plan: small networks and patches, which learn much in minutes on a few cores.
LARGEST_PATCH = {2: (128, 128), 3: (64, 64, 64)}
HALVINGS = 4
BASE_FEATURES, LARGEST_FEATURES = {2: 16, 3: 8}, 256
BATCH = {2: 8, 3: 2}


@dataclass(frozen=True)
class PreviousRun:
    """The first stage of a cascade: the folder of its run, or of its folds, and a hash of what was copied."""

    run: str
    sha256: str


@dataclass(frozen=True)
class Config:
    """What was trained on what, and how. `minutes` or `steps` is the budget; the other one is None."""

    data: str | None  # the folder, None for the generated phantom
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    configuration: Configuration  # of the network and of the images that it sees
    slice_axis: int | None  # across which a flat network cuts volumes
    deep_supervision: bool
    augmentation: str
    optimizer: str
    learning_rate: float
    minutes: float | None
    steps: int | None
    seed: int
    ratio: tuple[int, ...]  # of training, validation and test cases
    fold: int | None  # of cross-validation
    loss: str = "dice_ce"
    norm: str | None = "instance"
    negative_slope: float = 0.01  # of the leaky ReLU
    previous: PreviousRun | None = None  # what the second stage of a cascade refines

    def __post_init__(self) -> None:
        for name, value, known in (("augmentation", self.augmentation, AUGMENTATIONS),
                                   ("optimizer", self.optimizer, LEARNING_RATES),
                                   ("loss", self.loss, LOSSES), ("norm", self.norm, NORMS)):  # fmt: skip
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, got {value!r}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if not 0 <= self.negative_slope <= 1:
            raise ValueError(f"negative_slope must be from 0 to 1, got {self.negative_slope}")
        if not (2 <= len(self.classes) <= 256 and 1 <= len(self.channels) <= 256):
            raise ValueError("needs 2 to 256 classes and 1 to 256 channels")
        if len(self.configuration.normalization) != len(self.channels):
            raise ValueError("needs a normalization for each channel")
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("needs either minutes or steps")
        if (self.previous is None) != (self.configuration.previous is None):
            raise ValueError("a previous run belongs to a configuration with a previous one, and to no other")
        if self.fold is not None and not 0 <= self.fold < FOLDS:
            raise ValueError(f"fold must be from 0 to {FOLDS - 1}, got {self.fold}")

    @property
    def dims(self) -> int:
        return self.configuration.dims

    @property
    def patch(self) -> tuple[int, ...]:
        return self.configuration.patch

    @property
    def budget(self) -> str:
        """In words."""
        return f"{self.steps} steps" if self.steps is not None else f"{self.minutes:g} minutes"

    def network(self) -> PlannedUNet:
        """A new network, initialised by the engine's random numbers."""
        return self.configuration.network(
            len(self.channels), len(self.classes), deep_supervision=self.deep_supervision, norm=self.norm,
            negative_slope=self.negative_slope,
        )  # fmt: skip

    def least_bytes(self) -> int:
        """Less than the weights of the network take: those of the second convolution of each encoder stage.

        A file that holds fewer cannot belong to this configuration, and the network need not be built to see
        it.
        """
        c = self.configuration
        return 4 * sum(width * width * math.prod(kernel) for width, kernel in zip(c.features, c.kernels))

    def save(self, path: Path) -> None:
        """Write as JSON."""
        with atomic_write(path) as temporary:
            temporary.write_text(to_text(asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Config:
        """Read what `save` wrote; ValueError that names the file where it holds anything else."""
        try:
            return parse(cls, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not a readable configuration: {error}") from error


def quick_configuration(
    shapes: Sequence[tuple[int, ...]],
    spacings: Sequence[tuple[float, ...]],
    channels: int,
    classes: int,
    batch: int | None = None,
    halvings: int = HALVINGS,
) -> Configuration:
    """The configuration for images of these shapes (voxels) and spacings (mm) where no plan was made.

    The patch is the median shape, at most `LARGEST_PATCH`; it is halved by nnU-Net's rule, at most
    `halvings` times. Every channel is normalised to mean 0 and standard deviation 1.
    """
    dims = len(shapes[0])
    spacing = tuple(float(s) for s in np.median(spacings, axis=0))
    median = tuple(int(n) for n in np.median(shapes, axis=0))
    size = [max(1, min(n, largest)) for n, largest in zip(median, LARGEST_PATCH[dims])]
    if len(nnunet_topology(spacing, size).strides) == 1:  # a U-Net halves at least once
        size = [max(n, 3 * MIN_EDGE) for n in size]
    full = nnunet_topology(spacing, size)
    stages = min(len(full.strides), halvings + 1)
    kernels, strides = full.kernels[:stages], full.strides[:stages]
    unit = [math.prod(axis) for axis in zip(*strides)]
    topology = Topology(tuple(-(-n // u) * u for n, u in zip(size, unit)), kernels, strides)
    features = tuple(min(BASE_FEATURES[dims] * 2**level, LARGEST_FEATURES) for level in range(stages))
    batch = batch or BATCH[dims]
    return Configuration(
        name=f"quick_{dims}d",
        dims=dims,
        spacing=spacing,
        median_shape=median,
        patch=topology.patch,
        batch=batch,
        features=features,
        kernels=kernels,
        strides=strides,
        normalization=(Normalization("zscore"),) * channels,
        batch_dice=True,
        previous=None,
        memory=4 * batch * memory_proxy(topology, features, channels, classes),
        multiply_adds=batch * multiply_adds(topology, features, channels, classes),
    )
