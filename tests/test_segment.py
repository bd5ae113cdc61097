"""The main job end to end: train, predict, evaluate, and what happens when something is wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture

import minidl
from minidl.cli import main
from minidl.data import Case, Image, phantom_case
from minidl.segment import job, train
from minidl.segment.config import Config, choose_features, choose_patch
from minidl.segment.inference import gaussian_window, predict_image, sliding_window, window_starts
from minidl.segment.sampling import Sampler, crop, slices


def write_pictures(folder: Path, n: int = 8, size: tuple[int, int] = (40, 33)) -> Path:
    """A folder images/ + labels/ of small phantoms as PNG."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for i in range(n):
        image, label = phantom_case("train", i, size)
        grey = np.clip(image * 200, 0, 255).astype(np.uint8)
        Picture.fromarray(grey).save(folder / "images" / f"case{i}.png")
        Picture.fromarray(label).save(folder / "labels" / f"case{i}.png")
    return folder


def write_volumes(folder: Path, n: int = 6, size: tuple[int, int, int] = (17, 20, 16)) -> Path:
    """A folder imagesTr/ + labelsTr/ + dataset.json of small phantoms as NIfTI, with an affine that is not
    trivial.
    """
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3.0, 2], [0, 0, 0, 1]])
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True)
    for i in range(n):
        image, label = phantom_case("train", i, size)
        nibabel.save(nibabel.Nifti1Image(image, affine), folder / "imagesTr" / f"case{i}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(label, affine), folder / "labelsTr" / f"case{i}.nii.gz")
    pairs = [{"image": f"./imagesTr/case{i}.nii.gz", "label": f"./labelsTr/case{i}.nii.gz"} for i in range(n)]
    labels = {"0": "background", "1": "organ", "2": "lesion"}
    description = {"training": pairs, "labels": labels, "modality": {"0": "MRI"}, "numTraining": n}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def test_train_predict_evaluate_on_pictures(tmp_path, capsys):
    data, out = write_pictures(tmp_path / "data"), tmp_path / "run"
    names = ["--classes", "background", "organ", "lesion"]
    assert (
        main(["train", "--data", str(data), "--steps", "12", "--batch", "2", "--out", str(out), *names]) == 0
    )
    found = {path.name for path in out.iterdir()}
    expected = {"weights.safetensors", "config.json", "history.csv", "metrics.csv"}
    assert found == expected | {"curves.png", "predictions.png", "report.md"}
    report = (out / "report.md").read_text()
    assert all(name in report for name in ("best threshold", "mean-label prior", "organ", "lesion"))
    history = list(csv.DictReader((out / "history.csv").open()))
    assert history[-1]["step"] == "12" and float(history[-1]["train_loss"]) < float(history[0]["train_loss"])

    predicted = tmp_path / "predicted"
    assert main(["predict", str(out), str(data / "images"), "-o", str(predicted)]) == 0
    label = np.asarray(Picture.open(predicted / "case3.png"))
    assert label.shape == (40, 33) and set(np.unique(label)) <= {0, 1, 2}
    capsys.readouterr()
    assert main(["evaluate", str(predicted), str(data / "labels")]) == 0
    assert "hd95" in capsys.readouterr().out
    rows = list(csv.DictReader((predicted / "metrics.csv").open()))
    assert len(rows) == 8 * 2 and {"case", "class", "dice", "iou", "hd95"} <= set(rows[0])


@pytest.mark.parametrize("dims", [2, 3])
def test_volumes_keep_their_affine(tmp_path, dims):
    data, out = write_volumes(tmp_path / "data"), tmp_path / "run"
    assert main(["train", "--data", str(data), "--dims", str(dims), "--steps", "3", "--out", str(out)]) == 0
    image = data / "imagesTr" / "case0.nii.gz"
    assert main(["predict", str(out), str(image), "-o", str(tmp_path / "p")]) == 0
    before, after = nibabel.load(image), nibabel.load(tmp_path / "p" / "case0.nii.gz")
    assert before.shape == after.shape
    np.testing.assert_array_equal(before.affine, after.affine)
    assert "organ" in (out / "report.md").read_text()


def test_the_same_seed_gives_the_same_weights_bit_for_bit(tmp_path):
    data = write_pictures(tmp_path / "data")
    weights = []
    for name in ("a", "b"):
        job.train(data, steps=50, batch=2, seed=3, out=tmp_path / name)
        weights.append((tmp_path / name / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]
    job.train(data, steps=50, batch=2, seed=4, out=tmp_path / "c")
    assert weights[0] != (tmp_path / "c" / "weights.safetensors").read_bytes()


def test_ctrl_c_saves_everything(tmp_path, monkeypatch):
    data, out = write_pictures(tmp_path / "data"), tmp_path / "run"
    step, calls = train.Training._step, []

    def interrupted(self, batch, budget):
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(1)
        return step(self, batch, budget)

    monkeypatch.setattr(train.Training, "_step", interrupted)
    assert main(["train", "--data", str(data), "--steps", "1000", "--batch", "2", "--out", str(out)]) == 0
    assert "at step 4" in (out / "report.md").read_text()
    config, model = job.load_run(out)
    assert config.steps == 1000 and model.state_dict()
    assert list(csv.DictReader((out / "history.csv").open()))[-1]["step"] == "4"


def test_a_run_never_writes_into_a_folder_that_is_in_use(tmp_path, capsys):
    data, out = write_pictures(tmp_path / "data"), tmp_path / "run"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    assert main(["train", "--data", str(data), "--steps", "1", "--out", str(out)]) == 2
    assert str(out) in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["precious.txt"]


def test_unnamed_runs_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [str(job.claim_folder(None, "x-2d")) for _ in range(3)] == [
        "runs/x-2d",
        "runs/x-2d-2",
        "runs/x-2d-3",
    ]


def test_faulty_data_stops_before_training_and_names_the_file(tmp_path, capsys):
    data = write_volumes(tmp_path / "data")
    broken = data / "labelsTr" / "case2.nii.gz"
    broken.write_bytes(broken.read_bytes()[:100])
    assert main(["train", "--data", str(data), "--steps", "1", "--out", str(tmp_path / "run")]) == 2
    assert "case2.nii.gz" in capsys.readouterr().err
    assert not (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["train", "--data", "nowhere"], "nowhere"),
        (["train", "--steps", "1", "--classes", "a", "b"], "names 2 classes"),
        (["predict", "nowhere", "a.png", "-o", "out"], "nowhere"),
        (["evaluate", "nowhere", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_sentences_not_tracebacks(arguments, word, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert word in error and "Traceback" not in error


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path, monkeypatch, capsys):
    data = write_pictures(tmp_path / "data")
    monkeypatch.setattr(train.F, "dice_ce_loss", lambda *a, **k: minidl.tensor(float("nan")))
    assert main(["train", "--data", str(data), "--steps", "5", "--out", str(tmp_path / "run")]) == 2
    assert "nan at step 1" in capsys.readouterr().err


# ---- configuration ---------------------------------------------------------------------------------


def test_the_patch_is_the_median_shape_made_even():
    assert choose_patch([(35, 50, 36)] * 3) == ((40, 56, 40), 3)
    assert choose_patch([(256, 256)] * 3) == ((128, 128), 4)
    assert choose_patch([(3, 40)]) == ((3, 40), 0)
    assert choose_features(16, 4) == (16, 32, 64, 128, 256)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"dims": 2}'])
def test_a_damaged_configuration_is_named(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        Config.load(path)


# ---- sampling --------------------------------------------------------------------------------------


def _case(shape: tuple[int, ...]) -> Case:
    rng = np.random.default_rng(0)
    label = np.zeros(shape, np.uint8)
    label[tuple(n // 2 for n in shape)] = 1
    spacing = (1.0,) * len(shape)
    return Case(
        "a", Image(rng.standard_normal((1, *shape)).astype(np.float32), spacing), Image(label, spacing)
    )


def test_forced_patches_hold_foreground_and_small_images_are_padded():
    sampler = Sampler([_case((60, 9))], (16, 16), 3, mirror=True, seed=0)
    for _ in range(20):
        images, labels = sampler.draw()
        assert images.shape == (3, 1, 16, 16) and labels.shape == (3, 16, 16)
        assert labels[-1].max() == 1  # the last third is centred on foreground
    a, b = (Sampler([_case((60, 9))], (16, 16), 3, True, seed=5).draw() for _ in range(2))
    np.testing.assert_array_equal(a[0], b[0])


def test_crop_outside_is_zero_and_inside_is_exact():
    array = np.arange(12.0).reshape(1, 3, 4)
    box = crop(array, (-1, 2), (5, 4))
    assert box.shape == (1, 5, 4) and box[0, 0].sum() == 0 and box[0, 1, 0] == array[0, 0, 2]
    assert box[0, :, 2:].sum() == 0
    np.testing.assert_array_equal(crop(array, (1, 1), (2, 3)), array[:, 1:3, 1:4])


def test_slices_cut_across_the_thickest_voxels():
    image = Image(np.zeros((1, 4, 5, 6), np.float32), (3.0, 1.0, 1.0))
    parts = slices(Case("a", image, Image(np.zeros((4, 5, 6), int), (3.0, 1.0, 1.0))))
    assert (
        len(parts) == 4 and parts[0].image.array.shape == (1, 5, 6) and parts[0].image.spacing == (1.0, 1.0)
    )


# ---- sliding window --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "window", "overlap", "starts"),
    [
        (110, 64, 0.5, [0, 23, 46]), (65, 64, 0.5, [0, 1]), (100, 32, 0.5, [0, 14, 27, 41, 54, 68]),
        (128, 48, 0.5, [0, 20, 40, 60, 80]), (37, 16, 0.75, [0, 4, 7, 10, 14, 18, 21]), (5, 8, 0.5, [0]),
    ],
)  # fmt: skip
def test_window_starts_are_those_of_nnunet(size, window, overlap, starts):
    assert window_starts(size, window, overlap) == starts


def test_the_gaussian_window_is_that_of_nnunet():
    assert gaussian_window((8,)).min() == pytest.approx(3.3546e-4, rel=1e-4)
    assert gaussian_window((64, 64)).min() == pytest.approx(1.1254e-7, rel=1e-4)
    assert gaussian_window((16,)).argmax() == 8


@pytest.mark.parametrize("shape", [(64, 64), (65, 40), (7, 100), (16, 16)])
def test_windows_put_together_give_the_whole(shape):
    image = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
    logits = sliding_window(lambda x: np.concatenate([x, 2 * x], 1), image, (16, 24))
    np.testing.assert_allclose(logits, np.concatenate([image, 2 * image]), rtol=1e-5, atol=1e-6)


def test_a_flat_network_goes_through_a_volume_slice_by_slice():
    volume = np.random.default_rng(0).standard_normal((1, 6, 7, 5)).astype(np.float32)
    labels = predict_image(lambda x: np.concatenate([0 * x, x], 1), volume, (1, 1, 4), (4, 4))
    assert labels.shape == (6, 7, 5)
    np.testing.assert_array_equal(labels, (volume[0] > volume.mean()).astype(np.uint8))


def test_channels_in_files_of_their_own_are_put_together(tmp_path, capsys):
    data = tmp_path / "data"
    for kind in ("imagesTr", "labelsTr"):
        (data / kind).mkdir(parents=True)
    for i in range(4):
        image, label = phantom_case("train", i, (17, 16, 18))
        for c, channel in enumerate((image, 1 - image)):
            nibabel.save(
                nibabel.Nifti1Image(channel, np.eye(4)), data / "imagesTr" / f"case{i}_000{c}.nii.gz"
            )
        nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), data / "labelsTr" / f"case{i}.nii.gz")
    out, predicted = tmp_path / "run", tmp_path / "predicted"
    assert main(["train", "--data", str(data), "--steps", "2", "--out", str(out)]) == 0
    assert main(["predict", str(out), str(data / "imagesTr"), "-o", str(predicted)]) == 0
    assert sorted(path.name for path in predicted.iterdir()) == [f"case{i}.nii.gz" for i in range(4)]
    one = data / "imagesTr" / "case0_0000.nii.gz"
    assert main(["predict", str(out), str(one), "-o", str(predicted)]) == 2
    assert "1 channels, the network expects 2" in capsys.readouterr().err
