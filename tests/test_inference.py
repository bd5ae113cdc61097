"""Prediction: rows handed on one by one equal the whole, tiles are exact, ensembles, islands, memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.data import Image, read_label, write_image
from minidl.data.geometry import crop, resample
from minidl.models import UNet
from minidl.receptive_field import analyze
from minidl.segment import inference, job
from minidl.segment.config import Config, quick_configuration
from minidl.segment.inference import (
    Member,
    gaussian_window,
    mirrored,
    predict_ensemble,
    predict_image,
    tiled,
    window_rows,
    window_starts,
)
from minidl.segment.postprocess import Postprocessing, choose_postprocessing, keep_largest
from minidl.segment.rows import resample_rows
from minidl.segment.train import as_network

RNG = np.random.default_rng(0)
ROOT = Path(minidl.__file__).parents[1]


def three_classes(x: np.ndarray) -> np.ndarray:
    return np.concatenate([np.tanh(x), x, -(x**2)], 1)


def configured(spacing, patch, across=None, **options) -> Config:
    configuration = replace(quick_configuration([patch], [spacing], 1, 3), patch=patch)
    config = Config(None, ("background", "a", "b"), ("x",), configuration, across, False, "none", "adam",
                    1e-3, None, 1, 0, (1, 1, 1), None)  # fmt: skip
    return replace(config, **options)


# ---- windows ---------------------------------------------------------------------------------------


def everything_at_once(network, image, patch):
    """The sliding window by its definition, with all logits in memory and double precision."""
    size = image.shape[1:]
    padded = [max(n, p) for n, p in zip(size, patch)]
    margin = [(a - n) // 2 for a, n in zip(padded, size)]
    image = crop(image, [-m for m in margin], padded)
    total, weights = 0, np.zeros(padded)
    for starts in product(*(window_starts(n, p) for n, p in zip(padded, patch))):
        logits = network(crop(image, starts, patch)[None])[0]
        total = total + np.stack(
            [crop(x * gaussian_window(patch), [-a for a in starts], padded) for x in logits]
        )
        weights += crop(gaussian_window(patch), [-a for a in starts], padded)
    return crop(total / weights, margin, size)


@pytest.mark.parametrize(
    ("shape", "patch"),
    [((50, 20, 23), (8, 8, 16)), ((7, 30), (16, 8)), ((40, 5), (8, 16)), ((1, 1), (4, 4)), ((17,), (16,)),
     ((16, 16), (16, 16)), ((33, 9, 9), (3, 5, 7))],
)  # fmt: skip
@pytest.mark.parametrize("at_once", [1, 2**20])
def test_rows_one_after_another_are_the_whole(monkeypatch, shape, patch, at_once):
    """Every window gives other logits for a voxel, so that each weight counts."""
    monkeypatch.setattr(inference, "VOXELS_AT_ONCE", at_once)
    ramp = np.linspace(-1, 1, int(np.prod(patch))).reshape(patch).astype(np.float32)
    network = lambda x: np.concatenate([x + ramp, x * ramp], 1)
    image = RNG.standard_normal((1, *shape)).astype(np.float32)
    blocks = list(window_rows(network, image, patch))
    assert sum(block.shape[1] for block in blocks) == shape[0]
    expected = everything_at_once(network, image, patch)
    np.testing.assert_allclose(np.concatenate(blocks, 1), expected, rtol=1e-4, atol=1e-5)


def test_no_more_rows_are_held_than_windows_touch():
    seen = []

    def network(x):
        seen.append(x)
        return x

    blocks = window_rows(network, np.zeros((1, 400, 8), np.float32), (8, 8))
    next(blocks)
    assert len(seen) == 1  # the first rows come before the second window is looked at


@pytest.mark.parametrize("nearest", [None, 0, 1, 2])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", [(9, 8, 7), (4, 17, 7), (1, 1, 1), (20, 3, 15)])
def test_rows_are_resampled_as_the_whole_is(shape, axis, nearest):
    logits = RNG.standard_normal((2, 9, 8, 7)).astype(np.float32)
    moved = np.moveaxis(logits, axis + 1, 1)
    blocks = np.array_split(moved, 3, axis=1)
    rows = np.stack(list(resample_rows(blocks, moved.shape[1], shape, axis, nearest)), axis + 1)
    np.testing.assert_allclose(rows, resample(logits, shape, 1, nearest), rtol=1e-4, atol=1e-5)


def test_a_network_is_asked_for_all_reflections_and_answers_are_turned_back():
    kernel = RNG.standard_normal((5, 6))
    network = lambda x: x * kernel  # it knows left from right
    image = RNG.standard_normal((2, 1, 5, 6))
    symmetric = (kernel + kernel[::-1] + kernel[:, ::-1] + kernel[::-1, ::-1]) / 4
    np.testing.assert_allclose(mirrored(network)(image), image * symmetric)
    assert inference.was_mirrored(configured((1.0, 1.0), (8, 8), augmentation="nnunet"))
    assert not inference.was_mirrored(configured((1.0, 1.0), (8, 8)))


# ---- exact tiles -----------------------------------------------------------------------------------


def unet(dims: int) -> nn.Module:
    """A U-Net without normalisation, its size 3 strides deep in places."""
    minidl.manual_seed(0)
    return UNet(1, 2, features=(3, 4, 5), dims=dims, norm=None).eval()


@pytest.mark.parametrize(("size", "tile"), [((83, 70), (16, 24)), ((64, 37), (8, 4)), ((20, 50), (40, 12))])
def test_tiles_of_a_network_without_normalisation_are_exactly_the_whole(size, tile):
    model = unet(2)
    field = analyze(model, (1, 1, 128, 128))
    assert not field.whole
    image = RNG.standard_normal((1, *size)).astype(np.float32)
    network = as_network(model)
    whole = network(image[None])[0]
    tiles = tiled(network, image, tile, field.halo, field.alignment)
    np.testing.assert_allclose(tiles, whole, rtol=1e-4, atol=1e-5)
    too_small = [(before - 3, after - 3) for before, after in field.halo]
    assert not np.allclose(tiled(network, image, tile, too_small, field.alignment), whole, atol=1e-5)


def test_tiles_in_three_dimensions():
    model = unet(3)
    field = analyze(model, (1, 1, 64, 64, 64))
    image = RNG.standard_normal((1, 52, 11, 9)).astype(np.float32)
    network = as_network(model)
    tiles = tiled(network, image, (8, 8, 8), field.halo, field.alignment)
    np.testing.assert_allclose(tiles, network(image[None])[0], rtol=1e-4, atol=1e-5)


def test_reading_begins_where_the_strides_do():
    """A halo of 5 before tiles that must start at multiples of 4 needs 8."""

    def network(x):
        assert x.shape[2] % 4 == 0
        # Each position sees the fifth one before it.
        return np.concatenate([np.zeros((1, 1, 5)), x], 2)[:, :, :-5]

    image = RNG.standard_normal((1, 40))
    np.testing.assert_array_equal(tiled(network, image, (8,), [(5, 0)], (4,)), network(image[None])[0])


def test_tiles_must_fit_the_strides():
    with pytest.raises(ValueError, match=r"\(6, 8\).*\(4, 4\).*6 along axis 0"):
        tiled(three_classes, np.zeros((1, 16, 16)), (6, 8), [(0, 0)] * 2, (4, 4))


# ---- ensembles -------------------------------------------------------------------------------------


@pytest.mark.parametrize("across", [0, 1, 2])
def test_an_ensemble_averages_probabilities_of_networks_of_other_resolution_and_rank(across):
    """The confident member wins where votes, or means of logits, would say otherwise."""
    image = Image(RNG.standard_normal((1, 12, 9, 10)).astype(np.float32), (1.0, 1.0, 1.0))
    constant = lambda *logits: lambda x: np.concatenate([np.full_like(x, v) for v in logits], 1)
    flat = configured((1.0, 1.0), (8, 8), across)
    deep = configured((1.0, 2.0, 1.5), (8, 8, 8))
    members = [Member(constant(0.1, 0, -99), flat), Member(constant(0.1, 0, -99), deep),
               Member(constant(0, 9, -99), deep)]  # fmt: skip
    assert (predict_ensemble(members, image) == 1).all()
    assert (predict_ensemble(members[:2], image) == 0).all()
    skewed = [Member(constant(0, 30, -99), deep), *[Member(constant(1, 0, -99), deep)] * 3]
    # Logits: class 1 by 27; probabilities: 1.0 and 3 times 0.27 against 3 times 0.73.
    assert (predict_ensemble(skewed, image) == 0).all()


def test_flat_networks_of_different_axes_cannot_go_together():
    image = Image(np.zeros((1, 8, 8, 8), np.float32), (1.0, 1.0, 1.0))
    members = [Member(three_classes, configured((1.0, 1.0), (8, 8), axis)) for axis in (0, 2)]
    with pytest.raises(ValueError, match="different axes"):
        predict_ensemble(members, image)


def test_the_whole_volume_and_its_parts_agree_whatever_the_axis():
    image = np.zeros((1, 14, 9, 11), np.float32)
    image[0, 2:12, 1:, :9] = RNG.standard_normal((10, 8, 9))
    image = Image(image, (1.0, 1.0, 3.9))
    labels = predict_image(three_classes, image, configured((1.0, 1.0, 3.9), (8, 8, 8)))
    for axis in range(3):
        spacing = tuple(s for i, s in enumerate(image.spacing) if i != axis)
        flat = predict_image(three_classes, image, configured(spacing, (8, 8), axis))
        np.testing.assert_array_equal(flat, labels)
    assert not labels[:2].any() and not labels[:, 0].any()  # nothing is found outside of the image


def write_run(folder: Path, seed: int, **options) -> Path:
    folder.mkdir(parents=True)
    config = configured((1.0, 1.0), (16, 16), **options)
    config.save(folder / "config.json")
    minidl.manual_seed(seed)
    minidl.save(config.network().state_dict(), folder / "weights.safetensors")
    return folder


def test_runs_and_folds_make_an_ensemble(tmp_path, capsys):
    runs = [write_run(tmp_path / "run" / f"fold_{k}", k) for k in range(3)]
    write_run(tmp_path / "other", 7, classes=("background", "a", "c"))
    image = Image(RNG.random((1, 20, 21), np.float32), (1.0, 1.0))
    write_image(tmp_path / "image.nii.gz", image)
    by_folds = job.predict(tmp_path / "run", [tmp_path / "image.nii.gz"], tmp_path / "a")
    assert "ensemble of 3" in capsys.readouterr().out
    by_hand = job.predict(runs[0], [*runs[1:], tmp_path / "image.nii.gz"], tmp_path / "b")
    members = [Member(as_network(job.load_run(run)[1]), job.load_run(run)[0]) for run in runs]
    expected = predict_ensemble(members, image)
    for path in (*by_folds, *by_hand):
        np.testing.assert_array_equal(read_label(path).array, expected)
    with pytest.raises(ValueError, match=r"run.fold_0 has 3 classes .*other has 3 classes"):
        job.predict(tmp_path / "run", [tmp_path / "other", tmp_path / "image.nii.gz"], tmp_path / "c")
    with pytest.raises(ValueError, match="name the images"):
        job.predict(runs[0], [runs[1]], tmp_path / "c")
    with pytest.raises(ValueError, match="is no run"):
        job.predict(tmp_path / "a", [tmp_path / "image.nii.gz"], tmp_path / "c")


# ---- post-processing -------------------------------------------------------------------------------


def islands() -> tuple[np.ndarray, np.ndarray]:
    """A prediction with an island of class 1, and a truth in which class 2 lies in two places."""
    truth = np.zeros((12, 12), np.uint8)
    truth[1:5, 1:5], truth[4:6, 4:6], truth[1, 2] = 1, 2, 2
    prediction = truth.copy()
    prediction[9:11, 9:11] = 1
    return prediction, truth


def test_islands_go_where_that_helps_and_stay_where_it_hurts(tmp_path):
    prediction, truth = islands()
    chosen = choose_postprocessing([prediction], [truth], ("background", "a", "b"))
    assert chosen == Postprocessing(foreground=True)  # class 2 would lose its second place
    np.testing.assert_array_equal(chosen(prediction), truth)
    assert prediction[9, 9] == 1  # the one given is left as it was
    chosen.save(tmp_path)
    assert Postprocessing.load(tmp_path) == chosen
    assert "all foreground" in chosen.describe(("background", "a", "b"))
    assert Postprocessing.load(tmp_path / "nowhere") == Postprocessing()


def test_one_class_alone_is_cleaned_where_all_foreground_must_not_be():
    truth = np.zeros((12, 12), np.uint8)
    truth[1:3, 1:3], truth[8:11, 8:11] = 1, 2  # two organs that do not touch
    prediction = truth.copy()
    prediction[11, 0] = 2
    chosen = choose_postprocessing([prediction, truth], [truth, truth], ("background", "a", "b"))
    assert chosen == Postprocessing(False, (2,))
    np.testing.assert_array_equal(chosen(prediction), truth)


def test_no_class_pays_for_another():
    """Without islands class 1 would gain much, but class 2 would lose the part of it that lies apart."""
    truth = np.zeros((14, 14), np.uint8)
    truth[1:7, 1:4], truth[1:7, 4:7], truth[13, 13] = 1, 2, 2
    prediction = truth.copy()
    prediction[10:13, 0:4] = 1
    chosen = choose_postprocessing([prediction], [truth], ("background", "a", "b"))
    assert chosen == Postprocessing(False, (1,))


def test_nothing_is_removed_without_gain():
    _, truth = islands()
    empty = np.zeros_like(truth)
    for predictions in ([truth], [empty], [truth, empty]):
        assert choose_postprocessing(predictions, [truth] * len(predictions), "xyz") == Postprocessing()
    with pytest.raises(ValueError, match="0 predictions and 1 truths"):
        choose_postprocessing([], [truth], "xyz")
    assert (Postprocessing(True, (1, 2)) & Postprocessing(True, (2, 3))) == Postprocessing(True, (2,))


def test_the_largest_component_is_connected_through_faces():
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1]], bool)
    np.testing.assert_array_equal(keep_largest(mask), [[0, 0, 0, 1], [0, 0, 0, 1]])
    assert not keep_largest(np.zeros((2, 3), bool)).any()
    np.testing.assert_array_equal(keep_largest(np.array([1, 0, 1], bool)), [1, 0, 0])  # the first of equals


# ---- memory ----------------------------------------------------------------------------------------

PREDICTION = """
import re, sys
from pathlib import Path
from minidl.segment import inference, job
inference.OVERLAP = 0.125
folder = Path(sys.argv[1])
job.predict(folder / "run", [folder / "image.nii"], folder / "out")
print(int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 2**10)
"""


def peak(folder: Path, shape: tuple[int, int, int], patch: tuple[int, int, int]) -> float:
    """MiB of a process that predicts a volume of three classes with a small network."""
    run = folder / "run"
    run.mkdir(parents=True)
    configuration = replace(
        quick_configuration([patch], [(1.0, 1.0, 1.0)], 1, 3),
        patch=patch, features=(4, 8), kernels=((3, 3, 3),) * 2, strides=((1, 1, 1), (2, 2, 2)),
    )  # fmt: skip
    config = configured((1.0, 1.0, 1.0), patch)
    config = replace(config, configuration=configuration)
    config.save(run / "config.json")
    minidl.save(config.network().state_dict(), run / "weights.safetensors")
    volume = np.memmap(folder / "raw", np.float32, "w+", shape=shape)
    volume[...] = np.arange(shape[2], dtype=np.float32) % 17 + 1
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / "image.nii")
    done = subprocess.run(
        [sys.executable, "-c", PREDICTION, str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert read_label(folder / "out" / "image.nii").array.shape == shape
    return float(done.stdout.split()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_long_volume_needs_little_more_memory_than_a_short_one(tmp_path):
    """Twice as long: twice the image, but not twice the logits, of which it has three (float32) per voxel."""
    short = peak(tmp_path / "short", (96, 80, 80), (32, 80, 80))
    long = peak(tmp_path / "long", (480, 80, 80), (32, 80, 80))
    extra = 384 * 80 * 80 / 2**20  # voxels
    # In float32: the file, the image in C order while it is read, the prepared image; labels take one byte.
    assert long - short < extra * 4 * 3.5


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_volume_of_512_x_512_x_400_is_predicted_within_2_gb(tmp_path):
    found = peak(tmp_path, (512, 512, 400), (128, 128, 112))
    print(f"peak {found:.0f} MiB")
    assert found * 2**20 < 2e9
