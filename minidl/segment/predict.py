"""The job behind `minidl predict`: label maps of new images by one trained network or by several together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce
from itertools import takewhile
from operator import and_
from pathlib import Path

from minidl.data import DataError, write_label
from minidl.data.dataset import counted, read_channels
from minidl.data.images import NIFTI, SUFFIXES, suffix_of
from minidl.segment.cascade import load_member
from minidl.segment.crf import with_crf
from minidl.segment.inference import Member, predict_ensemble
from minidl.segment.postprocess import Postprocessing
from minidl.segment.trained import run_folders


def predict(
    run: Path,
    images: Sequence[Path],
    out: Path,
    mirror: bool | None = None,
    device: str = "cpu",
    crf: bool = False,
) -> list[Path]:
    """Segment images with the networks of runs: one label map a case, in the image's format and geometry.

    Folders of runs that lead the `images` belong to the ensemble, and a folder of cross-validation stands for
    its folds. Logits are averaged over reflections if `mirror`, by default where a network was trained on
    mirrored images. With `crf` those of each network go through the CRF that `minidl crf` has fitted to its
    run. What is removed afterwards is what every run has chosen.
    """
    from tqdm import tqdm

    others = list(takewhile(_is_run, images))
    folders = [folder for path in (run, *others) for folder in run_folders(path)]
    members = [load_member(folder, mirror, device) for folder in folders]
    if crf:
        members = [with_crf(member, folder, device) for member, folder in zip(members, folders)]
    postprocessing = reduce(and_, (Postprocessing.load(folder) for folder in folders))
    _check_members(folders, members)
    config = members[0].config
    if len(images) == len(others):
        raise ValueError("predict: got runs alone; name the images to segment after them")
    cases = _by_case(image_files(images[len(others) :]), len(config.channels))
    targets = []
    if len(members) > 1:
        print(f"An ensemble of {len(members)} networks: {', '.join(map(str, folders))}")
    for name, paths in tqdm(cases.items(), "Predicting", disable=len(cases) < 2):
        image = read_channels(sorted(paths))
        if len(image.array) != len(config.channels):
            raise DataError(
                f"{paths[0]}: has {len(image.array)} channels, the network expects {len(config.channels)}"
            )
        dims = max(member.config.dims for member in members)
        if len(image.spatial) < dims:
            raise DataError(f"{paths[0]}: is {len(image.spatial)}-D, the network needs {dims}-D images")
        suffix = suffix_of(paths[0]) if suffix_of(paths[0]) in NIFTI else ".png"
        targets.append(out / f"{name}{suffix}")
        write_label(targets[-1], postprocessing(predict_ensemble(members, image)), image)
    names = ", ".join(target.name for target in targets[:3]) + ", ..." * (len(targets) > 3)
    print(f"Label maps in {out}: {names}")
    return targets


# ---- runs -------------------------------------------------------------------------------------------


def _is_run(path: Path) -> bool:
    try:
        return path.is_dir() and bool(run_folders(path))
    except ValueError:
        return False


def _check_members(folders: Sequence[Path], members: Sequence[Member]) -> None:
    first = members[0].config
    for folder, member in zip(folders, members):
        for what, expected, found in (
            ("class", first.classes, member.config.classes),
            ("channel", first.channels, member.config.channels),
        ):
            if expected != found:
                raise ValueError(
                    f"predict: {folders[0]} has {counted(len(expected), what)} ({', '.join(expected)}), "
                    f"{folder} has {counted(len(found), what)} ({', '.join(found)}); "
                    "an ensemble needs the same"
                )


# ---- files ------------------------------------------------------------------------------------------


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The image files among files and folders, sorted within a folder."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if not p.name.startswith(".") and suffix_of(p))
            if not inside:
                raise DataError(f"{path}: there are no images ({', '.join(SUFFIXES)}) in this folder")
            found += inside
        else:
            found.append(path)
    return found


def case_name(path: Path) -> str:
    """The name of a file without its suffix."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def _by_case(files: Sequence[Path], channels: int) -> dict[str, list[Path]]:
    """The files of each case by its name; of several channels CASE_0000, CASE_0001, ... belong together."""
    cases: dict[str, list[Path]] = {}
    for path in files:
        numbered = re.fullmatch(r"(.+)_\d{4}", case_name(path), re.ASCII) if channels > 1 else None
        name = numbered[1] if numbered else case_name(path)
        if name in cases and not numbered:
            raise ValueError(f"predict: two of the images are called {name}, and would share one result")
        cases.setdefault(name, []).append(path)
    return cases
