"""`python -m benchmarks NAME`, with `--threads N`."""

from __future__ import annotations

import argparse

from benchmarks import conv, memory, overhead, peers, plan, unet

BENCHMARKS = {module.__name__.split(".")[1]: module.main for module in (conv, unet, memory, plan, overhead, peers)}

parser = argparse.ArgumentParser("benchmarks", description="Compare minidl with PyTorch in one run.")
parser.add_argument("name", choices=BENCHMARKS, help="what to measure")
parser.add_argument("--threads", type=int, default=2, help="for both sides (default: 2)")
parser.add_argument("--rounds", type=int, default=7, help="rounds, the fastest of which counts (default: 7)")
options = parser.parse_args()
BENCHMARKS[options.name](options.threads, options.rounds)
