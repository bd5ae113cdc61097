"""Opens a folder of labelled images, whichever of the usual layouts it has.

    dataset.json, imagesTr/, labelsTr/         Medical Segmentation Decathlon
    imagesTr/<case>_0000.nii.gz, labelsTr/     nnU-Net, with or without dataset.json
    images/, labels/ or masks/                 pairs of files with the same name
    <case>/images/*, <case>/masks/*            Data Science Bowl 2018, one mask per object

A layout function returns None if the folder has another layout, and raises DataError if it has
this one but something is missing.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minidl.data.dataset import CaseFiles, Dataset, FolderDataset, counted, listed
from minidl.data.images import SUFFIXES, DataError, suffix_of

_FOLDER_PAIRS = (("images", "labels"), ("images", "masks"), ("imagesTr", "labelsTr"))


def open_dataset(folder: str | os.PathLike[str]) -> Dataset:
    """Recognises the layout of a folder, or of its only subfolder that has one.

    Raises DataError that says what was looked for and what was found.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file; unpack it if it is an archive" if folder.exists() else "does not exist"
        raise DataError(f"{folder}: a folder is needed, but this {what}")
    dataset = _recognise(folder)
    if dataset is not None:
        return dataset

    visible = _visible(folder)
    below = [found for sub in visible if sub.is_dir() and (found := _recognise(sub))]
    if len(below) == 1:
        return below[0]
    if below:
        names = listed([str(found.folder) for found in below], ", ")
        raise DataError(f"{folder}: holds {counted(len(below), 'dataset')}, open one: {names}")
    raise DataError(
        f"{folder}: no known layout. Looked for imagesTr and labelsTr (Decathlon or nnU-Net), "
        "images and labels or masks, or <case>/images and <case>/masks; found "
        f"{listed([path.name for path in visible], ', ') or 'nothing'}"
    )


def _recognise(folder: Path) -> FolderDataset | None:
    description = _read_description(folder / "dataset.json")
    for layout in (_nnunet, _decathlon, _pairs, _one_folder_per_case):
        dataset = layout(folder, description)
        if dataset is not None:
            return dataset
    return None


# ---- layouts ----------------------------------------------------------------------------------


def _nnunet(folder: Path, description: Mapping[str, Any]) -> FolderDataset | None:
    """imagesTr/<case>_<channel, four digits>, labelsTr/<case>."""
    if not all((folder / name).is_dir() for name in ("imagesTr", "labelsTr")):
        if "channel_names" in description:
            raise DataError(f"{folder}: dataset.json is there, but imagesTr or labelsTr is missing")
        return None
    labels = _files_by_name(folder / "labelsTr")
    images: dict[str, dict[int, Path]] = {}
    for name, path in _files_by_name(folder / "imagesTr").items():
        if match := re.fullmatch(r"(.+)_(\d{4})", name, re.ASCII):
            images.setdefault(match[1], {})[int(match[2])] = path
    if "channel_names" not in description and not images.keys() & labels.keys():
        return None

    channels = _names_by_number(folder, description, ("channel_names", "modality"))
    count = len(channels or max(images.values(), default={}, key=len))
    names, unlabelled, imageless = _match(folder, images, labels)
    files = []
    for name in names:
        missing = [f"{name}_{i:04d}" for i in range(count) if i not in images[name]]
        if missing or len(images[name]) > count:
            raise DataError(
                f"{folder / 'imagesTr'}: {count} channels expected of case {name}, found "
                f"{len(images[name])}" + (f"; {listed(missing, ', ')} missing" if missing else "")
            )
        files.append(CaseFiles(name, tuple(images[name][i] for i in range(count)), (labels[name],)))
    classes = _names_by_number(folder, description, ("labels",))
    return FolderDataset(folder, "nnU-Net", files, classes, channels, unlabelled, imageless)


def _decathlon(folder: Path, description: Mapping[str, Any]) -> FolderDataset | None:
    """dataset.json lists the cases: {"training": [{"image": path, "label": path}, ...]}."""
    if "training" not in description:
        return None
    source = folder / "dataset.json"
    training = description["training"]
    if not isinstance(training, list) or not training:
        raise DataError(f"{source}: 'training' must list at least one case")
    files: dict[str, CaseFiles] = {}
    for pair in training:
        if not isinstance(pair, dict):
            raise DataError(f"{source}: 'training' must list pairs of image and label, got {pair!r}")
        image, label = (_listed_file(folder, pair.get(key)) for key in ("image", "label"))
        name = _name(image)
        if name in files:
            raise DataError(f"{source}: 'training' lists the case {name} twice")
        files[name] = CaseFiles(name, (image,), (label,))
    return FolderDataset(
        folder,
        "Medical Segmentation Decathlon",
        list(files.values()),
        _names_by_number(folder, description, ("labels",)),
        _names_by_number(folder, description, ("modality",)),
    )


