"""Calling everything background costs little cross-entropy where lesions are small; the Dice loss notices."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import minidl
import minidl.nn.functional as F
from figures.drawing import page, picture
from figures.field_of_pixel import phantom
from figures.palette import SMALL
from minidl.data import phantom_case
from minidl.plot import OUTCOMES

CASE, SIZE, SURE = 3, 128, 0.99  # which phantom, pixels, how probable each prediction finds its own label


def losses(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Mean cross-entropy, and 1 - Dice of the lesion, of probabilities SURE and 1 - SURE."""
    lesion = np.where(predicted, SURE, 1 - SURE).astype(np.float32)
    logits = minidl.tensor(np.log(np.stack([1 - lesion, lesion]))[None])
    entropy = F.cross_entropy(logits, minidl.tensor(truth[None].astype(np.int64))).item()
    dice = 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
    return entropy, 1 - float(dice)


def draw(folder: Path) -> None:
    """The lesion, and three predictions with both losses."""
    image, lesion = phantom(), phantom_case("train", CASE, (SIZE, SIZE))[1] == 2
    middle = [int(np.mean(i)) for i in np.nonzero(lesion)]
    near = tuple(slice(m - 24, m + 24) for m in middle)
    predictions = {
        "nothing": np.zeros_like(lesion),
        "half a lesion": lesion & (np.arange(SIZE) < middle[1]),
        "shifted by 2 pixels": np.roll(lesion, 2, axis=1),
    }
    grey = np.clip(image / np.percentile(image, 99.8), 0, 1)[..., None].repeat(3, axis=-1)
    with page(folder, "cross_entropy_and_dice", 2.75, layout="constrained") as figure:
        first, *rest = figure.subplots(1, 4)
        picture(first, grey[near], "image")
        first.set_xlabel(f"lesion: {100 * lesion.mean():.1f} %\nof the image's pixels", fontsize=SMALL)
        colors = {
            key: np.array([int(OUTCOMES[key][i : i + 2], 16) / 255 for i in (1, 3, 5)]) for key in OUTCOMES
        }
        for axes, (name, predicted) in zip(rest, predictions.items()):
            shown = grey.copy()
            for key, mask in (("true positive", predicted & lesion), ("false positive", predicted & ~lesion),
                              ("false negative", ~predicted & lesion)):  # fmt: skip
                shown[mask] = colors[key]
            picture(axes, shown[near], name)
            entropy, dice = losses(predicted, lesion)
            axes.set_xlabel(f"cross-entropy {entropy:.3f}\nDice loss {dice:.2f}", fontsize=SMALL)
        patches = [rest[0].scatter([], [], s=90, marker="s", color=colors[key]) for key in list(colors)[:3]]
        figure.legend(patches, list(colors)[:3], loc="outside lower center", ncols=3)
