"""A training that dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from minidl.segment import train


class Death(BaseException):
    """Nobody catches it, as nobody catches SIGKILL."""


@contextmanager
def dying(at: int) -> Iterator[None]:
    """A training inside dies right after its checkpoint of a step, as far as its folder can tell."""

    def step(self, batch):
        if self.budget.step == at:
            self.save_checkpoint()
            raise Death
        original(self, batch)

    original = train.Training._step
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Death):
        patch.setattr(train.Training, "_step", step)
        yield
