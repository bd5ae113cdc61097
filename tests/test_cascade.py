"""The cascade: the second stage sees what the first has found, in training as in prediction."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dying import dying
from scipy import ndimage

import minidl
from minidl import plot
from minidl.cli import main
from minidl.data import Case, Image, phantom_case, read_image
from minidl.data.augment import AUGMENTATIONS, NNUNET, Augmentation
from minidl.data.augment.spatial import Spatial
from minidl.data.geometry import resample_labels
from minidl.models import CascadeUNet, PlannedUNet
from minidl.segment import cascade, run
from minidl.segment.cascade import CascadeSampler, damaged, load_member, with_labels, with_previous
from minidl.segment.config import Config
from minidl.segment.inference import Member, predict_image
from minidl.segment.plan import Plan, command
from minidl.segment.plan.planner import ENOUGH
from minidl.segment.preprocess import Preprocessing

SHAPE = (22, 24, 26)
AFFINE = np.diag([1.0, 1.2, 1.2, 1.0])


@pytest.fixture(scope="module", autouse=True)
def no_pictures():
    """Drawing takes longer than training these tiny nets."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("curves", "predictions"):
            patch.setattr(plot, name, lambda *a: None)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("volumes") / "data"
    for i in range(7):
        for kind, array in zip(("images", "labels"), phantom_case("train", i, SHAPE)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, AFFINE), folder / kind / f"case{i}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def plan(data, tmp_path_factory) -> Path:
    """So little memory that a patch covers a corner of the volumes."""
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "measure_speed", lambda dims: 60e9)
        command.plan(data, memory=20_000_000, minutes=0.1, out=path)
    return path


def arguments(plan: Path, name: str, out: Path, *more: object) -> list[str]:
    quick = ("--steps", 3, "--augmentation", "none")
    return [str(word) for word in ("train", "--plan", plan, "--config", name, "--out", out, *quick, *more)]


