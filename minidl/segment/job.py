"""The jobs behind the commands: choose what a person left open, run, and say what was done."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import minidl
from minidl.data import DataError, open_dataset, write_label
from minidl.data.dataset import read_channels
from minidl.data.images import NIFTI, SUFFIXES, suffix_of
from minidl.models import UNet
from minidl.segment import metrics
from minidl.segment.config import Config, choose_features, choose_patch
from minidl.segment.inference import predict_image
from minidl.segment.sampling import slice_axis
from minidl.segment.train import Training, as_network, load_folder, load_phantoms

BASE_FEATURES = {2: 16, 3: 8}
BATCH = {2: 8, 3: 2}
LEARNING_RATE = 3e-3
SPLIT = (10, 1, 2)


def train(
    data: Path | None,
    dims: int | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    out: Path | None = None,
    split: Sequence[int] = SPLIT,
    batch: int | None = None,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
    classes: Sequence[str] | None = None,
) -> Path:
    """Train on a folder (None: generated phantoms) and return the folder with the results."""
    dataset = None if data is None else open_dataset(data)
    if dataset is not None:
        print(dataset.describe())
        if dims is not None and dims > dataset.dims:
            raise ValueError(
                f"train: the images of {data} are {dataset.dims}-D, a {dims}-D network needs volumes"
            )
    dims = dims or (dataset.dims if dataset else 2)
    out = claim_folder(out, f"{data.resolve().name if data else 'phantom'}-{dims}d")
    if dataset is None:
        dataset, splits = load_phantoms(dims)
        print(dataset.describe())
    else:
        splits = load_folder(dataset, split)
    shapes = [_plane_shape(case.image, dims) for case in splits.train]
    patch, depth = choose_patch(shapes)
    config = Config(
        data=None if data is None else str(data),
        dims=dims,
        classes=_class_names(dataset.classes, classes),
        channels=tuple(dataset.channels),
        patch=patch,
        features=choose_features(BASE_FEATURES[dims], depth),
        batch=batch or BATCH[dims],
        minutes=None if steps else (2.0 if minutes is None else minutes),
        steps=steps,
        learning_rate=learning_rate,
        mirror=splits.train[0].image.affine is None,  # pictures have no canonical orientation, anatomy has
        seed=seed,
        split=(len(splits.train), len(splits.validation), len(splits.test)),
    )
    training = Training(config, splits, out)
    facts = _facts(config, training.model, dataset.describe())
    print(_headline(config, training.model))
    training.run()
    training.evaluate(facts)
    print((out / "report.md").read_text())
    print(f"Results: {out}")
    return out


def _class_names(found: Sequence[str], given: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the label values: those of the dataset, or a person's."""
    if given is not None and len(given) != len(found):
        raise ValueError(f"train: --classes names {len(given)} classes, the labels hold {len(found)}")
    return tuple(given or found)


def _plane_shape(image: Any, dims: int) -> tuple[int, ...]:
    """The shape of an image, or of its slices where the network is flat."""
    shape = image.spatial
    if len(shape) == dims:
        return shape
    axis = slice_axis(image.spacing)
    return tuple(n for i, n in enumerate(shape) if i != axis)


def claim_folder(out: Path | None, name: str) -> Path:
    """A new folder for a run: the given one, or the first free runs/NAME, runs/NAME-2, ..."""
    if out is not None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"train: {out} exists and is not empty; choose another --out or remove it")
        out.mkdir(parents=True, exist_ok=True)
        return out
    number = 1
    while True:
        candidate = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            candidate.mkdir(parents=True)  # fails if it exists: two runs never share a folder
            return candidate
        except FileExistsError:
            number += 1


def _size(config: Config) -> str:
    return "x".join(map(str, config.patch))


def _headline(config: Config, model: UNet) -> str:
    budget = f"{config.steps} steps" if config.steps else f"{config.minutes:g} minutes"
    parameters = sum(p.numel() for p in model.parameters())
    train, validation, test = config.split
    return (
        f"Training a {config.dims}-D U-Net ({parameters:,} parameters) to find "
        f"{', '.join(config.classes[1:])}: "
        f"{train} training, {validation} validation, {test} test cases; patches of {_size(config)}, "
        f"batches of {config.batch}, {budget}."
    )


