"""What one recorded scalar op costs, forward and backward: the engine's overhead, without any arithmetic."""

from __future__ import annotations

import timeit
from typing import Any

import torch

import minidl
from benchmarks.results import Comparison
from benchmarks.side_by_side import columns, header, row

CHAIN = 1000


def _chain(a: Any, c: Any) -> None:
    """y = a·c·c···c: as many recorded ops as links, one backward through all of them."""
    y = a
    for _ in range(CHAIN):
        y = y * c
    y.backward()


def main(threads: int, rounds: int) -> list[Comparison]:
    """Print microseconds: an op in a long chain, and a backward of its own for a single op."""
    header(threads)
    widths = (10, 30, 21, 28)
    whats = "one of 1,000 ops, both ways", "one op, forward", "one op and its backward"
    columns(("", *(f"{what} µs" for what in whats)), widths)
    found = {}
    for name, library in (("minidl", minidl), ("PyTorch", torch)):
        a, c = library.tensor(1.5, requires_grad=True), library.tensor(1.0)
        runs = (
            (lambda a=a, c=c: _chain(a, c), 1, CHAIN),
            (lambda a=a: a * a, 2000, 1),
            (lambda a=a: (a * a).backward(), 2000, 1),
        )
        times = [min(timeit.repeat(run, number=n, repeat=5 * rounds)) / (n * ops) for run, n, ops in runs]
        row((name, *(f"{1e6 * t:.1f}" for t in times)), widths)
        found[name] = times
    return [Comparison("overhead", what, *times) for what, *times in zip(whats, *found.values())]
