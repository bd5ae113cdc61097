"""Timing two sides in turn, so that both meet the same noise, and printing the ratio of their minima."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from minidl.devices import processor
from minidl.kernels.threads import set_num_threads

TURN = 0.05  # seconds


def use_threads(threads: int) -> None:
    """The same number of threads for both sides."""
    set_num_threads(threads)
    torch.set_num_threads(threads)


def header(threads: int) -> None:
    """Fix the threads of both sides and say what is compared on what."""
    use_threads(threads)
    print(
        f"{processor()}, {threads} threads, float32; "
        f"NumPy {np.__version__}, PyTorch {torch.__version__}; minima of interleaved rounds\n"
    )


def minima(rounds: int, *sides: Callable[[], None]) -> list[float]:
    """The fastest run of each side, in seconds. The sides take turns; one round goes before to warm up.

    A turn repeats what is quick for `TURN` seconds: the side before leaves its data in the caches, and its
    threads still spin on the cores for a while (OpenBLAS's and OpenMP's do).
    """
    best = [float("inf")] * len(sides)
    for turn in range(rounds + 1):
        for k, side in enumerate(sides):
            start = end = time.perf_counter()
            while end < start + TURN:
                before = end
                side()
                end = time.perf_counter()
                if turn > 0:
                    best[k] = min(best[k], end - before)
    return best


def columns(titles: Sequence[str], widths: Sequence[int]) -> None:
    """The head of a table: the first column is aligned to the left, numbers to the right."""
    row(titles, widths)
    row([":" + "-" * (widths[0] - 1), *("-" * (w - 1) + ":" for w in widths[1:])], widths)


def row(cells: Sequence[str], widths: Sequence[int]) -> None:
    """One line of a table, printed as soon as it is known."""
    aligned = (
        cell.ljust(width) if k == 0 else cell.rjust(width)
        for k, (cell, width) in enumerate(zip(cells, widths))
    )
    print("| " + " | ".join(aligned) + " |", flush=True)
