"""From a fingerprint and a limit of memory and time to a plan, with a reason for each choice.

The rules are nnU-Net's (`rules`, `topology`). Two limits are minidl's own: memory is counted in the bytes
that minidl takes, and a training has minutes, not days, so the network is as wide, and the batch as large,
as enough steps in that time allow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from minidl.data.geometry import slice_axis
from minidl.segment.plan import cost
from minidl.segment.plan.fingerprint import Fingerprint
from minidl.segment.plan.plan import Configuration, Plan, Reason
from minidl.segment.plan.rules import (
    LARGEST_START,
    Grid,
    first_patch,
    normalizations,
    shrunk,
    target_grid,
)
from minidl.segment.plan.topology import RULES, Topology
from minidl.segment.plan.words import amount, by, often

SHARE_OF_DATASET = 0.05  # that one batch may cover
SMALLEST_BATCH = 2
ENOUGH = 0.25  # of the median image in a patch; if it is less, a coarser configuration looks at the whole
COARSER = 1.03  # the factor by which its spacing grows until that is so
LEAST_GAIN = 2  # a coarse configuration with not even so many times fewer voxels is dropped
WIDTHS = (32, 24, 16, 12, 8)  # channels of the first stage: nnU-Net's, and narrower ones for short trainings
NARROW = 16  # the narrowest that is taken before the patch is cut down to what is enough of the image
STEPS = 1000  # that a training should make at least
OFTEN = 25  # views of an image; from there on a network learns it by heart, so it is changed in every view
TRAINING_SHARE = 0.85  # of the minutes; the rest is for reading, validation and the report


@dataclass(frozen=True)
class Limits:
    """What a training may take: bytes; minutes (None: no limit), and the computer's work per second."""

    memory: int
    minutes: float | None
    speed: float

    @property
    def work(self) -> float:
        """What one step may cost."""
        if self.minutes is None:
            return math.inf
        return self.minutes * 60 * TRAINING_SHARE / STEPS * self.speed


