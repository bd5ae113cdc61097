"""CRF post-processing: tiles without seams, the search for its parameters, its file, and `predict --crf`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image as Picture

from minidl.cli import main
from minidl.data import Case, Image
from minidl.segment import crf as crf_module
from minidl.segment.config import Config, quick_configuration
from minidl.segment.crf import Crf, CrfMember
from minidl.segment.evaluate import verdict
from minidl.segment.fit_crf import coordinates, first_guess, search
from minidl.segment.inference import Member, predict_ensemble
from minidl.segment.postprocess import Postprocessing
from tests.test_segment import write_pictures

RNG = np.random.default_rng
CRF = Crf((1.0, 1.0), (2.0, 0.5, 2.0), iterations=2, reach=2.0, compatibility=(-1.0, -1.0, -1.0))


def config(size, spacing, channels=1, classes=3):
    return Config(
        data=None, classes=tuple(map(str, range(classes))), channels=tuple(map(str, range(channels))),
        configuration=quick_configuration([size], [spacing], channels, classes), slice_axis=None,
        deep_supervision=False, augmentation="none", optimizer="adam", learning_rate=0.1, minutes=None,
        steps=1, seed=0, ratio=(1, 1, 1), fold=None,
    )  # fmt: skip


@dataclass(frozen=True)
class Spoken(Member):
    """A network whose logits of the image are known."""

    logits: np.ndarray

    def rows(self, image: Image, axis: int) -> Iterator[np.ndarray]:
        return iter(np.moveaxis(self.logits, axis + 1, 0))


def spoken(logits, image):
    found = config(logits.shape[1:], image.spacing, len(image.array), len(logits))
    return Spoken(lambda images: images, found, logits)


def noisy(size=(20, 23), spacing=(1.0, 1.0), seed=0, channels=1, wrong=1.5):
    """A clean image of two squares, its labels, and logits that are often wrong."""
    rng = RNG(seed)
    label = np.zeros(size, np.uint8)
    label[tuple(slice(n // 5, n // 2) for n in size)] = 1
    label[tuple(slice(n // 2, n - n // 5) for n in size)] = 2
    grey = 1 + label * 3 + rng.normal(0, 0.1, (channels, *size))  # never 0: the whole image is kept
    logits = np.moveaxis(np.eye(3)[label] * 2, -1, 0) + rng.normal(0, wrong, (3, *size))
    return Case(f"case{seed}", Image(grey.astype(np.float32), spacing), Image(label, spacing)), logits.astype(
        "f4"
    )


# ---- tiles ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size, spacing",
    [((41, 38), (1.0, 1.0)), ((9, 13, 10), (1.0, 0.7, 2.0)), ((1, 60), (1.0, 1.0)), ((25, 12), (0.3, 5.0))],
    ids=str,
)
@pytest.mark.parametrize("axis", [0, 1])
def test_tiles_leave_no_seam(monkeypatch, size, spacing, axis):
    case, logits = noisy(size, spacing, channels=2)
    member = CrfMember(lambda x: x, (m := spoken(logits, case.image)).config, m, CRF)
    whole = np.stack(list(member.rows(case.image, axis)), axis + 1)
    weights = np.prod(size) * np.prod([2 * r + 1 for r in CRF.radius(spacing)])
    monkeypatch.setattr(crf_module, "WEIGHTS_AT_ONCE", weights // 2)
    assert CRF.tile(size, spacing) != size
    parts = np.stack(list(member.rows(case.image, axis)), axis + 1)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert whole.shape == logits.shape and abs(whole - logits).max() > 0.1


def test_a_tile_is_bounded_however_large_the_image():
    assert CRF.tile((200, 200), (1.0, 1.0)) == (200, 200)
    huge = (2000, 3000, 2500)
    tile, halo = CRF.tile(huge, (1.0, 1.0, 1.0)), CRF.halo((1.0, 1.0, 1.0))
    assert np.prod(np.array(tile) + 2 * np.array(halo)) * 5**3 <= crf_module.WEIGHTS_AT_ONCE


def test_lengths_are_millimetres():
    """A plane farther away than the reach is no neighbour."""
    assert CRF.radius((1.0, 0.7, 5.0)) == (2, 2, 0)
    assert replace(CRF, reach=0.3).radius((0.1, 0.3)) == (3, 1)  # 0.3 / 0.1 is 2.9999...
    case, logits = noisy((6, 9, 8), (5.0, 1.0, 1.0))
    member = spoken(logits, case.image)
    found = CrfMember(member.network, member.config, member, CRF)
    planes = np.stack(list(found.rows(case.image, 0)))
    logits[:, 3] = -7
    again = np.stack(list(found.rows(case.image, 0)))
    changed = abs(planes - again).max((1, 2, 3)) > 0
    assert changed.tolist() == [k == 3 for k in range(6)]


def test_the_image_is_seen_as_the_network_sees_it():
    """Grey values count after normalisation: other units of brightness change nothing."""
    case, logits = noisy()
    member = spoken(logits, case.image)
    refined = CrfMember(member.network, member.config, member, CRF)
    brighter = replace(case.image, array=case.image.array * 1000 + 5)
    np.testing.assert_array_equal(
        predict_ensemble([refined], case.image), predict_ensemble([refined], brighter)
    )


def test_what_is_0_around_an_image_stays_background():
    case, logits = noisy()
    framed = Image(np.pad(case.image.array, ((0, 0), (3, 4), (0, 2))), case.image.spacing)
    member = spoken(logits, case.image)
    refined = CrfMember(member.network, member.config, member, CRF)
    labels = predict_ensemble([refined], framed)
    np.testing.assert_array_equal(labels[3:-4, :-2], predict_ensemble([refined], case.image))
    assert labels.sum() == labels[3:-4, :-2].sum()


# ---- search --------------------------------------------------------------------------------------------


def cases_of(wrong):
    return [
        (spoken(logits, case.image), case) for case, logits in (noisy(seed=k, wrong=wrong) for k in range(3))
    ]


def test_the_search_finds_a_crf_that_helps_and_repeats_itself():
    names = ("background", "one", "two")
    best, rows = search(cases_of(1.5), Postprocessing(), names)
    by_words = {row["parameters"]: row for row in rows}
    none, chosen = by_words["no CRF"], by_words[str(best)]
    assert best and chosen["mean Dice"] > none["mean Dice"] + 0.1
    assert all(chosen[name] >= none[name] for name in names[1:])
    assert search(cases_of(1.5), Postprocessing(), names) == (best, rows)
    assert len(rows) <= 2 + sum(map(len, coordinates(3)))


def test_perfect_predictions_get_no_crf():
    best, rows = search(cases_of(0.0), Postprocessing(), ("background", "one", "two"))
    assert not best and str(best) == "no CRF" and rows[0]["mean Dice"] == 1


def test_what_makes_a_class_worse_is_not_chosen(monkeypatch):
    """However much better another class becomes."""
    guess = first_guess([(1.0, 1.0)], 3)
    dice = lambda predictions, truths, n: np.array(scores.pop(0))
    scores = [[0.5, 0.5], [0.9, 0.4], [0.6, 0.5], [0.8, 0.49]]
    monkeypatch.setattr("minidl.segment.fit_crf.mean_dice_of_cases", dice)
    two = [lambda crf: replace(crf, iterations=1), lambda crf: replace(crf, iterations=2)]
    monkeypatch.setattr("minidl.segment.fit_crf.coordinates", lambda classes: iter([two]))
    best, _ = search(cases_of(0.0)[:1], Postprocessing(), ("background", "one", "two"))
    assert best == replace(guess, iterations=1)


# ---- file ----------------------------------------------------------------------------------------------


def test_the_file_holds_all(tmp_path):
    for crf in (CRF, replace(CRF, smoothness=None), replace(CRF, smoothness=None, appearance=None)):
        crf.save(tmp_path)
        assert Crf.load(tmp_path, 3) == crf


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(smoothness=[1.0]), "smoothness must be 2 positive numbers"),
        (dict(appearance=[1.0, -1.0, 1.0]), "appearance must be 3 positive numbers"),
        (dict(iterations=-1), "iterations must be"),
        (dict(iterations=2.5), "iterations: expected int"),
        (dict(reach=-1.0), "reach must be a length"),
        (dict(compatibility=[-1.0]), "for 1 classes, the network of .* has 3"),
        (dict(more=1), "unknown more"),
    ],
    ids=str,
)
def test_damaged_files_say_where(tmp_path, change, words):
    CRF.save(tmp_path)
    path = tmp_path / "crf.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=rf"crf\.json.*{words}"):
        Crf.load(tmp_path, 3)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"crf\.json does not hold the parameters of a CRF"):
        Crf.load(tmp_path, 3)


# ---- the commands --------------------------------------------------------------------------------------


def test_crf_and_predict_on_pictures(tmp_path, capsys):
    data, run = write_pictures(tmp_path / "data"), tmp_path / "run"
    train = ["train", "--data", str(data), "--steps", "3", "--batch", "2", "--out", str(run)]
    predict = ["predict", str(run), str(data / "images"), "-o"]
    assert main(train) == 0
    assert main([*predict, str(tmp_path / "a"), "--crf"]) == 2
    assert f"{run} has no crf.json; `minidl crf {run}` makes one" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()

    assert main(["crf", str(run)]) == 0
    assert "no CRF" in capsys.readouterr().out
    replace(CRF, appearance=(3.0, 1.0, 9.0)).save(run)  # a strong one, which leaves no island
    assert main([*predict, str(tmp_path / "plain")]) == 0
    assert main([*predict, str(tmp_path / "crf"), "--crf"]) == 0
    read = lambda name: np.stack(
        [np.asarray(Picture.open(p)) for p in sorted((tmp_path / name).glob("*.png"))]
    )
    plain, refined = read("plain"), read("crf")
    assert plain.shape == refined.shape == (8, 40, 33) and (plain != refined).any()
    edges = lambda maps: (np.diff(maps.astype(int), axis=1) != 0).sum()
    assert edges(refined) < edges(plain)


# ---- verdict -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "low, high, words",
    [(0.001, 0.004, "the first is better"), (-0.004, -0.001, "the other is better"),
     (-0.001, 0.004, "neither is shown to be better"), (0.0, 0.0, "no difference at all"),
     (np.nan, np.nan, "too few cases to tell")],
    ids=str,
)  # fmt: skip
def test_a_verdict_claims_no_more_than_its_interval(low, high, words):
    row = {"class": "organ", "measure": "dice", "cases": 9, "better": 5, "difference": (low + high) / 2,
           "low": low, "high": high, "p": 0.5}  # fmt: skip
    assert words in verdict(row) and "organ" in verdict(row)
