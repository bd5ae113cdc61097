"""Sliders in a notebook: which kind, between which ends, how fine; and what stands in for them elsewhere."""

from __future__ import annotations

import pytest

from minidl import notebook


def test_without_widgets_the_start_is_drawn_once(monkeypatch):
    monkeypatch.setenv("MINIDL_STATIC", "1")
    drawn = []
    notebook.explore(lambda **values: drawn.append(values), a=(3, 0, 6), b=(0.5, [0.1, 0.5]))
    assert drawn == [{"a": 3, "b": 0.5}]


def test_sliders_reach_their_ends_in_fine_steps(monkeypatch):
    widgets = pytest.importorskip("ipywidgets")
    made = {}
    monkeypatch.setattr(notebook, "_widgets_work", lambda: True)
    monkeypatch.setattr(widgets, "interact", lambda draw, **sliders: made.update(sliders))
    notebook.explore(print, n=(3, 0, 6), share=(0.4, 0.0, 0.5), momentum=(0.9, [0, 0.5, 0.9, 0.99]))
    assert [type(slider).__name__ for slider in made.values()] == [
        "IntSlider",
        "FloatSlider",
        "SelectionSlider",
    ]
    assert [slider.value for slider in made.values()] == [3, 0.4, 0.9]
    assert (made["n"].min, made["n"].max, made["share"].min, made["share"].max) == (0, 6, 0, 0.5)
    assert made["share"].step == pytest.approx(0.005) and made["momentum"].options[-1] == 0.99
