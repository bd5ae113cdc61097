"""Evaluation of folders, the paired test, the bootstrap, and the HTML report."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image as Picture

from minidl import plot
from minidl.cli import main
from minidl.segment.evaluate import compare, evaluate
from minidl.segment.html_charts import ticks
from minidl.segment.html_report import table, write_html_report
from minidl.segment.metrics import bootstrap_interval, evaluate_case
from minidl.segment.report import Scores

CLASSES = ("background", "a", "b")


def test_the_bootstrap_interval_is_that_of_the_mean():
    values = np.random.default_rng(1).normal(3, 2, 400)
    low, high = bootstrap_interval(values)
    margin = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - margin, abs=0.03)
    assert high == pytest.approx(values.mean() + margin, abs=0.03)
    assert bootstrap_interval(values) == (low, high)  # no chance in it
    assert bootstrap_interval(np.full(5, 0.25)) == (0.25, 0.25)
    assert all(map(math.isnan, bootstrap_interval(np.array([0.5])) + bootstrap_interval(np.array([]))))


def rows(dice, hd95, cases=None):
    other = dict.fromkeys(("iou", "sensitivity", "precision", "asd"), 0.5)
    cases = cases or [f"c{i}" for i in range(len(dice))]
    return [
        {"case": case, "class": "a", "dice": d, "hd95": h, **other} for case, d, h in zip(cases, dice, hd95)
    ]


def test_two_methods_are_compared_case_by_case():
    """The Wilcoxon test of six differences of one sign: p = 2 / 2**6."""
    first = rows([0.9, 0.8, 0.7, 0.6, 0.95, 0.5], [1, 2, 3, 4, math.inf, 6])
    second = rows([0.8, 0.75, 0.6, 0.59, 0.9, 0.2], [2, 3, 5, 4.5, 7, math.nan])
    found = {row["measure"]: row for row in compare(first, second[::-1])}  # whatever the order
    dice = found["dice"]
    assert dice["difference"] == pytest.approx((0.1 + 0.05 + 0.1 + 0.01 + 0.05 + 0.3) / 6)
    assert (dice["cases"], dice["better"]) == (6, 6) and dice["low"] > 0
    assert dice["p"] == pytest.approx(2 / 64, abs=0.02)
    hd95 = found["hd95"]
    assert (hd95["cases"], hd95["better"]) == (4, 4)  # less is better
    assert hd95["difference"] == pytest.approx(-4.5 / 4)
    assert found["iou"]["p"] == 1.0 and found["iou"]["better"] == 0
    assert compare(first, second[:2])[0]["cases"] == 2
    with pytest.raises(ValueError, match="share no case"):
        compare(first, rows([0.5], [1], ["elsewhere"]))


def write_labels(folder, labels):
    folder.mkdir()
    for i, label in enumerate(labels):
        Picture.fromarray(label.astype(np.uint8)).save(folder / f"case{i}.png")
    return folder


def test_folders_are_evaluated_and_compared(tmp_path, capsys):
    rng = np.random.default_rng(0)
    truths = [np.kron(rng.integers(0, 3, (4, 4)), np.ones((5, 5), int)) for _ in range(6)]
    good = [np.roll(truth, 1, 0) for truth in truths]
    bad = [np.roll(truth, 3, 1) for truth in truths]
    folders = [write_labels(tmp_path / name, x) for name, x in (("t", truths), ("g", good), ("b", bad))]
    names = ["--classes", *CLASSES]
    assert main(["evaluate", str(folders[1]), str(folders[0]), "--against", str(folders[2]), *names]) == 0
    text = capsys.readouterr().out
    assert re.search(r"\| a +\| dice +\| +6 \| +6 \| +0\.\d+ \| +0\.\d+ \| +0\.\d+ \| 0\.031", text)
    assert "sensitivity" in text and "asd" in text and "low" in text
    assert (folders[1] / "metrics.csv").is_file() and not (folders[2] / "metrics.csv").exists()
    same = evaluate(folders[0], folders[0], CLASSES)
    assert all(row["dice"] == 1 and row["asd"] == 0 for row in same)


def test_labels_beyond_the_named_classes_name_the_case(tmp_path, capsys):
    truth = write_labels(tmp_path / "t", [np.full((4, 4), 2)])
    assert main(["evaluate", str(truth), str(truth), "--classes", "background", "a"]) == 2
    assert "case0" in capsys.readouterr().err


# ---- the HTML report -------------------------------------------------------------------------------


class Outline(HTMLParser):
    """What a page loads, its headings, its pictures, and whether its tags are closed in order."""

    VOID = ("meta", "img")

    def __init__(self):
        super().__init__()
        self.open, self.headings, self.loads, self.pictures = [], [], [], 0

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        for key in ("src", "href"):
            if key in attributes and not attributes[key].startswith("data:image/png;base64,"):
                self.loads.append(attributes[key])
        if tag == "img":
            self.pictures += 1
            assert attributes["alt"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)


@pytest.mark.parametrize("shape", [(12, 9), (7, 12, 9)])
def test_the_html_report_is_one_whole_file(tmp_path, shape):
    rng = np.random.default_rng(0)
    truths = [rng.integers(0, 3, shape) for _ in range(4)]
    truths[1][truths[1] == 2] = 0  # a class that is absent
    names = ["<b>&quot;", "c1", "c2", "c3"]
    spacing = (1.0, 2.0, 0.5)[: len(shape)]
    scores = Scores(
        names,
        [evaluate_case(np.where(rng.random(shape) < 0.9, t, 0), t, CLASSES, spacing) for t in truths],
        {"threshold <1>": rng.random((4, 2))},
    )
    examples = [
        plot.Case(n, rng.random((1, *shape)), t, t, [row["dice"] for row in r], spacing)
        for n, t, r in zip(names, truths, scores.rows)
    ]
    history = [
        {
            "step": s,
            "minutes": 0.1,
            "train_loss": 1 / s,
            "validation_loss": math.nan,
            "dice a": 0.5,
            "dice b": 0.1,
        }
        for s in (1, 2, 3)
    ]
    path = tmp_path / "report.html"
    write_html_report(path, "A <report>", {"data": "x & y"}, scores, history, examples)
    text = path.read_text(encoding="utf-8")
    outline = Outline()
    outline.feed(text)
    assert outline.open == [] and outline.loads == [] and "http" not in text
    assert outline.pictures == 4 * 4 * (3 if len(shape) == 3 else 1)
    assert "<b>&quot;: Dice" in "".join(outline.headings)
    assert "A &lt;report&gt;" in text and "x &amp; y" in text and "absent" in text
    assert "nan" not in text


def test_numbers_in_tables_can_be_sorted():
    text = table([{"case": "a", "dice": 0.12345, "n": 7}, {"case": "b", "dice": math.nan, "n": 3}])
    assert (
        'data-value="0.12345">0.123<' in text and 'data-value="">-<' in text and 'data-value="7">7<' in text
    )
    assert "1e999" in table([{"hd95": math.inf}])


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-1.3, 2.7), (0.5, 0.5), (0, 0), (0, 37000), (-1e-4, 1e-4)]
)
def test_ticks_are_few_round_and_enclose(low, high):
    found = ticks(low, high)
    assert found[0] <= low and found[-1] >= high and 2 <= len(found) <= 7
    steps = np.diff(found)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
