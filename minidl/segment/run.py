"""Runs: choose what a person left open, begin in a folder of its own, go on after a stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from minidl import devices
from minidl.data import Dataset, open_dataset
from minidl.data.geometry import slice_axis
from minidl.files import remove_unfinished
from minidl.models import PlannedUNet
from minidl.segment import cascade, checkpoint
from minidl.segment.config import FOLDS, HALVINGS, Config, quick_configuration
from minidl.segment.lock import NAME as LOCK
from minidl.segment.lock import only_run
from minidl.segment.plan import Configuration, Plan
from minidl.segment.results import write_results
from minidl.segment.schedule import LEARNING_RATES
from minidl.segment.splits import Splits, load_phantoms, split_cases, with_fold
from minidl.segment.train import CHECKPOINT, Training
from minidl.segment.trained import check_size

RATIO = (10, 1, 2)
MINUTES = 2.0
WORKERS = 1  # threads that make batches: on two cores one is enough to keep the network busy


def train(
    data: Path | None = None,
    plan: Path | None = None,
    config: str | None = None,
    dims: int | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    out: Path | None = None,
    split: Sequence[int] = RATIO,
    fold: int | str | None = None,
    batch: int | None = None,
    augmentation: str | None = None,
    optimizer: str = "adam",
    learning_rate: float | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    workers: int = WORKERS,
    previous: Path | None = None,
    device: str = "cpu",
) -> Path:
    """Train on a folder (None: generated phantoms), by a plan or without; returns the folder with the
    results.

    device: where the network lives, "cuda" or "cuda:1" for a GPU; it can be another when the run goes on.
    `fold` k of five: the cases that are not for testing are dealt anew and the k-th fifth validates; "all"
    trains the five one after another, in folders fold_0 to fold_4. `previous`: the run that a cascade
    refines.
    """
    options = dict(locals())
    planned = None if plan is None else Plan.load(plan)
    data = data or (Path(planned.dataset) if planned else None)
    chosen = None if planned is None else _planned(planned, config, batch)
    if config is not None and planned is None:
        raise ValueError("train: --config names a configuration of a plan; give --plan too")
    cascade.check_previous(previous, planned, chosen, plan, split)
    if data is not None:
        dims = check_dims(open_dataset(data), chosen.dims if chosen else dims)
    dims = dims or 2
    name = f"{data.resolve().name if data else 'phantom'}-{chosen.name if chosen else f'{dims}d'}"
    out = claim_folder(out, name)
    if fold == "all":
        for k in range(FOLDS):
            folder = train(**{**options, "fold": k, "out": out / f"fold_{k}"})
            if (folder / CHECKPOINT).exists():
                break  # stopped by hand
        return out
    with only_run(out):
        number = None if fold is None else int(fold)
        dataset, splits = load_splits(data, dims, split, number, previous, device)
        print(dataset.describe())
        if planned:
            _check_plan(planned, dataset, plan)
        made = make_config(
            dataset, splits, dims, planned, chosen,
            data=data, ratio=tuple(split), fold=number, classes=classes,
            minutes=minutes, steps=steps, batch=batch, augmentation=augmentation, optimizer=optimizer,
            learning_rate=learning_rate, seed=seed,
            previous=None if previous is None else cascade.copy_previous(previous, out),
        )  # fmt: skip
        training = Training(made, splits, out, workers, device=device)
        training.save_checkpoint()  # from here on there is something to go on with
        made.save(out / "config.json")
        _finish(training, dataset)
    return out


def resume(run: Path, workers: int = WORKERS, device: str = "cpu") -> Path:
    """Go on with a run that was killed or interrupted; its result is that of a run that was not.

    For budgets of steps to the last bit; a budget of minutes counts the minutes before and after.
    """
    if not (run / CHECKPOINT).is_file():
        finished = (run / "report.md").is_file()
        raise ValueError(
            f"resume: {run} is finished" if finished
            else f"resume: {run} holds no {CHECKPOINT}: there is nothing to go on with; start a new run"
        )  # fmt: skip
    with only_run(run):
        remove_unfinished(run)
        progress, tensors = checkpoint.load(run / CHECKPOINT)
        config, path = progress.config, run / "config.json"
        if path.exists() and Config.load(path) != config:
            raise ValueError(
                f"resume: {path} is not the configuration with which the run began; "
                "put it back or start a new run"
            )
        check_size(config, run / CHECKPOINT)
        config.save(path)
        dataset, splits = load_splits(
            None if config.data is None else Path(config.data), config.dims, config.ratio, config.fold,
            cascade.copied_previous(run, config), device,
        )  # fmt: skip
        training = Training(config, splits, run, workers, device=device)
        training.resume(progress, tensors)
        print(f"Going on at step {progress.step} after {progress.minutes:.1f} minutes.")
        _finish(training, dataset)
    return run


def _finish(training: Training, dataset: Dataset) -> None:
    """Train, evaluate, and remove the checkpoint once there is nothing left to go on with."""
    config, out = training.config, training.out
    facts = _facts(config, training.model, training.splits, dataset.describe())
    facts["device"] = devices.describe(training.device)
    print(_headline(config, training.model, training.splits))
    training.run()
    if training.stopped_at is not None:
        facts["stopped by hand"] = f"at step {training.stopped_at}"
    write_results(out, config, training.network, training.splits, facts)
    if training.stopped_at is None:
        (out / CHECKPOINT).unlink(missing_ok=True)
    print((out / "report.md").read_text(encoding="utf-8"))
    print(f"Results: {out}")


def load_splits(
    data: Path | None,
    dims: int,
    ratio: Sequence[int],
    fold: int | None,
    previous: Path | None = None,
    device: str = "cpu",
) -> tuple[Dataset, Splits]:
    """The dataset and its cases by what they are for; None gives generated phantoms.

    previous: the first stage of a cascade, which segments all of them, on that device.
    """
    if data is None:
        dataset, splits = load_phantoms(dims)
    else:
        dataset = open_dataset(data)
        splits = split_cases(dataset.check(), ratio)
    if previous is not None:
        splits = cascade.with_previous(splits, previous, device)
    return dataset, splits if fold is None else with_fold(splits, fold, FOLDS)


def claim_folder(out: Path | None, name: str) -> Path:
    """A new folder for a run: the given one, or the first free runs/NAME, runs/NAME-2, ..."""
    if out is not None:
        if out.exists() and (not out.is_dir() or any(path.name != LOCK for path in out.iterdir())):
            raise ValueError(
                f"train: {out} exists and is not empty; choose another --out or remove it"
                + (f", or go on with it: --resume {out}" if (out / CHECKPOINT).is_file() else "")
            )
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


# ---- what a person left open ---------------------------------------------------------------------


def make_config(
    dataset: Dataset,
    splits: Splits,
    dims: int,
    planned: Plan | None = None,
    chosen: Configuration | None = None,
    *,
    data: Path | None,
    ratio: tuple[int, ...] = RATIO,
    fold: int | None = None,
    classes: Sequence[str] | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    batch: int | None = None,
    halvings: int = HALVINGS,
    augmentation: str | None = None,
    optimizer: str = "adam",
    learning_rate: float | None = None,
    **others: Any,
) -> Config:
    """The configuration of a run on these cases, by one of a plan or without, which then has at most
    `halvings`; `others` are further fields of `Config`.
    """
    whole = splits.train[0].image
    flat = len(whole.spacing) > dims
    across = planned.slice_axis if planned else slice_axis(whole.spacing)
    channels, names = tuple(dataset.channels), _class_names(dataset.classes, classes)
    quick = lambda: _quick(splits, across if flat else None, len(channels), len(names), batch, halvings)
    fields: dict[str, Any] = {"deep_supervision": chosen is not None, "seed": 0} | others
    return Config(
        data=None if data is None else str(data),
        classes=names,
        channels=channels,
        configuration=chosen or quick(),
        slice_axis=across if flat else None,
        augmentation=augmentation or (planned.augmentation if planned else _augmentation(whole)),
        optimizer=optimizer,
        learning_rate=LEARNING_RATES.get(optimizer, math.nan) if learning_rate is None else learning_rate,
        minutes=None if steps else minutes or (planned and planned.minutes) or MINUTES,
        steps=steps,
        ratio=ratio,
        fold=fold,
        **fields,
    )


def check_dims(dataset: Dataset, dims: int | None) -> int:
    """The rank of the network, by default that of the images; ValueError if they have fewer axes."""
    if dims is not None and dims > dataset.dims:
        raise ValueError(
            f"train: the images of {dataset.folder} are {dataset.dims}-D, a {dims}-D network needs volumes"
        )
    return dims or dataset.dims


def _planned(plan: Plan, name: str | None, batch: int | None) -> Configuration:
    """The configuration of a plan by its name, or the one that it recommends."""
    if name is not None and name not in plan.configurations:
        raise ValueError(
            f"train: the plan has no configuration {name!r}, it has {', '.join(plan.configurations)}"
        )
    configuration = plan.configurations[name or plan.recommended]
    return replace(configuration, batch=batch or configuration.batch)


def _check_plan(plan: Plan, dataset: Dataset, path: Path | None) -> None:
    found = (len(dataset.channels), len(dataset.classes))
    if found != (len(plan.channels), len(plan.classes)):
        raise ValueError(
            f"train: {path} was made for {len(plan.channels)} channels and {len(plan.classes)} classes, "
            f"the images have {found[0]} and {found[1]}"
        )


def _quick(
    splits: Splits, across: int | None, channels: int, classes: int, batch: int | None, halvings: int
) -> Configuration:
    """The configuration without a plan, from the shapes of the images or of their slices."""
    images = [case.image for case in splits.train + splits.validation]
    axes = [axis for axis in range(len(images[0].spacing)) if axis != across]
    shapes = [tuple(image.spatial[axis] for axis in axes) for image in images]
    spacings = [tuple(image.spacing[axis] for axis in axes) for image in images]
    return quick_configuration(shapes, spacings, channels, classes, batch, halvings)


def _augmentation(image: Any) -> str:
    """Without a plan: pictures, which have no canonical orientation, are mirrored; volumes are not."""
    return "mirror" if image.affine is None else "none"


def _class_names(found: Sequence[str], given: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the label values: those of the dataset, or a person's."""
    if given is not None and len(given) != len(found):
        raise ValueError(f"train: --classes names {len(given)} classes, the labels hold {len(found)}")
    return tuple(given or found)


