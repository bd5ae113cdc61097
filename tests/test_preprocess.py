"""Preprocessing: grey values by modality, grids in millimetres, and the way back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from minidl.data import Case, Image
from minidl.segment.config import quick_configuration
from minidl.segment.plan import Normalization
from minidl.segment.plan.fingerprint import nonzero_box
from minidl.segment.preprocess import Preprocessing, normalize

RNG = np.random.default_rng(0)
ZSCORE = Normalization("zscore")
MASKED = Normalization("zscore", inside_nonzero=True)
CT = Normalization("ct", lower=-100, upper=300, mean=50, std=40)


def preprocessing(spacing, slice_axis=None, rule=ZSCORE) -> Preprocessing:
    configuration = quick_configuration([(8,) * len(spacing)], [spacing], 1, 2)
    return Preprocessing(replace(configuration, normalization=(rule,)), slice_axis)


def test_zscore_is_of_each_channel_of_each_image():
    image = np.stack([RNG.normal(1000, 30, (9, 8)), RNG.normal(-3, 0.1, (9, 8))]).astype(np.float32)
    y = normalize(image, (ZSCORE, ZSCORE))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((1, 2)), 1, rtol=1e-5)
    assert not normalize(np.full((1, 4, 4), 7.0, np.float32), (ZSCORE,)).any()  # one grey value: no infinity


def test_ct_is_the_same_in_every_image():
    image = np.array([[[-1000.0, 50, 90, 3000]]], np.float32)
    np.testing.assert_allclose(normalize(image, (CT,))[0, 0], [-3.75, 0, 1, 6.25])


def test_inside_nonzero_leaves_the_outside_at_zero():
    image = np.zeros((2, 12, 12), np.float32)
    image[:, 3:9, 3:9] = RNG.normal(100, 5, (2, 6, 6))
    image[0, 5, 5] = 0  # a hole: part of the inside
    y = normalize(image, (MASKED, ZSCORE))
    inside = y[0, 3:9, 3:9]
    assert inside.mean() == pytest.approx(0, abs=1e-5) and inside[2, 2] < -3
    assert np.count_nonzero(y[0]) == np.count_nonzero(inside) and y[1, 0, 0] != 0
    assert not normalize(np.zeros((1, 4, 4), np.float32), (MASKED,)).any()


def test_a_case_is_cut_resampled_and_its_label_with_it():
    image = np.zeros((1, 20, 30, 10), np.float32)
    image[0, 4:16, :, 1:] = 1 + RNG.random((12, 30, 9))
    label = np.zeros((20, 30, 10), np.uint8)
    label[6:14, 10:20, 3:7] = 2
    case = Case("a", Image(image, (1.0, 2.0, 4.0)), Image(label, (1.0, 2.0, 4.0)))
    made = preprocessing((2.0, 2.0, 2.0)).prepare_case(case)
    assert made.image.array.shape == (1, 6, 30, 18) and made.label.array.shape == (6, 30, 18)
    assert made.image.spacing == made.label.spacing == (2.0, 2.0, 2.0)
    assert set(np.unique(made.label.array)) == {0, 2}
    volume = (made.label.array == 2).sum() * 8
    assert volume == pytest.approx((label == 2).sum() * 8, rel=0.1)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.2), (1.0, 1.0, 6.0)])
def test_what_is_prepared_can_be_restored(spacing):
    shape = (23, 26, 12)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    label = ((grid**2).sum(0) < 0.5).astype(np.uint8)
    image = Image(np.pad(label[None] + 1.0, ((0, 0), (3, 0), (0, 4), (2, 1))).astype(np.float32), spacing)
    p = preprocessing((1.0, 1.0, 1.5))
    made = p.prepare_case(Case("a", image, Image(np.pad(label, ((3, 0), (0, 4), (2, 1))), spacing)))
    logits = np.stack([made.label.array == c for c in (0, 1)]).astype(np.float32)
    back = np.zeros(image.spatial, np.uint8)
    back[nonzero_box(image.array)] = np.stack(list(p.restore([logits], image, 0)), 1).argmax(0)
    different = (back != np.pad(label, ((3, 0), (0, 4), (2, 1)))).mean()
    assert different == 0 if spacing == (1.0, 1.0, 1.5) else different < 0.02


def test_flat_networks_see_slices_whose_distance_stays():
    image = Image(RNG.random((1, 5, 12, 10), dtype=np.float32) + 1, (4.0, 1.0, 1.0))
    p = preprocessing((2.0, 2.0), slice_axis=0)
    made = p.prepare(image)
    assert made.array.shape == (1, 5, 6, 5) and made.spacing == (4.0, 2.0, 2.0)
    assert p.slices(made).shape == (5, 1, 6, 5)
    case = Case("a", image, Image(np.ones((5, 12, 10), np.uint8), image.spacing))
    parts = p.slice_case(p.prepare_case(case))
    assert len(parts) == 5 and parts[2].name == "a, slice 2" and parts[0].label.array.shape == (6, 5)
    np.testing.assert_array_equal(parts[2].image.array, made.array[:, 2])
    with pytest.raises(ValueError, match="across which axis"):
        preprocessing((2.0, 2.0)).prepare(image)


def test_slices_that_lie_far_apart_are_not_mixed():
    """Anisotropic by more than 3: the nearest slice is taken along the long axis."""
    image = Image(RNG.random((1, 4, 9, 9), dtype=np.float32) + 1, (8.0, 1.0, 1.0))
    made = preprocessing((4.0, 1.0, 1.0)).prepare(image)
    assert made.array.shape == (1, 8, 9, 9)
    np.testing.assert_array_equal(made.array[:, ::2], made.array[:, 1::2])
