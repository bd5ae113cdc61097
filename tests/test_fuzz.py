"""Whatever lies in a file: a clear error that names it, soon, and without much memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from examples import FACTOR

ROOT = Path(__file__).resolve().parents[1]
OF_EACH_KIND, KINDS = 140, 15


def test_damaged_files_give_clear_errors_soon_and_without_much_memory():
    command = [sys.executable, "-m", "tests.fuzz", str(OF_EACH_KIND * FACTOR), "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60 * FACTOR)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["faults"] == []
    assert found["tried"] == OF_EACH_KIND * FACTOR * KINDS >= 2000
    assert found["refused"] > found["tried"] / 2  # the damage is real
    assert found["peak"] < 500  # MiB of the whole process, the interpreter and its libraries included
