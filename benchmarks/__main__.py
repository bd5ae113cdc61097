"""`python -m benchmarks NAME`, with `--threads N`."""

from __future__ import annotations

import argparse

from benchmarks import conv, crf, fused, gpu, growth, memory, overhead, peers, plan, plot, results, unet

MODULES = (conv, crf, fused, unet, memory, gpu, plan, overhead, peers, growth, plot)
BENCHMARKS = {module.__name__.split(".")[1]: module.main for module in MODULES}

parser = argparse.ArgumentParser("benchmarks", description="Compare minidl with PyTorch in one run.")
parser.add_argument("name", choices=BENCHMARKS, help="what to measure; plot draws what was saved")
parser.add_argument("--threads", type=int, default=2, help="for both sides (default: 2)")
parser.add_argument("--rounds", type=int, default=7, help="rounds, the fastest of which counts (default: 7)")
parser.add_argument("--save", action="store_true", help=f"put ratios into benchmarks/{results.FILE.name}")
parser.add_argument("--dry-run", action="store_true", help="gpu: tiny sizes, to see that it runs")
options = parser.parse_args()
more = {"dry_run": True} if options.dry_run else {}
rows = BENCHMARKS[options.name](options.threads, options.rounds, **more)
if options.save and rows:
    results.save(options.name, options.threads, rows, results.FILE)
