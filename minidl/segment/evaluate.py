"""The job behind `minidl evaluate`: label maps against the truth, and two sets of them against each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from minidl.data import DataError, Image, read_label
from minidl.segment import metrics
from minidl.segment.metrics import DISTANCES, OVERLAPS, Row
from minidl.segment.predict import case_name, image_files

SHOWN = ("dice", "iou", "hd95", "asd", "sensitivity", "precision")


def evaluate(
    predictions: Path,
    truths: Path,
    classes: Sequence[str] | None = None,
    out: Path | None = None,
    against: Path | None = None,
) -> list[Row]:
    """Compare label maps with the truth of the same name: prints tables, writes a CSV, returns the rows.

    With `against`, the label maps of another folder are compared with the same truths, case by case.
    """
    folders = [folder for folder in (predictions, against) if folder is not None]
    pairs = [_pairs(folder, truths) for folder in folders]
    classes = _classes(classes, [labels for part in pairs for labels in part.values()])
    tables = [_rows(part, classes, folder) for folder, part in zip(folders, pairs)]
    rows = tables[0]
    print(metrics.format_table([{key: row[key] for key in ("case", "class", *SHOWN)} for row in rows]))
    print(f"\n{_summary(rows)}")
    missing = sorted({case_name(path) for path in image_files([truths])} - pairs[0].keys())
    if missing:
        print(f"\n{len(missing)} cases have no prediction: {', '.join(missing[:5])}")
    if against is not None:
        print(f"\n{predictions} minus {against}, in the cases that both have:\n")
        compared = compare(*tables)
        print(metrics.format_table(compared))
        print("\n" + "\n".join(verdict(row) for row in compared if row["measure"] == "dice"))
    metrics.write_csv(out or predictions / "metrics.csv", rows)
    return rows


def compare(rows: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    """Per class and measure: do two methods differ on the same cases, or may it be chance?

    From rows of `evaluate_case` with their "case". A difference is the first method's value minus the
    other's; low and high are the `bootstrap_interval` of its mean, and p is the probability of ranks as
    uneven as these if neither were better (Wilcoxon 1945, two-sided). Cases where either value is nan or
    infinite are left out; `cases` counts the rest, `better` those in which the first is better.
    """
    from scipy.stats import wilcoxon

    by_case = {(row["case"], row["class"]): row for row in others}
    matched = [(row, by_case[key]) for row in rows if (key := (row["case"], row["class"])) in by_case]
    if not matched:
        raise ValueError("compare: the two share no case; label maps are matched by name")
    result = []
    for name in dict.fromkeys(row["class"] for row, _ in matched):
        for measure in OVERLAPS + DISTANCES:
            values = np.array([(a[measure], b[measure]) for a, b in matched if a["class"] == name], float)
            values = values[np.isfinite(values).all(1)]
            differences = values[:, 0] - values[:, 1]
            low, high = metrics.bootstrap_interval(differences)
            gains = -differences if measure in DISTANCES else differences
            # Without any difference there are no ranks, and with no case there is nothing to test.
            p = wilcoxon(differences).pvalue if differences.any() else 1.0 if len(differences) else np.nan
            result.append({
                "class": name, "measure": measure,
                "cases": len(differences), "better": int((gains > 0).sum()),
                "difference": metrics.mean(differences), "low": low, "high": high, "p": float(p),
            })  # fmt: skip
    return result


def verdict(row: Row) -> str:
    """A row of `compare` in words, which claim no more than its interval allows."""
    low, high, n = row["low"], row["high"], row["cases"]
    name = f"{row['class']}: {row['measure']}"
    if np.isnan(low):
        return f"{name}: too few cases to tell ({n})."
    if low == high == 0:
        return f"{name}: no difference at all in {n} cases."
    better = "the first is better" if low > 0 else "the other is better" if high < 0 else None
    return (
        f"{name} differs by {row['difference']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}, {n} cases "
        f"({row['better']} better): {better or 'neither is shown to be better'}."
    )


def _pairs(folder: Path, truths: Path) -> dict[str, tuple[Image, Image]]:
    """Prediction and truth of every case that has both."""
    found, true = ({case_name(path): path for path in image_files([f])} for f in (folder, truths))
    names = sorted(found.keys() & true.keys())
    if not names:
        raise DataError(f"evaluate: no file in {folder} has the name of one in {truths}")
    pairs = {name: (read_label(found[name]), read_label(true[name])) for name in names}
    for name, (prediction, truth) in pairs.items():
        if prediction.array.shape != truth.array.shape:
            raise DataError(
                f"{found[name]}: shape {prediction.array.shape}, but {true[name]} has {truth.array.shape}"
            )
    return pairs


def _classes(given: Sequence[str] | None, labels: Sequence[tuple[Image, Image]]) -> tuple[str, ...]:
    """A person's names of the label values, or numbers up to the largest value that there is."""
    if given:
        return tuple(given)
    top = max(int(label.array.max(initial=0)) for pair in labels for label in pair)
    return ("background", *(f"class {c}" for c in range(1, max(top, 1) + 1)))


def _rows(pairs: dict[str, tuple[Image, Image]], classes: Sequence[str], folder: Path) -> list[Row]:
    from tqdm import tqdm

    rows = []
    for name, (prediction, truth) in tqdm(pairs.items(), "Evaluating", delay=2):
        try:
            of_case = metrics.evaluate_case(prediction.array, truth.array, classes, truth.spacing)
        except ValueError as error:
            raise DataError(f"{folder}, case {name}: {error}") from error
        rows += [{"case": name, **row} for row in of_case]
    return rows


def _summary(rows: Sequence[Row]) -> str:
    """Mean per class and measure with its interval, as a table."""
    shown = [row for row in metrics.summarize(rows) if row["measure"] in SHOWN]
    intro = "Means with 95 % bootstrap intervals; hd95 and asd in mm, where both masks have voxels:\n\n"
    return intro + metrics.format_table(shown)
