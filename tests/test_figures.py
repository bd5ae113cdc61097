"""Every figure draws, is shown in the gallery, and is the one that its script makes."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import figures

FOLDER = Path(figures.__file__).parent
TRAINED = ("checkerboard", "field_trained", "first_run")
MEASURED = ("field_effective",)  # drawn in a moment, but the last digits are up to the machine's arithmetic
DRAWN = [name for name in figures.NAMES if name not in TRAINED]
FILES = sorted([*FOLDER.glob("*.svg"), *FOLDER.glob("*.png")])


def alone(svg: str) -> str:
    """The drawing without the photographs in it, whose compression is up to the machine."""
    return re.sub(r'href="data:image/png;base64,[^"]*"', "", svg)


def version(svg: str) -> str:
    """Which Matplotlib drew it."""
    return re.search(r"Matplotlib v([^,]+)", svg).group(1)


@pytest.mark.parametrize("name", DRAWN)
def test_the_script_draws_the_committed_figure(name, tmp_path):
    figures.draw(name, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.svg", f"{name}.png"}
    new, old = ((folder / f"{name}.svg").read_text() for folder in (tmp_path, FOLDER))
    if version(old) == matplotlib.__version__ and name not in MEASURED:
        assert alone(new) == alone(old), f"run `python -m figures {name}`"


def test_a_figure_is_the_same_every_time(tmp_path):
    for k in (0, 1):
        figures.draw("sliding_window", tmp_path / str(k))
    for suffix in ("svg", "png"):
        one, other = ((tmp_path / str(k) / f"sliding_window.{suffix}").read_bytes() for k in (0, 1))
        assert one == other
    assert b"<dc:date>" not in one


@pytest.mark.parametrize(
    "name", ("checkerboard", "field_trained", pytest.param("first_run", marks=pytest.mark.slow))
)
def test_scripts_that_train_run_with_two_steps(name, tmp_path, monkeypatch):
    monkeypatch.setattr(import_module(f"figures.{name}"), "STEPS", 2)
    figures.draw(name, tmp_path)
    assert list(tmp_path.glob("*.png"))


@pytest.mark.slow
def test_what_the_checkerboard_figure_shows():
    from figures.checkerboard import KINDS, Autoencoder, measured, train
    from minidl import manual_seed

    for kind in KINDS:
        manual_seed(0)
        model = Autoencoder(kind)
        _, before, _, pattern_before = measured(model)
        train(model, kind)
        _, after, _, pattern_after = measured(model)
        random = kind in ("transpose", "subpixel")
        assert before > 0.5 if random else before < 0.02
        assert pattern_before > 10 if random else pattern_before < 0.01
        assert after < 0.05  # the pattern was not in the images
        assert pattern_after < 0.01 if kind == "interpolate" else 0.3 < pattern_after < 10


def test_every_figure_is_in_the_gallery_with_what_it_shows():
    gallery = (FOLDER / "README.md").read_text()
    for name in figures.NAMES:
        words = import_module(f"figures.{name}").__doc__.split("\n\n")[0].strip()
        assert f"![{words}](" in gallery and f"`python -m figures {name}`" in gallery, name
    assert set(re.findall(r"\]\(([^)]+\.(?:svg|png))\)", gallery)) <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_committed_files_are_small_and_have_a_script(path):
    assert path.stat().st_size < 300_000
    assert path.stem in figures.NAMES or path.name == "predictions.png"


def test_convolutions_are_drawn_as_they_are():
    """The matrix of the figures is the convolution's, and the lecture's numbers are minidl's."""
    from figures.convolution_matrix import matrix
    from figures.field_growth import CONV, POOL, field_sizes
    from figures.sliding_window import KERNEL, SIGNAL

    down = matrix(stride=2) @ SIGNAL
    assert (matrix() @ SIGNAL).tolist() == [5, 7, 2, 0, -1, 1, 2] and down.tolist() == [5, 2, -1, 2]
    assert (matrix(stride=2).T @ down).tolist() == [10, 3, 4, 3, -2, -3, 4] and len(KERNEL) == 3
    assert field_sizes([CONV] * 3) == [3, 5, 7]
    assert field_sizes([CONV, POOL, CONV, POOL, CONV]) == [3, 4, 8, 10, 18]
    # VGG-A in another convention: 5 stages of 1, 1, 2, 2, 2 convolutions, each with a pool, see 150.
    vgg = [layer for count in (1, 1, 2, 2, 2) for layer in [*[CONV] * count, POOL]]
    assert field_sizes(vgg)[-1] == 150


def test_a_trace_leaves_the_model_as_it_was():
    from figures.shapes import trace
    from minidl.models import unet2015

    model = unet2015(base=1)
    calls = {call.name: call for call in trace(model, 1, 1, 188, 188)}
    assert calls["head"].output == (1, 2, 4, 4) and calls["encoder.4"].output[-1] == 4
    assert not any("forward" in vars(module) for module in model.modules())
    assert np.isfinite(calls["decoder.0.0"].input).all()
