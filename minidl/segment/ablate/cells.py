"""A cell of an ablation: one arm with one seed on one data set, trained and tested in a process of its own.

A finished cell is one file, which is there whole or not at all; an unfinished one has a checkpoint, from
which it goes on. Cells of one seed begin with the same weights and see the same patches in the same order:
`Sampler` draws by (seed, step), the initialisation by the seed. What differs between them is the arm.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import minidl
from minidl.data import Case
from minidl.files import atomic_write, remove_unfinished
from minidl.segment import checkpoint, metrics
from minidl.segment.config import Config
from minidl.segment.inference import predict_image
from minidl.segment.lock import only_run
from minidl.segment.plan.schema import parse, to_text
from minidl.segment.splits import Splits
from minidl.segment.train import CHECKPOINT, Training

COLLAPSED = 0.05  # Dice of a class: below, the network has not learnt to find it


@dataclass(frozen=True)
class Result:
    """What a cell found.

    dice: per foreground class, the mean over the test cases where it is or was said to be; None if none was.
    """

    config: Config
    data: str  # `Splits.digest`
    dice: dict[str, float | None]
    steps: int
    minutes: float
    failure: str | None  # where numbers stopped being finite; every Dice is then 0

    @property
    def score(self) -> float:
        """The mean Dice of the classes."""
        return float(np.mean([dice for dice in self.dice.values() if dice is not None]))

    @property
    def collapsed(self) -> bool:
        """Was a class not learnt at all, or did the training diverge?"""
        known = (dice for dice in self.dice.values() if dice is not None)
        return self.failure is not None or any(dice < COLLAPSED for dice in known)


@dataclass(frozen=True)
class Cell:
    """Where a cell lies and what is to be done there."""

    data_set: str
    arm: str
    seed: int
    config: Config
    data: str  # `Splits.digest`
    root: Path

    @property
    def folder(self) -> Path:
        """Of its training, and of its result."""
        return self.root / self.data_set / self.arm / f"seed-{self.seed}"

    @property
    def result_file(self) -> Path:
        return self.folder / "result.json"

    def __str__(self) -> str:
        return f"{self.data_set}, {self.arm}, seed {self.seed}"

    def result(self) -> Result | None:
        """What it found, None if it is not finished; ValueError if the file belongs to another ablation."""
        path = self.result_file
        if not path.exists():
            return None
        try:
            found = parse(Result, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not a readable result: {error}; remove it") from error
        self._check(path, found.config, found.data)
        return found

    def run(self, splits: Splits, device: str = "cpu") -> Result | None:
        """Train, or go on with it, test, and write the result; None if somebody pressed Ctrl-C."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with only_run(self.folder):
            remove_unfinished(self.folder)
            training = Training(self.config, splits, self.folder, draw=False, device=device)
            if (path := self.folder / CHECKPOINT).exists():
                progress, tensors = checkpoint.load(path)
                self._check(path, progress.config, progress.data)
                training.resume(progress, tensors)
            failure = None
            try:
                training.run()
                if training.stopped_at is not None:
                    return None
                dice = case_dice(training.network, splits.test, self.config)
            except FloatingPointError as error:
                dice, failure = dict.fromkeys(self.config.classes[1:], 0.0), str(error)
            budget = training.budget
            result = Result(self.config, self.data, dice, budget.step, budget.minutes, failure)
            with atomic_write(self.result_file) as temporary:
                temporary.write_text(to_text(asdict(result)) + "\n", encoding="utf-8")
            path.unlink(missing_ok=True)
        return result

    def _check(self, path: Path, config: Config, data: str) -> None:
        if (config, data) != (self.config, self.data):
            raise ValueError(
                f"ablate: {path} was made with other settings or other images; choose another --out, "
                "or go on as it began"
            )


def case_dice(network: Callable, cases: Sequence[Case], config: Config) -> dict[str, float | None]:
    """The mean Dice over cases of every foreground class, without averaging over reflections and without
    post-processing: it is the network that is compared.
    """
    rows = []
    for case in cases:
        prediction = predict_image(network, case.image, config)
        both, sizes = metrics.dice_per_class(prediction, case.label.array, len(config.classes))
        rows.append([2 * b / s if s else np.nan for b, s in zip(both[1:], sizes[1:])])
    columns = [np.array(column)[~np.isnan(column)] for column in zip(*rows)]
    if not any(map(len, columns)):
        raise ValueError("ablate: no test case has foreground: there is nothing to measure")
    names = config.classes[1:]
    return {name: metrics.mean(column) if len(column) else None for name, column in zip(names, columns)}


# ---- in a process of its own ---------------------------------------------------------------------


def work(cell: Cell, splits: Splits, threads: int, device: str = "cpu") -> None:
    """The whole life of a child; exit status 0 if there is a result, or if it was interrupted by Ctrl-C.

    It ends when its parent does: two processes must not work on one cell.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TQDM_DISABLE"] = "1"  # the bar over cells is enough
    minidl.set_num_threads(threads)
    cell.folder.mkdir(parents=True, exist_ok=True)
    with (
        open(cell.folder / "log.txt", "a", encoding="utf-8") as log,
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        try:
            cell.run(splits, device)
        except (Exception, KeyboardInterrupt):
            traceback.print_exc()
            sys.exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
