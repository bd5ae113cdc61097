"""Point at a pixel in a notebook and see its field grow through the layers.

Sliders choose the point and the layer; with `%matplotlib widget` (ipympl) a click into the image does as
well. Where no widgets work, in a script or on a page, the picture is the one of `plot.growth`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from minidl.receptive_field.field import ReceptiveField
from minidl.receptive_field.plot import STYLE, Page, draw_field, growth, nearest


def explore(field: ReceptiveField, image: Any, point: Sequence[int] | None = None) -> Any:
    """An ipywidgets explorer of `analyze`'s result over an image (*S); a figure where widgets do not work.

    `point` is where it starts, (row, column) or one number per axis of the image; by default the middle.
    """
    if not field.layers or not field.input_size:
        raise ValueError("explore: expected a result of analyze, whose layers have positions in an image")
    start = [n // 2 for n in field.input_size] if point is None else list(point)
    return Explorer(field, image, start).widget if _widgets_work() else growth(field, image, start)


def _widgets_work() -> bool:
    if os.environ.get("MINIDL_STATIC"):
        return False
    try:
        import ipywidgets  # noqa: F401
    except ImportError:
        return False
    return "ipykernel" in sys.modules


class Explorer:
    """The state of the widgets: a point of the image and a layer; every change draws anew."""

    def __init__(self, field: ReceptiveField, image: Any, start: Sequence[int]):
        import ipywidgets as widgets
        import matplotlib

        names = ["row", "column"] if field.rank == 2 else [f"axis {i}" for i in range(field.rank)]
        self.field, self.image = field, image
        self.point = [
            widgets.IntSlider(start[i], 0, n - 1, description=names[i], continuous_update=False)
            for i, n in enumerate(field.input_size or ())
        ]
        labels = [(f"{i + 1}: {layer.name}", i) for i, layer in enumerate(field.layers)]
        self.layer = widgets.SelectionSlider(
            options=labels, value=len(labels) - 1, description="layer", continuous_update=False
        )
        self.live = "ipympl" in matplotlib.get_backend()
        self.figure = self._figure()
        if self.live:
            canvas: Any = self.figure.canvas
        else:
            canvas = self.output = widgets.Output()
        self.widget = widgets.VBox([widgets.HBox([*self.point, self.layer]), canvas])
        for slider in (*self.point, self.layer):
            slider.observe(lambda change: self.draw(), names="value")
        self.figure.canvas.mpl_connect("button_press_event", self.click)
        self.draw()

    def _figure(self) -> Any:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        with matplotlib.rc_context(STYLE):
            if self.live:
                from matplotlib import pyplot

                return pyplot.figure(figsize=(5.4, 5.2), layout="constrained")
            figure = Page(figsize=(5.4, 5.2), layout="constrained")
            FigureCanvasAgg(figure)
            return figure

    def draw(self) -> None:
        """The chosen layer's field at its unit nearest to the point."""
        import matplotlib

        layer = self.field.layers[self.layer.value]
        self.figure.clear()
        with matplotlib.rc_context(STYLE):
            at = nearest(layer.field, [slider.value for slider in self.point])
            draw_field(self.figure.subplots(), layer.field, self.image, at, layer.name)
        if self.live:
            self.figure.canvas.draw_idle()
            return
        from IPython.display import display

        with self.output:
            self.output.clear_output(wait=True)
            display(self.figure)

    def click(self, event: Any) -> None:
        """Move the point to the pixel that was clicked."""
        if event.inaxes is not None and event.xdata is not None:
            for slider, value in zip(self.point[::-1], (event.xdata, event.ydata)):
                slider.value = min(max(round(value), slider.min), slider.max)
