"""How cost grows: time and workspace of a convolution (with both gradients) and of a training step.

One quantity at a time is doubled. The slope is that of log time over log quantity, by least squares: 1 means
linear, 2 quadratic (channels in and out grow together), −1 that twice the threads take half the time; the
quantity of an image is its pixels or voxels. The workspace is what a convolution allocates at most beside its
inputs and its result: it is bounded by the blocks of the threads, where im2col would copy the image kᴺ times.
"""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.side_by_side import columns, header, minima, row
from benchmarks.unet import NETS, our_step
from minidl.kernels import numpy_conv
from minidl.kernels.threads import get_num_threads, set_num_threads, usable_cpus


@dataclass(frozen=True)
class Convolution:
    """N samples, C channels in and out, an image of side^rank, kernel 3 and padding 1."""

    rank: int
    samples: int
    channels: int
    side: int
    threads: int

    def runs(self) -> list[Callable[[], np.ndarray]]:
        """The convolution and its two gradients."""
        rng, N, C, size = np.random.default_rng(0), self.samples, self.channels, (self.side,) * self.rank
        x, y = (rng.standard_normal((N, C, *size), dtype=np.float32) for _ in range(2))
        w = rng.standard_normal((C, C, *(3,) * self.rank), dtype=np.float32)
        one = (1,) * self.rank
        geometry = dict(stride=one, padding=one, dilation=one, groups=1)
        return [
            lambda: numpy_conv.conv(x, w, **geometry),
            lambda: numpy_conv.conv_input(y, w, size=size, **geometry),
            lambda: numpy_conv.conv_weight(x, y, size=w.shape[2:], **geometry),
        ]

    def step(self) -> Callable[[], object]:
        runs = self.runs()
        return lambda: [run() for run in runs]

    def im2col(self) -> int:
        """Bytes of a matrix with a column for each output and a row for each weight it meets."""
        return 4 * 3**self.rank * self.samples * self.channels * self.side**self.rank

    def workspace(self) -> int:
        """The most bytes that one of the three allocates beside its result, all threads together."""
        peaks: list[int] = []

        def measure() -> None:
            tracemalloc.start()
            for run in runs:
                set_num_threads(self.threads)  # new helpers, which have no workspace yet
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                result = run()
                peaks.append(tracemalloc.get_traced_memory()[1] - before - result.nbytes)
            tracemalloc.stop()

        runs = self.runs()
        caller = threading.Thread(target=measure)  # nor has a caller that is new
        caller.start()
        caller.join()
        return max(peaks)


@dataclass(frozen=True)
class Step:
    """A training step of the benchmark's U-Net of that rank, on N samples with side^rank voxels."""

    rank: int
    samples: int
    side: int
    threads: int

    def step(self) -> Callable[[], object]:
        features = NETS[self.rank - 2][0]
        return our_step([f // 2 for f in features], (self.samples, 1, *(self.side,) * self.rank))[0]


def sweeps(threads: int) -> list[tuple[str, str, Sequence[Convolution | Step]]]:
    """What is measured, which quantity grows, and the cases."""
    counts = sorted({*(2**k for k in range(usable_cpus().bit_length())), threads})
    flat, deep = Convolution(2, 4, 32, 64, threads), Convolution(3, 2, 16, 24, threads)
    found: list[tuple[str, str, Sequence[Convolution | Step]]] = []
    for name, start, sides in (
        ("convolution, 2-D", flat, (32, 64, 128, 256)),
        ("convolution, 3-D", deep, (12, 24, 48, 64)),
    ):
        found += [
            (name, "side", [replace(start, side=n) for n in sides]),
            (name, "samples", [replace(start, samples=n) for n in (1, 2, 4, 8)]),
            (name, "channels", [replace(start, channels=n) for n in (16, 32, 64, 128)]),
            (name, "threads", [replace(start, threads=n) for n in counts]),
        ]
    for name, step, sides in (
        ("training step, 2-D", Step(2, 2, 128, threads), (64, 128, 256)),
        ("training step, 3-D", Step(3, 1, 48, threads), (32, 48, 64)),
    ):
        found += [
            (name, "side", [replace(step, side=n) for n in sides]),
            (name, "samples", [replace(step, samples=n) for n in (1, 2, 4)]),
            (name, "threads", [replace(step, threads=n) for n in counts]),
        ]
    return found


def on_its_threads(case: Convolution | Step) -> Callable[[], None]:
    """The step of a case, for `minima`, which runs all cases in turn."""
    step = case.step()

    def run() -> None:
        if get_num_threads() != case.threads:
            set_num_threads(case.threads)
        step()

    return run


def main(threads: int, rounds: int) -> None:
    """Print a row per quantity: its values, times, slope, workspace."""
    header(threads)
    widths = (18, 8, 20, 29, 5, 20, 25)
    columns(("what", "grows", "over", "ms", "slope", "workspace MB", "im2col MB"), widths)
    list_of = lambda numbers, form: ", ".join(format(n, form) for n in numbers)
    for name, quantity, cases in sweeps(threads):
        values = [getattr(case, quantity) for case in cases]
        times = minima(rounds, *map(on_its_threads, cases))
        over = [v**case.rank if quantity == "side" else v for v, case in zip(values, cases)]
        slope = f"{np.polyfit(np.log(over), np.log(times), 1)[0]:.2f}" if len(over) > 1 else "-"
        label = list_of(values, "d") + (f" ({'²³'[cases[0].rank - 2]})" if quantity == "side" else "")
        memory = ["-", "-"]
        if isinstance(cases[0], Convolution):
            memory = [list_of([case.workspace() / 1e6 for case in cases], ".1f"),
                      list_of([case.im2col() / 1e6 for case in cases], ".1f")]  # fmt: skip
        row((name, quantity, label, list_of([1e3 * t for t in times], ".1f"), slope, *memory), widths)
    set_num_threads(threads)
