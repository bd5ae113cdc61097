"""Peak resident memory of a training step above what stands after import, each side in a fresh process."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.results import Comparison
from benchmarks.side_by_side import header, row

SIDES = ("PyTorch", "minidl", "minidl, checkpoint=True")


def status(key: str) -> int:
    """Bytes of this process: in memory now (VmRSS), or at most so far (VmHWM). Linux.

    Not `getrusage`: what it says begins with the memory of the parent process.
    """
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


def step(side: str, index: int, threads: int) -> None:
    """Run three training steps in this process and print by how many bytes its memory grew at most."""
    from benchmarks import unet
    from benchmarks.side_by_side import use_threads

    use_threads(threads)
    before = status("VmRSS")
    features, shape = unet.NETS[index]
    if side == "PyTorch":
        run, _ = unet.their_step(features, shape)
    else:
        run, _ = unet.our_step(features, shape, checkpoint="checkpoint" in side)
    for _ in range(3):
        run()
    print(status("VmHWM") - before)


def main(threads: int, rounds: int) -> list[Comparison]:
    """Print a row for each network and side."""
    from benchmarks.unet import NETS, title

    header(threads)
    widths = (32, 24, 7, 5)
    row(("network", "side", "peak MB", "ratio"), widths)
    row([*(":" + "-" * (w - 1) for w in widths[:2]), *("-" * (w - 1) + ":" for w in widths[2:])], widths)
    found = []
    for index, net in enumerate(NETS):
        peaks = {}
        for side in SIDES:
            code = f"from benchmarks.memory import step; step({side!r}, {index}, {threads})"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            peaks[side] = int(done.stdout)
            ratio = peaks[side] / peaks["PyTorch"]
            row((title(*net), side, f"{peaks[side] / 1e6:.0f}", f"{ratio:.2f}"), widths)
        found += [Comparison(side, title(*net), peaks[side], peaks["PyTorch"], "B") for side in SIDES[1:]]
    return found
