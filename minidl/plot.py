"""Pictures of a training run: curves, predictions, label maps.

Colours are those of Okabe and Ito (2008), which colour-blind readers can tell apart. The
background is transparent and all lettering a middle grey, legible on a white and on a dark page.
Figures are made as objects: no window opens and no global state of matplotlib changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minidl.files import atomic_write

OKABE_ITO = ("#0072B2", "#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#F0E442", "#D55E00")
INK = "#767676"  # contrast 4.5 : 1 with white and with black
STYLE: Any = {
    "font.size": 12,
    "axes.titlesize": 12,
    "figure.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}

# What a voxel can be, apart from rightly background; colours that the first three classes lack.
OUTCOMES = {
    "true positive": "#009E73",
    "false positive": "#D55E00",
    "false negative": "#F0E442",
    "wrong class": "#CC79A7",
}


@dataclass(frozen=True)
class Case:
    """One row of the figure of `predictions`.

    `image` is (C, *spatial), `truth` and `prediction` are (*spatial) label maps in 2-D or 3-D,
    `dice` has a value per foreground class and `spacing` a voxel edge in mm per spatial axis.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    dice: Sequence[float]
    spacing: Sequence[float]

    @property
    def coarsest_axis(self) -> int:
        """Across which a volume is best looked at, the last of equals."""
        return max(range(len(self.spacing)), key=lambda i: (self.spacing[i], i))

    def plane(self, axis: int) -> Plane:
        """The slice across an axis with the most foreground; of a picture, all of it."""
        image, spacing = self.image[0], list(self.spacing)
        if image.ndim == 2:
            return Plane(image, self.truth, self.prediction, spacing, 0)
        foreground = (self.truth > 0) | (self.prediction > 0)
        k = int(foreground.sum(tuple({0, 1, 2} - {axis})).argmax())
        del spacing[axis]
        image, truth, prediction = (a.take(k, axis) for a in (image, self.truth, self.prediction))
        return Plane(image, truth, prediction, spacing, k)


class Plane(NamedTuple):
    """A 2-D view of a case, its spacing in mm and the place where it lies."""

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    spacing: Sequence[float]
    place: int


# ---- arrays to colours -------------------------------------------------------------------------


def class_colors(n_classes: int) -> np.ndarray:
    """RGB in [0, 1] per class, (n_classes, 3): black background, then `OKABE_ITO`, then around."""
    foreground = [OKABE_ITO[i % len(OKABE_ITO)] for i in range(n_classes - 1)]
    return _rgb(["#000000", *foreground])


def label_overlay(image: np.ndarray, label: np.ndarray, n_classes: int) -> np.ndarray:
    """The grey image with its label map in colour on top: RGB in [0, 1], (*spatial, 3).

    `image` and `label` are both (*spatial). Grey runs from the 1st to the 99th percentile, so
    that one bright voxel does not darken all others.
    """
    if image.shape != label.shape:
        raise ValueError(f"label_overlay: image {image.shape} and label {label.shape} differ")
    return _tint(image, class_colors(n_classes), label)


