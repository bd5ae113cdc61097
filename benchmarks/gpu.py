"""On a GPU: convolutions and training steps beside PyTorch's on the same card, and beside our own on the CPU.

float32 is exact on both sides, TF32 rounds products on both, float16 is `autocast` with a `GradScaler` on
both. PyTorch may choose the fastest of cuDNN's algorithms (`cudnn.benchmark`). Times are between two CUDA
events on the stream that both libraries use, the minimum of rounds in turn after a warm-up, which compiles
kernels. Peak memory is what arrays held, weights and Adam's moments included, as each library counts its own.
`--dry-run` runs tiny sizes, without a GPU too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch

import minidl
from benchmarks.conv import LAYERS, Layer
from benchmarks.results import Comparison
from benchmarks.side_by_side import columns, row, use_threads
from benchmarks.unet import CLASSES, NETS, TorchUNet, title, torch_loss
from minidl import backend, backends, devices
from minidl.models import UNet
from minidl.nn import functional as F

PRECISIONS = ("float32", "TF32", "float16")
WARM_UP = 3
GROUPS = ("2-D, 3x3", "3-D, 3x3x3", "stride 2", "transposed, kernel 2, stride 2")
LARGE = (32, 64, 128, 256, 320), (2, 1, 128, 128, 128)

TINY_LAYERS = {"2-D, 3x3": [Layer(1, 1, 4, (8, 8)), Layer(2, 4, 4, (5, 6), stride=2)],
               "3-D, 3x3x3": [Layer(1, 4, 4, (4, 4, 4))],
               "transposed": [Layer(1, 8, 4, (4, 4), kernel=2, stride=2, transposed=True)]}  # fmt: skip
TINY_NETS = [((4, 8), (2, 1, 8, 8)), ((4, 8), (1, 1, 4, 4, 4))]

Run = Callable[[], Any]


class Card:
    """The GPU that both sides run on: its clock and its memory."""

    ours = theirs = "cuda"

    def __init__(self) -> None:
        if not minidl.cuda.is_available():
            raise SystemExit(f"no GPU: {backend.why_no_cuda()}")
        self.name = devices.describe("cuda")

    def seconds(self, run: Run) -> float:
        """Of one run, on the card."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def give_back(self) -> None:
        """The memory that the pools of both libraries keep for later: each shall find the other's."""
        minidl.cuda.empty_cache()
        torch.cuda.empty_cache()

    def peak(self, library: ModuleType, run: Run) -> int:
        """The most bytes that arrays of a library held during a run."""
        library.cuda.reset_peak_memory_stats()
        run()
        return library.cuda.max_memory_allocated()


class DryRun(Card):
    """To see it run: PyTorch on the CPU, and minidl too where there is neither CuPy nor a stand-in for it."""

    theirs = "cpu"

    def __init__(self) -> None:
        self.name = "dry run"
        self.ours = "cuda" if minidl.cuda.is_available() else "cpu"

    def seconds(self, run: Run) -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    def give_back(self) -> None:
        pass

    def peak(self, library: ModuleType, run: Run) -> int:
        run()
        return 1


