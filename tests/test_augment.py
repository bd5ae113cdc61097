"""Augmentation: image and label stay together, each sample is its own, and the table is nnU-Net's."""

from __future__ import annotations

import numpy as np
import pytest
from strict import stand_in

from minidl.data import Case, DataError, Image
from minidl.data.augment import AUGMENTATIONS, NNUNET, Augmentation, intensity
from minidl.data.augment.spatial import Spatial, read, rotation, thin_axis
from minidl.data.geometry import coarse_axis, crop, resample, resample_labels, resampled_shape
from minidl.data.loader import Loader
from minidl.data.phantom import phantom_case
from minidl.segment.sampling import Sampler

SHAPES = [(40, 33), (17, 64), (20, 24, 18), (6, 40, 40), (1, 30, 30)]
ALWAYS = Augmentation(
    Spatial(rotation=1, scaling=1, elastic=1),
    tuple(row._replace(probability=1) for row in NNUNET.intensity),
    0.5,
)


def case(shape: tuple[int, ...], name: str = "a") -> Case:
    rng = np.random.default_rng(0)
    label = (rng.random(shape) < 0.2).astype(np.uint8)
    image = rng.standard_normal((2, *shape)).astype(np.float32)
    return Case(name, Image(image, (1.0,) * len(shape)), Image(label, (1.0,) * len(shape)))


# ---- the table ---------------------------------------------------------------------------------------


