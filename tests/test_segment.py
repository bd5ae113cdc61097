"""The main job end to end: train, predict, evaluate, and what happens when something is wrong."""

from __future__ import annotations

import csv
import json
import signal
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture

from minidl import plot
from minidl.cli import main
from minidl.data import Image, phantom_case
from minidl.segment import job, metrics, run, train
from minidl.segment.config import Config, quick_configuration
from minidl.segment.inference import gaussian_window, predict_image, sliding_window, window_starts
from minidl.segment.interrupt import Interrupt
from minidl.segment.plan import Normalization
from minidl.segment.plan.command import plan


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
    found = {path.name for path in out.iterdir()} - {".lock"}
    expected = {"weights.safetensors", "config.json", "history.csv", "metrics.csv"}
    assert found == expected | {
        "curves.png",
        "predictions.png",
        "report.md",
        "report.html",
        "postprocessing.json",
    }
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
def test_volumes_keep_their_affine(tmp_path, no_pictures, dims):
    data, out = write_volumes(tmp_path / "data"), tmp_path / "run"
    assert main(["train", "--data", str(data), "--dims", str(dims), "--steps", "3", "--out", str(out)]) == 0
    image = data / "imagesTr" / "case0.nii.gz"
    assert main(["predict", str(out), str(image), "-o", str(tmp_path / "p")]) == 0
    before, after = nibabel.load(image), nibabel.load(tmp_path / "p" / "case0.nii.gz")
    assert before.shape == after.shape
    np.testing.assert_array_equal(before.affine, after.affine)
    assert "organ" in (out / "report.md").read_text()


@pytest.fixture
def no_pictures(monkeypatch):
    """Drawing takes longer than training these tiny nets."""
    for name in ("curves", "predictions"):
        monkeypatch.setattr(plot, name, lambda *a: None)


def test_the_same_seed_gives_the_same_weights_bit_for_bit(tmp_path, no_pictures):
    data = write_pictures(tmp_path / "data", n=4)
    weights = []
    for name in ("a", "b"):
        job.train(data, steps=5, batch=2, seed=3, out=tmp_path / name)
        weights.append((tmp_path / name / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]
    job.train(data, steps=5, batch=2, seed=4, out=tmp_path / "c")
    assert weights[0] != (tmp_path / "c" / "weights.safetensors").read_bytes()


def test_ctrl_c_saves_everything(tmp_path, monkeypatch, no_pictures):
    data, out = write_pictures(tmp_path / "data"), tmp_path / "run"
    step, calls = train.Training._step, []

    def interrupted(self, batch):
        calls.append(1)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)  # the step is still done: weights are never left half changed
        return step(self, batch)

    monkeypatch.setattr(train.Training, "_step", interrupted)
    assert main(["train", "--data", str(data), "--steps", "1000", "--batch", "2", "--out", str(out)]) == 0
    assert "at step 4" in (out / "report.md").read_text()
    config, model = job.load_run(out)
    assert config.steps == 1000 and model.state_dict()
    assert list(csv.DictReader((out / "history.csv").open()))[-1]["step"] == "4"


def test_where_ctrl_c_is_ignored_it_stays_ignored():  # as in a script's `minidl train &`
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            signal.raise_signal(signal.SIGINT)
        assert not interrupt.asked and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_never_writes_into_a_folder_that_is_in_use(tmp_path, capsys):
    data, out = write_pictures(tmp_path / "data"), tmp_path / "run"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    assert main(["train", "--data", str(data), "--steps", "1", "--out", str(out)]) == 2
    assert str(out) in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["precious.txt"]


