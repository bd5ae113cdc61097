"""What one recorded scalar op costs, forward and backward: the engine's overhead, without any arithmetic."""

from __future__ import annotations

import timeit

import torch

import minidl
from benchmarks.side_by_side import header, row


def main(threads: int, rounds: int) -> None:
    """Print microseconds for y = a·a recorded, and for y.backward() with it."""
    header(threads)
    ours, theirs = minidl.tensor(1.5, requires_grad=True), torch.tensor(1.5, requires_grad=True)
    widths = (10, 11, 17)
    row(("", "forward µs", "with backward µs"), widths)
    row([":" + "-" * (widths[0] - 1), *("-" * (w - 1) + ":" for w in widths[1:])], widths)
    for name, a in (("minidl", ours), ("PyTorch", theirs)):
        runs = (lambda a=a: a * a), (lambda a=a: (a * a).backward())
        times = [min(timeit.repeat(run, number=2000, repeat=rounds)) / 2000 for run in runs]
        row((name, *(f"{1e6 * t:.1f}" for t in times)), widths)
