"""`python -m figures [NAME ...]`: draw the figures anew, beside the scripts."""

from __future__ import annotations

import argparse
from pathlib import Path

from figures import NAMES, draw

parser = argparse.ArgumentParser("figures", description="Draw the figures anew.")
parser.add_argument(
    "names", nargs="*", choices=[[], *NAMES], help="which ones (default: all)", metavar="NAME"
)
for name in parser.parse_args().names or NAMES:
    print(name, flush=True)
    draw(name, Path(__file__).parent)
