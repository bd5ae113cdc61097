"""The cases of a run by what they are for: training, validation and test; folds of cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from minidl.data import Case, Dataset, PhantomDataset, split_indices

PHANTOMS = {2: (200, 20, 40), 3: (60, 6, 20)}  # generated cases for training, validation and test


@dataclass
class Splits:
    """The cases as they were read, by what they are for."""

    train: list[Case]
    validation: list[Case]
    test: list[Case]
    shifted: list[Case] = field(default_factory=list)  # phantoms with more noise and bias than the others

    def __str__(self) -> str:
        return f"{len(self.train)} training, {len(self.validation)} validation, {len(self.test)} test cases"

    def digest(self) -> str:
        """A hash of all cases: a resumed run must find the very images and labels it began with."""
        hashes = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            hashes.update(f"{len(part)} cases".encode())
            for case in part:
                for image in (case.image, case.label):
                    about = (case.name, image.array.shape, str(image.array.dtype), image.spacing)
                    hashes.update(repr(about).encode())
                    hashes.update(np.ascontiguousarray(image.array).data)
        return hashes.hexdigest()


def load_phantoms(dims: int) -> tuple[Dataset, Splits]:
    """The generated default: training, validation and test phantoms, and a shifted test split."""
    counts = dict(zip(("train", "validation", "test"), PHANTOMS[dims])) | {"shifted": PHANTOMS[dims][2]}
    datasets = {name: PhantomDataset(name, n, dims) for name, n in counts.items()}
    return datasets["train"], Splits(**{name: dataset.check() for name, dataset in datasets.items()})


def split_cases(cases: Sequence[Case], ratio: Sequence[int], seed: int = 0) -> Splits:
    """Deal cases into training, validation and test."""
    parts = split_indices(len(cases), ratio, seed)
    return Splits(*([cases[i] for i in part] for part in parts))


def with_fold(splits: Splits, fold: int, folds: int) -> Splits:
    """Cross-validation: the training and validation cases dealt anew, every `folds`-th one for validation.

    The test cases stay the same for all folds, so that their networks can be compared and averaged.
    """
    cases = splits.train + splits.validation
    if len(cases) < folds:
        raise ValueError(
            f"with_fold: {folds} folds need at least {folds} cases beside the test, got {len(cases)}"
        )
    chosen = np.arange(len(cases)) % folds == fold  # the order is random already
    train, validation = (_where(cases, mask) for mask in (~chosen, chosen))
    return Splits(train, validation, splits.test, splits.shifted)


def _where(cases: Sequence[Case], mask: Iterable[bool]) -> list[Case]:
    return [case for case, wanted in zip(cases, mask) if wanted]
