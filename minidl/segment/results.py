"""What a finished run leaves behind: its predictions of the test cases compared with the truth and with
trivial methods, as a table, a figure and a report.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minidl import plot
from minidl.data import Case
from minidl.segment import baselines, metrics
from minidl.segment.config import Config
from minidl.segment.crf import NAME as CRF
from minidl.segment.html_report import write_html_report
from minidl.segment.inference import mirrored, predict_image, was_mirrored
from minidl.segment.postprocess import choose_postprocessing
from minidl.segment.preprocess import normalize
from minidl.segment.report import Scores, write_report
from minidl.segment.splits import Splits
from minidl.segment.train import mean_dice


def write_results(
    out: Path, config: Config, network: Callable, splits: Splits, facts: Mapping[str, Any]
) -> Scores:
    """Predict the test cases as `minidl predict` would, and compare; leaves metrics.csv, predictions.png,
    report.md, report.html and the choice of post-processing in `out`.
    """
    if was_mirrored(config):
        network = mirrored(network)
    validation, test = splits.validation, splits.test
    truths = [case.label.array for case in validation]
    postprocessing = choose_postprocessing(
        _predictions(network, validation, config, "validation"), truths, config.classes
    )
    postprocessing.save(out)
    (out / CRF).unlink(missing_ok=True)  # it was fitted to the network as it was before the run went on
    predictions = [postprocessing(labels) for labels in _predictions(network, test, config, "test")]
    scores = Scores(
        [case.name for case in test],
        [
            metrics.evaluate_case(p, case.label.array, config.classes, case.label.spacing)
            for p, case in zip(predictions, test)
        ],
        _baselines(config, splits),
    )
    metrics.write_csv(
        out / "metrics.csv",
        [{"case": name, **row} for name, rows in zip(scores.cases, scores.rows) for row in rows],
    )
    examples = [
        plot.Case(f"{kind}: {test[i].name}", test[i].image.array, test[i].label.array, predictions[i],
                  [row["dice"] for row in scores.rows[i]], test[i].image.spacing)
        for kind, i in scores.examples().items()
    ]  # fmt: skip
    plot.predictions(examples, config.classes, out / "predictions.png")
    if splits.shifted:
        dice = mean_dice(network, splits.shifted, config)
        pairs = zip(config.classes[1:], dice)
        shifted = ", ".join(f"{name} {d:.3f}" for name, d in pairs)
        facts = {**facts, "Dice on the shifted test split (more noise, more bias)": shifted}
    facts = {**facts, "post-processing": postprocessing.describe(config.classes)}
    write_report(out / "report.md", "Training report", facts, scores)
    write_html_report(
        out / "report.html", "Training report", facts, scores, read_history(out / "history.csv"), examples
    )
    return scores


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows of history.csv; none if there is no file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _predictions(network: Callable, cases: list[Case], config: Config, name: str) -> list[np.ndarray]:
    from tqdm import tqdm

    bar = tqdm(cases, f"Predicting the {name} cases", leave=False)
    return [predict_image(network, case.image, config) for case in bar]


def _baselines(config: Config, splits: Splits) -> dict[str, np.ndarray]:
    """The Dice of methods that need no network."""

    def arrays(cases: list[Case]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        rules = config.configuration.normalization  # of the image alone, not of a first stage's label map
        images = [normalize(case.image.array[: len(rules)], rules) for case in cases]
        return images, [case.label.array for case in cases]

    n = len(config.classes)
    images, labels = arrays(splits.train)
    test_images, test_labels = arrays(splits.test)
    found = {
        "best threshold": baselines.best_threshold(images, labels, test_images, test_labels, n),
        "mean-label prior": baselines.mean_label_prior(labels, test_labels, n),
    }
    if n == 2:
        found["Otsu's threshold"] = baselines.otsu(test_images, test_labels)
    return found
