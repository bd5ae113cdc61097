"""The training loop: step, validate, save, and go on from where a run stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minidl
from minidl import plot
from minidl.autograd import Tensor
from minidl.data import Case
from minidl.data.augment import AUGMENTATIONS
from minidl.data.loader import Loader
from minidl.nn import functional as F
from minidl.segment import checkpoint, metrics
from minidl.segment.cascade import CascadeSampler
from minidl.segment.checkpoint import CHECKPOINT, Progress, Random, Record
from minidl.segment.config import LOSSES, Config
from minidl.segment.diagnose import first_not_finite
from minidl.segment.inference import as_network, predict_image
from minidl.segment.interrupt import Interrupt
from minidl.segment.preprocess import Preprocessing
from minidl.segment.sampling import Sampler
from minidl.segment.schedule import EPOCH, make_optimizer, make_schedule
from minidl.segment.splits import Splits

VALIDATION_SHARE = 0.1  # of the time at most, beside the first and the last one
VALIDATIONS = 20  # at most so many in a run
SAVING_SHARE = 0.01  # of the time, for checkpoints between the validations
LARGEST_NORM = 12.0  # of all gradients together (nnU-Net)
READING_SECONDS = 1.0  # from one look at what a GPU has done to the next

Batch = tuple[np.ndarray, np.ndarray]


class Unread(NamedTuple):
    """A step whose results are still on the device: to read them is to wait until it has computed them."""

    number: int
    batch: Batch
    loss: Tensor
    norm: Tensor  # of all gradients together


def mean_dice(network: Callable, cases: Sequence[Case], config: Config) -> np.ndarray:
    """Dice per foreground class over all voxels of the cases together."""
    overlap = total = np.zeros(len(config.classes))
    for case in cases:
        prediction = predict_image(network, case.image, config)
        found, sizes = metrics.dice_per_class(prediction, case.label.array, len(config.classes))
        overlap, total = overlap + found, total + sizes
    return 2 * overlap[1:] / np.maximum(total[1:], 1)


class Budget:
    """How much of the training is done: by the clock, or by counting steps."""

    def __init__(self, config: Config, step: int = 0, minutes: float = 0.0):
        self.config, self.step = config, step
        self.start = time.monotonic() - 60 * minutes

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
    """A run: the network, its history, and the folder where it leaves its results.

    `draw`: curves.png after each validation, which takes half a second.
    """

    def __init__(
        self,
        config: Config,
        splits: Splits,
        out: Path,
        workers: int = 1,
        draw: bool = True,
        device: str = "cpu",
    ):
        self.config, self.splits, self.out, self.workers, self.draw = config, splits, out, workers, draw
        self.device = device
        self.data = splits.digest()
        minidl.manual_seed(config.seed)
        self.model = config.network().to(device=device)
        self.network = as_network(self.model)
        self.optimizer = make_optimizer(config.optimizer, self.model.parameters(), config.learning_rate)
        self.schedule = make_schedule(config.optimizer, config.learning_rate)
        self.budget = Budget(config)
        self.history: list[Record] = []
        self.losses: list[float] = []  # since the last line of history
        self.unread: list[Unread] = []
        self.read_at = 0.0
        self.sound: Mapping[str, Tensor] = self.model.state_dict()  # what proved finite at the last reading
        self.validation_minutes = 0.0  # what the last validation cost
        self.saved_at, self.saving_seconds = time.monotonic(), 0.0
        self.stopped_at: int | None = None  # the step at which a person interrupted it

    # ---- the loop -------------------------------------------------------------------------------

    def run(self) -> None:
        """Train until the budget is used up or somebody presses Ctrl-C; leaves weights.safetensors."""
        from tqdm import tqdm

        sampler = self._sampler(self.splits.train, self.config.seed, self.config.augmentation)
        held_out = self._sampler(self.splits.validation, self.config.seed, "none")
        fixed_batches = [held_out.batch(step) for step in range(1, 5)]
        budget = self.budget
        bar = tqdm(total=100, bar_format="{percentage:3.0f} %|{bar}| {elapsed} < {remaining}  {postfix}")
        with bar, Loader(sampler.batch, budget.step + 1, self.workers) as batches, Interrupt() as interrupt:
            while budget.done < 1 and not interrupt.asked:
                self._step(next(batches))
                bar.set_postfix_str(self._words(), refresh=False)
                bar.update(100 * budget.done - bar.n)
                if self._validation_is_due():
                    self._record(fixed_batches)
                elif self._saving_is_due():
                    self.save_checkpoint()
        if budget.done < 1:
            self.stopped_at = budget.step
            print(f"Interrupted after step {budget.step}: saving what there is.")
        if self.losses or self.unread:
            self._record(fixed_batches)
        minidl.save(self.model.state_dict(), self.out / "weights.safetensors")

    def _sampler(self, cases: Sequence[Case], seed: int, augmentation: str) -> Sampler:
        preprocessing = Preprocessing(self.config.configuration, self.config.slice_axis)
        cases = [preprocessing.prepare_case(case) for case in cases]
        if len(cases[0].image.spacing) > self.config.dims:
            cases = [part for case in cases for part in preprocessing.slice_case(case)]
        configuration = self.config.configuration
        kind = CascadeSampler if configuration.previous else Sampler
        return kind(cases, configuration.patch, configuration.batch, AUGMENTATIONS[augmentation], seed)

    def _step(self, batch: Batch) -> None:
        loss = self._loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        norm = minidl.nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate(self.budget.done)
        self.unread.append(Unread(self.budget.step + 1, batch, loss.detach(), norm))
        if self._reading_is_due():
            self._read()
        self.optimizer.step()
        self.budget.step += 1

    def _loss(self, batch: Batch) -> Tensor:
        images, labels = (minidl.from_numpy(array).to(self.device) for array in batch)
        batch_dice = self.config.configuration.batch_dice
        loss: Any = partial(F.dice_ce_loss, batch=batch_dice, **LOSSES[self.config.loss])
        outputs = self.model(images)
        if isinstance(outputs, Tensor):
            return loss(outputs, labels)
        return F.deep_supervision_loss(outputs, labels, loss)

    def _reading_is_due(self) -> bool:
        """On the CPU before each update; else once a second, and where the schedule decides."""
        rested = time.monotonic() - self.read_at
        return self.device == "cpu" or rested >= READING_SECONDS or self.unread[-1].number % EPOCH == 0

    def _read(self) -> None:
        """Take over the losses of the steps since the last time; FloatingPointError if one is not finite."""
        for step in self.unread:
            value = step.loss.item()
            self._check(value, "loss", step)
            self._check(step.norm.item(), "norm of the gradients", step)
            self.schedule.observe(value)
            self.losses.append(value)
        self.unread.clear()
        if self.device != "cpu":
            self.read_at = time.monotonic()
            self.sound = {name: array.clone() for name, array in self.model.state_dict().items()}

    def _check(self, value: float, what: str, step: Unread) -> None:
        if math.isfinite(value):
            return
        self.model.load_state_dict(self.sound)  # the steps after this one have spoilt the weights
        where = first_not_finite(self.model, lambda: self._loss(step.batch))
        raise FloatingPointError(
            f"the {what} became {value} at step {step.number}: {where}; try a lower learning rate"
        )

    def _words(self) -> str:
        losses = self.losses[-20:] or [self.history[-1].train_loss]
        text = f"step {self.budget.step}, loss {np.mean(losses):.3f}"
        if self.history:
            dice = self.history[-1].dice.values()
            text += f", validation Dice {' / '.join(f'{d:.3f}' for d in dice)}"
        return text

    # ---- validation -----------------------------------------------------------------------------

    def _validation_is_due(self) -> bool:
        """Evenly over the run, but never so often that validation eats more than its share of the time."""
        if not self.history:
            return self.budget.done >= 1 / VALIDATIONS
        last = self.history[-1]
        rested = self.budget.minutes - last.minutes >= self.validation_minutes / VALIDATION_SHARE
        return rested and self.budget.done - last.done >= 1 / VALIDATIONS

    def _record(self, batches: Sequence[Batch]) -> None:
        """A line of history: the losses since the last one, and how the validation cases fare now."""
        self._read()
        begun = self.budget.minutes
        with minidl.no_grad():
            self.model.eval()
            validation = float(np.mean([self._loss(batch).item() for batch in batches]))
            self.model.train()
        if not math.isfinite(validation):
            raise FloatingPointError(
                f"the validation loss became {validation} after step {self.budget.step}; "
                "try a lower learning rate"
            )
        dice = mean_dice(self.network, self.splits.validation, self.config)
        self.history.append(Record(
            step=self.budget.step,
            done=self.budget.done,
            minutes=self.budget.minutes,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            train_loss=float(np.mean(self.losses)),
            validation_loss=validation,
            dice={name: float(d) for name, d in zip(self.config.classes[1:], dice)},
        ))  # fmt: skip
        self.losses = []
        rows = [record.row() for record in self.history]
        metrics.write_csv(self.out / "history.csv", rows)
        if self.draw:
            plot.curves(rows, self.out / "curves.png")
        self.validation_minutes = self.budget.minutes - begun
        self.save_checkpoint()

    # ---- going on after a stop ------------------------------------------------------------------

    def _saving_is_due(self) -> bool:
        return time.monotonic() - self.saved_at >= self.saving_seconds / SAVING_SHARE

    def save_checkpoint(self) -> None:
        """Write where the training stands."""
        self._read()
        begun = time.monotonic()
        progress = Progress(
            version=checkpoint.VERSION,
            config=self.config,
            data=self.data,
            step=self.budget.step,
            minutes=self.budget.minutes,
            validation_minutes=self.validation_minutes,
            losses=tuple(self.losses),
            history=tuple(self.history),
            random=Random.now(),
            schedule=self.schedule.state,
        )
        checkpoint.save(self.out / CHECKPOINT, progress, self.model, self.optimizer)
        self.saved_at = time.monotonic()
        self.saving_seconds = self.saved_at - begun

    def resume(self, progress: Progress, tensors: dict[str, np.ndarray]) -> None:
        """Go on from a checkpoint of this configuration and these cases; ValueError if they are others."""
        if progress.data != self.data:
            raise ValueError(
                f"resume: the images, labels or their split in {self.config.data} are not those with which "
                f"the run {self.out} began; put them back or start a new run"
            )
        if missing := self.schedule.state.keys() - progress.schedule.keys():
            raise ValueError(f"resume: the checkpoint in {self.out} lacks {', '.join(sorted(missing))}")
        checkpoint.restore(tensors, progress, self.model, self.optimizer)
        self.schedule.state = dict(progress.schedule)
        self.budget = Budget(self.config, progress.step, progress.minutes)
        self.history, self.losses = list(progress.history), list(progress.losses)
        self.validation_minutes = progress.validation_minutes
