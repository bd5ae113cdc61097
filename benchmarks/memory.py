"""Peak resident memory of a training step above what stands after import, each side in a fresh process."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

from benchmarks.side_by_side import header, row


def resident() -> int:
    """Bytes of this process that are in memory now (Linux)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def step(side: str, index: int, threads: int) -> None:
    """Run three training steps in this process and print by how many bytes its memory grew at most."""
    from benchmarks import unet
    from benchmarks.side_by_side import use_threads

    use_threads(threads)
    before = resident()
    features, shape = unet.NETS[index]
    make = unet.our_step if side == "minidl" else unet.their_step
    run, _ = make(features, shape)
    for _ in range(3):
        run()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)


def main(threads: int, rounds: int) -> None:
    """Print a row per network."""
    from benchmarks.unet import NETS, title

    header(threads)
    widths = (40, 10, 11, 5)
    row(("network", "minidl MB", "PyTorch MB", "ratio"), widths)
    row([":" + "-" * (widths[0] - 1), *("-" * (w - 1) + ":" for w in widths[1:])], widths)
    for index, net in enumerate(NETS):
        peaks = []
        for side in ("minidl", "PyTorch"):
            code = f"from benchmarks.memory import step; step({side!r}, {index}, {threads})"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            peaks.append(int(done.stdout))
        row((title(*net), *(f"{p / 1e6:.0f}" for p in peaks), f"{peaks[0] / peaks[1]:.2f}"), widths)