def test_the_table_is_that_of_nnunet():
    rows = {row.change.__name__: (row.probability, row.per_channel) for row in NNUNET.intensity}
    assert rows == {
        "gaussian_noise": (0.1, 1), "gaussian_blur": (0.2, 0.5), "brightness": (0.15, 1),
        "contrast": (0.15, 1), "low_resolution": (0.25, 0.5), "gamma_of_inverse": (0.1, 1), "gamma": (0.3, 1),
    }  # fmt: skip
    assert NNUNET.spatial == Spatial(0.2, 0.2, 0.0, (0.7, 1.4)) and NNUNET.mirror == 0.5


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("larger", [0, 9])
def test_all_at_once_keeps_shapes_types_and_labels(shape, larger):
    c = case(tuple(n + larger for n in shape))
    c.image.array.flags.writeable = c.label.array.flags.writeable = False
    for seed in range(3):
        x, y = ALWAYS.patch(c.image.array, c.label.array, (larger // 2,) * len(shape), shape,
                            np.random.default_rng(seed))  # fmt: skip
        assert x.shape == (2, *shape) and x.dtype == np.float32 and np.isfinite(x).all()
        assert y.shape == shape and y.dtype == np.uint8 and set(np.unique(y)) <= {0, 1}


@pytest.mark.parametrize("shape", SHAPES)
def test_on_a_gpu_a_patch_is_changed_likewise(shape, monkeypatch):
    xp, c, patch = stand_in.install(monkeypatch), case(shape), tuple(n - n // 4 for n in shape)
    pairs = (c.image.array, c.label.array), (xp.asarray(c.image.array), xp.asarray(c.label.array))
    here, there = (ALWAYS.patch(*pair, (2,) * len(shape), patch, np.random.default_rng(1)) for pair in pairs)
    for a, b in zip(here, there):
        assert isinstance(b, xp.ndarray) and b.dtype == a.dtype
        np.testing.assert_allclose(b.get(), a, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_that_is_its_label_stays_its_label(shape):
    """Rotated, scaled, deformed and mirrored alike: the image is above 1/2 where the label is 1."""
    label = np.zeros(shape, np.uint8)
    label[tuple(slice(n // 4, n - n // 4) for n in shape)] = 1
    for seed in range(5):
        augmentation = Augmentation(Spatial(1, 1, 1), mirror=0.5)
        x, y = augmentation.patch(label[None].astype(np.float32), label, (0,) * len(shape), shape,
                                  np.random.default_rng(seed))  # fmt: skip
        clear = abs(x[0] - 0.5) > 1e-3
        np.testing.assert_array_equal(x[0][clear] > 0.5, y[clear] == 1)


def test_a_quarter_turn_moves_every_voxel_where_it_belongs():
    image = np.arange(25, dtype=np.float32).reshape(1, 5, 5)
    grid = np.stack(np.meshgrid(*(np.arange(5) - 2.0,) * 2, indexing="ij"))
    turned = np.stack([-grid[1], grid[0]]).astype(np.float32)  # x = R i: place (r, c) reads (-c, r)
    x, y = read(image, image[0].astype(np.uint8), (0, 0), (5, 5), turned)
    np.testing.assert_allclose(x[0], np.rot90(image[0], -1), atol=1e-5)
    np.testing.assert_array_equal(y, np.rot90(image[0], -1))


def test_many_classes_are_interpolated_each_by_itself():
    label = np.array([[0, 3, 0, 7]], np.uint8)
    places = np.array(
        [[[0.0]], [[0.4]]], np.float32
    )  # 0.4 voxels from the middle 1.5: between 0 and 7 is no 3
    _, y = read(label[None].astype(np.float32), label, (0, 0), (1, 4), np.broadcast_to(places, (2, 1, 1)) + 0)
    assert y.shape == (1, 4) and set(np.unique(y)) <= {0, 7}


def test_what_lies_outside_the_image_is_background():
    spatial = Spatial(rotation=0, scaling=1, scales=(3, 3))
    places = spatial.draw((9, 9), np.random.default_rng(0))
    x, y = read(np.ones((1, 9, 9), np.float32), np.ones((9, 9), np.uint8), (0, 0), (9, 9), places)
    assert y[4, 4] == 1 and y[0].max() == 0 and x[0, 0].max() == 0


def test_dummy_2d_turns_within_slices_only():
    assert thin_axis((10, 40, 40)) == 0 and thin_axis((40, 40, 10)) == 2
    assert thin_axis((16, 40, 40)) is None and thin_axis((4, 40)) is None
    spatial = Spatial(1, 1, 1)
    for seed in range(5):
        places = spatial.draw((4, 40, 40), np.random.default_rng(seed))
        np.testing.assert_allclose(
            places[0], np.broadcast_to((np.arange(4) - 1.5)[:, None, None], (4, 40, 40))
        )
        assert not np.allclose(places[1:], spatial.draw((4, 40, 40), np.random.default_rng(seed + 9))[1:])


def test_rotations_are_rotations_within_their_limits():
    rng = np.random.default_rng(0)
    for patch, largest in (((40, 40), 180), ((20, 40), 15)):
        angles = [
            np.degrees(np.arctan2(r[1, 0], r[0, 0])) for r in (rotation(patch, rng) for _ in range(300))
        ]
        assert 0.9 * largest < max(angles) <= largest and -largest <= min(angles) < -0.9 * largest
    r = rotation((20, 20, 20), rng)
    np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(r) == pytest.approx(1)


def test_how_often_and_how_strongly_the_elastic_deformation_moves():
    spatial, moved = Spatial(0, 0, 0.5), []
    grid = np.stack(np.meshgrid(*(np.arange(64) - 31.5,) * 2, indexing="ij"))
    for seed in range(60):
        places = spatial.draw((64, 64), np.random.default_rng(seed))
        if places is not None:
            moved.append((places - grid).std())
    assert 20 <= len(moved) <= 40 and 0.5 < np.mean(moved) < 3  # voxels


def test_how_often_something_is_done():
    rng = np.random.default_rng(0)
    image, label = rng.random((1, 24, 24), dtype=np.float32), np.zeros((24, 24), np.uint8)
    quiet = Augmentation(NNUNET.spatial, NNUNET.intensity)
    same = [np.array_equal(quiet.patch(image, label, (0, 0), (24, 24), rng)[0], image) for _ in range(2000)]
    unchanged = 0.8**2 * 0.9 * (1 - 0.2 / 2) * 0.85**2 * (1 - 0.25 / 2) * 0.9 * 0.7  # of independent rows
    assert np.mean(same) == pytest.approx(unchanged, abs=0.04)


# ---- intensities -------------------------------------------------------------------------------------


def test_what_the_changes_of_intensity_keep():
    x = np.random.default_rng(0).gamma(2, size=(30, 31)).astype(np.float32)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        for change in (intensity.gamma, intensity.gamma_of_inverse):
            y = change(x, rng)
            assert y.mean() == pytest.approx(x.mean(), abs=1e-4) and y.std() == pytest.approx(
                x.std(), abs=1e-4
            )
            order = np.argsort(x.ravel())
            assert (np.diff(y.ravel()[order]) > -1e-5).all()  # no grey value overtakes another
        y = intensity.contrast(x, rng)
        assert y.min() >= x.min() and y.max() <= x.max()
        factor = intensity.brightness(x, rng) / x
        assert factor.min() >= 0.75 and factor.max() <= 1.25 and np.ptp(factor) < 1e-6
        assert intensity.gaussian_blur(x, rng).std() < x.std()
        assert 0 < abs(intensity.gaussian_noise(x, rng) - x).std() < 0.11
    assert not np.array_equal(intensity.gamma(x, np.random.default_rng(0)),
                              intensity.gamma_of_inverse(x, np.random.default_rng(0)))  # fmt: skip


@pytest.mark.parametrize("change", [row.change for row in NNUNET.intensity], ids=lambda f: f.__name__)
@pytest.mark.parametrize("x", [np.full((5, 4), 3.0), np.zeros((1, 1, 1)), np.full((1, 9), -2.0)])
def test_images_of_one_grey_value_stay_finite(change, x):
    y = change(x.astype(np.float32), np.random.default_rng(0))
    assert y.shape == x.shape and np.isfinite(y).all()


def test_low_resolution_keeps_what_is_linear_and_the_thin_axis():
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None], (40, 40))
    y = intensity.low_resolution(ramp, np.random.default_rng(0))
    assert abs(y - ramp)[3:-3].max() <= 1.01
    slices = np.random.default_rng(0).standard_normal((4, 1, 1)).astype(np.float32) * np.ones(
        (4, 40, 40), np.float32
    )
    np.testing.assert_allclose(intensity.low_resolution(slices, np.random.default_rng(1)), slices, atol=1e-6)


# ---- batches -----------------------------------------------------------------------------------------


def test_a_sample_depends_on_its_number_alone():
    cases = [case((40, 33), "a"), case((20, 24), "b")]
    sampler = Sampler(cases, (16, 16), 3, AUGMENTATIONS["elastic"], seed=3)
    expected = [sampler.batch(step) for step in range(5, 13)]
    again = Sampler(cases, (16, 16), 3, AUGMENTATIONS["elastic"], seed=3)
    for workers in (0, 1, 3):
        with Loader(again.batch, 5, workers) as batches:
            for images, labels in expected:
                x, y = next(batches)
                np.testing.assert_array_equal(x, images)
                np.testing.assert_array_equal(y, labels)
    other = Sampler(cases, (16, 16), 3, AUGMENTATIONS["elastic"], seed=4).batch(5)
    assert not np.array_equal(other[0], expected[0][0])
    assert not np.array_equal(expected[1][0], expected[0][0])
    one = Sampler(cases[:1], (16, 16), 8, AUGMENTATIONS["none"], seed=0).batch(1)[0]
    assert len({patch.tobytes() for patch in one}) > 4  # and the samples of a batch are not one


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_names_the_case_and_leaves_no_thread(workers):
    import threading

    def broken(image, label, starts, patch, rng):
        raise ZeroDivisionError("division by zero")

    sampler = Sampler([case((20, 20), "liver_007")], (8, 8), 2, Augmentation(), seed=0)
    object.__setattr__(sampler.augmentation, "patch", broken)
    before = threading.active_count()
    with pytest.raises(DataError, match=r"liver_007.*step 4.*division by zero"):  # noqa: SIM117
        with Loader(sampler.batch, 4, workers) as batches:
            next(batches)
    assert threading.active_count() == before


def test_ctrl_c_in_the_block_stops_the_workers():
    made = []
    with pytest.raises(KeyboardInterrupt), Loader(lambda k: made.append(k) or k, 1, 2) as items:
        assert [next(items) for _ in range(5)] == [1, 2, 3, 4, 5]
        raise KeyboardInterrupt
    assert len(made) <= 5 + 5  # only a few were made ahead


def test_forced_patches_hold_foreground_and_small_images_are_padded():
    shape = (60, 9)
    label = np.zeros(shape, np.uint8)
    label[30, 4] = 1
    c = Case("a", Image(np.ones((1, *shape), np.float32), (1.0, 1.0)), Image(label, (1.0, 1.0)))
    sampler = Sampler([c], (16, 16), 3, AUGMENTATIONS["mirror"], seed=0)
    for step in range(1, 20):
        images, labels = sampler.batch(step)
        assert images.shape == (3, 1, 16, 16) and labels.shape == (3, 16, 16) and labels.dtype == np.int64
        assert labels[-1].max() == 1  # the last third is centred on foreground
        assert images.sum((1, 2, 3)).tolist() == [16 * 9] * 3


def test_cases_without_foreground_can_be_sampled():
    c = Case(
        "a", Image(np.ones((1, 9, 9), np.float32), (1.0, 1.0)), Image(np.zeros((9, 9), np.uint8), (1.0, 1.0))
    )
    assert Sampler([c], (8, 8), 2, NNUNET, seed=0).batch(1)[1].max() == 0


# ---- grids -------------------------------------------------------------------------------------------


def test_crop_outside_is_zero_and_inside_is_exact():
    array = np.arange(12.0).reshape(1, 3, 4)
    box = crop(array, (-1, 2), (5, 4))
    assert box.shape == (1, 5, 4) and box[0, 0].sum() == 0 and box[0, 1, 0] == array[0, 0, 2]
    assert box[0, :, 2:].sum() == 0
    np.testing.assert_array_equal(crop(array, (1, 1), (2, 3)), array[:, 1:3, 1:4])
    assert crop(array, (7, -9), (2, 2)).tolist() == [[[0, 0], [0, 0]]]  # nothing of it is inside


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize(("shape", "target"), [((9, 7), (13, 5)), ((8, 1, 5), (3, 4, 5)), ((4,), (4,))])
def test_resampling_is_scipys(shape, target, order):
    from scipy import ndimage

    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    zoom = [q / n for q, n in zip(target, shape)]
    expected = np.stack([ndimage.zoom(c, zoom, order=order, mode="nearest", grid_mode=True) for c in x])
    np.testing.assert_allclose(resample(x, target, order), expected, rtol=1e-4, atol=2e-5)


def test_resampling_keeps_constants_and_takes_the_nearest_slice_along_a_coarse_axis():
    x = np.full((1, 6, 7), 2.5, np.float32)
    np.testing.assert_allclose(resample(x, (11, 3), 3), 2.5, rtol=1e-5)
    slices = np.arange(3, dtype=np.float32).reshape(1, 3, 1, 1) * np.ones((1, 3, 4, 4), np.float32)
    assert resample(slices, (6, 5, 3), 3, nearest=0)[0, :, 2, 1].round(4).tolist() == [0, 0, 1, 1, 2, 2]


def test_labels_are_resampled_per_class_to_smooth_borders():
    from minidl.segment.metrics import dice

    _, label = phantom_case("train", 0, (64, 64))
    there = resample_labels(label, (100, 90))
    back = resample_labels(there, (64, 64))
    assert there.dtype == np.uint8 and set(np.unique(there)) <= set(np.unique(label))
    assert dice(back == 1, label == 1) > 0.97
    assert resample_labels(np.array([[0, 5]], np.uint8), (1, 6)).tolist() == [[0, 0, 0, 5, 5, 5]]


def test_spacings():
    assert resampled_shape((10, 20), (2.0, 1.0), (1.0, 3.0)) == (20, 7)
    assert resampled_shape((1, 1), (1.0, 1.0), (9.0, 9.0)) == (1, 1)
    assert coarse_axis((1.0, 1.0, 3.0)) is None and coarse_axis((1.0, 1.0, 3.1)) == 2
    assert coarse_axis((1.0, 1.0, 1.0), (4.0, 1.0, 1.0)) == 0