@pytest.fixture(scope="module")
def low(plan, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("low") / "low"
    assert main(arguments(plan, "3d_lowres", out)) == 0
    return out


@pytest.fixture(scope="module")
def high(plan, low, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("high") / "high"
    assert main(arguments(plan, "3d_cascade_fullres", out, "--previous", low)) == 0
    return out


@pytest.fixture(scope="module")
def folds(low, tmp_path_factory) -> Path:
    """As `--fold all` would leave them, but with networks that were not trained."""
    folder = tmp_path_factory.mktemp("folds")
    for k in range(5):
        config = replace(Config.load(low / "config.json"), fold=k)
        minidl.manual_seed(k)
        (folder / f"fold_{k}").mkdir()
        config.save(folder / f"fold_{k}" / "config.json")
        minidl.save(config.network().state_dict(), folder / f"fold_{k}" / "weights.safetensors")
    return folder


# ---- both stages ------------------------------------------------------------------------------------


def test_a_plan_with_little_memory_asks_for_a_cascade(plan):
    found = Plan.load(plan).configurations
    fine, coarse = found["3d_cascade_fullres"], found["3d_lowres"]
    assert fine.previous == "3d_lowres"
    assert math.prod(fine.patch) < ENOUGH * math.prod(fine.median_shape)
    assert math.prod(coarse.median_shape) < math.prod(fine.median_shape) / 2


def test_the_second_stage_moves_with_a_copy_of_the_first(data, low, high, tmp_path):
    config = Config.load(high / "config.json")
    assert config.previous.run == str(low) and "3d_lowres" in (high / "report.md").read_text()
    moved = Path(shutil.copytree(high, tmp_path / "moved"))
    image = data / "images" / "case3.nii.gz"
    assert main(["predict", str(moved), str(image), "-o", str(tmp_path / "p")]) == 0
    before, after = nibabel.load(image), nibabel.load(tmp_path / "p" / "case3.nii.gz")
    np.testing.assert_array_equal(before.affine, after.affine)
    assert before.shape == after.shape
    assert main(["evaluate", str(tmp_path / "p"), str(data / "labels")]) == 0


def test_prediction_and_training_show_the_network_the_same(data, low, high):
    image = read_image(data / "images" / "case1.nii.gz")
    member = load_member(high)
    found = predict_image(load_member(low).network, image, load_member(low).config)
    assert found.any()
    whole = np.stack(list(Member(member.network, member.config).rows(with_labels(image, found), 1)))
    np.testing.assert_array_equal(np.stack(list(member.rows(image, 1))), whole)
    nothing = with_labels(image, np.zeros_like(found))
    blind = np.stack(list(Member(member.network, member.config).rows(nothing, 1)))
    assert np.abs(whole - blind).max() > 0.01


def test_a_cascade_network_is_a_planned_one_that_sees_masks():
    rng = np.random.default_rng(0)
    stages = ((4, 6), [(3, 3, 3)] * 2, [(1, 1, 1), (2, 2, 2)])
    second, plain = CascadeUNet(2, 4, *stages), PlannedUNet(2 + 3, 4, *stages)
    plain.load_state_dict(second.state_dict())
    image = rng.standard_normal((2, 2, 6, 5, 8)).astype(np.float32)
    labels = rng.integers(0, 4, (2, 1, 6, 5, 8))
    one_hot = np.concatenate([image, *(labels == c for c in (1, 2, 3))], 1).astype(np.float32)
    seen = minidl.from_numpy(np.concatenate([image, labels], 1).astype(np.float32))
    for got, expected in zip(second(seen), plain(minidl.from_numpy(one_hot)), strict=True):
        np.testing.assert_array_equal(got.detach().numpy(), expected.detach().numpy())
    with pytest.raises(ValueError, match="2 channels of the image and one with the label map"):
        second(minidl.from_numpy(one_hot))


def test_the_label_map_is_resampled_as_a_label_and_not_normalised(high):
    configuration = replace(Config.load(high / "config.json").configuration, spacing=(0.7, 1.3, 1.0))
    array, label = phantom_case("train", 3, (20, 17, 16))
    image = Image(array[None], (1.0, 1.0, 1.0))
    plain = Preprocessing(replace(configuration, previous=None), None).prepare(image)
    prepared = Preprocessing(configuration, None).prepare(with_labels(image, label))
    np.testing.assert_array_equal(prepared.array[:-1], plain.array)
    np.testing.assert_array_equal(prepared.array[-1], resample_labels(label, plain.spatial))


def test_each_case_is_segmented_by_the_fold_that_has_not_seen_it(data, folds, high, monkeypatch):
    asked = []

    def predict_ensemble(members, image):
        asked.append([member.config.fold for member in members])
        return np.zeros(image.spatial, np.uint8)

    monkeypatch.setattr(cascade, "predict_ensemble", predict_ensemble)
    _, whole = run.load_splits(data, 3, run.RATIO, None)
    splits = with_previous(whole, folds)
    order = [case.name for case in splits.train + splits.validation + splits.test]
    for k in range(5):
        seen = [case.name for case in run.load_splits(data, 3, run.RATIO, k)[1].validation]
        assert [name for name, members in zip(order, asked) if members == [k]] == seen
    assert asked[-len(splits.test) :] == [[0, 1, 2, 3, 4]] * len(splits.test)


@pytest.fixture
def no_results(monkeypatch):
    """Training ends with an empty report."""
    empty = lambda out, *others: (out / "report.md").write_text("")
    monkeypatch.setattr(run, "write_results", empty)


def test_a_cascade_of_folds(plan, folds, tmp_path, no_results, capsys):
    out = tmp_path / "run"
    assert main(arguments(plan, "3d_cascade_fullres", out, "--previous", folds, "--fold", 2)) == 0
    assert sorted(path.name for path in (out / "previous").iterdir()) == [f"fold_{k}" for k in range(5)]
    assert len(load_member(out).first) == 5
    assert "has seen the training cases" not in capsys.readouterr().out


# ---- training batches -------------------------------------------------------------------------------


def sampler(augmentation: Augmentation, **options) -> CascadeSampler:
    """Of two cases whose first stage knew the truth."""
    cases = []
    for i in range(2):
        array, label = phantom_case("train", i, (20, 18, 16))
        spacing = (1.0, 1.0, 1.0)
        cases.append(Case(f"{i}", with_labels(Image(array[None], spacing), label), Image(label, spacing)))
    return CascadeSampler(cases, (12, 10, 22), 3, augmentation, seed=0)


@pytest.mark.parametrize("name", ["none", "nnunet", "always"])
def test_image_truth_and_first_stage_move_together(name, monkeypatch):
    monkeypatch.setattr(cascade, "damaged", lambda labels, rng: labels)
    always = replace(NNUNET, spatial=Spatial(1, 1, 1))
    batches = sampler(AUGMENTATIONS.get(name, always))
    for step in range(1, 5):
        images, labels = batches.batch(step)
        assert images.shape == (3, 2, 12, 10, 22) and images.dtype == np.float32 and labels.any()
        np.testing.assert_array_equal(images[:, 1], labels)


def test_the_first_stage_is_damaged_in_training_alone():
    differs = lambda name: [
        (images[:, 1] != labels).any()
        for images, labels in map(sampler(AUGMENTATIONS[name]).batch, range(1, 9))
    ]
    assert any(differs("mirror")) and not any(differs("none"))
    first, again = (sampler(NNUNET).batch(3) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])


def test_damage_is_rare_and_leaves_the_original_alone():
    labels = phantom_case("train", 0, (20, 18, 16))[1]
    labels.flags.writeable = False
    made = [damaged(labels, np.random.default_rng(seed)) for seed in range(200)]
    assert all(set(np.unique(found)) <= set(np.unique(labels)) for found in made)
    changed = np.mean([(found != labels).any() for found in made])
    assert 0.4 < changed < 0.6  # 1 - 0.6 · 0.8 = 0.52
    sizes = np.array([(found > 0).sum() for found in made]) / (labels > 0).sum()
    assert sizes.min() < 0.5 and sizes.max() > 1.5 and 0.8 < sizes.mean() < 1.2
    assert (damaged(np.zeros((4, 5), np.uint8), np.random.default_rng(0)) == 0).all()


@pytest.mark.parametrize("radius", [1, 2.3, 8])
@pytest.mark.parametrize("kind", ["blob", "empty", "full", "point"])
def test_dilation_and_erosion_are_those_by_a_ball(radius, kind):
    shape = (9, 1, 12)
    mask = {"empty": np.zeros(shape, bool), "full": np.ones(shape, bool)}.get(kind)
    if mask is None:
        mask = np.zeros(shape, bool)
        mask[4, 0, 5] = True
        mask[2:7, :, 3:9] |= kind == "blob"
    reach = np.arange(-8, 9)
    ball = sum(np.meshgrid(reach**2, reach**2, reach**2, indexing="ij")) <= radius**2
    np.testing.assert_array_equal(cascade._dilated(mask, radius), ndimage.binary_dilation(mask, ball))
    eroded = ndimage.binary_erosion(mask, ball, border_value=1)
    np.testing.assert_array_equal(cascade._eroded(mask, radius), eroded)


# ---- going on after a stop --------------------------------------------------------------------------


def test_a_resumed_cascade_ends_with_the_same_bits(plan, low, tmp_path, no_results, capsys):
    first = Path(shutil.copytree(low, tmp_path / "low"))
    more = ("--previous", first, "--augmentation", "nnunet")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(arguments(plan, "3d_cascade_fullres", whole, *more)) == 0
    with dying(at=2):
        main(arguments(plan, "3d_cascade_fullres", killed, *more))
    shutil.rmtree(first)  # it is not needed any more: the run has a copy

    weights = killed / "previous" / "weights.safetensors"
    sound = weights.read_bytes()
    weights.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    assert main(["train", "--resume", str(killed)]) == 2
    assert "is not the first stage with which" in capsys.readouterr().err
    weights.write_bytes(sound)

    assert main(["train", "--resume", str(killed)]) == 0
    for name in ("weights.safetensors", "config.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()


# ---- mistakes ---------------------------------------------------------------------------------------


def refusal(command: list[str], capsys) -> str:
    capsys.readouterr()
    assert main(command) == 2
    return capsys.readouterr().err


def test_mistakes_are_refused_before_anything_is_written(plan, low, high, folds, tmp_path, capsys):
    out, name = tmp_path / "out", "3d_cascade_fullres"
    missing = refusal(arguments(plan, name, out), capsys)
    assert f"minidl train --plan {plan} --config 3d_lowres --fold all --out low" in missing
    assert f"minidl train --plan {plan} --config {name} --previous low" in missing
    needless = refusal(arguments(plan, "3d_fullres", out, "--previous", low), capsys)
    assert "3d_fullres has no first stage" in needless
    other = refusal(arguments(plan, name, out, "--previous", high), capsys)
    assert f"is {name}, but {name} needs 3d_lowres" in other
    split = refusal(arguments(plan, name, out, "--previous", low, "--split", "5,1,1"), capsys)
    assert "split" in split and "10,1,2" in split and "5,1,1" in split
    assert "is no run" in refusal(arguments(plan, name, out, "--previous", tmp_path), capsys)
    partial = tmp_path / "partial"
    for k in (0, 3):
        shutil.copytree(folds / f"fold_{k}", partial / f"fold_{k}")
    incomplete = refusal(arguments(plan, name, out, "--previous", partial), capsys)
    assert "holds fold_0, fold_3" in incomplete and "all 5 folds" in incomplete
    assert not out.exists()


def test_a_changed_or_missing_first_stage_is_refused(data, high, folds, tmp_path, capsys):
    image = str(data / "images" / "case0.nii.gz")
    moved = Path(shutil.copytree(high, tmp_path / "moved"))
    shutil.rmtree(moved / "previous")
    assert "is not the first stage" in refusal(["predict", str(moved), image, "-o", str(tmp_path)], capsys)
    shutil.copytree(folds / "fold_1", moved / "previous")
    assert "is not the first stage" in refusal(["predict", str(moved), image, "-o", str(tmp_path)], capsys)


def test_configurations_of_runs_without_a_cascade_stay_readable(low, high, tmp_path):
    text = json.loads((low / "config.json").read_text())
    del text["previous"]  # as earlier versions wrote it
    (tmp_path / "config.json").write_text(json.dumps(text))
    assert Config.load(tmp_path / "config.json") == Config.load(low / "config.json")
    text = json.loads((high / "config.json").read_text())
    text["previous"] = None
    (tmp_path / "config.json").write_text(json.dumps(text))
    with pytest.raises(ValueError, match="a previous run belongs to"):
        Config.load(tmp_path / "config.json")
