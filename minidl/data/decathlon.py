"""Writes a dataset as a folder of the Medical Segmentation Decathlon, which most programs read."""

from __future__ import annotations

import json
from pathlib import Path

from minidl.data.dataset import Dataset, progress_bar
from minidl.data.images import write_image, write_label
from minidl.files import atomic_write


def write_decathlon(dataset: Dataset, folder: Path) -> None:
    """Write every case to imagesTr/ and labelsTr/ and list them in dataset.json, which comes last.

    Volumes and pictures alike become NIfTI, the channels of an image its fourth axis.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"write_decathlon: {folder} exists and is not empty; choose another or remove it")
    pairs = []
    for i in progress_bar(range(len(dataset)), True):
        case = dataset.load(i)
        image, label = (f"{kind}/{case.name}.nii.gz" for kind in ("imagesTr", "labelsTr"))
        write_image(folder / image, case.image)
        write_label(folder / label, case.label.array, case.label)
        pairs.append({"image": f"./{image}", "label": f"./{label}"})
    description = {
        "name": folder.name,
        "description": dataset.describe(),
        "tensorImageSize": f"{dataset.dims}D",
        "modality": {str(i): name for i, name in enumerate(dataset.channels)},
        "labels": {str(i): name for i, name in enumerate(dataset.classes)},
        "numTraining": len(pairs),
        "numTest": 0,
        "training": pairs,
        "test": [],
    }
    with atomic_write(folder / "dataset.json") as temporary:
        temporary.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
