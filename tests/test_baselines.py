"""The trivial baselines against exhaustive search and cases whose answer is known."""

import math

import numpy as np
import pytest

from minidl.segment import baselines
from minidl.segment.baselines import (
    band_edges,
    best_bands,
    best_threshold,
    mean_label_prior,
    otsu,
    otsu_threshold,
    resample_nearest,
)
from minidl.segment.metrics import dice


def noisy_cases(rng, n, n_channels=1):
    """Images whose classes 0, 1, 2 have mean intensities 0, 2, 1 (each channel noisier)."""
    cases = []
    for _ in range(n):
        label = rng.integers(0, 3, rng.integers(5, 9, 2))
        noise = rng.standard_normal((n_channels, *label.shape))
        sigma = np.linspace(0.4, 2, n_channels).reshape(-1, 1, 1)
        cases.append((np.array([0.0, 2.0, 1.0])[label] + sigma * noise, label))
    images, labels = zip(*cases, strict=True)
    return list(images), list(labels)


# ---- intensity bands -----------------------------------------------------------------------------


def test_best_bands_equal_the_exhaustive_search(monkeypatch):
    monkeypatch.setattr(baselines, "N_EDGES", 12)
    images, labels = noisy_cases(np.random.default_rng(0), 5)
    labels[0][labels[0] == 2] = 0  # a case without class 2
    edges = band_edges([image[0] for image in images], labels, 3)

    def mean_dice(c, low, high):
        return np.nanmean(
            [dice((low < x[0]) & (x[0] <= high), y == c) for x, y in zip(images, labels, strict=True)]
        )

    for c, (channel, low, high) in enumerate(best_bands(images, labels, 3), start=1):
        every = [
            mean_dice(c, edges[i], edges[j]) for i in range(len(edges)) for j in range(i + 1, len(edges))
        ]
        assert channel == 0
        assert mean_dice(c, low, high) == pytest.approx(max(every), abs=1e-12)


def test_best_threshold_finds_separable_classes():
    labels = [np.array([[0, 1, 2, 0], [2, 2, 1, 0]]), np.array([[1, 1, 2, 0]])]
    images = [np.array([0.0, 5.0, -3.0])[y][None] for y in labels]
    scores = best_threshold(images, labels, images[::-1], labels[::-1], 3)
    np.testing.assert_array_equal(scores, [[1, 1], [1, 1]])


def test_best_threshold_picks_the_channel_that_tells():
    images, labels = noisy_cases(np.random.default_rng(1), 30, n_channels=3)
    assert [band[0] for band in best_bands(images, labels, 3)] == [0, 0]
    swapped = [image[::-1] for image in images]
    assert [band[0] for band in best_bands(swapped, labels, 3)] == [2, 2]


def test_the_band_is_chosen_on_the_training_cases():
    label = np.array([[0, 0, 1, 1]])
    image = np.array([[[0.0, 1.0, 2.0, 3.0]]])
    scores = best_threshold([image], [label], [-image], [label], 2)
    assert scores[0, 0] < 0.5  # bright in training, dark in the test


def test_a_rare_class_has_edges_of_its_own():
    label = np.zeros((100, 100), int)
    label[0, :5] = 1  # 0.05 % of the voxels, far less than a bin
    image = np.random.default_rng(0).standard_normal((1, 100, 100))
    image[0, 0, :5] += 8
    assert best_threshold([image], [label], [image], [label], 2)[0, 0] > 0.8


def test_absent_and_not_predicted_is_nan():
    label = np.array([[0, 0, 1, 1]])
    image = label[None] * 1.0
    scores = best_threshold([image], [label], [0 * image], [0 * label], 2)
    assert math.isnan(scores[0, 0])


# ---- Otsu ----------------------------------------------------------------------------------------


def test_otsu_equals_the_search_for_the_largest_variance_between():
    rng = np.random.default_rng(3)
    image = np.concatenate([rng.normal(0, 1, 300), rng.normal(4, 1.5, 200)])
    width = (image.max() - image.min()) / 256
    bins = np.minimum(255, (image - image.min()) // width)

    def between(k):
        dark, bright = bins[bins <= k], bins[bins > k]
        return dark.size * bright.size * (dark.mean() - bright.mean()) ** 2

    best = max(range(255), key=between)
    assert otsu_threshold(image) == pytest.approx(image.min() + (best + 0.5) * width)


def test_otsu_on_two_values_and_on_one():
    label = np.array([[0, 0, 1], [1, 0, 0]])
    image = 7 + 100 * label[None]
    np.testing.assert_array_equal(otsu([image.astype(np.uint8)], [label]), [[1]])
    assert otsu([np.full((1, 2, 3), 5.0)], [label])[0, 0] == 0


# ---- spatial prior -------------------------------------------------------------------------------


def test_resample_nearest_by_hand():
    np.testing.assert_array_equal(resample_nearest(np.arange(5), [3]), [0, 2, 4])
    np.testing.assert_array_equal(resample_nearest(np.arange(2), [5]), [0, 0, 1, 1, 1])
    grid = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(resample_nearest(grid, [3, 4]), grid)


def test_prior_is_perfect_where_the_place_never_changes():
    label = np.zeros((6, 8), int)
    label[2:4, 2:6], label[4:, :4] = 1, 2
    larger = label.repeat(2, 0).repeat(2, 1)
    scores = mean_label_prior([label, label, larger], [label, larger], 3)
    np.testing.assert_array_equal(scores, np.ones((2, 2)))


def test_prior_threshold_is_the_best_one_in_training():
    # How often the class is at a place falls from always to never, past every threshold.
    rng = np.random.default_rng(4)
    train = [(rng.random(6) < [1, 0.33, 0.27, 0.22, 0.1, 0]).astype(int) for _ in range(60)]
    test = train[:7]
    frequency = np.mean(train, axis=0)

    def per_case(labels, t):
        return [dice(frequency > t, y == 1) for y in labels]

    best = max(baselines.PRIOR_THRESHOLDS, key=lambda t: np.mean(per_case(train, t)))
    scores = mean_label_prior(train, test, 2)
    np.testing.assert_allclose(scores[:, 0], per_case(test, best))


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda x, y: otsu([], []), ValueError, "otsu: got 0 images and 0 label maps"),
        (lambda x, y: otsu([x], [y, y]), ValueError, "otsu: got 1 images and 2"),
        (lambda x, y: otsu([x[0]], [y]), ValueError, r"case 0.*shape \(2, 3\).*\(channels, \*"),
        (lambda x, y: best_bands([x], [y + 5], 3), ValueError, "labels run from 5 to 5 but 3"),
        (lambda x, y: mean_label_prior([], [y], 3), ValueError, "0 training and 1 test"),
        (lambda x, y: mean_label_prior([y * 1.0], [y], 3), TypeError, "must be integers"),
    ],
)
def test_mistakes_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call(np.zeros((1, 2, 3)), np.zeros((2, 3), int))