def minima(card: Card, rounds: int, *sides: Run) -> list[float]:
    """The fastest run of each side in seconds; they take turns."""
    for side in sides:
        for _ in range(WARM_UP):
            side()
    times = [[card.seconds(side) for side in sides] for _ in range(rounds)]
    return [min(of_side) for of_side in zip(*times)]


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Let both libraries round products of float32 to TF32 inside, or neither."""
    tf32 = name == "TF32"
    switches = backends.cuda.matmul, torch.backends.cuda.matmul
    before = [switch.allow_tf32 for switch in switches]
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32):
        try:
            for switch in switches:
                switch.allow_tf32 = tf32
            yield
        finally:
            for switch, value in zip(switches, before):
                switch.allow_tf32 = value


# ---- what is run: one function for both libraries, whose names are the same ----------------------------


def trio(library: Any, functional: Any, layer: Layer, device: str, half: bool) -> Run:
    """Convolution and both gradients."""
    rng, rank = np.random.default_rng(0), len(layer.size)
    first, second = (layer.channels, layer.out) if layer.transposed else (layer.out, layer.channels)
    shapes = [
        (layer.samples, layer.channels, *layer.size),
        (first, second // layer.groups, *(layer.kernel,) * rank),
    ]
    dtype = library.float16 if half else library.float32
    draw = lambda shape: library.from_numpy(rng.standard_normal(shape, np.float32)).to(device).to(dtype)
    x, w = (draw(shape).requires_grad_() for shape in shapes)
    function = partial(
        getattr(functional, f"conv{'_transpose' if layer.transposed else ''}{rank}d"),
        stride=layer.stride, padding=layer.padding, groups=layer.groups,
    )  # fmt: skip
    g = draw(tuple(function(x, w).shape))
    return lambda: library.autograd.grad(function(x, w), (x, w), g)


def training_step(
    library: Any, features: Sequence[int], shape: Sequence[int], device: str, half: bool
) -> Run:
    """Forward, Dice + cross-entropy, backward, Adam."""
    rng = np.random.default_rng(0)
    x = library.from_numpy(rng.standard_normal(shape, np.float32)).to(device)
    y = library.from_numpy(rng.integers(0, CLASSES, (shape[0], *shape[2:]))).to(device)
    ours, dims = library is minidl, len(shape) - 2
    net = (UNet(1, CLASSES, features, dims=dims) if ours else TorchUNet(features, dims)).to(device)
    loss_of = partial(F.dice_ce_loss, batch=True) if ours else torch_loss
    optimizer = library.optim.Adam(net.parameters())
    kind = device.partition(":")[0]
    scaler = library.amp.GradScaler(kind, enabled=half)

    def step() -> None:
        with library.autocast(kind, library.float16, enabled=half):
            loss = loss_of(net(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


# ---- tables --------------------------------------------------------------------------------------------


def table(card: Card, rounds: int, what: str, cases: Sequence[tuple[str, Callable]]) -> list[Comparison]:
    """Print the times of cases (title, function of library, device and half) in every precision."""
    widths = (44, 9, 10, 10, 5, 10, 7)
    columns((what, "precision", "minidl ms", "PyTorch ms", "ratio", "CPU ms", "CPU/GPU"), widths)
    found = []
    for name, make in cases:
        on_cpu = make(minidl, "cpu", False)
        on_cpu()
        start = time.perf_counter()
        on_cpu()
        cpu = time.perf_counter() - start
        del on_cpu
        for kind in PRECISIONS:
            half = kind == "float16"
            card.give_back()
            with precision(kind):
                sides = make(minidl, card.ours, half), make(torch, card.theirs, half)
                found.append(Comparison(f"{what}, {kind}", name, *minima(card, rounds, *sides)))
            del sides
            ours, theirs = found[-1].minidl, found[-1].other
            cells = f"{1e3 * ours:.3f}", f"{1e3 * theirs:.3f}", f"{ours / theirs:.2f}"
            row((name, kind, *cells, f"{1e3 * cpu:.1f}", f"{cpu / ours:.0f}"), widths)
    for kind in PRECISIONS:
        rows = [r for r in found if r.group == f"{what}, {kind}"]
        ours, theirs = sum(r.minidl for r in rows), sum(r.other for r in rows)
        cells = f"{1e3 * ours:.3f}", f"{1e3 * theirs:.3f}", f"{ours / theirs:.2f}"
        row(("= total", kind, *cells, "", ""), widths)
    print()
    return found


def memory_table(card: Card, cases: Sequence[tuple[str, Callable]]) -> list[Comparison]:
    """Print the peak memory of the steps in float32 and float16."""
    widths = (44, 9, 10, 10, 5)
    columns(("peak memory", "precision", "minidl MB", "PyTorch MB", "ratio"), widths)
    found = []
    for name, make in cases:
        for kind in ("float32", "float16"):
            peaks = []
            for library, device in ((minidl, card.ours), (torch, card.theirs)):
                card.give_back()
                run = make(library, device, kind == "float16")
                run()  # Adam makes its moments
                peaks.append(card.peak(library, run))
                del run
            found.append(Comparison(f"peak memory, {kind}", name, *peaks, unit="B"))
            cells = f"{peaks[0] / 1e6:.0f}", f"{peaks[1] / 1e6:.0f}", f"{peaks[0] / peaks[1]:.2f}"
            row((name, kind, *cells), widths)
    return found


def main(threads: int, rounds: int, dry_run: bool = False) -> list[Comparison]:
    """Print a table of convolutions, one of training steps and one of their memory."""
    card = DryRun() if dry_run else Card()
    use_threads(threads)
    layers = TINY_LAYERS if dry_run else {group: LAYERS[group] for group in GROUPS}
    nets = TINY_NETS if dry_run else [*NETS, LARGE]
    print(f"{card.name}; PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
    print(f"CPU: {devices.describe('cpu')}; NumPy {np.__version__}\n")
    functional = {minidl: F, torch: torch.nn.functional}
    convolutions = [
        (str(layer), lambda library, *how, layer=layer: trio(library, functional[library], layer, *how))
        for group in layers.values()
        for layer in group
    ]
    steps = [(title(*net), lambda library, *how, net=net: training_step(library, *net, *how)) for net in nets]
    found = table(card, rounds, "convolution, both gradients", convolutions)
    found += table(card, rounds, "training step", steps)
    return found + memory_table(card, steps)
