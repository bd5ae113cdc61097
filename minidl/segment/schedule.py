"""Optimisers, and the rules by which their learning rate falls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minidl import optim
from minidl.autograd import Tensor

LEARNING_RATES = {"adam": 3e-3, "sgd": 1e-2, "adam-plateau": 3e-4}
STATE = {  # what each optimiser remembers of a parameter
    "adam": {"step", "exp_avg", "exp_avg_sq"},
    "sgd": {"momentum_buffer"},
    "adam-plateau": {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
}
WEIGHT_DECAY = 3e-5

EPOCH = 250  # steps, as in nnU-Net
SMOOTHING = 0.93  # of the loss from epoch to epoch
PATIENCE = 30  # epochs without progress before the learning rate falls
PROGRESS = 1e-3  # by which the smoothed loss must fall to count
DROP = 0.2


def make_optimizer(rule: str, parameters: Iterable[Tensor], learning_rate: float) -> optim.Optimizer:
    """ "sgd": nnU-Net's, Nesterov momentum 0.99. "adam-plateau": that of its first preprint. "adam": plain
    Adam.

    With momentum 0.99 a step is felt for hundreds of steps, which pays in long trainings; Adam is faster in
    short ones.
    """
    if rule == "sgd":
        return optim.SGD(parameters, learning_rate, momentum=0.99, nesterov=True, weight_decay=WEIGHT_DECAY)
    if rule == "adam-plateau":
        return optim.Adam(parameters, learning_rate, weight_decay=WEIGHT_DECAY, amsgrad=True)
    return optim.Adam(parameters, learning_rate)


class Schedule:
    """The learning rate: base · (1 - done)^0.9, where done runs from 0 to 1 over the training."""

    def __init__(self, learning_rate: float):
        self.base = learning_rate
        self.state: dict[str, float] = {}  # what a resumed run must know

    def learning_rate(self, done: float) -> float:
        """That of the next step."""
        return self.base * (1 - done) ** 0.9

    def observe(self, loss: float) -> None:
        """The training loss of a step."""


class Plateau(Schedule):
    """The learning rate falls to a fifth when the training loss, smoothed over epochs of 250 steps, has not
    fallen by 0.001 for 30 epochs: the rule of nnU-Net's first preprint (Isensee et al. 2018; `nnUNetTrainer`
    of v1).
    """

    def __init__(self, learning_rate: float):
        super().__init__(learning_rate)
        self.state = {"rate": learning_rate, "steps": 0, "sum": 0.0, "waited": 0}

    def learning_rate(self, done: float) -> float:
        return self.state["rate"]

    def observe(self, loss: float) -> None:
        s = self.state
        s["steps"] += 1
        s["sum"] += loss
        if s["steps"] < EPOCH:
            return
        mean = s["sum"] / EPOCH
        s["smooth"] = SMOOTHING * s.get("smooth", mean) + (1 - SMOOTHING) * mean
        s.update(steps=0, sum=0.0, waited=s["waited"] + 1)
        if s["smooth"] < s.get("best", float("inf")) - PROGRESS:
            s.update(best=s["smooth"], waited=0)
        elif s["waited"] > PATIENCE:
            s.update(rate=s["rate"] * DROP, waited=0)


def make_schedule(rule: str, learning_rate: float) -> Schedule:
    """The schedule that belongs to an optimiser."""
    kinds: dict[str, Any] = {"adam": Schedule, "sgd": Schedule, "adam-plateau": Plateau}
    return kinds[rule](learning_rate)
