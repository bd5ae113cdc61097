"""How good is a segmentation? Overlap, surface distance, and tables of both.

Masks are boolean arrays of one shape `(*spatial)`, label maps are integer arrays of that shape in
which 0 is the background. With A the predicted and B the true mask:

    dice(A, B) = 2 |A ∩ B| / (|A| + |B|)        iou(A, B) = |A ∩ B| / |A ∪ B| = dice / (2 - dice)
    hd95(A, B) = max(P95 of d(a, ∂B) over a in ∂A,  P95 of d(b, ∂A) over b in ∂B)
    asd(A, B)  = mean of all those distances d, from both sides together

Overlap says how much of an object is found; a thin error along a large surface hides in it. The
distances (in mm) say how far away the surface is; they do not know how large the object is.

What an empty mask gives:

    |          | both empty | one empty |
    | overlap  | nan        | 0         |
    | distance | nan        | inf       |

A class that is absent and rightly not predicted has no overlap to measure: nan leaves it out of
the mean, where 0 would punish and 1 would reward every case without the class.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from minidl.files import atomic_write

Row = dict[str, Any]
Distances = tuple[np.ndarray, ...]  # from A to the surface of B, and from B to that of A

OVERLAPS = ("dice", "iou", "sensitivity", "precision")
DISTANCES = ("hd95", "asd")


# ---- two masks -----------------------------------------------------------------------------------


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """2 |A ∩ B| / (|A| + |B|): 1 for equal masks, 0 for disjoint ones, nan if both are empty."""
    a, b = _two_masks("dice", a, b)
    return _ratio(2 * np.count_nonzero(a & b), np.count_nonzero(a) + np.count_nonzero(b))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """|A ∩ B| / |A ∪ B|, the Jaccard index; nan if both masks are empty."""
    a, b = _two_masks("iou", a, b)
    return _ratio(np.count_nonzero(a & b), np.count_nonzero(a | b))


def surface_distances(a: np.ndarray, b: np.ndarray, spacing: Sequence[float]) -> Distances:
    """Distances in mm from every surface voxel of A to the surface of B, and from B to A.

    A surface voxel is a voxel of the mask with one of its 2N face neighbours outside of it; the
    outside of the image counts as outside. Distances run between voxel centres, `spacing` (N mm
    values) apart. To an empty mask they are infinite; from an empty mask there are none.
    """
    from scipy import ndimage

    a, b = _two_masks("surface_distances", a, b)
    if len(spacing) != a.ndim or min(spacing) <= 0:
        raise ValueError(
            f"surface_distances: spacing {tuple(spacing)} must hold {a.ndim} positive values, "
            f"one per axis of the masks (shape {a.shape})"
        )
    if not (a.any() and b.any()):
        return tuple(np.full(np.count_nonzero(_surface(mask)), np.inf) for mask in (a, b))
    # Outside the joint bounding box there is no voxel of either mask: cropping changes nothing.
    box = ndimage.find_objects((a | b).astype(np.uint8))[0]
    surface_a, surface_b = _surface(a[box]), _surface(b[box])
    to_a, to_b = (
        ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in (surface_a, surface_b)
    )
    return to_b[surface_a], to_a[surface_b]


def hausdorff95(a: np.ndarray, b: np.ndarray, spacing: Sequence[float]) -> float:
    """The larger of the two directed 95th percentiles of `surface_distances`, in mm.

    The plain Hausdorff distance is their maximum: one stray voxel decides it. Both masks empty
    give nan, one empty gives inf. (Some programs take one percentile of both directions pooled;
    that number is never larger than this one.)
    """
    return _hausdorff95(surface_distances(a, b, spacing))


def average_surface_distance(a: np.ndarray, b: np.ndarray, spacing: Sequence[float]) -> float:
    """The mean of `surface_distances` over both directions together, in mm (symmetric).

    Both masks empty give nan, one empty gives inf.
    """
    return _average(surface_distances(a, b, spacing))


def _two_masks(name: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != bool or b.dtype != bool:
        raise TypeError(
            f"{name}: masks must be boolean but are {a.dtype} and {b.dtype}; "
            "compare a label map with a class first, as in labels == 1"
        )
    if a.shape != b.shape:
        raise ValueError(f"{name}: the masks differ in shape: {a.shape} and {b.shape}")
    return a, b


def _ratio(part: int | np.integer, whole: int | np.integer) -> float:
    return float(part / whole) if whole else np.nan


def _surface(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return mask & ~ndimage.binary_erosion(mask)  # the default structure is the 2N-neighbour cross


def _over_both(statistic: Callable[[Distances], float]) -> Callable[[Distances], float]:
    """Define `statistic` where a side has no surface: nan for both sides, inf for one."""

    def defined_everywhere(distances: Distances) -> float:
        sides = sum(side.size > 0 for side in distances)
        return float(statistic(distances)) if sides == 2 else (np.nan, np.inf)[sides]

    return defined_everywhere


_hausdorff95 = _over_both(lambda distances: max(np.percentile(side, 95) for side in distances))
_average = _over_both(lambda distances: np.concatenate(distances).mean())


# ---- two label maps ------------------------------------------------------------------------------


def confusion_matrix(prediction: np.ndarray, truth: np.ndarray, n_classes: int) -> np.ndarray:
    """The number of voxels of true class i that are predicted as j: int64, (n_classes, n_classes).

    The arrays may have any one shape, a whole batch too. Matrices of several cases add up.
    """
    prediction, truth = _two_label_maps("confusion_matrix", prediction, truth, n_classes)
    # Each pair (i, j) is the two-digit number i j in base n_classes: one bincount counts them all.
    pairs = truth.ravel().astype(np.intp) * n_classes + prediction.ravel().astype(np.intp)
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def dice_per_class(
    prediction: np.ndarray, truth: np.ndarray, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """|A ∩ B| and |A| + |B| of every class, background included: two int64 arrays (n_classes,).

    Both add up over batches and cases; the Dice of everything seen is 2 * intersections / sums.
    """
    counts = confusion_matrix(prediction, truth, n_classes)
    return np.diag(counts).copy(), counts.sum(0) + counts.sum(1)


def evaluate_case(
    prediction: np.ndarray, truth: np.ndarray, classes: Sequence[str], spacing: Sequence[float]
) -> list[Row]:
    """One row of numbers per foreground class of one case: its overlap, distances and volumes.

    `classes` names every label in order, background first: ("background", "organ", "lesion").
    A row holds class, dice, iou, hd95 and asd (mm), sensitivity = TP / (TP + FN), precision =
    TP / (TP + FP), predicted_voxels and true_voxels. Sensitivity is nan where the class is absent,
    precision where it is not predicted.
    """
    prediction, truth = _two_label_maps("evaluate_case", prediction, truth, len(classes))
    rows = []
    for label, name in enumerate(classes[1:], start=1):
        a, b = prediction == label, truth == label
        n_both, n_a, n_b = (int(np.count_nonzero(mask)) for mask in (a & b, a, b))
        distances = surface_distances(a, b, spacing)
        rows.append(
            {
                "class": name,
                "dice": dice(a, b),
                "iou": iou(a, b),
                "hd95": _hausdorff95(distances),
                "asd": _average(distances),
                "sensitivity": _ratio(n_both, n_b),
                "precision": _ratio(n_both, n_a),
                "predicted_voxels": n_a,
                "true_voxels": n_b,
            }
        )
    return rows


def check_labels(name: str, labels: np.ndarray, n_classes: int) -> None:
    """Raise in the name of a function unless `labels` are integers from 0 to n_classes - 1."""
    if labels.dtype.kind not in "biu":
        raise TypeError(f"{name}: labels must be integers but are {labels.dtype}")
    if labels.size and not 0 <= labels.min() <= labels.max() < n_classes:
        raise ValueError(
            f"{name}: labels run from {labels.min()} to {labels.max()} "
            f"but {n_classes} classes allow 0 to {n_classes - 1}"
        )


def _two_label_maps(
    name: str, prediction: np.ndarray, truth: np.ndarray, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.shape != truth.shape:
        raise ValueError(
            f"{name}: prediction and truth differ in shape: {prediction.shape} and {truth.shape}"
        )
    for labels in (prediction, truth):
        check_labels(name, labels, n_classes)
    return prediction, truth


# ---- many cases ----------------------------------------------------------------------------------


def summarize(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """One row per class and measure, from the rows of `evaluate_case` over many cases.

    mean, median and tail are taken over the finite values; low and high are the mean's
    `bootstrap_interval`. tail is the value that one case in ten is worse than: the 10th percentile of
    an overlap, the 90th of a distance. worst may be inf.
    The cases left out are counted: nan (nothing to measure) and inf (a class missed altogether,
    or seen where there is none).
    """
    rows = list(rows)
    summary = []
    for name in dict.fromkeys(row["class"] for row in rows):
        for measure in OVERLAPS + DISTANCES:
            values = np.array([row[measure] for row in rows if row["class"] == name], float)
            finite, known = values[np.isfinite(values)], values[~np.isnan(values)]
            worst = max if measure in DISTANCES else min
            low, high = bootstrap_interval(finite)
            summary.append(
                {
                    "class": name,
                    "measure": measure,
                    "mean": mean(finite),
                    "low": low,
                    "high": high,
                    "median": percentile(finite, 50),
                    "tail": percentile(finite, 90 if measure in DISTANCES else 10),
                    "worst": float(worst(known, default=np.nan)),
                    "nan": int(np.isnan(values).sum()),
                    "inf": int(np.isinf(values).sum()),
                }
            )
    return summary


def mean(values: np.ndarray) -> float:
    """The mean, nan where there are no values."""
    return float(np.mean(values)) if np.size(values) else np.nan


def bootstrap_interval(values: np.ndarray, resamples: int = 10_000) -> tuple[float, float]:
    """Between which two numbers the mean of other such cases lies, with 95 % confidence (Efron 1979).

    The cases are drawn anew with replacement, again and again; the interval runs from the 2.5th to the 97.5th
    percentile of the means. nan for fewer than two values. The same values give the same interval.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return np.nan, np.nan
    rng = np.random.default_rng(0)
    # The mean does not mind in which order they were drawn: how often each was is enough.
    counts = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples)
    low, high = np.percentile(counts @ values / len(values), (2.5, 97.5))
    return float(low), float(high)


def percentile(values: np.ndarray, q: float) -> float:
    """The q-th percentile (linear between neighbours), nan where there are no values."""
    return float(np.percentile(values, q)) if np.size(values) else np.nan


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table whose columns are aligned, so that a terminal shows it well too.

    The keys of the first row are the columns. Fractions get three decimals, numbers stand on the
    right, a missing value or nan is "-".
    """
    if not rows:
        return ""
    columns = list(rows[0])
    cells = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(columns))]
    is_text = [any(isinstance(row.get(column), str) for row in rows) for column in columns]

    def line(texts: Sequence[str]) -> str:
        padded = (
            text.ljust(width) if left else text.rjust(width)
            for text, width, left in zip(texts, widths, is_text, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = ["-" * w if left else "-" * (w - 1) + ":" for w, left in zip(widths, is_text, strict=True)]
    return "\n".join(line(texts) for texts in (cells[0], rule, *cells[1:]))


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "-"
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text.replace("|", r"\|").replace("\n", " ")


def write_csv(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows as a CSV file, whole or not at all; a key that a row lacks stays empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (
        atomic_write(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
