"""The generated phantoms: reproducible, sound, and not solved by a threshold."""

import numpy as np
import pytest
from scipy import ndimage

from minidl.data import CLASSES, PhantomDataset, phantom, phantom_case, split_indices
from minidl.data.phantom import SPLITS, _draw_anatomy, _paint

SHAPES = [(64, 64), (48, 70), (32, 32, 32), (24, 30, 36)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("split", SPLITS)
def test_a_case_has_the_promised_form(shape, split):
    image, label = phantom_case(split, 3, shape)
    assert image.shape == label.shape == shape
    assert (image.dtype, label.dtype) == (np.float32, np.uint8)
    assert np.isfinite(image).all() and image.min() >= 0
    assert 1 in label and label.max() < len(CLASSES)


@pytest.mark.parametrize("shape", [(64, 64), (24, 24, 24)], ids=str)
def test_a_case_is_always_the_same_and_unlike_all_others(shape):
    cases = {(s, i): phantom_case(s, i, shape)[0] for s in SPLITS for i in range(3)}
    for (split, index), image in cases.items():
        np.testing.assert_array_equal(image, phantom_case(split, index, shape)[0])
    assert len({image.tobytes() for image in cases.values()}) == len(cases)


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / max(1, np.count_nonzero(a) + np.count_nonzero(b))


@pytest.mark.parametrize(("shape", "n", "limit"), [((128, 128), 40, 0.22), ((48, 48, 48), 8, 0.15)], ids=str)
def test_no_intensity_band_finds_the_lesions(shape, n, limit):
    cases = [phantom_case("train", i, shape) for i in range(n)]
    images, lesions = np.stack([c[0] for c in cases]), np.stack([c[1] for c in cases]) == 2
    assert 0.005 < lesions.mean() < 0.08
    edges = [*np.linspace(0, 1.2, 25), np.inf]
    best = max(
        dice((images > low) & (images <= high), lesions)
        for k, low in enumerate(edges)
        for high in edges[k + 1 :]
    )
    assert best < limit


def test_vessels_are_as_bright_as_lesions_and_the_skull_nearly():
    for i in range(20):
        anatomy = _draw_anatomy((96, 96), np.random.default_rng(i))
        image = _paint(anatomy, np.random.default_rng(i))
        vessels, skull = image[anatomy.vessels].mean(), image[anatomy.skull].mean()
        rim = anatomy.lesion & ~anatomy.core
        if rim.any() and anatomy.vessels.any():
            assert image[rim].mean() == pytest.approx(vessels, abs=0.02)
            assert 0.85 < skull / vessels < 1.25


def test_some_phantoms_have_no_lesion():
    free = [2 not in phantom_case("train", i, (64, 64))[1] for i in range(60)]
    assert 0.05 < np.mean(free) < 0.35


def test_lesions_in_3d_are_more_than_a_few_voxels():
    sizes = []
    for i in range(20):
        parts, count = ndimage.label(phantom_case("train", i, (48, 48, 48))[1] == 2)
        sizes += [np.count_nonzero(parts == k) for k in range(1, count + 1)]
    assert len(sizes) > 10
    assert min(sizes) >= 30


@pytest.mark.parametrize("shape", [(128, 128), (48, 48, 48)], ids=str)
def test_vessels_never_close_around_a_region(shape):
    seen = 0
    for i in range(60 if len(shape) == 2 else 6):
        vessels = _draw_anatomy(shape, np.random.default_rng(i)).vessels
        seen += vessels.any()
        assert ndimage.binary_fill_holes(vessels).sum() == vessels.sum()
    assert seen


def test_the_bias_is_capped_and_the_shifted_split_is_harder():
    shape, brightest, noise = (96, 96), {}, {}
    for shifted in (False, True):
        images = [phantom(shape, np.random.default_rng(i), shifted)[0] for i in range(30)]
        brightest[shifted] = max(image.max() for image in images)
        noise[shifted] = np.mean([image[:4, :4].std() for image in images])
    # At most 0.76 + 0.28 for the lesion, 1.2 times that for the skull, times exp(strength).
    assert brightest[False] < 1.25 * np.exp(0.45) + 0.2
    assert brightest[True] < 1.25 * np.exp(0.65) + 0.4
    assert noise[True] > 1.5 * noise[False]


@pytest.mark.parametrize("shape", [(64,), (8, 64), (32, 32, 32, 32)], ids=str)
def test_impossible_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="at least 16"):
        phantom(shape, np.random.default_rng(0))


def test_unknown_splits_and_negative_indices_are_refused():
    with pytest.raises(ValueError, match="'holdout'"):
        phantom_case("holdout", 0, (64, 64))
    with pytest.raises(ValueError, match="-1"):
        phantom_case("train", -1, (64, 64))
    with pytest.raises(ValueError, match="'holdout'"):
        PhantomDataset("holdout", 3)
    with pytest.raises(ValueError, match="dims"):
        PhantomDataset("train", 3, dims=4)
    with pytest.raises(ValueError, match="3 sizes"):
        PhantomDataset("train", 3, dims=3, shape=(32, 32))


def test_the_dataset_serves_the_cases_of_its_split():
    dataset = PhantomDataset("validation", 3, dims=3, shape=(20, 24, 28))
    assert (len(dataset), dataset.dims, dataset.classes) == (3, 3, CLASSES)
    cases = dataset.check(progress=False)
    assert tuple(case.name for case in cases) == dataset.names
    image, label = phantom_case("validation", 2, (20, 24, 28))
    for case in (cases[2], dataset.load(2), dataset.load(-1)):
        np.testing.assert_array_equal(case.image.array, image[None])
        np.testing.assert_array_equal(case.label.array, label)
    with pytest.raises(IndexError):
        dataset.load(3)
    assert "3 cases, 3-D, 1 channel" in dataset.describe()


@pytest.mark.parametrize(("dims", "shape"), [(2, (128, 128)), (3, (48, 48, 48))])
def test_default_shapes(dims, shape):
    assert PhantomDataset("train", 1, dims).load(0).label.spatial == shape


# ---- splits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "ratio", "sizes"),
    [
        (260, (10, 1, 2), (200, 20, 40)),
        (334, (234, 34, 66), (234, 34, 66)),
        (3, (10, 1, 2), (1, 1, 1)),
        (5, (1, 1, 100), (1, 1, 3)),
    ],
)
def test_split_sizes(n, ratio, sizes):
    parts = split_indices(n, ratio)
    assert tuple(map(len, parts)) == sizes
    np.testing.assert_array_equal(np.concatenate(parts), np.random.default_rng(0).permutation(n))


def test_every_split_has_three_parts():
    for n in range(3, 60):
        assert all(len(part) for part in split_indices(n, seed=n))


def test_splits_of_too_few_cases_are_refused():
    with pytest.raises(ValueError, match="got 2"):
        split_indices(2)
    with pytest.raises(ValueError, match="ratio"):
        split_indices(10, (1, 0, 1))
