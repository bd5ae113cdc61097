"""The plan: all that is decided about a training before it begins, in a file that a person can read."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from minidl.data.augment import AUGMENTATIONS
from minidl.files import atomic_write
from minidl.models import CascadeUNet, PlannedUNet
from minidl.segment.plan.fingerprint import Fingerprint
from minidl.segment.plan.schema import parse, to_text
from minidl.segment.plan.topology import Topology

LARGEST_FILE = 64 * 2**20  # bytes: that of 100,000 cases is smaller


@dataclass(frozen=True)
class Normalization:
    """How one channel of an image is normalised.

    scheme "ct": clip to [lower, upper], subtract mean, divide by std, which are those of the foreground of
    the dataset, because Hounsfield units mean the same in every scanner. "zscore": subtract the mean and
    divide by the standard deviation of each image itself (lower to std are then None); inside_nonzero: over
    the voxels that are not 0 alone, the rest stays 0.
    """

    scheme: str
    lower: float | None = None
    upper: float | None = None
    mean: float | None = None
    std: float | None = None
    inside_nonzero: bool = False

    def __post_init__(self) -> None:
        numbers = (self.lower, self.upper, self.mean, self.std)
        if self.scheme not in ("ct", "zscore"):
            raise ValueError(f"scheme must be 'ct' or 'zscore', got {self.scheme!r}")
        given = [number is not None for number in numbers]
        if not (all(given) if self.scheme == "ct" else not any(given)):
            raise ValueError("'ct' needs lower, upper, mean and std; 'zscore' takes none of them")
        if self.scheme == "ct" and not (self.lower <= self.upper and self.std > 0):  # type: ignore[operator]
            raise ValueError(f"needs lower <= upper and std > 0, got {numbers}")


@dataclass(frozen=True)
class Configuration:
    """One network and what it is trained on: "2d", "3d_fullres", "3d_lowres" or "3d_cascade_fullres".

    Lengths run along the axes of the image as the file has them (for "2d" of a volume without
    `Plan.slice_axis`). Stages run from the full resolution down to the bottleneck.
    """

    name: str
    dims: int
    spacing: tuple[float, ...]  # in mm: images are resampled to it
    median_shape: tuple[int, ...]  # of the images at that spacing
    patch: tuple[int, ...]
    batch: int
    features: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    normalization: tuple[Normalization, ...]  # per channel
    batch_dice: bool  # sum Dice's overlaps over the batch before dividing
    previous: str | None  # the configuration whose segmentation is an extra input (the cascade)
    memory: int  # bytes: the estimate for a training step
    multiply_adds: int  # of a training step: those of the convolutions, forward and backward

    LARGEST: ClassVar[int] = 4096  # of a patch's edge, a batch, the channels: against damaged files

    def __post_init__(self) -> None:
        def whole(values: tuple[int, ...], largest: int) -> bool:
            return all(1 <= value <= largest for value in values)

        stages = len(self.features)
        axes = (self.spacing, self.median_shape, self.patch, *self.kernels, *self.strides)
        if self.dims not in (1, 2, 3) or any(len(axis) != self.dims for axis in axes):
            raise ValueError(
                f"dims {self.dims} is not the length of spacing, shape, patch, kernels and strides"
            )
        if not 2 <= stages <= 20 or len(self.kernels) != stages or len(self.strides) != stages:
            raise ValueError(f"features, kernels and strides need the same 2 to 20 stages, got {stages}, "
                             f"{len(self.kernels)} and {len(self.strides)}")  # fmt: skip
        if not all(0 < s < 1e6 for s in self.spacing):
            raise ValueError(f"spacing must be positive, got {self.spacing}")
        if not whole((*self.patch, self.batch, *self.features), self.LARGEST):
            raise ValueError(f"patch, batch and features must be from 1 to {self.LARGEST}")
        if not all(whole(k, 7) and all(n % 2 for n in k) for k in self.kernels):
            raise ValueError(f"kernels must be 1, 3, 5 or 7, got {self.kernels}")
        if not all(whole(s, 4) for s in self.strides) or set(self.strides[0]) != {1}:
            raise ValueError(f"strides must be 1 to 4, and 1 in the first stage, got {self.strides}")
        unit = [1] * self.dims
        for stride in self.strides:
            unit = [u * s for u, s in zip(unit, stride)]
        if any(p % u for p, u in zip(self.patch, unit)):
            raise ValueError(f"patch {self.patch} must be a multiple of all strides together, {tuple(unit)}")

    @property
    def topology(self) -> Topology:
        """What the costs are computed from."""
        return Topology(self.patch, self.kernels, self.strides)

    def network(self, channels: int, classes: int, **options: Any) -> PlannedUNet:
        """A new network for images of so many channels; the options are those of `PlannedUNet`."""
        kind = CascadeUNet if self.previous else PlannedUNet
        return kind(channels, classes, self.features, self.kernels, self.strides, **options)


@dataclass(frozen=True)
class Reason:
    """One decision, about the images or a configuration: its choice, and why, in plain words."""

    about: str
    decision: str
    choice: str
    because: str


@dataclass(frozen=True)
class Plan:
    """What `minidl plan` decided about a dataset; `minidl train` obeys it."""

    dataset: str  # its folder
    rule: str  # of the topology: "nnunet" or "lecture"
    channels: tuple[str, ...]
    classes: tuple[str, ...]  # the background first
    slice_axis: int | None  # that "2d" cuts volumes across; None for pictures
    memory_limit: int  # bytes
    minutes: float | None  # the budget of a training; None: no limit
    speed: float  # of the computer where the plan was made: work per second (`cost.work`)
    augmentation: str  # of the patches, by its name in `minidl.data.augment`
    recommended: str  # the configuration that is trained if a person names none
    configurations: dict[str, Configuration]
    reasons: tuple[Reason, ...]
    fingerprint: Fingerprint

    def __post_init__(self) -> None:
        if self.rule not in ("nnunet", "lecture"):
            raise ValueError(f"rule must be 'nnunet' or 'lecture', got {self.rule!r}")
        if self.augmentation not in AUGMENTATIONS:
            raise ValueError(
                f"augmentation must be one of {', '.join(AUGMENTATIONS)}, got {self.augmentation!r}"
            )
        if not (1 <= len(self.channels) <= 256 and 2 <= len(self.classes) <= 256):
            raise ValueError("needs 1 to 256 channels and 2 to 256 classes")
        if self.recommended not in self.configurations:
            raise ValueError(f"recommended: there is no configuration {self.recommended!r}")
        for key, configuration in self.configurations.items():
            if configuration.name != key:
                raise ValueError(f"configurations.{key}: is called {configuration.name!r}")
            if len(configuration.normalization) != len(self.channels):
                raise ValueError(f"configurations.{key}: needs a normalization for each channel")
            if configuration.previous not in (None, *self.configurations):
                raise ValueError(f"configurations.{key}: there is no previous one {configuration.previous!r}")
        if (self.minutes is not None and self.minutes <= 0) or self.speed <= 0 or self.memory_limit <= 0:
            raise ValueError("minutes, speed and memory_limit must be positive")
        if self.slice_axis not in (None, 0, 1, 2):
            raise ValueError(f"slice_axis must be 0, 1, 2 or null, got {self.slice_axis}")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, whole or not at all."""
        with atomic_write(path) as temporary:
            temporary.write_text(to_text(asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read what `save` wrote; ValueError that names the file, the place in it and what is wrong."""
        path = Path(path)
        try:
            if path.stat().st_size > LARGEST_FILE:
                raise ValueError(f"the file is larger than {LARGEST_FILE} bytes")
            return parse(cls, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not a readable plan: {error}") from error
