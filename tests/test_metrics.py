"""Overlaps and distances against loops over every pair, and the tables made of them."""

import csv
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest

from minidl.segment import metrics
from minidl.segment.metrics import (
    average_surface_distance,
    confusion_matrix,
    dice,
    dice_per_class,
    evaluate_case,
    format_table,
    hausdorff95,
    iou,
    summarize,
    surface_distances,
    write_csv,
)

CLASSES = ("background", "organ", "lesion")


def mask(text):
    """A mask drawn in rows, # is inside."""
    return np.array([[c == "#" for c in row] for row in text.split()])


def random_masks(rng, shape):
    """Two blobs with holes and stray voxels, which touch the border of the image now and then."""
    return (rng.random((2, *shape)) < rng.uniform(0.1, 0.8)) & (rng.random((2, *shape)) < 0.9)


def slow_surface(a):
    """Voxels of the mask with a face neighbour outside of it, one by one."""
    surface = []
    for index in np.argwhere(a):
        for axis, step in itertools.product(range(a.ndim), (-1, 1)):
            other = index.copy()
            other[axis] += step
            if not 0 <= other[axis] < a.shape[axis] or not a[tuple(other)]:
                surface.append(index)
                break
    return surface


def slow_distances(a, b, spacing):
    surface_a, surface_b = slow_surface(a), slow_surface(b)

    def directed(points, others):
        return [min(math.dist(p * spacing, q * spacing) for q in others) for p in points]

    return directed(surface_a, surface_b), directed(surface_b, surface_a)


# ---- two masks -----------------------------------------------------------------------------------


def test_overlap_of_known_sets():
    a, b = mask("##.. ##.. ...."), mask(".##. .##. .##.")  # 4 and 6 pixels, 2 in common
    assert dice(a, b) == dice(b, a) == 2 * 2 / (4 + 6)
    assert iou(a, b) == iou(b, a) == 2 / 8
    assert dice(a, a) == iou(a, a) == 1
    assert dice(a, ~a) == iou(a, ~a) == 0


def test_empty_masks():
    empty, full = np.zeros((3, 4), bool), np.ones((3, 4), bool)
    for overlap in (dice, iou):
        assert math.isnan(overlap(empty, empty))
        assert overlap(empty, full) == overlap(full, empty) == 0
    for distance in (hausdorff95, average_surface_distance):
        assert math.isnan(distance(empty, empty, (1, 1)))
        assert distance(empty, full, (1, 1)) == distance(full, empty, (1, 1)) == math.inf


@pytest.mark.parametrize("shape, spacing", [((9,), (2,)), ((7, 8), (1, 3)), ((4, 6, 5), (3, 1, 0.7))])
def test_distances_equal_the_loop_over_all_pairs(shape, spacing):
    rng = np.random.default_rng(len(shape))
    for _ in range(8):
        a, b = random_masks(rng, shape)
        slow = slow_distances(a, b, np.array(spacing))
        fast = surface_distances(a, b, spacing)
        for s, f in zip(slow, fast, strict=True):
            np.testing.assert_allclose(f, s, rtol=1e-12)
        p95 = max(np.percentile(s, 95) for s in slow)
        assert hausdorff95(a, b, spacing) == pytest.approx(p95, rel=1e-12)
        assert hausdorff95(b, a, spacing) == pytest.approx(p95, rel=1e-12)
        mean = (sum(slow[0]) + sum(slow[1])) / (len(slow[0]) + len(slow[1]))
        assert average_surface_distance(a, b, spacing) == pytest.approx(mean, rel=1e-12)


def test_distances_do_not_depend_on_the_empty_space_around():
    a, b = random_masks(np.random.default_rng(1), (5, 6))
    padded = [np.pad(m, ((7, 2), (3, 11))) for m in (a, b)]
    assert hausdorff95(a, b, (1, 2)) == hausdorff95(*padded, (1, 2))


def test_distances_are_in_mm_along_each_axis():
    a = np.zeros((1, 9, 9), bool)
    b = a.copy()
    a[0, 1, 1] = b[0, 4, 5] = True  # 3 and 4 voxels apart
    assert hausdorff95(a, b, (9, 1, 1)) == 5
    assert hausdorff95(a, b, (9, 2, 2)) == 10
    assert hausdorff95(a, b, (9, 2, 0.5)) == pytest.approx(math.hypot(6, 2))


def test_hd95_forgives_a_stray_voxel_that_the_maximum_would_not():
    a = np.zeros((40, 40), bool)
    a[5:25, 5:25] = True
    b = a.copy()
    b[39, 39] = True
    assert hausdorff95(a, b, (1, 1)) == 0
    assert max(surface_distances(b, a, (1, 1))[0]) == pytest.approx(math.hypot(15, 15))


def test_hd95_takes_the_worse_direction():
    a, b = np.zeros((1, 20), bool), np.zeros((1, 20), bool)
    a[0, 0] = b[0, :] = True  # from A to B all is 0, from B to A it reaches 19
    assert hausdorff95(a, b, (1, 1)) == pytest.approx(np.percentile(np.arange(20), 95))


# ---- two label maps ------------------------------------------------------------------------------


def test_confusion_matrix_counts_pairs():
    truth = np.array([[0, 0, 1], [1, 2, 2]], np.uint8)
    prediction = np.array([[0, 1, 1], [2, 2, 2]])
    np.testing.assert_array_equal(
        confusion_matrix(prediction, truth, 3),
        [[1, 1, 0], [0, 1, 1], [0, 0, 2]],  # row: true class
    )


