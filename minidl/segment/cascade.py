"""nnU-Net's cascade (Isensee et al. 2021): one network looks at the whole image at a coarse resolution, and a
second one corrects, at the full resolution, what the first has found.

The label map of the first stage becomes one more channel of the image. It goes the way of labels: resampled
and deformed as they are, never normalised, and no change of grey values touches it; `CascadeUNet` sees it
one-hot. nnU-Net brings the probabilities of the first stage straight to the grid of the second; here they
come back to the image's own grid, become a label map, and that is resampled.

What a network has trained on it segments better than new images, and a second stage that learns from such
label maps trusts them too much. The folds of a cross-validation help: each case is segmented by the network
that has not seen it, and the test cases by all together.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from minidl.data import Case, Image
from minidl.data.augment import AUGMENTATIONS, Augmentation
from minidl.files import atomic_write
from minidl.segment.config import FOLDS, Config, PreviousRun
from minidl.segment.inference import Member, as_network, mirrored, predict_ensemble, was_mirrored
from minidl.segment.plan import Configuration, Plan
from minidl.segment.sampling import Sampler
from minidl.segment.splits import Splits, with_fold
from minidl.segment.trained import load_run, run_folders

COPY = "previous"  # the folder in that of a run that holds its first stage: both move together
FILES = ("config.json", "weights.safetensors")  # of each network in it


# ---- from one stage to the next ---------------------------------------------------------------------


def with_labels(image: Image, labels: np.ndarray) -> Image:
    """The image (C, *S) with a label map (*S) as one more channel."""
    return replace(image, array=np.concatenate([image.array, labels[None].astype(image.array.dtype)]))


@dataclass(frozen=True)
class CascadeMember(Member):
    """A second stage, which asks its first one before it looks at an image itself."""

    first: tuple[Member, ...]

    def rows(self, image: Image, axis: int) -> Iterator[np.ndarray]:
        return super().rows(with_labels(image, predict_ensemble(self.first, image)), axis)


def load_member(folder: Path, mirror: bool | None = None, device: str = "cpu") -> Member:
    """The network of a run, ready to predict, with its first stage if it has one; mirror as in `predict`."""
    config, model = load_run(folder, device)
    network = as_network(model)
    if was_mirrored(config) if mirror is None else mirror:
        network = mirrored(network)
    previous = copied_previous(folder, config)
    if previous is None:
        return Member(network, config)
    first = tuple(load_member(part, mirror, device) for part in run_folders(previous))
    return CascadeMember(network, config, first)


def with_previous(splits: Splits, previous: Path, device: str = "cpu") -> Splits:
    """All cases with what the first stage, a run or the folds of one, finds in them as one more channel."""
    from tqdm import tqdm

    members = [load_member(folder, device=device) for folder in run_folders(previous)]
    by_fold = {member.config.fold: member for member in members}
    unseen: dict[str, int] = {}  # the fold whose network has not seen a case
    if len(members) > 1:
        unseen = {case.name: k for k in range(FOLDS) for case in with_fold(splits, k, FOLDS).validation}
    else:
        print(
            f"{previous} is one network and has seen the training cases: there its segmentations are better "
            "than in new images. The folds of a cross-validation (--fold all) give honest ones."
        )

    def segmented(case: Case) -> Case:
        asked = [by_fold[unseen[case.name]]] if case.name in unseen else members
        bar.update()
        return replace(case, image=with_labels(case.image, predict_ensemble(asked, case.image)))

    parts = (splits.train, splits.validation, splits.test, splits.shifted)
    with tqdm(total=sum(map(len, parts)), desc="Segmenting by the first stage") as bar:
        return Splits(*([segmented(case) for case in part] for part in parts))


# ---- the run of the first stage ---------------------------------------------------------------------


def check_previous(
    previous: Path | None, planned: Plan | None, chosen: Configuration | None, plan: Path | None,
    ratio: Sequence[int],
) -> None:  # fmt: skip
    """Refuse a first stage where there is nothing to refine, and one that is missing or another one."""
    if planned is None or chosen is None or chosen.previous is None:
        if previous is not None:
            name = chosen.name if chosen else "a network without a plan"
            raise ValueError(f"train: {name} has no first stage; leave out --previous")
        return
    train = f"minidl train --plan {plan} --config"
    if previous is None:
        raise ValueError(
            f"train: {chosen.name} corrects what {chosen.previous} finds; train that first,\n"
            f"    {train} {chosen.previous} --fold all --out low\n"
            f"    {train} {chosen.name} --previous low\n"
            "Without --fold all the first stage takes a fifth of the time, but is better on training cases "
            "than on new ones."
        )
    folders = run_folders(previous)
    configs = [load_run(folder)[0] for folder in folders]
    if folders != [previous] and [config.fold for config in configs] != list(range(FOLDS)):
        names = ", ".join(folder.name for folder in folders)
        raise ValueError(f"train: {previous} holds {names}, a first stage needs all {FOLDS} folds or one run")
    for folder, config in zip(folders, configs):
        for what, found, expected in (
            ("configuration", config.configuration.name, chosen.previous),
            ("number of channels", len(config.channels), len(planned.channels)),
            ("number of classes", len(config.classes), len(planned.classes)),
            # By another split it has trained on cases that are for testing here.
            ("split", ",".join(map(str, config.ratio)), ",".join(map(str, ratio))),
        ):
            if found != expected:
                raise ValueError(
                    f"train: the {what} of the first stage {folder} is {found}, but {chosen.name} needs "
                    f"{expected}"
                )


def copy_previous(previous: Path, run: Path) -> PreviousRun:
    """Copy the networks of the first stage into the folder of a run."""
    for folder in run_folders(previous):
        for name in FILES:
            with atomic_write(run / COPY / folder.relative_to(previous) / name) as temporary:
                shutil.copyfile(folder / name, temporary)
    return PreviousRun(str(previous), _digest(run / COPY))


def copied_previous(run: Path, config: Config) -> Path | None:
    """The copy of the first stage in a run, None for one that has none; ValueError if it has changed."""
    if config.previous is None:
        return None
    copy = run / COPY
    if not copy.is_dir() or _digest(copy) != config.previous.sha256:
        raise ValueError(
            f"{copy} is not the first stage with which {run} was trained, a copy of {config.previous.run}; "
            "put it back or train anew"
        )
    return copy


def _digest(previous: Path) -> str:
    hashes = hashlib.sha256()
    for folder in run_folders(previous):
        for name in FILES:
            content = (folder / name).read_bytes()
            hashes.update(f"{folder.relative_to(previous)}/{name} {len(content)}".encode())
            hashes.update(content)
    return hashes.hexdigest()


# ---- training batches -------------------------------------------------------------------------------


class CascadeSampler(Sampler):
    """Batches whose images (N, C + 1, *patch) end in the label map of the first stage.

    While it trains, that is damaged at random (`damaged`), so that the second stage does not simply copy it.
    """

    def __init__(
        self, cases: Sequence[Case], patch: tuple[int, ...], batch: int, augmentation: Augmentation, seed: int
    ):
        super().__init__(cases, patch, batch, augmentation, seed)
        self.cases = [self._split(case) for case in cases]

    @staticmethod
    def _split(case: Case) -> Case:
        """The image alone, and both label maps (2, *S)."""
        *image, found = case.image.array
        both = np.stack([case.label.array, found.astype(case.label.array.dtype)])
        return replace(
            case, image=replace(case.image, array=np.stack(image)), label=replace(case.label, array=both)
        )

    def _patch(
        self, case: Case, starts: Sequence[int], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        image, (label, found) = super()._patch(case, starts, rng)
        if self.augmentation != AUGMENTATIONS["none"]:
            found = damaged(found, rng)
        return np.concatenate([image, found[None].astype(image.dtype)]), label


def damaged(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A label map (*S) with faults as a first stage makes them, at nnU-Net's rates.

    In 4 of 10 every class is dilated, eroded, closed or opened by a ball with a radius from U(1, 8) voxels;
    in 2 of 10 every class loses one of those components that cover less than 15 % of the patch.
    """
    from scipy import ndimage

    labels, classes = labels.copy(), np.unique(labels[labels > 0])
    if rng.random() < 0.4:
        for c in rng.permutation(classes):
            steps = ([_dilated], [_eroded], [_dilated, _eroded], [_eroded, _dilated])[rng.integers(4)]
            before, radius = labels == c, rng.uniform(1, 8)
            mask = before
            for step in steps:
                mask = step(mask, radius)
            labels[before] = 0
            labels[mask] = c
    if rng.random() < 0.2:
        for c in classes:
            components, _ = ndimage.label(labels == c)
            sizes = np.bincount(components.ravel())
            small = [k for k in range(1, len(sizes)) if sizes[k] < 0.15 * labels.size]
            if small:
                labels[components == rng.choice(small)] = 0
    return labels


def _dilated(mask: np.ndarray, radius: float) -> np.ndarray:
    """All voxels at most so far from the mask; by distances, which cost the same for every radius."""
    from scipy import ndimage

    return ndimage.distance_transform_edt(~mask) <= radius if mask.any() else mask


def _eroded(mask: np.ndarray, radius: float) -> np.ndarray:
    return ~_dilated(~mask, radius)