# ---- words ---------------------------------------------------------------------------------------


def _headline(config: Config, model: PlannedUNet, splits: Splits) -> str:
    size = "x".join(map(str, config.patch))
    parameters = sum(p.numel() for p in model.parameters())
    return (
        f"Training a {config.dims}-D U-Net ({parameters:,} parameters) to find "
        f"{', '.join(config.classes[1:])}: {splits}; patches of {size}, "
        f"batches of {config.configuration.batch}, {config.budget}."
    )


def _facts(config: Config, model: PlannedUNet, splits: Splits, description: str) -> dict[str, Any]:
    size, c = "x".join(map(str, config.patch)), config.configuration
    first = {"first stage": f"{c.previous}, {config.previous.run}"} if config.previous else {}
    fold = "" if config.fold is None else f", fold {config.fold} of {FOLDS}"
    return {
        "data": description,
        "split": f"{splits}{fold}",
        "network": f"{config.dims}-D U-Net, features {', '.join(map(str, c.features))}, "
        f"{sum(p.numel() for p in model.parameters()):,} parameters",
        **first,
        "training": f"{size} patches, batch {c.batch}, {config.optimizer} {config.learning_rate:g}, "
        f"augmentation {config.augmentation}, seed {config.seed}, {config.budget}",
    }
