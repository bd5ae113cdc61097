"""How ops run, for each thread: whether they are recorded, what a record keeps, which casts come before.

`Op.__call__` in `autograd.py` reads `mode`; everybody else uses the `with` blocks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ContextDecorator, contextmanager
from typing import Any

Casts = Callable[[str, Sequence], Sequence]  # the name of a function and its inputs -> the inputs cast


class Mode(threading.local):
    recording = True
    nodes: list[Any] | None = None  # where `recorded_nodes` collects
    saving = True
    casts: Casts | None = None


mode = Mode()


def is_grad_enabled() -> bool:
    """Whether ops are being recorded in this thread."""
    return mode.recording


class set_grad_enabled(ContextDecorator):
    """Record ops, or do not, inside a `with` block or a decorated function."""

    def __init__(self, mode: bool):
        self.mode = mode
        self.before: list[bool] = []  # a stack: one decorator object may be entered recursively

    def __enter__(self) -> None:
        self.before.append(mode.recording)
        mode.recording = self.mode

    def __exit__(self, *exception: object) -> None:
        mode.recording = self.before.pop()


class no_grad(set_grad_enabled):
    """Ops inside are not recorded: nothing is kept for backward."""

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(set_grad_enabled):
    """Ops inside are recorded, also within `no_grad`."""

    def __init__(self) -> None:
        super().__init__(True)


@contextmanager
def recorded_nodes(nodes: list[Any] | None = None) -> Iterator[list[Any]]:
    """Collect the nodes that are recorded inside the `with` block in a list (a new one), in order."""
    outer, mode.nodes = mode.nodes, [] if nodes is None else nodes
    try:
        yield (inner := mode.nodes)
    finally:
        mode.nodes = outer
        if outer is not None:
            outer.extend(inner)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Inside, a node saves the shapes of its inputs in place of what backward needs: who studies how a model
    is made can record a large one in little memory.
    """
    outer, mode.saving = mode.saving, False
    try:
        yield
    finally:
        mode.saving = outer


def is_saving_enabled() -> bool:
    """Whether recorded ops keep what backward needs, as they do outside `shapes_only`."""
    return mode.saving


@contextmanager
def casting(casts: Casts | None) -> Iterator[None]:
    """Inside, every op passes its inputs through `casts` first: how `autocast` gets to see them."""
    outer, mode.casts = mode.casts, casts
    try:
        yield
    finally:
        mode.casts = outer


def current_casts() -> Casts | None:
    """What the innermost `casting` of this thread gave."""
    return mode.casts
