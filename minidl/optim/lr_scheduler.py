"""Learning-rate schedules, by PyTorch's names and formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

from minidl.optim.optimizer import Optimizer


class LRScheduler:
    """Sets each group's learning rate to its initial one times `factor(epoch)`; call `step` once an epoch."""

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer
        self.base_lrs = [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]
        self.last_epoch = -1
        self.step()

    def factor(self, epoch: int) -> float:
        """The learning rate of an epoch relative to the initial one."""
        raise TypeError(f"{type(self).__name__} does not define factor()")

    def learning_rate(self, base: float, epoch: int) -> float:
        """The learning rate of an epoch for a group that started with `base`."""
        return base * self.factor(epoch)

    def step(self) -> None:
        """Go on to the next epoch."""
        self.last_epoch += 1
        for group, base in zip(self.optimizer.param_groups, self.base_lrs):
            group["lr"] = self.learning_rate(base, self.last_epoch)

    def get_last_lr(self) -> list[float]:
        """The current learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]


class LambdaLR(LRScheduler):
    """The initial rate times a function of the epoch."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]):
        self.factor = lr_lambda  # type: ignore[method-assign, assignment]
        super().__init__(optimizer)


class PolynomialLR(LRScheduler):
    """lr·(1 - t/T)^power, and 0 from T = total_iters on."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0):
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer)

    def factor(self, epoch: int) -> float:
        return (1 - min(epoch, self.total_iters) / self.total_iters) ** self.power


class CosineAnnealingLR(LRScheduler):
    """eta_min + (lr - eta_min)·(1 + cos(π t/T_max)) / 2 (Loshchilov and Hutter 2017)."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0):
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def learning_rate(self, base: float, epoch: int) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * epoch / self.T_max)) / 2