def test_dice_per_class_adds_up_over_batches():
    rng = np.random.default_rng(2)
    prediction, truth = rng.integers(0, 4, (2, 6, 5, 7)).astype(np.uint8)
    halves = [dice_per_class(prediction[s], truth[s], 4) for s in (slice(0, 2), slice(2, 6))]
    intersections, sums = (sum(parts) for parts in zip(*halves, strict=True))
    expected = [dice(prediction == c, truth == c) for c in range(4)]
    np.testing.assert_allclose(2 * intersections / sums, expected)


def test_evaluate_case():
    truth = np.array([[1, 1, 1, 0], [0, 0, 0, 0]])
    prediction = np.array([[0, 1, 1, 1], [1, 0, 0, 2]])
    organ, lesion = evaluate_case(prediction, truth, CLASSES, (1, 1))
    assert organ["class"] == "organ"
    assert organ["dice"] == 4 / 7
    assert organ["iou"] == 2 / 5
    assert organ["sensitivity"] == 2 / 3
    assert organ["precision"] == 2 / 4
    assert (organ["predicted_voxels"], organ["true_voxels"]) == (4, 3)
    args = prediction == 1, truth == 1, (1, 1)
    assert organ["hd95"] == hausdorff95(*args)
    assert organ["asd"] == average_surface_distance(*args)
    assert (lesion["dice"], lesion["hd95"], lesion["precision"]) == (0, math.inf, 0)
    assert math.isnan(lesion["sensitivity"])


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: dice(np.ones(3, int), np.ones(3, bool)), TypeError, "dice.*int64 and bool"),
        (lambda: iou(np.ones(3, bool), np.ones(4, bool)), ValueError, r"iou.*\(3,\) and \(4,\)"),
        (
            lambda: hausdorff95(np.ones((3, 3), bool), np.ones((3, 3), bool), (1,)),
            ValueError,
            r"spacing \(1,\) must hold 2 positive",
        ),
        (
            lambda: dice_per_class(np.array([0, 3]), np.array([0, 1]), 3),
            ValueError,
            "labels run from 0 to 3 but 3 classes allow 0 to 2",
        ),
        (
            lambda: evaluate_case(np.zeros(2), np.zeros(2, int), CLASSES, (1,)),
            TypeError,
            "evaluate_case: labels must be integers but are float64",
        ),
        (
            lambda: evaluate_case(np.zeros(2, int), np.zeros(3, int), CLASSES, (1,)),
            ValueError,
            r"evaluate_case.*\(2,\) and \(3,\)",
        ),
    ],
)
def test_mistakes_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


# ---- many cases ----------------------------------------------------------------------------------


def test_summarize():
    values = [0.1, 0.5, 0.6, 0.9, math.nan]
    distances = [1.0, 2.0, 4.0, math.inf, math.nan]
    rows = [
        {"class": "organ", **dict.fromkeys(metrics.OVERLAPS, v), "hd95": d, "asd": d}
        for v, d in zip(values, distances, strict=True)
    ]
    summary = {row["measure"]: row for row in summarize(rows)}
    assert summary["dice"] == {
        "class": "organ",
        "measure": "dice",
        "mean": pytest.approx(0.525),
        "low": pytest.approx(0.225),
        "high": pytest.approx(0.8),
        "median": pytest.approx(0.55),
        "tail": pytest.approx(np.percentile(values[:4], 10)),
        "worst": 0.1,
        "nan": 1,
        "inf": 0,
    }
    hd95 = summary["hd95"]
    assert (hd95["mean"], hd95["median"]) == (pytest.approx(7 / 3), 2)
    assert hd95["tail"] == pytest.approx(np.percentile(distances[:3], 90))
    assert (hd95["worst"], hd95["nan"], hd95["inf"]) == (math.inf, 1, 1)


def test_summarize_with_nothing_to_measure():
    rows = evaluate_case(np.zeros((2, 2), int), np.zeros((2, 2), int), CLASSES, (1, 1))
    for row in summarize(rows):
        assert all(math.isnan(row[key]) for key in ("mean", "median", "tail", "worst"))
        assert row["nan"] == 1


def test_format_table():
    rows = [
        {"class": "a|b", "dice": 0.12345, "n": 7},
        {"class": "organ", "dice": math.nan, "n": 1234},
        {"class": "lesion", "dice": math.inf},
    ]
    assert format_table(rows).splitlines() == [
        "| class  |  dice |    n |",
        "| ------ | ----: | ---: |",
        r"| a\|b   | 0.123 |    7 |",
        "| organ  |     - | 1234 |",
        "| lesion |   inf |    - |",
    ]


def test_write_csv(tmp_path):
    path = tmp_path / "history.csv"
    write_csv(path, [{"step": 1, "loss": 0.5}, {"step": 2, "dice": 0.75}])
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"step": "1", "loss": "0.5", "dice": ""},
        {"step": "2", "loss": "", "dice": "0.75"},
    ]


def test_the_modules_load_without_scipy_and_matplotlib():
    code = (
        "import sys, minidl.plot, minidl.segment.metrics, minidl.segment.baselines;"
        "import minidl.segment.report;"
        "assert not {'scipy', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