def test_unnamed_runs_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [str(run.claim_folder(None, "x-2d")) for _ in range(3)] == [
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
        (["train", "--config", "2d"], "--plan"),
        (["train", "--plan", "nowhere.json"], "nowhere.json"),
        (["predict", "nowhere", "a.png", "-o", "out"], "nowhere"),
        (["evaluate", "nowhere", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_sentences_not_tracebacks(arguments, word, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert word in error and "Traceback" not in error


def test_class_names_must_fit_the_labels(tmp_path, capsys):
    data = write_pictures(tmp_path / "data", n=3)
    assert (
        main(
            [
                "train",
                "--data",
                str(data),
                "--steps",
                "1",
                "--classes",
                "a",
                "b",
                "--out",
                str(tmp_path / "r"),
            ]
        )
        == 2
    )
    assert "names 2 classes" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path, monkeypatch, capsys):
    data = write_pictures(tmp_path / "data")
    monkeypatch.setattr(train.F, "dice_ce_loss", lambda x, *a, **k: x.sum() * float("nan"))
    assert main(["train", "--data", str(data), "--steps", "5", "--out", str(tmp_path / "run")]) == 2
    assert "nan at step 1" in capsys.readouterr().err


# ---- configuration ---------------------------------------------------------------------------------


def quick(*shapes, spacing=None):
    return quick_configuration(
        shapes, [spacing or (1.0,) * len(shapes[0])] * len(shapes), channels=1, classes=3
    )


def test_the_configuration_without_a_plan():
    hippocampus = quick((31, 40, 24), (35, 50, 36), (43, 59, 47))
    assert hippocampus.patch == (40, 56, 40) and hippocampus.features == (8, 16, 32, 64)
    pictures = quick((256, 256))
    assert pictures.patch == (128, 128) and pictures.features == (16, 32, 64, 128, 256)
    assert quick((3, 40)).strides[1:] == ((1, 2),) * 2 and quick((3, 40)).patch == (3, 40)
    slices = quick((20, 100, 100), spacing=(5.0, 1.0, 1.0))
    assert slices.kernels[0] == (1, 3, 3) and slices.strides[1] == (1, 2, 2)
    assert len(quick((5, 5)).strides) > 1  # tiny images are padded to what can be halved once


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"dims": 2}'])
def test_a_damaged_configuration_is_named(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        Config.load(path)


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


def configured(dims: int, spacing, patch, **options) -> Config:
    configuration = quick_configuration([patch], [spacing], 1, 2)
    configuration = replace(configuration, patch=patch, **options)
    across = None if dims == len(patch) else 2
    return Config(None, ("background", "a"), ("x",), configuration, across, False, "none", "adam", 1e-3,
                  None, 1, 0, (1, 1, 1), None)  # fmt: skip


def test_a_flat_network_goes_through_a_volume_slice_by_slice():
    volume = np.random.default_rng(0).standard_normal((1, 6, 7, 5)).astype(np.float32)
    network = lambda x: np.concatenate([0 * x, x], 1)
    image = Image(volume, (1.0, 1.0, 4.0))
    labels = predict_image(network, image, configured(3, (1.0, 1.0), (8, 8)))
    assert labels.shape == (6, 7, 5)
    np.testing.assert_array_equal(labels, (volume[0] > volume.mean()).astype(np.uint8))


def test_a_label_map_comes_back_on_the_grid_of_the_image():
    """A threshold for a network: resampled to 1 mm and back, cut to what is not 0 and pasted back."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in (24, 30, 18)), indexing="ij"))
    ball = ((grid**2).sum(0) < 0.4).astype(np.float32) + 0.1
    volume = np.zeros((1, 30, 33, 20), np.float32)
    volume[0, 2:26, 3:, 1:19] = ball
    config = configured(
        3, (1.0, 1.0, 1.0), (16, 16, 16), normalization=(Normalization("ct", 0, 2, 0.5, 1.0),)
    )
    network = lambda x: np.concatenate([0 * x, x], 1)
    labels = predict_image(network, Image(volume, (0.8, 1.1, 2.2)), config)
    assert labels.shape == (30, 33, 20)
    assert metrics.dice(labels == 1, volume[0] > 0.5) > 0.97


def test_channels_in_files_of_their_own_are_put_together(tmp_path, capsys, no_pictures):
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


# ---- cross-validation and plans --------------------------------------------------------------------


def test_folds_share_the_test_cases_and_validate_every_other_case_once(tmp_path):
    data = write_pictures(tmp_path / "data", n=10)
    _, whole = run.load_splits(data, 2, (6, 2, 2), None)
    seen = []
    for k in range(5):
        _, splits = run.load_splits(data, 2, (6, 2, 2), k)
        names = [case.name for part in (splits.train, splits.validation, splits.test) for case in part]
        assert sorted(names) == [f"case{i}" for i in range(10)]
        assert [c.name for c in splits.test] == [c.name for c in whole.test]
        seen += [case.name for case in splits.validation]
    assert sorted(seen) == sorted(case.name for case in whole.train + whole.validation)


def test_all_folds_in_turn_get_folders_of_their_own(tmp_path, monkeypatch):
    data, out = write_pictures(tmp_path / "data", n=8), tmp_path / "run"
    finish = lambda training, dataset: (training.out / train.CHECKPOINT).unlink()
    monkeypatch.setattr(run, "_finish", finish)
    assert main(["train", "--data", str(data), "--steps", "1", "--out", str(out), "--fold", "all"]) == 0
    assert [Config.load(out / f"fold_{k}" / "config.json").fold for k in range(5)] == list(range(5))
    stopped = lambda training, dataset: None  # by hand: the checkpoint is still there
    monkeypatch.setattr(run, "_finish", stopped)
    assert (
        main(["train", "--data", str(data), "--steps", "1", "--out", str(tmp_path / "b"), "--fold", "all"])
        == 0
    )
    assert not (tmp_path / "b" / "fold_1").exists()


@pytest.mark.parametrize("name", ["2d", pytest.param("3d_fullres", marks=pytest.mark.slow)])
def test_a_plan_is_obeyed(tmp_path, capsys, no_pictures, monkeypatch, name):
    data = write_volumes(tmp_path / "data", n=4, size=(16, 20, 17))
    monkeypatch.setattr("minidl.segment.plan.command.measure_speed", lambda dims: 60e9)
    plan(data, minutes=0.1, out=tmp_path / "plan.json")
    out = tmp_path / "run"
    command = [
        "train",
        "--plan",
        str(tmp_path / "plan.json"),
        "--config",
        name,
        "--steps",
        "1",
        "--batch",
        "2",
    ]
    assert main([*command, "--out", str(out)]) == 0
    config = Config.load(out / "config.json")
    assert config.configuration.name == name and config.augmentation == "nnunet" and config.deep_supervision
    image = data / "imagesTr" / "case1.nii.gz"
    assert main(["predict", str(out), str(image), "-o", str(tmp_path / "p")]) == 0
    before, after = (nibabel.load(p / "case1.nii.gz") for p in (data / "imagesTr", tmp_path / "p"))
    assert before.shape == after.shape
    capsys.readouterr()
    assert main([*command[:4], "4d", *command[5:]]) == 2
    assert "3d_fullres" in capsys.readouterr().err
