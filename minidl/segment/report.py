"""The report of a run: what was trained on what, and is it any better than a trivial method?

Dice and its kin are averaged over the cases that contain the class: there they are defined for
the network and for every baseline alike, so that all are compared on the same cases. What happens
on the cases without the class is a rate of its own: how often is it seen where it is not?
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidl.files import atomic_write
from minidl.segment.metrics import Row, format_table, mean, percentile

FIGURES = {"curves.png": "Training curves", "predictions.png": "Good, median and worst case"}
N_WORST = 5


@dataclass(frozen=True)
class Scores:
    """The scores of a network and of the baselines on the same test cases.

    `cases` holds the names of the cases, `rows` the answer of `evaluate_case` for each of them,
    and `baselines` by name an array of Dice (cases, foreground classes).
    """

    cases: Sequence[str]
    rows: Sequence[Sequence[Row]]
    baselines: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        if not self.cases or len(self.rows) != len(self.cases):
            raise ValueError(
                f"Scores: got {len(self.cases)} case names and the rows of {len(self.rows)} cases; "
                "needs one list of rows per case, and at least one case"
            )
        shape = (len(self.cases), len(self.classes))
        if any([row["class"] for row in case] != self.classes for case in self.rows):
            raise ValueError(f"Scores: not every case has the rows of the classes {self.classes}")
        for name, dice in self.baselines.items():
            if dice.shape != shape:
                raise ValueError(
                    f"Scores: baseline {name!r} has Dice of shape {dice.shape} "
                    f"but there are (cases, classes) = {shape}"
                )

    @property
    def classes(self) -> list[str]:
        """The names of the foreground classes."""
        return [row["class"] for row in self.rows[0]]

    def table(self, measure: str) -> np.ndarray:
        """One measure of the network as an array (cases, foreground classes)."""
        return np.array([[row[measure] for row in case] for case in self.rows], float)

    def examples(self) -> dict[str, int]:
        """The indices of a good (90th percentile), the median and the worst case by mean Dice."""
        dice = self.table("dice")
        present = ~np.isnan(dice)
        per_case = np.where(present, dice, 0).sum(1) / np.maximum(1, present.sum(1))
        order = np.argsort(per_case, kind="stable")
        last = len(order) - 1
        return {
            "good": int(order[round(0.9 * last)]),
            "median": int(order[last // 2]),
            "worst": int(order[0]),
        }


def write_report(path: str | os.PathLike[str], title: str, facts: Mapping[str, Any], scores: Scores) -> None:
    """Write the report as Markdown, whole or not at all.

    `facts` are the lines of its first table: data, split, model, device, time and whatever else
    a reader needs to repeat the run. A figure of `FIGURES` is shown if it lies beside `path`.
    """
    folder = Path(path).parent
    figures = [f"![{FIGURES[name]}]({name})" for name in FIGURES if (folder / name).exists()]
    paragraphs = [
        f"# {title}",
        "\n".join(f"- {verdict(scores, c)}" for c in range(len(scores.classes))),
        "± is the 95 % confidence interval of the mean difference: the choice of test cases is in "
        "it, another training run or another source of images is not.",
        "## What was trained on what",
        format_table([{"what": key, "value": str(value)} for key, value in facts.items()]),
        "## Dice",
        f"{len(scores.cases)} test cases; each class counts those that contain it. "
        "p10: one case in ten is worse.",
        format_table(dice_rows(scores)),
        "## Other measures of the network",
        "iou and sensitivity: mean over the same cases. precision, and hd95 and asd in mm: mean "
        "over those in which some of the class was predicted. missed: none of it was, though it "
        "is there. false positive: some of it was, in a case without it.",
        format_table(detail_rows(scores)),
        "## Worst cases",
        format_table(_worst_rows(scores)) or "No test case contains any class.",
        *(["## Figures", *figures] if figures else []),
    ]
    with atomic_write(path) as temporary:
        text = "\n\n".join(paragraphs) + "\n"
        temporary.write_text(text, encoding="utf-8", newline="\n")


def verdict(scores: Scores, c: int) -> str:
    """One sentence: does the network beat the best baseline in foreground class c, and how surely?

    With d the difference of Dice per case, "beats" needs mean(d) > t std(d) / sqrt(n), t being
    the 97.5 % point of Student's distribution: 12.7 for two cases, near 2 for many.
    """
    from scipy.special import stdtrit

    name = f"**{scores.classes[c]}**"
    present = scores.table("true_voxels")[:, c] > 0
    n = int(present.sum())
    if not n:
        return f"{name}: no test case contains it, so nothing can be said."
    if not scores.baselines:
        return f"{name}: there is no baseline to compare with, so nothing can be said."
    means = {key: float(dice[present, c].mean()) for key, dice in scores.baselines.items()}
    best = max(means, key=lambda key: means[key])
    difference = scores.table("dice")[present, c] - scores.baselines[best][present, c]
    gain, rival = float(difference.mean()), f"the best baseline ({best}, Dice {means[best]:.3f})"
    if n == 1:
        return f"{name}: {gain:+.3f} against {rival} in the one case there is: too few to tell."
    margin = stdtrit(n - 1, 0.975) * difference.std(ddof=1) / np.sqrt(n)
    wins = f"better in {int((difference > 0).sum())} of {n} cases"
    if gain > margin:
        return f"{name}: beats {rival} by {gain:.3f} ± {margin:.3f} ({wins})."
    beat = "does NOT clearly beat" if gain > 0 else "does NOT beat"
    return f"{name}: {beat} {rival}: {gain:+.3f} ± {margin:.3f} ({wins})."


def dice_rows(scores: Scores) -> list[Row]:
    """Dice of the network and the baselines per class, over the cases that contain it."""
    present = scores.table("true_voxels") > 0
    methods = {"network": scores.table("dice"), **scores.baselines}
    rows = []
    for c, name in enumerate(scores.classes):
        for method, dice in methods.items():
            values = dice[present[:, c], c]
            rows.append(
                {
                    "class": name,
                    "method": method,
                    "mean": mean(values),
                    "p10": percentile(values, 10),
                    "worst": percentile(values, 0),
                    "cases": len(values),
                }
            )
    return rows


def detail_rows(scores: Scores) -> list[Row]:
    """The other measures of the network per class, over the cases where they are defined."""
    present = scores.table("true_voxels") > 0
    predicted = scores.table("predicted_voxels") > 0
    found = present & predicted
    rows = []
    for c, name in enumerate(scores.classes):
        row: Row = {"class": name}
        for measure in ("iou", "sensitivity", "precision", "hd95", "asd"):
            # Precision and distances need voxels on both sides.
            where = present if measure in ("iou", "sensitivity") else found
            row[measure] = mean(scores.table(measure)[where[:, c], c])
        absent = ~present[:, c]
        row["missed"] = _share(present[:, c] & ~predicted[:, c], present[:, c])
        row["false positive"] = _share(absent & predicted[:, c], absent)
        rows.append(row)
    return rows


def _worst_rows(scores: Scores) -> list[Row]:
    columns = ("class", "dice", "hd95", "true_voxels", "predicted_voxels")
    rows = [
        {"case": name, **{key: row[key] for key in columns}}
        for name, case in zip(scores.cases, scores.rows, strict=True)
        for row in case
        if row["true_voxels"]
    ]
    return sorted(rows, key=lambda row: row["dice"])[:N_WORST]


def _share(part: np.ndarray, whole: np.ndarray) -> str | None:
    """A rate with the counts behind it, which tell how far to trust it: "2 of 8 (0.250)"."""
    n, total = int(part.sum()), int(whole.sum())
    return f"{n} of {total} ({n / total:.3f})" if total else None
