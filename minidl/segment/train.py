"""The main job: train a U-Net on a dataset and leave behind a folder with all there is to know about it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import minidl
from minidl import plot
from minidl.backend import to_numpy
from minidl.data import Case, Dataset, PhantomDataset, split_indices
from minidl.models import UNet
from minidl.nn import functional as F
from minidl.segment import baselines, metrics
from minidl.segment.config import Config
from minidl.segment.inference import predict_image
from minidl.segment.report import Scores, write_report
from minidl.segment.sampling import Sampler, normalized, slices

VALIDATION_SHARE = 0.1  # of the time at most, beside the first and the last one
VALIDATIONS = 20  # at most so many in a run
PHANTOMS = {2: (200, 20, 40), 3: (60, 6, 20)}  # generated cases for training, validation and test


@dataclass
class Splits:
    """The cases as they were read, by what they are for."""

    train: list[Case]
    validation: list[Case]
    test: list[Case]
    shifted: list[Case] = field(
        default_factory=list
    )  # phantoms with more noise and bias than the training ones


def load_phantoms(dims: int) -> tuple[Dataset, Splits]:
    """The generated default: training, validation and test phantoms, and a shifted test split."""
    counts = dict(zip(("train", "validation", "test"), PHANTOMS[dims])) | {"shifted": PHANTOMS[dims][2]}
    datasets = {name: PhantomDataset(name, n, dims) for name, n in counts.items()}
    return datasets["train"], Splits(**{name: dataset.check() for name, dataset in datasets.items()})


def load_folder(dataset: Dataset, ratio: Sequence[int], seed: int = 0) -> Splits:
    """All cases of a folder, checked and dealt into training, validation and test."""
    cases = dataset.check()
    parts = split_indices(len(cases), ratio, seed)
    return Splits(*([cases[i] for i in part] for part in parts))


def as_network(model: UNet) -> Callable[[np.ndarray], np.ndarray]:
    """The model as a function from images to logits, both NumPy arrays, without a graph."""

    @minidl.no_grad()
    def network(images: np.ndarray) -> np.ndarray:
        model.eval()
        logits = to_numpy(model(minidl.from_numpy(images)).array)
        model.train()
        return logits

    return network


def mean_dice(network: Callable, cases: Sequence[Case], config: Config) -> np.ndarray:
    """Dice per foreground class over all voxels of the cases together."""
    overlap = total = np.zeros(len(config.classes))
    for case in cases:
        prediction = predict_image(network, case.image.array, case.image.spacing, config.patch)
        found, sizes = metrics.dice_per_class(prediction, case.label.array, len(config.classes))
        overlap, total = overlap + found, total + sizes
    return 2 * overlap[1:] / np.maximum(total[1:], 1)


class Budget:
    """How much of the training is done: by the clock, or by counting steps."""

    def __init__(self, config: Config):
        self.config, self.start, self.step = config, time.monotonic(), 0

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self.start) / 60

    @property
    def done(self) -> float:
        """The share that is used up, from 0 to 1."""
        if self.config.steps is not None:
            return self.step / self.config.steps
        return min(self.minutes / (self.config.minutes or 1), 1.0)


class Training:
    """A run: the network, its history, and the folder where it leaves its results."""

    def __init__(self, config: Config, splits: Splits, out: Path):
        self.config, self.splits, self.out = config, splits, out
        minidl.manual_seed(config.seed)
        self.model = config.network()
        self.network = as_network(self.model)
        self.optimizer = minidl.optim.Adam(self.model.parameters(), lr=config.learning_rate)
        self.history: list[dict[str, Any]] = []
        self.validation_minutes = 0.0  # what the last validation cost
        self.stopped_at: int | None = None  # the step at which a person interrupted it

    def _sampler(self, cases: Sequence[Case], seed: int) -> Sampler:
        cases = [normalized(case) for case in cases]
        if len(cases[0].image.spacing) > self.config.dims:
            cases = [part for case in cases for part in slices(case)]
        return Sampler(cases, self.config.patch, self.config.batch, self.config.mirror, seed)

    def run(self) -> None:
        """Train until the budget is used up or somebody presses Ctrl-C."""
        from tqdm import tqdm

        config, budget = self.config, Budget(self.config)
        sampler = self._sampler(self.splits.train, config.seed)
        held_out = self._sampler(self.splits.validation, config.seed)
        fixed_batches = [held_out.draw() for _ in range(4)]
        losses: list[float] = []
        bar = tqdm(total=100, bar_format="{percentage:3.0f} %|{bar}| {elapsed} < {remaining}  {postfix}")
        try:
            while budget.done < 1:
                losses.append(self._step(sampler.draw(), budget))
                bar.set_postfix_str(self._progress(losses, budget), refresh=False)
                bar.update(100 * budget.done - bar.n)
                if self._validation_is_due(budget):
                    self._record(budget, losses, fixed_batches)
                    losses = []
        except KeyboardInterrupt:
            self.stopped_at = budget.step
            bar.write(f"Interrupted at step {budget.step}: saving what there is.")
        finally:
            bar.close()
        if losses:
            self._record(budget, losses, fixed_batches)
        self.save()

    def _validation_is_due(self, budget: Budget) -> bool:
        """Evenly over the run, but never so often that validation eats more than its share of the time."""
        if not self.history:
            return budget.done >= 1 / VALIDATIONS
        last = self.history[-1]
        rested = budget.minutes - last["minutes"] >= self.validation_minutes / VALIDATION_SHARE
        return rested and budget.done - last["done"] >= 1 / VALIDATIONS

    def _step(self, batch: tuple[np.ndarray, np.ndarray], budget: Budget) -> float:
        images, labels = (minidl.from_numpy(array) for array in batch)
        loss = F.dice_ce_loss(self.model(images), labels, batch=True)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss became {value} at step {budget.step + 1}; try a lower learning rate"
            )
        self.optimizer.zero_grad()
        loss.backward()
        minidl.nn.utils.clip_grad_norm_(self.model.parameters(), 12.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * (1 - budget.done) ** 0.9  # polynomial decay
        self.optimizer.step()
        budget.step += 1
        return value

    def _progress(self, losses: Sequence[float], budget: Budget) -> str:
        text = f"step {budget.step}, loss {np.mean(losses[-20:]):.3f}"
        if self.history:
            dice = [self.history[-1][f"dice {c}"] for c in self.config.classes[1:]]
            text += f", validation Dice {' / '.join(f'{d:.3f}' for d in dice)}"
        return text

    def _record(self, budget: Budget, losses: Sequence[float], batches: Sequence) -> None:
        """A line of history: the losses since the last one, and how the validation cases fare now."""
        begun = budget.minutes
        with minidl.no_grad():
            validation = [
                F.dice_ce_loss(self.model(minidl.from_numpy(x)), minidl.from_numpy(y), batch=True).item()
                for x, y in batches
            ]
        dice = mean_dice(self.network, self.splits.validation, self.config)
        self.history.append({
            "step": budget.step,
            "done": budget.done,
            "minutes": budget.minutes,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": float(np.mean(losses)),
            "validation_loss": float(np.mean(validation)),
            **{f"dice {name}": float(d) for name, d in zip(self.config.classes[1:], dice)},
        })  # fmt: skip
        self.validation_minutes = budget.minutes - begun
        self.save()

    def save(self) -> None:
        """Weights, configuration, history and curves: whole files, or the ones from before."""
        minidl.save(self.model.state_dict(), self.out / "weights.safetensors")
        self.config.save(self.out / "config.json")
        if self.history:
            metrics.write_csv(self.out / "history.csv", self.history)
            plot.curves(self.history, self.out / "curves.png")

    def evaluate(self, facts: dict[str, Any]) -> Scores:
        """Predict the test cases and compare with the trivial methods; leaves a table, figure and report."""
        from tqdm import tqdm

        config, test = self.config, self.splits.test
        predictions = [
            predict_image(self.network, case.image.array, case.image.spacing, config.patch)
            for case in tqdm(test, "Predicting the test cases", leave=False)
        ]
        scores = Scores(
            [case.name for case in test],
            [
                metrics.evaluate_case(p, case.label.array, config.classes, case.label.spacing)
                for p, case in zip(predictions, test)
            ],
            self._baselines(),
        )
        metrics.write_csv(
            self.out / "metrics.csv",
            [{"case": name, **row} for name, rows in zip(scores.cases, scores.rows) for row in rows],
        )
        examples = [
            plot.Case(f"{kind}: {test[i].name}", test[i].image.array, test[i].label.array, predictions[i],
                      [row["dice"] for row in scores.rows[i]], test[i].image.spacing)
            for kind, i in scores.examples().items()
        ]  # fmt: skip
        plot.predictions(examples, config.classes, self.out / "predictions.png")
        if self.splits.shifted:
            dice = mean_dice(self.network, self.splits.shifted, config)
            facts = facts | {
                "Dice on the shifted test split (more noise, more bias)": ", ".join(
                    f"{name} {d:.3f}" for name, d in zip(config.classes[1:], dice)
                )
            }
        if self.stopped_at is not None:
            facts = facts | {"stopped by hand": f"at step {self.stopped_at}"}
        write_report(self.out / "report.md", "Training report", facts, scores)
        return scores

    def _baselines(self) -> dict[str, np.ndarray]:
        """The Dice of methods that need no network."""
        n = len(self.config.classes)
        train = [normalized(case) for case in self.splits.train]
        test = [normalized(case) for case in self.splits.test]
        images, labels = [c.image.array for c in train], [c.label.array for c in train]
        test_images, test_labels = [c.image.array for c in test], [c.label.array for c in test]
        found = {
            "best threshold": baselines.best_threshold(images, labels, test_images, test_labels, n),
            "mean-label prior": baselines.mean_label_prior(labels, test_labels, n),
        }
        if n == 2:
            found["Otsu's threshold"] = baselines.otsu(test_images, test_labels)
        return found