def _pairs(folder: Path, description: Mapping[str, Any]) -> FolderDataset | None:
    """images/<case>, labels/<case>; the suffixes may differ."""
    for pair in _FOLDER_PAIRS:
        if all((folder / name).is_dir() for name in pair):
            images, labels = (_files_by_name(folder / name) for name in pair)
            names, unlabelled, imageless = _match(folder, images, labels)
            files = [CaseFiles(name, (images[name],), (labels[name],)) for name in names]
            return FolderDataset(folder, " / ".join(pair), files, unlabelled=unlabelled, imageless=imageless)
    return None


def _one_folder_per_case(folder: Path, description: Mapping[str, Any]) -> FolderDataset | None:
    """<case>/images/<one file>, <case>/masks/<one file per object>."""
    images, masks = {}, {}
    for case in _visible(folder):
        if (case / "images").is_dir():
            found = list(_files_by_name(case / "images").values())
            if len(found) != 1:
                return None
            images[case.name] = found[0]
            if (case / "masks").is_dir() and (of_case := _files_by_name(case / "masks")):
                masks[case.name] = tuple(of_case.values())
    if not masks:
        return None
    names, unlabelled, _ = _match(folder, images, masks)
    return FolderDataset(
        folder,
        "Data Science Bowl 2018",
        [CaseFiles(name, (images[name],), masks[name], union=True) for name in names],
        classes=("background", "class 1"),
        unlabelled=unlabelled,
    )


# ---- files and names --------------------------------------------------------------------------


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, without hidden files (macOS archives are full of them)."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _name(path: Path) -> str:
    return path.name[: len(path.name) - len(suffix_of(path))]


def _files_by_name(folder: Path) -> dict[str, Path]:
    """The image files in a folder by their name without suffix."""
    files: dict[str, Path] = {}
    for path in _visible(folder):
        if suffix_of(path):
            other = files.setdefault(_name(path), path)
            if other != path:
                raise DataError(f"{path}: {other.name} in the same folder has the same case name")
    return files


def _match(
    folder: Path, images: Mapping[str, Any], labels: Mapping[str, Any]
) -> tuple[list[str], list[str], list[str]]:
    """The names in both, in images only and in labels only. Most must be in both."""
    both = sorted(images.keys() & labels.keys())
    unlabelled = sorted(images.keys() - labels.keys())
    imageless = sorted(labels.keys() - images.keys())
    if len(both) <= len(unlabelled) + len(imageless):
        raise DataError(
            f"{folder}: images and labels are matched by name, but only {len(both)} of "
            f"{counted(len(images), 'image')} and {counted(len(labels), 'label')} match "
            f"(names must end in {', '.join(SUFFIXES)}). "
            f"Without label: {listed(unlabelled, ', ') or 'none'}. "
            f"Without image: {listed(imageless, ', ') or 'none'}"
        )
    return both, unlabelled, imageless


# ---- dataset.json, which anybody may have written ---------------------------------------------


def _read_description(path: Path) -> Mapping[str, Any]:
    """The object in a JSON file; empty if there is no file."""
    if not path.is_file():
        return {}
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(description, dict):
        raise DataError(f"{path}: a JSON object is needed, got {type(description).__name__}")
    return description


def _names_by_number(
    folder: Path, description: Mapping[str, Any], keys: Sequence[str]
) -> tuple[str, ...] | None:
    """Names indexed by number, under the first of `keys` that exists; None if there is none.

    The Decathlon writes {"0": "background"}, nnU-Net {"background": 0} or {"0": "MRI"}.
    """
    key = next((key for key in keys if key in description), None)
    if key is None:
        return None
    entries = description[key]
    names: dict[int, str] = {}
    for left, right in entries.items() if isinstance(entries, dict) else ():
        name, number = (right, left) if isinstance(right, str) else (left, right)
        if re.fullmatch(r"\d{1,3}", str(number), re.ASCII):
            names[int(number)] = name
    if not names or sorted(names) != list(range(len(entries))):
        raise DataError(
            f"{folder / 'dataset.json'}: {key!r} must give each name one number, 0, 1, 2, ... "
            f"(regions of several labels are not supported), got {str(entries)[:200]}"
        )
    return tuple(names[number] for number in range(len(names)))


def _listed_file(folder: Path, entry: object) -> Path:
    """The file that dataset.json lists, which must exist inside the folder."""
    source = folder / "dataset.json"
    if not isinstance(entry, str):
        raise DataError(f"{source}: a file name is needed in 'training', got {str(entry)[:200]}")
    relative = Path(entry)
    if relative.anchor or ".." in relative.parts:
        raise DataError(f"{source}: {entry[:200]!r} leads out of the folder")
    path = folder / relative
    if not os.path.isfile(path):  # unlike Path.is_file, not upset by names that no file can have
        raise DataError(f"{path}: listed in dataset.json, but there is no such file")
    return path
