"""Pictures, the command and the explorer of receptive fields: what they show, not how it looks."""

from __future__ import annotations

import sys

import matplotlib
import numpy as np
import pytest

from minidl import cli, nn
from minidl.receptive_field import add, analyze, chain, conv, conv_transpose, effective, explorer, plot, pool
from minidl.receptive_field.explorer import Explorer, explore

IMAGE = np.random.default_rng(0).random((24, 32))


@pytest.fixture(scope="module")
def field():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 3, padding=1))
    return analyze(net, (1, 1, 24, 32))


def boxes(figure):
    return [tuple(map(float, (*p.get_xy(), p.get_width(), p.get_height()))) for p in figure.axes[0].patches]


def test_the_field_on_an_image(field, tmp_path):
    figure = plot.on_image(field, IMAGE, (5, 6), tmp_path / "field.png")
    assert field.region((5, 6)) == (slice(7, 14), slice(9, 16))
    assert boxes(figure) == [(8.5, 6.5, 7, 7)]
    assert (tmp_path / "field.png").read_bytes()[:4] == b"\x89PNG"
    assert plot.place(field, (5, 6)) == [10.5, 12.5]
    assert plot.nearest(field, (10.5, 12.5)) == [5, 6] and plot.nearest(field, (99, -9)) == [11, 0]


def test_fields_of_signals_and_volumes():
    line = analyze(nn.Conv1d(1, 1, 5), (1, 1, 20))
    assert boxes(plot.on_image(line, np.arange(20.0), 0)) == [(-0.5, -0.5, 5, 1)]
    cube = analyze(nn.Conv3d(1, 1, (1, 3, 5)), (1, 1, 4, 8, 8))
    assert boxes(plot.on_image(cube, np.ones((1, 4, 8, 8)), (0, 0, 0))) == [(-0.5, -0.5, 5, 3)]
    with pytest.raises(ValueError, match="fewer than 3 axes"):
        plot.on_image(cube, np.ones((8, 8)))


def test_fields_grow_layer_by_layer(field):
    assert boxes(plot.growth(field, IMAGE, (12, 16))) == [(14.5, 10.5, 3, 3), (12.5, 8.5, 7, 7)]


def test_two_networks_side_by_side(field):
    figure = plot.compare({"large": field, "small": analyze(nn.Conv2d(1, 1, 1), (1, 1, 24, 32))}, IMAGE)
    assert [axes.get_title() for axes in figure.axes] == ["large: 7 x 7 samples", "small: 1 x 1 samples"]


def test_the_diagram_lights_what_an_output_sees():
    layers = [conv(3), pool(2), add([], [conv(3, padding=1)]), conv_transpose(2, 2)]
    figure = plot.diagram(layers, positions=6, chosen=2)
    start, bits = chain(layers).lines[0][1].at(2)
    assert figure.axes[0].get_title() == f"the coloured output sees {bits.bit_count()} samples"
    lit = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"
           and line.get_ydata()[0] == 0 and line.get_markerfacecolor() == plot.ORANGE]  # fmt: skip
    assert lit == list(range(start, start + bits.bit_length()))


def test_effective_fields_before_and_after():
    net = nn.Conv2d(1, 1, 3, padding=1)
    measured = effective(net, (1, 1, 9, 9), samples=1)
    figure = plot.effective_map({"before": measured, "after": measured}, analyze(net, (1, 1, 9, 9)))
    assert figure.axes[0].get_title(loc="left").startswith("before")
    assert boxes(figure) == [(2.5, 2.5, 3, 3)]
    plot.effective_map(effective(nn.Conv1d(1, 1, 3), (1, 1, 9), samples=1))


# ---- on the command line ---------------------------------------------------------------------------


def test_the_command(tmp_path, capsys):
    png = tmp_path / "field.png"
    arguments = ["unet2015", "--input", "1x1x188x204", "--position", "0,0", "--plot", str(png)]
    assert cli.main(["receptive-field", *arguments]) == 0
    told = capsys.readouterr().out
    assert "receptive field  204" in told and "position 0,0 sees 0 .. 187 x 0 .. 187" in told
    assert any(line.split()[:2] == ["encoder.0.0.conv", "Conv2d"] for line in told.splitlines())
    assert png.exists()


def test_the_command_refuses_with_a_sentence(capsys):
    assert cli.main(["receptive-field", "nix"]) == 2
    assert "no network 'nix'" in capsys.readouterr().err
    assert cli.main(["receptive-field", "unet2015", "--input", "1x1x188x188", "--position", "9,9"]) == 2
    assert "(9, 9) is outside the output" in capsys.readouterr().err


# ---- in notebooks ----------------------------------------------------------------------------------


def test_without_widgets_there_is_a_figure(field, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    figure = explore(field, IMAGE, (12, 16))
    assert boxes(figure) == [(14.5, 10.5, 3, 3), (12.5, 8.5, 7, 7)]
    with pytest.raises(ValueError, match="a result of analyze"):
        explore(chain([conv(3)]), IMAGE)


def test_a_notebook_shows_a_figure_without_pyplot(tmp_path):
    """A new formatter has learnt nothing from pyplot. It shows what is saved, whatever a notebook has set."""
    formatters = pytest.importorskip("IPython.core.formatters")
    with matplotlib.rc_context({"font.size": 30}):
        shown, _ = formatters.DisplayFormatter().format(plot.diagram([conv(3), conv(3)]))
    plot.diagram([conv(3), conv(3)], path=tmp_path / "diagram.png")
    assert shown["image/png"] == (tmp_path / "diagram.png").read_bytes()


def test_the_explorer_shows_a_figure_without_pyplot(field):
    pytest.importorskip("ipywidgets")
    formatters = pytest.importorskip("IPython.core.formatters")
    shown, _ = formatters.DisplayFormatter().format(Explorer(field, IMAGE, [12, 16]).figure)
    assert "image/png" in shown


def test_a_click_moves_the_field(field):
    pytest.importorskip("ipywidgets")
    from matplotlib.backend_bases import MouseEvent

    shown = Explorer(field, IMAGE, [12, 16])
    assert boxes(shown.figure) == boxes(plot.on_image(field, IMAGE, plot.nearest(field, (12, 16))))
    canvas = shown.figure.canvas
    canvas.draw()
    x, y = shown.figure.axes[0].transData.transform((20, 5))
    canvas.callbacks.process("button_press_event", MouseEvent("button_press_event", canvas, x, y, 1))
    assert [slider.value for slider in shown.point] == [5, 20]
    assert boxes(shown.figure) == boxes(plot.on_image(field, IMAGE, plot.nearest(field, (5, 20))))
    shown.layer.value = 0
    assert boxes(shown.figure)[0][2:] == (3, 3)


def test_the_explorer_starts_in_a_notebook(field, monkeypatch):
    widgets = pytest.importorskip("ipywidgets")
    monkeypatch.setattr(explorer, "_widgets_work", lambda: True)
    assert isinstance(explore(field, IMAGE), widgets.VBox)
