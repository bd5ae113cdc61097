"""The pictures are drawn, and the report says what the numbers say and no more."""

import math

import numpy as np
import pytest
from PIL import Image

from minidl import plot
from minidl.plot import Case, class_colors, curves, label_overlay, predictions
from minidl.segment.metrics import evaluate_case
from minidl.segment.report import Scores, verdict, write_report

CLASSES = ("background", "organ", "lesion")


def is_drawn(path):
    """Whether a PNG is more than a blank page: transparent outside, of many colours inside."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image)
    assert pixels[0, -1, 3] == 0
    return len(np.unique(pixels.reshape(-1, 4), axis=0)) > 10


def scores_of(truths, predicted, baselines):
    rows = [evaluate_case(p, t, CLASSES, (1, 1)) for p, t in zip(predicted, truths, strict=True)]
    return Scores([f"case {i}" for i in range(len(rows))], rows, baselines)


@pytest.fixture
def scores():
    """Four cases; the network is off by a row, case 2 has no lesion, case 3 sees one too many."""
    truth = np.zeros((10, 10), int)
    truth[2:8, 2:8], truth[3:5, 3:5] = 1, 2
    no_lesion = np.minimum(truth, 1)
    shifted = np.roll(truth, 1, axis=0)
    truths = [truth, truth, no_lesion, no_lesion]
    predicted = [truth, shifted, no_lesion, truth]
    prior = np.array([[0.5, 0.75], [0.5, 0.85], [0.5, math.nan], [0.5, 0.0]])
    return scores_of(truths, predicted, {"prior": prior, "band": prior / 2})


# ---- plot ----------------------------------------------------------------------------------------


def test_label_overlay_colours_the_labels_alone():
    image = np.linspace(0, 100, 12).reshape(3, 4)
    label = np.zeros((3, 4), int)
    label[1, 2] = 2
    rgb = label_overlay(image, label, 3)
    assert rgb.shape == (3, 4, 3)
    assert rgb.min() >= 0 and rgb.max() <= 1
    is_grey = (rgb == rgb[..., :1]).all(-1)
    np.testing.assert_array_equal(is_grey, label == 0)
    with pytest.raises(ValueError, match=r"\(3, 4\) and label \(4,\)"):
        label_overlay(image, label[0], 3)


def test_the_colours_of_classes_and_outcomes_differ():
    colours = [tuple(c) for c in class_colors(8)[1:]]
    assert len(set(colours)) == 7
    assert not set(plot.OUTCOMES.values()) & set(plot.OKABE_ITO[:3])


def test_outcomes():
    truth = np.array([0, 1, 0, 1, 1])
    prediction = np.array([0, 1, 2, 0, 2])
    np.testing.assert_array_equal(plot._outcome(prediction, truth), [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    "history",
    [
        [
            {"step": i, "minutes": i / 60, "train_loss": 1 / (i + 1), "learning_rate": 0.1}
            | ({"validation_loss": 0.5, "dice organ": i / 40} if i % 10 == 0 else {})
            for i in range(40)
        ],
        [{"step": 0, "train_loss": 1.0, "dice organ": math.nan}],
        [{"step": 0, "train_loss": math.nan}, {"step": 1, "train_loss": None}],
    ],
)
def test_curves(tmp_path, history):
    curves(history, tmp_path / "curves.png")
    assert is_drawn(tmp_path / "curves.png")


def test_curves_leave_a_gap_no_trace():
    """A nan between two values is left out, so the line goes on."""
    history = [
        {"step": 0, "x": 1.0},
        {"step": 1, "x": math.nan},
        {"step": 2},
        {"step": 3, "x": 4.0},
    ]

    class Axes:
        def plot(self, steps, values, **_):
            self.points = steps, values

    axes = Axes()
    plot._line(axes, history, "x", "k", "x")
    assert axes.points == ((0, 3), (1.0, 4.0))


@pytest.mark.parametrize("shape, spacing", [((20, 30), (1, 1)), ((12, 6, 10), (1, 4, 2))])
def test_predictions(tmp_path, shape, spacing):
    rng = np.random.default_rng(0)
    cases = [
        Case(name, rng.random((2, *shape)), *rng.integers(0, 3, (2, *shape)), (0.5, nan), spacing)
        for name, nan in (("good", 0.9), ("worst", math.nan))
    ]
    predictions(cases, CLASSES, tmp_path / "predictions.png")
    assert is_drawn(tmp_path / "predictions.png")
    assert [p.name for p in tmp_path.iterdir()] == ["predictions.png"]


def test_a_volume_shows_its_fullest_slice_across_the_coarsest_axis():
    truth = np.zeros((4, 5, 6), int)
    truth[:, 3], truth[0] = 1, 1  # slice 3 of axis 1 and slice 0 of axis 0 are full
    image = np.random.default_rng(0).random((1, 4, 5, 6))
    coarse_1 = Case("", image, truth, truth, (), (1, 3, 2))
    picture, shown, _, spacing, _ = coarse_1.plane(coarse_1.coarsest_axis)
    np.testing.assert_array_equal(picture, image[0, :, 3])
    assert shown.all() and spacing == [1, 2]
    isotropic = Case("", image, truth, truth, (), (1, 1, 1))
    assert isotropic.plane(isotropic.coarsest_axis).image.shape == (4, 5)


# ---- report --------------------------------------------------------------------------------------


def test_report_holds_the_numbers(tmp_path, scores):
    (tmp_path / "curves.png").touch()
    path = tmp_path / "report.md"
    write_report(path, "Demo", {"model": "U-Net", "cases": 12}, scores)
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]

    assert lines[0] == "# Demo"
    assert ["model", "U-Net"] in cells and ["cases", "12"] in cells
    # The lesion is in cases 0 and 1 alone: Dice 1 and 0.5, the prior there 0.75 and 0.85.
    assert ["lesion", "network", "0.750", "0.550", "0.500", "2"] in cells
    assert ["lesion", "prior", "0.800", "0.760", "0.750", "2"] in cells
    assert ["lesion", "band", "0.400", "0.380", "0.375", "2"] in cells
    [details] = [row for row in cells if row[0] == "lesion" and len(row) == 8]
    assert details[1] == f"{(1 + 1 / 3) / 2:.3f}"
    assert details[4] == "0.500"  # hd95: 0 in one case and 1 mm in the other
    assert details[6:] == ["0 of 2 (0.000)", "1 of 2 (0.500)"]
    assert ["case 1", "lesion", "0.500", "1.000", "4", "4"] in cells
    assert "![Training curves](curves.png)" in text
    assert "predictions.png" not in text  # there is no such file


def test_verdict_says_which_baseline_and_by_how_much(scores):
    assert "beats the best baseline (prior, Dice 0.500)" in verdict(scores, 0)
    # mean(1 - 0.75, 0.5 - 0.85) = -0.05
    lesion = verdict(scores, 1)
    assert "**lesion**: does NOT beat the best baseline (prior, Dice 0.800): -0.050 ±" in lesion
    assert "better in 1 of 2 cases" in lesion


def test_verdict_is_no_surer_than_the_cases_allow():
    truth = np.zeros((8, 8), int)
    truth[2:6, 2:6] = 1
    gains = [0.3, -0.2, 0.1, -0.1]  # mean 0.025, standard error 0.111, t = 3.182 for 4 cases
    prior = np.array([[1 - gain, math.nan] for gain in gains])
    args = [truth] * 4, [truth] * 4, {"prior": prior}
    organ = verdict(scores_of(*args), 0)
    assert "does NOT clearly beat" in organ and "+0.025 ± 0.353" in organ
    assert "no test case contains it" in verdict(scores_of(*args), 1)
    assert "no baseline" in verdict(scores_of([truth], [truth], {}), 0)
    one = scores_of([truth], [truth], {"prior": prior[:1]})
    assert "+0.300" in verdict(one, 0) and "too few to tell" in verdict(one, 0)


def test_examples_are_good_median_and_worst(scores):
    assert scores.examples()["worst"] == 3  # a lesion where there is none: Dice 0
    assert scores.examples()["good"] in (0, 2)  # both perfect


def test_scores_refuse_what_does_not_fit(scores):
    with pytest.raises(ValueError, match=r"'prior' has Dice of shape \(3, 2\).*\(4, 2\)"):
        Scores(scores.cases, scores.rows, {"prior": np.zeros((3, 2))})
    with pytest.raises(ValueError, match="4 case names and the rows of 1 cases"):
        Scores(scores.cases, scores.rows[:1], {})
