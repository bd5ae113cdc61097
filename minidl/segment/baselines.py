"""What can be had without learning: the numbers that a network has to beat.

Each baseline returns the Dice of every test case and foreground class, an array (cases,
n_classes - 1) with column c - 1 for class c (nan where the class is absent and not predicted).
The classes are predicted one by one and may overlap, which can only help a baseline.

Images are (C, *spatial), label maps (*spatial) with 0 for the background; sizes may differ from
case to case. `best_threshold` and `mean_label_prior` choose on the training cases, never on the
test cases; `otsu` needs no training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minidl.segment.metrics import check_labels, dice

Arrays = Sequence[np.ndarray]
Band = tuple[int, float, float]  # channel, low, high: the voxels with low < intensity <= high

N_EDGES = 64  # intensities that a band can begin or end at, about
PRIOR_THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.5)


# ---- intensity alone, learnt from labels --------------------------------------------------------


def best_threshold(
    train_images: Arrays,
    train_labels: Arrays,
    test_images: Arrays,
    test_labels: Arrays,
    n_classes: int,
) -> np.ndarray:
    """Dice (test cases, n_classes - 1) of one intensity band per class, the best one in training.

    Give the images normalised as the network sees them: raw intensities of MRI, for one, mean
    something else in every scan.
    """
    bands = best_bands(train_images, train_labels, n_classes)
    _check_cases("best_threshold", test_images, test_labels, n_classes)
    return np.array(
        [
            [
                dice((low < image[channel]) & (image[channel] <= high), label == c)
                for c, (channel, low, high) in enumerate(bands, start=1)
            ]
            for image, label in zip(test_images, test_labels, strict=True)
        ]
    )


def best_bands(images: Arrays, labels: Arrays, n_classes: int) -> list[Band]:
    """For each foreground class the channel and band (low, high] of the highest mean Dice.

    Low and high are any two of the `band_edges`. All bands are tried, yet each voxel is touched
    once: with H(e) the number of voxels up to edge e, the band (a, b] holds H(b) - H(a).
    """
    _check_cases("best_bands", images, labels, n_classes)
    best: list[tuple[float, Band]] = [(-np.inf, (0, np.inf, np.inf))] * (n_classes - 1)
    for channel in range(len(images[0])):
        edges = band_edges([image[channel] for image in images], labels, n_classes)
        counts = np.array(
            [
                _counts_up_to(edges, image[channel], label, n_classes)
                for image, label in zip(images, labels, strict=True)
            ]
        )  # (cases, edges, classes)
        low, high = np.triu_indices(len(edges), k=1)
        in_band = counts[:, high] - counts[:, low]  # (cases, bands, classes)
        sums = in_band.sum(-1, keepdims=True) + counts[:, -1:]
        with np.errstate(invalid="ignore"):
            scores = 2 * in_band / sums  # 0 / 0 = nan: no such class, none predicted
        means = _mean_over_cases(scores)
        for c in range(1, n_classes):
            k = means[:, c].argmax()
            candidate = (means[k, c], (channel, edges[low[k]], edges[high[k]]))
            best[c - 1] = max(best[c - 1], candidate, key=lambda pair: pair[0])
    return [band for _, band in best]


def band_edges(images: Arrays, labels: Arrays, n_classes: int) -> np.ndarray:
    """Rising intensities from -inf to inf, about N_EDGES: quantiles of every class.

    `images` are (*spatial). Quantiles of all voxels together would put a small lesion into one
    single bin, and make the baseline weaker than it need be.
    """
    rng = np.random.default_rng(0)
    q = np.linspace(0, 1, max(2, N_EDGES // n_classes))
    edges = [np.array([-np.inf, np.inf])]
    for c in range(n_classes):
        voxels = [image[label == c] for image, label in zip(images, labels, strict=True)]
        # A sample does: 1000 voxels of a case fix its quantiles to one or two percent.
        sample = np.concatenate([rng.choice(v, min(1000, v.size), replace=False) for v in voxels])
        if sample.size:
            edges.append(np.quantile(sample, q))
    return np.unique(np.concatenate(edges))


def _counts_up_to(edges: np.ndarray, image: np.ndarray, label: np.ndarray, n_classes: int) -> np.ndarray:
    """How many voxels of each class have an intensity <= each edge: (edges, n_classes)."""
    bins = np.searchsorted(edges, image.ravel())  # edges[bin - 1] < intensity <= edges[bin]
    pairs = bins * n_classes + label.ravel()
    histogram = np.bincount(pairs, minlength=len(edges) * n_classes)
    return histogram.reshape(len(edges), n_classes).cumsum(0)


# ---- intensity alone, without labels -------------------------------------------------------------


def otsu_threshold(image: np.ndarray) -> float:
    """The threshold that splits the intensities into the two groups furthest apart (Otsu 1979).

    With 256 bins from minimum to maximum, it maximises the variance between the groups,
    w0 w1 (m0 - m1)², where w are their shares and m their means, and returns the centre of the
    last bin of the dark group. Bright is what exceeds it; nothing does in an image of one value.
    """
    low, high = float(image.min()), float(image.max())
    if low == high:
        return high
    counts, edges = np.histogram(image, bins=256, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    n0, s0 = counts.cumsum()[:-1], (counts * centres).cumsum()[:-1]  # split after bin k
    n1, s1 = counts.sum() - n0, (counts * centres).sum() - s0
    between = n0 * n1 * (s0 / n0 - s1 / n1) ** 2  # the end bins are never empty: n0, n1 > 0
    return float(centres[between.argmax()])


def otsu(test_images: Arrays, test_labels: Arrays) -> np.ndarray:
    """Dice (cases, 1) of Otsu's threshold per image, bright = class 1, for two-class problems.

    An image of several channels is averaged to one.
    """
    _check_cases("otsu", test_images, test_labels, n_classes=2)
    grey = [image.mean(0) for image in test_images]
    return np.array(
        [
            [dice(image > otsu_threshold(image), label == 1)]
            for image, label in zip(grey, test_labels, strict=True)
        ]
    )


# ---- position alone ------------------------------------------------------------------------------


def mean_label_prior(train_labels: Arrays, test_labels: Arrays, n_classes: int) -> np.ndarray:
    """Dice (test cases, n_classes - 1) of a map of where each class usually is.

    Every training label map is resampled to the median training shape and averaged per class. The
    map, resampled to the shape of a case, predicts the class where it exceeds a threshold, the
    best of PRIOR_THRESHOLDS on the training cases. It looks at no test image at all.
    """
    if not len(train_labels) or not len(test_labels):
        raise ValueError(
            f"mean_label_prior: got {len(train_labels)} training and {len(test_labels)} test "
            "label maps; needs at least one of each"
        )
    for label in (*train_labels, *test_labels):
        check_labels("mean_label_prior", label, n_classes)
    shape = [int(n) for n in np.median([label.shape for label in train_labels], axis=0)]
    frequency = np.zeros((n_classes, *shape))
    for label in train_labels:
        frequency += resample_nearest(label, shape) == np.arange(n_classes).reshape(-1, *[1] * label.ndim)
    frequency /= len(train_labels)

    def scores(labels: Arrays, c: int, thresholds: Sequence[float]) -> np.ndarray:
        """Dice (cases, thresholds) of class c."""
        return np.array(
            [
                [dice(prior > threshold, label == c) for threshold in thresholds]
                for label in labels
                for prior in [resample_nearest(frequency[c], label.shape)]
            ]
        )

    columns = []
    for c in range(1, n_classes):
        training = _mean_over_cases(scores(train_labels, c, PRIOR_THRESHOLDS))
        best = PRIOR_THRESHOLDS[training.argmax()]
        columns.append(scores(test_labels, c, [best])[:, 0])
    return np.stack(columns, axis=1)


def resample_nearest(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """`array` at another shape: output index i of n reads input index int((i + 0.5) N / n)."""
    index = [((np.arange(n) + 0.5) * N / n).astype(int) for n, N in zip(shape, array.shape, strict=True)]
    return array[np.ix_(*index)]


def _mean_over_cases(scores: np.ndarray) -> np.ndarray:
    """Mean over the first axis without the nan; 0 where there is nothing else."""
    defined = ~np.isnan(scores)
    return np.where(defined, scores, 0).sum(0) / np.maximum(1, defined.sum(0))


def _check_cases(name: str, images: Arrays, labels: Arrays, n_classes: int) -> None:
    if not len(images) or len(images) != len(labels):
        raise ValueError(
            f"{name}: got {len(images)} images and {len(labels)} label maps; "
            "needs one label map per image, and at least one"
        )
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        if image.shape[1:] != label.shape:
            raise ValueError(
                f"{name}: case {i} has an image of shape {image.shape}, which must be "
                f"(channels, *{label.shape}) to fit its label map"
            )
        check_labels(name, label, n_classes)