def _facts(config: Config, model: UNet, description: str) -> dict[str, Any]:
    train, validation, test = config.split
    return {
        "data": description,
        "split": f"{train} training, {validation} validation, {test} test cases",
        "network": f"{config.dims}-D U-Net, features {', '.join(map(str, config.features))}, "
        f"{sum(p.numel() for p in model.parameters()):,} parameters",
        "training": f"{_size(config)} patches, batch {config.batch}, Adam {config.learning_rate:g}, "
        f"seed {config.seed}, "
        + (f"{config.steps} steps" if config.steps else f"{config.minutes:g} minutes"),
    }


def load_run(run: Path) -> tuple[Config, UNet]:
    """The configuration and the trained network of a run folder."""
    config = Config.load(run / "config.json")
    model = config.network()
    model.load_state_dict(minidl.load(run / "weights.safetensors"))
    model.eval()
    return config, model


def _images(paths: Sequence[Path]) -> list[Path]:
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


def _by_case(files: Sequence[Path], channels: int) -> dict[str, list[Path]]:
    """The files of each case by its name; of several channels CASE_0000, CASE_0001, ... belong together."""
    cases: dict[str, list[Path]] = {}
    for path in files:
        numbered = re.fullmatch(r"(.+)_\d{4}", _stem(path), re.ASCII) if channels > 1 else None
        name = numbered[1] if numbered else _stem(path)
        if name in cases and not numbered:
            raise ValueError(f"predict: two of the images are called {name}, and would share one result")
        cases.setdefault(name, []).append(path)
    return cases


def predict(run: Path, images: Sequence[Path], out: Path) -> list[Path]:
    """Segment images with the network of a run: one label map a case, in the image's format and geometry."""
    from tqdm import tqdm

    config, model = load_run(run)
    network = as_network(model)
    cases = _by_case(_images(images), len(config.channels))
    targets = []
    for name, paths in tqdm(cases.items(), "Predicting", disable=len(cases) < 2):
        image = read_channels(sorted(paths))
        if len(image.array) != len(config.channels):
            raise DataError(
                f"{paths[0]}: has {len(image.array)} channels, the network expects {len(config.channels)}"
            )
        if len(image.spatial) < config.dims:
            raise DataError(
                f"{paths[0]}: is {len(image.spatial)}-D, the network needs {config.dims}-D images"
            )
        suffix = suffix_of(paths[0]) if suffix_of(paths[0]) in NIFTI else ".png"
        targets.append(out / f"{name}{suffix}")
        write_label(targets[-1], predict_image(network, image.array, image.spacing, config.patch), image)
    names = ", ".join(target.name for target in targets[:3]) + ", ..." * (len(targets) > 3)
    print(f"Label maps in {out}: {names}")
    return targets


def evaluate(predictions: Path, truths: Path, classes: Sequence[str] | None, out: Path | None) -> list[dict]:
    """Compare label maps with the truth of the same name: prints tables, writes a CSV, returns the rows."""
    from minidl.data import read_label

    found, true = ({_stem(p): p for p in _images([folder])} for folder in (predictions, truths))
    names = sorted(found.keys() & true.keys())
    if not names:
        raise DataError(f"evaluate: no file in {predictions} has the name of one in {truths}")
    pairs = [(name, read_label(found[name]), read_label(true[name])) for name in names]
    top = max(int(label.array.max(initial=0)) for _, a, b in pairs for label in (a, b))
    classes = (
        tuple(classes) if classes else ("background", *(f"class {c}" for c in range(1, max(top, 1) + 1)))
    )
    rows = []
    for name, prediction, truth in pairs:
        if prediction.array.shape != truth.array.shape:
            raise DataError(
                f"{found[name]}: shape {prediction.array.shape}, but {true[name]} has {truth.array.shape}"
            )
        rows += [
            {"case": name, **row}
            for row in metrics.evaluate_case(prediction.array, truth.array, classes, truth.spacing)
        ]
    print(metrics.format_table([{k: r[k] for k in ("case", "class", "dice", "iou", "hd95")} for r in rows]))
    print()
    print(
        metrics.format_table([s for s in metrics.summarize(rows) if s["measure"] in ("dice", "iou", "hd95")])
    )
    missing = sorted(true.keys() - found.keys())
    if missing:
        print(f"\n{len(missing)} of {len(true)} cases have no prediction: {', '.join(missing[:5])}")
    metrics.write_csv(out or predictions / "metrics.csv", rows)
    return rows


def _stem(path: Path) -> str:
    return path.name[: len(path.name) - len(suffix_of(path))]
