"""What a dataset is: labelled cases in a fixed order, read from a folder or generated."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from minidl.data.images import DataError, Image, read_image, read_label

T = TypeVar("T")

LARGEST_CLASS = 255  # larger label values number objects, not classes
TOLERANCE = 1e-3  # in mm, between the spacing and affine of an image and of its label


@dataclass(frozen=True, eq=False)
class Case:
    """One image (C, *spatial) with its label (*spatial)."""

    name: str
    image: Image
    label: Image


class Dataset(Protocol):
    """What every dataset offers.

    The cases are sorted by name. `classes[k]` is the name of label value k. `skipped` names the
    images without label and the labels without image, which are left out.
    """

    @property
    def folder(self) -> Path | None: ...
    @property
    def layout(self) -> str: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def channels(self) -> tuple[str, ...]: ...
    @property
    def dims(self) -> int: ...
    @property
    def skipped(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def load(self, index: int) -> Case:
        """Reads one case. Raises DataError, which names the file, if it cannot be used."""

    def describe(self) -> str:
        """Says in one or two sentences what was found."""

    def check(self, progress: bool = True) -> list[Case]:
        """Loads every case once and returns them. Raises one DataError that lists all faults."""


@dataclass(frozen=True)
class CaseFiles:
    """Where a case lies: one image file per channel, or one for all, and one label file.

    With `union`, the label files are masks of one object each, and the label is their union.
    """

    name: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    union: bool = False


class FolderDataset:
    """A Dataset of files. `classes` and `channels` are found in the files where not given."""

    def __init__(
        self,
        folder: Path,
        layout: str,
        files: Sequence[CaseFiles],
        classes: tuple[str, ...] | None = None,
        channels: tuple[str, ...] | None = None,
        unlabelled: Sequence[str] = (),
        imageless: Sequence[str] = (),
    ):
        self.folder, self.layout = folder, layout
        self._files = sorted(files, key=lambda case: case.name)
        self.names = tuple(case.name for case in self._files)
        self._declared_classes, self._declared_channels = classes, channels
        self._unlabelled, self._imageless = sorted(unlabelled), sorted(imageless)
        self.skipped = tuple(sorted({*unlabelled, *imageless}))

    def __len__(self) -> int:
        return len(self._files)

    # What no file declares is looked up in the files, once, when somebody asks. `check`, which
    # reads everything anyway, fills both in.

    @cached_property
    def _example(self) -> Image:
        return read_channels(self._files[0].images)

    @cached_property
    def _label_values(self) -> set[int]:
        return set().union(*(_distinct(_read_label(case)) for case in self._files))

    @property
    def dims(self) -> int:
        return len(self._example.spatial)

    @property
    def channels(self) -> tuple[str, ...]:
        if self._declared_channels is not None:
            return self._declared_channels
        return tuple(f"channel {i}" for i in range(len(self._example.array)))

    @property
    def _white_is_one(self) -> bool:
        """Whether the labels are black-and-white masks, which store class 1 as 255."""
        values = self._label_values if self._declared_classes is None else set()
        return 255 in values and values <= {0, 255}

    @property
    def classes(self) -> tuple[str, ...]:
        if self._declared_classes is not None:
            return self._declared_classes
        if self._label_values == {0, 1, 255}:
            raise DataError(
                f"{self.folder}: the label values are 0, 1 and 255. Either masks with 0/1 and with "
                "0/255 are mixed, or 255 marks unknown voxels; neither is supported"
            )
        largest = 1 if self._white_is_one else min(max(self._label_values), LARGEST_CLASS)
        return ("background", *(f"class {k}" for k in range(1, largest + 1)))

    def load(self, index: int) -> Case:
        return self._finish(self._files[index], _read_case(self._files[index]))

    def _finish(self, files: CaseFiles, case: Case) -> Case:
        """Fits a case that was just read into the set: label values, dims and channels."""
        if self._white_is_one:
            label = replace(case.label, array=(case.label.array == 255).astype(np.uint8))
            case = replace(case, label=label)
        outside = _distinct(case.label) - set(range(len(self.classes)))
        if outside:
            raise DataError(
                f"{files.labels[0]}: label value {', '.join(map(str, sorted(outside)[:5]))} is not "
                f"one of the {counted(len(self.classes), 'class')} 0 ... {len(self.classes) - 1}"
            )
        dims, channels = len(case.image.spatial), len(case.image.array)
        if (dims, channels) != (self.dims, len(self.channels)):
            raise DataError(
                f"{files.images[0]}: {dims}-D with {counted(channels, 'channel')}, but the dataset "
                f"is {self.dims}-D with {counted(len(self.channels), 'channel')}"
            )
        return case

    def describe(self) -> str:
        text = f"{self.layout} folder: {contents(self)}."
        skipped = []
        if self._unlabelled:
            skipped.append(f"{counted(len(self._unlabelled), 'image')} without label")
        if self._imageless:
            skipped.append(f"{counted(len(self._imageless), 'label')} without image")
        if skipped:
            text += f" Skipped: {' and '.join(skipped)} ({listed(self.skipped, ', ')})."
        return text

    def check(self, progress: bool = True) -> list[Case]:
        read: list[tuple[CaseFiles, Case]] = []
        problems: list[str] = []
        for files in progress_bar(self._files, progress):
            try:
                read.append((files, _read_case(files)))
            except DataError as error:
                problems.append(str(error))
        if read:
            self._example = read[0][1].image
            self._label_values = set().union(*(_distinct(case.label) for _, case in read))
        cases = []
        for files, case in read:
            try:
                cases.append(self._finish(files, case))
            except DataError as error:
                problems.append(str(error))
        problems = list(dict.fromkeys(problems))  # a fault of the whole set came once per case
        if problems:
            summary = f"{self.folder}: {counted(len(problems), 'problem')}:\n  "
            raise DataError(summary + listed(problems, "\n  "))
        return cases


# ---- reading one case -------------------------------------------------------------------------


def read_channels(paths: Sequence[Path]) -> Image:
    """The image (C, *spatial) whose channels lie in `paths`."""
    first, *others = [read_image(path) for path in paths]
    for path, other in zip(paths[1:], others, strict=True):
        _check_same_space(path, other, paths[0], first)
    return replace(first, array=np.concatenate([first.array, *(other.array for other in others)]))


def _read_label(files: CaseFiles) -> Image:
    """The label (*spatial) of a case."""
    first, *others = [read_label(path) for path in files.labels]
    if not files.union:
        return first
    for path, other in zip(files.labels[1:], others, strict=True):
        _check_same_space(path, other, files.labels[0], first)
    union = np.any([mask.array != 0 for mask in (first, *others)], axis=0)
    return replace(first, array=union.astype(np.uint8))


def _read_case(files: CaseFiles) -> Case:
    image, label = read_channels(files.images), _read_label(files)
    _check_same_space(files.labels[0], label, files.images[0], image)
    return Case(files.name, image, label)


def _check_same_space(path: Path, image: Image, other_path: Path, other: Image) -> None:
    if image.spatial != other.spatial:
        raise DataError(f"{path}: the shape is {image.spatial}, but {other.spatial} in {other_path}")
    if not np.allclose(image.spacing, other.spacing, rtol=0, atol=TOLERANCE):
        raise DataError(f"{path}: the spacing is {image.spacing} mm, but {other.spacing} mm in {other_path}")
    if image.affine is None or other.affine is None:
        return  # pictures do not say where they lie
    if not np.allclose(image.affine, other.affine, rtol=0, atol=TOLERANCE):
        raise DataError(f"{path}: the affine differs from that of {other_path}")


def _distinct(label: Image) -> set[int]:
    return set(np.unique(label.array).tolist())


# ---- words ------------------------------------------------------------------------------------


def contents(dataset: Dataset) -> str:
    """The countable facts: "260 cases, 3-D, 1 channel (MRI), 3 classes (background, ...)"."""
    channels, classes = dataset.channels, dataset.classes
    return (
        f"{counted(len(dataset), 'case')}, {dataset.dims}-D, "
        f"{counted(len(channels), 'channel')} ({', '.join(channels)}), "
        f"{counted(len(classes), 'class')} ({listed(classes, ', ')})"
    )


def counted(n: int, noun: str) -> str:
    """A number with its noun: 1 case, 2 cases, 3 classes."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{n} {noun if n == 1 else plural}"


def listed(items: Sequence[str], separator: str) -> str:
    """The first ten items, and how many more there are."""
    more = [f"and {len(items) - 10} more"] if len(items) > 10 else []
    return separator.join([*items[:10], *more])


def progress_bar(items: Iterable[T], show: bool) -> Iterable[T]:
    """Passes the items on and shows a bar, if wanted, once it has taken two seconds."""
    from tqdm import tqdm

    return tqdm(items, desc="loading", unit="case", delay=2, disable=not show)