class Planner:
    """Plans the configurations of one dataset and notes why."""

    def __init__(
        self,
        fingerprint: Fingerprint,
        channels: Sequence[str],
        classes: Sequence[str],
        limits: Limits,
        rule: str = "nnunet",
    ):
        if rule not in RULES:
            raise ValueError(f"plan: rule must be one of {', '.join(RULES)}, got {rule!r}")
        self.fingerprint, self.limits, self.rule = fingerprint, limits, rule
        self.channels, self.classes = tuple(channels), tuple(classes)
        self.normalization = normalizations(fingerprint, channels)
        self.reasons: list[Reason] = []

    def _because(self, about: str, decision: str, choice: str, because: str) -> None:
        self.reasons.append(Reason(about, decision, choice, because))

    # ---- the whole plan ---------------------------------------------------------------------------

    def plan(self, dataset: str) -> Plan:
        """All configurations that the rules make of this dataset.

        Errors: ValueError where the images are too small for a network, or no network fits the limits.
        """
        self._explain_limits()
        full, why = target_grid(self.fingerprint)
        unit = "mm" if self.fingerprint.dims == 3 else "pixel"  # pictures do not say how long a pixel is
        self._because("images", "spacing", by(full.spacing, unit), why)
        self._explain_normalization()
        across = slice_axis(full.spacing) if self.fingerprint.dims == 3 else None
        voxels = math.prod(full.shape) * self.fingerprint.cases
        slices = full if across is None else full.without(across)
        configurations = {"2d": self._configure("2d", slices, voxels)}
        if across is not None and full.shape[across] > 1:
            configurations |= self._volumes(full)
        recommended = "3d_fullres" if "3d_fullres" in configurations else "2d"
        augmentation = self._augmentation(configurations[recommended], voxels)
        return Plan(
            dataset=dataset,
            rule=self.rule,
            channels=self.channels,
            classes=self.classes,
            slice_axis=across,
            memory_limit=self.limits.memory,
            minutes=self.limits.minutes,
            speed=self.limits.speed,
            augmentation=augmentation,
            recommended=recommended,
            configurations=configurations,
            reasons=tuple(self.reasons),
            fingerprint=self.fingerprint,
        )

    def _explain_limits(self) -> None:
        if self.limits.minutes is None:
            self._because("limits", "time", "none", "training takes as long as it takes")
        else:
            choice = f"{self.limits.work / self.limits.speed:.2f} s a step"
            why = (
                f"{STEPS} steps, which a training needs at least, in {TRAINING_SHARE:.0%} of "
                f"{self.limits.minutes:g} minutes; this computer manages {self.limits.speed / 1e9:.0f} "
                "billion multiply-adds a second, measured with a small network"
            )
            self._because("limits", "time", choice, why)
        why = "as given; counted in what a step of minidl takes, in float32"
        self._because("limits", "memory", amount(self.limits.memory), why)

    def _explain_normalization(self) -> None:
        for name, normalization in zip(self.channels, self.normalization):
            if normalization.scheme == "ct":
                choice = (
                    f"clip to {normalization.lower:.4g} ... {normalization.upper:.4g}, subtract "
                    f"{normalization.mean:.4g}, divide by {normalization.std:.4g}"
                )
                why = "CT numbers mean the same in every scanner: one scale, that of the foreground, for all"
            else:
                choice = "z-score per image"
                why = "the scale may differ from image to image: each gets mean 0 and deviation 1"
            if normalization.inside_nonzero:
                why += f"; only {self.fingerprint.kept:.0%} of an image is not empty, and the rest stays 0"
            self._because("images", f"normalisation of {name}", choice, why)

    def _augmentation(self, configuration: Configuration, voxels: float) -> str:
        """nnU-Net's whole table, unless the training is too short to tire of the images as they are."""
        proxy, _, _ = self._costs(configuration.topology, configuration.features)
        step = cost.work(configuration.multiply_adds, proxy * configuration.batch)
        seen = configuration.batch * math.prod(map(min, configuration.patch, configuration.median_shape))
        views = STEPS * self.limits.work / step * seen / voxels
        if views >= OFTEN:
            often_seen = "countless times" if math.isinf(views) else f"about {views:.0f} times"
            why = f"each image is seen {often_seen}: without changes the network would learn it by heart"
            self._because("images", "augmentation", "all of nnU-Net's", why)
            return "nnunet"
        flat = self.fingerprint.dims == 2
        why = (
            f"each image is seen about {views:.0f} times, fewer than {OFTEN}: it is not learnt by heart, and "
            "changing it as nnU-Net does would slow down learning"
        )
        why += "; pictures look as likely in a mirror" if flat else ""
        self._because("images", "augmentation", "mirroring" if flat else "none", why)
        return "mirror" if flat else "none"

    # ---- volumes: full resolution, and a coarser one where the patch sees too little --------------

    def _volumes(self, full: Grid) -> dict[str, Configuration]:
        fine = self._configure("3d_fullres", full, math.prod(full.shape) * self.fingerprint.cases)
        share = math.prod(fine.patch) / math.prod(full.shape)
        seen = f"a patch covers {min(share, 1):.0%} of the median image"
        if share >= ENOUGH:
            self._because("3d_fullres", "cascade", "no", f"{seen}: enough, for it is not below {ENOUGH:.0%}")
            return {"3d_fullres": fine}
        before = len(self.reasons)
        coarse = self._coarser(full, fine)
        if math.prod(full.shape) < LEAST_GAIN * math.prod(coarse.median_shape):
            del self.reasons[before:]
            why = f"{seen}, but images coarse enough to change that have more than half as many voxels"
            self._because("3d_fullres", "cascade", "no", why)
            return {"3d_fullres": fine}
        why = (
            f"{seen}, less than {ENOUGH:.0%}: a network looks at the whole at {by(coarse.spacing, 'mm')} "
            "first, and 3d_cascade_fullres refines what it found"
        )
        self._because("3d_fullres", "cascade", "yes", why)
        fine = replace(fine, batch_dice=True)
        cascade = replace(fine, name="3d_cascade_fullres", previous="3d_lowres")
        return {"3d_fullres": fine, "3d_lowres": coarse, "3d_cascade_fullres": cascade}

    def _coarser(self, full: Grid, fine: Configuration) -> Configuration:
        """The configuration at the first of ever coarser spacings whose patch covers enough of an image.

        The axes with the shortest voxels grow alone until all are within a factor of 2.
        """
        spacing, before = np.array(full.spacing), len(self.reasons)
        coarse, voxels = fine, float(math.prod(full.shape))
        while math.prod(coarse.patch) / voxels < ENOUGH:
            behind = spacing.max() / spacing > 2
            spacing[behind if behind.any() else slice(None)] *= COARSER
            exact = np.array(full.spacing) / spacing * full.shape
            voxels = float(exact.prod())
            grid = Grid(tuple(spacing.tolist()), tuple(max(round(n), 1) for n in exact.tolist()))
            del self.reasons[before:]
            coarse = self._configure("3d_lowres", grid, voxels * self.fingerprint.cases)
        return coarse

    # ---- one configuration ------------------------------------------------------------------------

    def _configure(self, name: str, grid: Grid, voxels: float) -> Configuration:
        """Patch, topology, width and batch, in this order. voxels: of the whole dataset."""
        topology = self._topology(name, grid)
        features = self._features(name, topology)
        batch = self._batch(name, topology, features, voxels)
        proxy, parameters, multiply_adds = self._costs(topology, features)
        return Configuration(
            name=name,
            dims=len(grid.shape),
            spacing=grid.spacing,
            median_shape=grid.shape,
            patch=topology.patch,
            batch=batch,
            features=features,
            kernels=topology.kernels,
            strides=topology.strides,
            normalization=self.normalization,
            batch_dice=name == "2d",
            previous=None,
            memory=cost.training_memory(proxy, parameters, batch),
            multiply_adds=multiply_adds * batch,
        )

    def _costs(self, topology: Topology, features: Sequence[int]) -> tuple[int, int, int]:
        """The memory proxy, parameters and multiply-adds of a network, for one patch."""
        network = (topology, features, len(self.channels), len(self.classes))
        return cost.memory_proxy(*network), cost.parameters(*network), cost.multiply_adds(*network)

    def _fits(self, topology: Topology) -> bool:
        """Whether nnU-Net's network with the smallest batch keeps to the limit of memory."""
        proxy, parameters, _ = self._costs(topology, cost.widths(WIDTHS[0], topology))
        return cost.training_memory(proxy, parameters, SMALLEST_BATCH) <= self.limits.memory

    def _work(self, topology: Topology, base: int) -> float:
        """What a step of that width costs with the smallest batch."""
        proxy, _, multiply_adds = self._costs(topology, cost.widths(base, topology))
        return SMALLEST_BATCH * cost.work(multiply_adds, proxy)

    def _shorten(self, name: str, topology: Topology, grid: Grid) -> Topology:
        smaller = shrunk(topology, grid, self.rule)
        if smaller is None:
            minutes = f" and {self.limits.minutes:g} minutes" if self.limits.minutes else ""
            raise ValueError(
                f"plan: {amount(self.limits.memory)} of memory{minutes} are not enough for {name}, not even "
                f"with a patch of {by(topology.patch)}; give more"
            )
        return smaller

    def _topology(self, name: str, grid: Grid) -> Topology:
        """Patch, kernels and strides within the limits."""
        first = first_patch(grid)
        why = f"the median image has {by(grid.shape)}"
        if first != grid.shape:
            edge = LARGEST_START[len(first)]
            why += f"; in the volume of {edge}{'³' if len(first) == 3 else '²'} that is {by(first)}"
        topology = RULES[self.rule](grid.spacing, first)
        if len(topology.strides) < 2:
            raise ValueError(
                f"plan: images of {by(grid.shape)} (the median) are too small for {name}: no axis can be "
                "halved"
            )
        while not self._fits(topology):
            topology = self._shorten(name, topology, grid)
            reason = f"; shortened until 2 patches fit into {amount(self.limits.memory)}"
            why = why.removesuffix(reason) + reason
        while self._work(topology, NARROW) > self.limits.work:
            shorter = self._shorten(name, topology, grid)
            enough = math.prod(shorter.patch) >= ENOUGH * math.prod(grid.shape)
            if not enough and self._work(topology, WIDTHS[-1]) <= self.limits.work:
                break  # rather a narrower network than a patch that sees too little
            topology = shorter
            reason = f"; shortened until {STEPS} steps take {self.limits.minutes:g} minutes"
            why = why.removesuffix(reason) + reason
        self._because(name, "patch", by(topology.patch), f"{why}; a multiple of {by(topology.unit)}")
        self._explain_halvings(name, topology, grid)
        return topology

    def _explain_halvings(self, name: str, topology: Topology, grid: Grid) -> None:
        if self.rule == "lecture":
            why = "every axis is halved until it has size 8"
        else:
            why = "every axis is halved while it has 8 or more"
            if len(set(topology.pools)) > 1:
                why += " and its voxels are not twice as long as the others'"
        why += f": {by(topology.bottleneck)} remain"
        flat = sum(1 in kernel for kernel in topology.kernels)
        if flat:
            why += f"; in the first {flat} stage{'s' * (flat > 1)} kernels do not mix the distant slices"
        self._because(name, "halvings", often(topology.pools), why)

    def _features(self, name: str, topology: Topology) -> tuple[int, ...]:
        base = next((b for b in WIDTHS if self._work(topology, b) <= self.limits.work), WIDTHS[-1])
        why = f"nnU-Net's {base}, doubled with every halving"
        if base != WIDTHS[0]:
            wider = WIDTHS[WIDTHS.index(base) - 1]
            seconds = self._work(topology, wider) / self.limits.speed
            why = (
                f"doubled with every halving; nnU-Net begins with {WIDTHS[0]}, but with {wider} a step takes "
                f"{seconds:.1f} s here, too long for {STEPS} in {self.limits.minutes:g} minutes"
            )
        features = cost.widths(base, topology)
        self._because(name, "features", ", ".join(map(str, features)), why)
        return features

    def _batch(self, name: str, topology: Topology, features: Sequence[int], voxels: float) -> int:
        """The largest batch within all limits, at least the smallest one."""
        proxy, parameters, multiply_adds = self._costs(topology, features)
        dims = len(topology.patch)
        free = self.limits.memory - cost.training_memory(proxy, parameters, 0)
        bounds = [
            (int(free / (cost.BYTES_PER_OUTPUT * proxy)), f"all that fit into {amount(self.limits.memory)}; "
             f"nnU-Net, in half precision, would take {cost.nnunet_batch(proxy, dims, self.limits.memory)}"),
            (round(SHARE_OF_DATASET * voxels / math.prod(topology.patch)),
             f"{SHARE_OF_DATASET:.0%} of the dataset's voxels: with more, batches would be alike"),
            (Configuration.LARGEST, "the largest that is allowed"),
        ]  # fmt: skip
        without_clock = max(min(bounds)[0], SMALLEST_BATCH)
        if self.limits.minutes is not None:
            why = f"with more, {STEPS} steps take longer than {self.limits.minutes:g} minutes"
            why += f" (else {without_clock})"
            bounds.append((int(self.limits.work / cost.work(multiply_adds, proxy)), why))
        batch, why = min(bounds)
        if batch < SMALLEST_BATCH:
            batch, why = SMALLEST_BATCH, f"nnU-Net's smallest, though it is more than {why}"
        self._because(name, "batch", str(batch), why)
        return batch