def error_overlay(image: np.ndarray, prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The grey image with what is right and wrong on top, in the colours of `OUTCOMES`: (*spatial, 3).

    All three arrays are (*spatial).
    """
    return _tint(image, _rgb(["#000000", *OUTCOMES.values()]), _outcome(prediction, truth))


def _tint(image: np.ndarray, colors: np.ndarray, index: np.ndarray) -> np.ndarray:
    low, high = np.percentile(image, (1, 99))
    grey = np.clip((image - low) / max(high - low, 1e-12), 0, 1)[..., None].repeat(3, axis=-1)
    return np.where(index[..., None] > 0, 0.4 * grey + 0.6 * colors[index], grey)


def _rgb(colors: Sequence[str]) -> np.ndarray:
    return np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colors])


def _outcome(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """0 where both are background, else 1 + the position in `OUTCOMES`."""
    return np.select(
        [(prediction == 0) & (truth == 0), prediction == truth, truth == 0, prediction == 0],
        [0, 1, 2, 3],
        default=4,
    )


# ---- figures -----------------------------------------------------------------------------------


def curves(history: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draw a training history as a PNG: loss above, validation Dice per class below.

    A row of the history holds `step` and any of `train_loss`, `validation_loss`,
    `learning_rate`, `minutes` and `dice <class>`. A value may be missing or nan in any row; lines
    join the values there are. The learning rate is the grey line in a strip of its own.
    """
    if not history:
        raise ValueError("curves: the history has no rows")
    keys = dict.fromkeys(key for row in history for key in row)  # in order of appearance
    dice_keys = [key for key in keys if key.startswith("dice ")]
    with _figure(8, 7, path) as figure:
        loss, dice, rate = figure.subplots(3, sharex=True, height_ratios=(4, 4, 1.2))
        _line(loss, history, "train_loss", OKABE_ITO[0], "training")
        _line(loss, history, "validation_loss", OKABE_ITO[1], "validation")
        for key, color in zip(dice_keys, class_colors(len(dice_keys) + 1)[1:], strict=True):
            _line(dice, history, key, color, key.removeprefix("dice "))
        _line(rate, history, "learning_rate", INK, "learning rate")
        loss.set_ylabel("loss")
        dice.set_ylabel("validation Dice")
        dice.set_ylim(-0.02, 1.02)
        rate.set_ylabel("learning\nrate")
        rate.set_ylim(bottom=0)
        minutes = [row["minutes"] for row in history if row.get("minutes") is not None]
        rate.set_xlabel("step" + (f" ({minutes[-1]:.1f} minutes in all)" if minutes else ""))
        rate.locator_params(axis="x", integer=True)
        figure.align_ylabels()
        for axes in (loss, dice):
            if axes.lines:
                axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _line(axes: Any, history: Sequence[Mapping[str, Any]], key: str, color: Any, label: str) -> None:
    """Add `key` against step; the rows without a finite value are left out."""
    points = [
        (row["step"], row[key]) for row in history if row.get(key) is not None and np.isfinite(row[key])
    ]
    if points:
        marker = "o" if len(points) < 30 else ""  # a single point has no line to be seen by
        axes.plot(*zip(*points, strict=True), color=color, label=label, marker=marker, ms=4)


def predictions(cases: Sequence[Case], classes: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Draw cases as a PNG: a row per case, columns image, truth, prediction and errors.

    `classes` names every label, background first. The image is its first channel. A volume shows
    one slice, the one with the most foreground across its coarsest axis (the last of equals), in
    the proportions that `spacing` gives it.
    """
    from matplotlib.patches import Patch

    if not cases:
        raise ValueError("predictions: there are no cases to draw")
    planes = [case.plane(case.coarsest_axis) for case in cases]
    panel = 2.2  # inches, the width
    # A strip is as high as its picture at that width, and 0.6 inches for two lines of text.
    heights = [panel * a.shape[0] * s[0] / (a.shape[1] * s[1]) + 0.6 for a, _, _, s, _ in planes]
    size = 4 * panel + 0.5, sum(heights) + 0.8
    with _figure(*size, path) as figure:
        strips = figure.subfigures(len(cases), squeeze=False, height_ratios=heights)[:, 0]
        for case, plane, strip in zip(cases, planes, strips, strict=True):
            image, truth, prediction, spacing, _ = plane
            pictures = (
                label_overlay(image, np.zeros_like(truth), len(classes)),
                label_overlay(image, truth, len(classes)),
                label_overlay(image, prediction, len(classes)),
                error_overlay(image, prediction, truth),
            )
            row = strip.subplots(1, 4)
            for axes, picture in zip(row, pictures, strict=True):
                axes.imshow(picture, aspect=spacing[0] / spacing[1], interpolation="nearest")
                axes.set_axis_off()
            dice = (f"{c} {d:.3f}" for c, d in zip(classes[1:], case.dice, strict=True))
            strip.suptitle(f"{case.name}: Dice {', '.join(dice)}", x=0.005, ha="left")
            for axes, name in zip(row, ("image", "truth", "prediction", "errors"), strict=True):
                axes.set_title(name, loc="left")
        for place, names, colors in (
            ("lower left", classes[1:], class_colors(len(classes))[1:]),
            ("lower right", OUTCOMES, OUTCOMES.values()),
        ):
            patches = [Patch(color=c, label=n) for n, c in zip(names, colors, strict=True)]
            figure.legend(handles=patches, loc=f"outside {place}", ncols=2)


@contextmanager
def _figure(width: float, height: float, path: str | os.PathLike[str]) -> Iterator[Any]:
    """Yield an empty figure of that size in inches; at the end of the block it is saved."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120, transparent=True)
