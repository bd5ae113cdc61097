"""How many random examples a property test draws; MINIDL_EXAMPLES=10 draws ten times as many."""

from __future__ import annotations

import os

from hypothesis import settings

FACTOR = int(os.environ.get("MINIDL_EXAMPLES", "1"))


def examples(count: int) -> settings:
    """The same `count` (times MINIDL_EXAMPLES) examples in every run, however long they take."""
    return settings(max_examples=count * FACTOR, derandomize=True, deadline=None, database=None)
