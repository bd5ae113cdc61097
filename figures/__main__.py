"""`python -m figures [NAME ...]`: draw the figures anew, as PNG files beside the scripts."""

from __future__ import annotations

import argparse
from pathlib import Path

from figures import first_run, phantoms

FIGURES = {"phantoms": phantoms.draw, "first_run": first_run.draw}

parser = argparse.ArgumentParser("figures", description="Draw the figures anew.")
parser.add_argument("names", nargs="*", choices=[[], *FIGURES], help="which ones (default: all)")
for name in parser.parse_args().names or FIGURES:
    FIGURES[name](Path(__file__).parent)
