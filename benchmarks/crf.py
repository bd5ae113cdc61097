"""The fully connected CRF: five iterations on a picture and on a volume, by window and by lattice.

Beside it the authors' program (pydensecrf2, where it is installed), which has a lattice alone. Peak memory is
that of fresh processes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import minidl
from benchmarks.memory import status
from benchmarks.results import Comparison
from benchmarks.side_by_side import columns, header, minima, row, use_threads
from minidl.crf import DenseCRF

SMOOTHNESS, APPEARANCE = (3.0, 3.0), (80.0, 13.0, 10.0)  # pydensecrf's defaults
ITERATIONS = 5


@dataclass(frozen=True)
class Task:
    """L labels of an image (C, *S), by a method of `DenseCRF`."""

    labels: int
    channels: int
    size: tuple[int, ...]
    method: str
    window: int = 0

    def __str__(self) -> str:
        how = f"window {self.window}" if self.window else self.method
        return f"{'x'.join(map(str, self.size))}, {self.labels} classes, {how}"


TASKS = (
    Task(5, 3, (512, 512), "window", 11),
    Task(5, 3, (512, 512), "lattice"),
    Task(3, 1, (64, 64, 64), "window", 5),
    Task(3, 1, (64, 64, 64), "window", 7),
    Task(3, 1, (64, 64, 64), "lattice"),
)


def example(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Logits (L, *S) that are often wrong, and a noisy image of as many balls as there are labels."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*(np.linspace(0, 1, n) for n in task.size), indexing="ij"), -1)
    label = np.zeros(task.size, int)
    for k in range(1, task.labels):
        label[((grid - rng.uniform(0.2, 0.8, len(task.size))) ** 2).sum(-1) < 0.04] = k
    colour = rng.uniform(30, 220, (task.labels, task.channels))[label]
    image = (colour + rng.normal(0, 8, colour.shape)).clip(0, 255).astype(np.uint8)
    logits = 2 * np.eye(task.labels)[label] + rng.normal(0, 1.5, (*task.size, task.labels))
    return np.moveaxis(logits, -1, 0).astype(np.float32), np.moveaxis(image, -1, 0)


def ours(task: Task) -> Callable[[], None]:
    logits, image = example(task)
    crf = DenseCRF(
        task.method,
        window=task.window or 1,
        iterations=ITERATIONS,
        smoothness=SMOOTHNESS,
        appearance=APPEARANCE,
    )
    inputs = minidl.tensor(logits[None]), minidl.tensor(image[None].astype(np.float32))

    @minidl.no_grad()
    def run() -> None:
        crf(*inputs)

    return run


def theirs(task: Task) -> Callable[[], None]:
    from pydensecrf.densecrf import DenseCRF as DenseCRFND
    from pydensecrf.utils import create_pairwise_bilateral, create_pairwise_gaussian

    logits, image = example(task)
    energy = np.ascontiguousarray(-logits.reshape(task.labels, -1))

    def run() -> None:
        crf = DenseCRFND(energy.shape[1], task.labels)
        crf.setUnaryEnergy(energy)
        rank = len(task.size)
        near = create_pairwise_gaussian((SMOOTHNESS[0],) * rank, task.size)
        crf.addPairwiseEnergy(near, compat=SMOOTHNESS[1])
        alike = create_pairwise_bilateral(
            (APPEARANCE[0],) * rank, (APPEARANCE[1],) * task.channels, image, chdim=0
        )
        crf.addPairwiseEnergy(alike, compat=APPEARANCE[2])
        crf.inference(ITERATIONS)

    return run


SIDES = {"minidl": ours, "pydensecrf2": theirs}


def peak(side: str, index: int, threads: int) -> None:
    """Run once in this process and print by how many bytes its memory grew at most."""
    use_threads(threads)
    run = SIDES[side](TASKS[index])
    before = status("VmRSS")
    run()
    print(max(status("VmHWM") - before, 0))


def main(threads: int, rounds: int) -> list[Comparison]:
    """Print a row for each task: seconds and megabytes of both."""
    header(threads)
    try:
        import pydensecrf.densecrf  # noqa: F401

        sides = list(SIDES)
    except ImportError:
        sides = ["minidl"]
    widths = (42, 9, 13, 9, 14)
    columns(("five iterations", "minidl s", "pydensecrf2 s", "minidl MB", "pydensecrf2 MB"), widths)
    found = []
    for index, task in enumerate(TASKS):
        seconds = minima(rounds, *(SIDES[side](task) for side in sides))
        peaks = []
        for side in sides:
            code = f"from benchmarks.crf import peak; peak({side!r}, {index}, {threads})"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            peaks.append(int(done.stdout))
        cells = ([f"{s:.2f}" for s in seconds], [f"{p / 1e6:.0f}" for p in peaks])
        missing = ["-"] * (2 - len(sides))
        row((str(task), *cells[0], *missing, *cells[1], *missing), widths)
        if len(sides) == 2:
            found.append(Comparison("time", str(task), *seconds, "s", "pydensecrf2"))
            found.append(Comparison("peak memory", str(task), *map(float, peaks), "B", "pydensecrf2"))
    return found
