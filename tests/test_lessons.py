"""Every lesson runs from top to bottom: its assertions are the numbers in its text."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest

LESSONS = sorted((Path(__file__).parents[1] / "lessons").glob("[0-9]*.py"))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_it_runs(path, monkeypatch):
    monkeypatch.setitem(os.environ, "MPLBACKEND", "Agg")
    runpy.run_path(str(path), run_name="__main__")


def test_each_is_listed_in_the_map_of_the_course():
    listed = (Path(__file__).parents[1] / "lessons" / "README.md").read_text()
    assert LESSONS and all(f"({path.name})" in listed for path in LESSONS)
