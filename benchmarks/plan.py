"""What `minidl plan` predicts of a training step, its memory and its time, beside what the step takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from minidl.kernels.threads import set_num_threads
from minidl.segment.plan import cost
from minidl.segment.plan.topology import nnunet_topology
from minidl.segment.plan.words import amount, by

CASES = [  # patch, channels of the first stage, batch
    ((40, 56, 40), 8, 2), ((40, 56, 40), 16, 2), ((40, 56, 40), 32, 2), ((40, 56, 40), 16, 8),
    ((64, 64, 64), 16, 2), ((56, 40), 32, 16), ((56, 40), 32, 64), ((128, 128), 32, 4), ((256, 256), 32, 4),
]  # fmt: skip
CLASSES = 3


def resident(what: str) -> int:
    """Bytes of this process in memory (Linux): now, "VmRSS", or at most since it began, "VmHWM"."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def measure(patch: Sequence[int], base: int, batch: int, threads: int, rounds: int) -> dict[str, float]:
    """Bytes and seconds of a step, predicted and found, in a process that did nothing before."""
    set_num_threads(threads)
    topology = nnunet_topology((1.0,) * len(patch), patch)
    network = (topology, cost.widths(base, topology), 1, CLASSES)
    proxy = cost.memory_proxy(*network)
    work = cost.work(cost.multiply_adds(*network), proxy)
    before = resident("VmRSS")
    seconds = cost.seconds_of(cost.training_step(*network, batch), rounds)
    found = resident("VmHWM") - before
    return {
        "predicted bytes": cost.training_memory(proxy, cost.parameters(*network), batch),
        "bytes": found,
        "predicted seconds": batch * work / cost.measure_speed(len(patch)),
        "seconds": seconds,
    }


def main(threads: int, rounds: int) -> None:
    """Print a row per network, each measured in a fresh process."""
    from benchmarks.side_by_side import header, row

    header(threads)
    widths = (30, 10, 10, 5, 10, 10, 5)
    row(("patch, width, batch", "predicted", "memory", "ratio", "predicted", "time", "ratio"), widths)
    row([":" + "-" * (widths[0] - 1), *("-" * (w - 1) + ":" for w in widths[1:])], widths)
    for patch, base, batch in CASES:
        call = f"measure({patch}, {base}, {batch}, {threads}, {rounds})"
        code = f"import json; from benchmarks.plan import measure; print(json.dumps({call}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        m = json.loads(done.stdout)
        row((f"{by(patch)}, {base}, {batch}",
             amount(m["predicted bytes"]), amount(m["bytes"]), f"{m['bytes'] / m['predicted bytes']:.2f}",
             f"{m['predicted seconds']:.2f} s", f"{m['seconds']:.2f} s",
             f"{m['seconds'] / m['predicted seconds']:.2f}"), widths)  # fmt: skip
