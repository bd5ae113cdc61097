"""The generated pages are those that the code would make now."""

from __future__ import annotations

from docs.functions import BEYOND, PAGE, page
from minidl.nn import functional


def test_the_page_of_functions_is_up_to_date():
    assert PAGE.read_text() == page(), "run `python -m docs`"


def test_every_public_function_says_what_it_computes():
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    silent = [row for row in rows if row.endswith("|  |")]
    assert not silent


def test_what_is_marked_as_beyond_pytorch_exists():
    assert set(BEYOND) <= set(functional.__all__)
