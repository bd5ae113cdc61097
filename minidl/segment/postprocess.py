"""What is removed from label maps after prediction: islands, where the validation cases say that it helps.

nnU-Net's rule (Isensee et al. 2021): keep the largest connected component of all foreground together if the
mean Dice improves and no class gets worse; then ask the same for each class by itself, one after another.
Components are connected through the faces of voxels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from minidl.files import atomic_write
from minidl.segment.metrics import dice
from minidl.segment.plan.schema import parse, to_text

NAME = "postprocessing.json"


@dataclass(frozen=True)
class Postprocessing:
    """Of which masks the largest component alone is kept: all foreground, then these classes (1, 2, ...)."""

    foreground: bool = False
    classes: tuple[int, ...] = ()

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        """The label map (*S) without what is removed; the one given is left as it was."""
        if self.foreground:
            labels = np.where(keep_largest(labels > 0), labels, 0)
        for c in self.classes:
            mask = labels == c
            labels = np.where(mask & ~keep_largest(mask), 0, labels)
        return labels

    def __and__(self, other: Postprocessing) -> Postprocessing:
        """What both do."""
        return Postprocessing(
            self.foreground and other.foreground, tuple(c for c in self.classes if c in other.classes)
        )

    def describe(self, classes: Sequence[str]) -> str:
        """In words; `classes` names all label values."""
        kept = ["all foreground together"] * self.foreground + [classes[c] for c in self.classes]
        return (
            f"the largest component alone is kept of {', of '.join(kept)}" if kept else "nothing is removed"
        )

    def save(self, folder: Path) -> None:
        """Write into the folder of a run."""
        with atomic_write(folder / NAME) as temporary:
            temporary.write_text(to_text(asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Postprocessing:
        """Read what `save` wrote, nothing if there is no file; ValueError that names it if it is damaged."""
        path = folder / NAME
        if not path.exists():
            return cls()
        try:
            return parse(cls, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not a readable choice of post-processing: {error}") from error


def keep_largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected component of a boolean mask, the first of equals."""
    from scipy import ndimage

    components, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(components.ravel())
    return components == 1 + sizes[1:].argmax()


def choose_postprocessing(
    predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray], classes: Sequence[str]
) -> Postprocessing:
    """What improves these predictions: label maps (*S) of the validation cases and their truths."""
    if not predictions or len(predictions) != len(truths):
        raise ValueError(
            f"choose_postprocessing: got {len(predictions)} predictions and {len(truths)} truths; "
            "needs one truth per prediction, and at least one"
        )
    chosen = Postprocessing()
    best = mean_dice_of_cases(predictions, truths, len(classes))
    candidates = [lambda p: Postprocessing(True, p.classes)] + [
        lambda p, c=c: Postprocessing(p.foreground, (*p.classes, c)) for c in range(1, len(classes))
    ]
    for more in candidates:
        candidate = more(chosen)
        score = mean_dice_of_cases([candidate(labels) for labels in predictions], truths, len(classes))
        if score.mean() > best.mean() and (score >= best).all():
            chosen, best = candidate, score
    return chosen


def mean_dice_of_cases(predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Per foreground class the mean over the cases where it is or was predicted; 1 if there are none."""
    scores = np.array([[dice(p == c, t == c) for c in range(1, n)] for p, t in zip(predictions, truths)])
    defined = ~np.isnan(scores)
    return np.where(defined.any(0), np.where(defined, scores, 0).sum(0) / np.maximum(defined.sum(0), 1), 1.0)
