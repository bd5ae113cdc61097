"""The ablation study: statistics and words against numbers by hand, arms, and kills at random instants."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from test_resume import write_pictures

import minidl
from minidl.cli import main
from minidl.nn import functional as F
from minidl.segment import job
from minidl.segment.ablate import arms as arms_module
from minidl.segment.ablate import cells, command, lecture, table
from minidl.segment.ablate.arms import ARMS, VANILLA, Arm, choose_arms
from minidl.segment.ablate.cells import Result
from minidl.segment.ablate.figure import draw
from minidl.segment.ablate.statistics import Effect, effects, paired_interval
from minidl.segment.ablate.verdict import judgement, verdict
from minidl.segment.config import Config
from minidl.segment.run import load_splits, make_config
from minidl.segment.train import CHECKPOINT, Training

ROOT = Path(minidl.__file__).parents[1]
SPLIT = (4, 2, 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures") / "tiny", 8)


@pytest.fixture(scope="module")
def loaded(data):
    return load_splits(data, 2, SPLIT, None)


def config_of(loaded, data, arm: Arm = VANILLA, **options) -> Config:
    return make_config(*loaded, 2, data=data, ratio=SPLIT, steps=2, **{"batch": 2, **options, **arm.options})


def effect(low: float, high: float, collapsed: int = 0, title: str = "x") -> Effect:
    middle = (low + high) / 2
    return Effect(Arm("x", title), (0.5, 0.5), (middle, middle), low, high, collapsed)


def result(config: Config, *dice: float | None, failure: str | None = None) -> Result:
    return Result(config, "digest", dict(zip("abc", dice)), 2, 0.1, failure)


# ---- arms -------------------------------------------------------------------------------------------


def test_the_seven_arms_differ_in_one_thing_and_begin_with_the_same_weights(data, loaded, tmp_path):
    vanilla = config_of(loaded, data)
    assert (
        vanilla.augmentation == "nnunet"
        and len(ARMS) == 7
        and set(lecture.CHANGES) == set(ARMS) - {"vanilla"}
    )
    weights, batch = None, None
    for arm in ARMS.values():
        config = config_of(loaded, data, arm)
        before, after = asdict(vanilla), asdict(config)
        assert sum(before[key] != after[key] for key in before) == (arm != VANILLA)
        training = Training(config, loaded[1], tmp_path)
        norms = {type(m).__name__ for m in training.model.modules() if "Norm" in type(m).__name__} - {
            "ConvNormAct"
        }
        assert norms == {"batch": {"BatchNorm2d"}, "instance": {"InstanceNorm2d"}, None: set()}[config.norm]
        assert training.model.encoder[0][0].slope == (0 if arm.name == "relu" else 0.01)
        found = {k: p.detach().numpy() for k, p in training.model.named_parameters() if "norm" not in k}
        weights = weights or found
        assert all(np.array_equal(weights[k], found[k]) for k in weights) and weights.keys() == found.keys()
        made = training._sampler(loaded[1].train, config.seed, config.augmentation).batch(1)
        batch = batch or made
        assert np.array_equal(batch[0], made[0]) == (arm.name != "no-augmentation")


def test_the_losses_are_what_they_are_called(data, loaded, tmp_path):
    batch = None
    for name, direct in (
        ("ce", lambda x, y: F.cross_entropy(x, y)),
        ("dice", lambda x, y: F.dice_loss(x, y, include_background=False, batch=True)),
        ("dice_ce", lambda x, y: F.dice_ce_loss(x, y, batch=True)),
    ):
        training = Training(config_of(loaded, data, loss=name), loaded[1], tmp_path)
        batch = batch or training._sampler(loaded[1].train, 0, "none").batch(1)
        x, y = (minidl.from_numpy(array) for array in batch)
        assert training._loss(batch).item() == pytest.approx(direct(training.model(x), y).item(), rel=1e-6)


def test_a_configuration_of_before_means_the_defaults_and_new_fields_are_checked(data, loaded, tmp_path):
    path, config = tmp_path / "config.json", config_of(loaded, data)
    config.save(path)
    values = json.loads(path.read_text())
    before = {k: v for k, v in values.items() if k not in ("loss", "norm", "negative_slope")}
    path.write_text(json.dumps(before))
    assert Config.load(path) == config and len(before) == len(values) - 3
    for key, value in (("loss", "focal"), ("norm", "layer"), ("negative_slope", 2.0), ("negative_slope", "0"),
                       ("learning_rate", 0.0), ("loss", None), ("more", 1)):  # fmt: skip
        path.write_text(json.dumps({**values, key: value}))
        with pytest.raises(ValueError, match=key):
            Config.load(path)
    batch_norm = replace(config, norm="batch", negative_slope=0.0, loss="ce")
    batch_norm.save(path)
    assert Config.load(path) == batch_norm
    replace(config, norm=None).save(path)
    assert Config.load(path).norm is None


TOML = """
[large-batch]
title = "Four times the batch"
batch = 32
[plain]
norm = "none"
negative_slope = 1
"""


def test_arms_from_a_file(tmp_path):
    path = tmp_path / "arms.toml"
    path.write_text(TOML)
    vanilla, relu, large, plain = choose_arms(["relu", str(path)])
    assert (vanilla, relu) == (VANILLA, ARMS["relu"]) and choose_arms() == list(ARMS.values())
    assert large == Arm("large-batch", "Four times the batch", {"batch": 32})
    assert plain.title == "plain" and plain.options == {
        "augmentation": "nnunet",
        "norm": None,
        "negative_slope": 1.0,
    }


@pytest.mark.parametrize("text, words", [
    ("[a]\nbatch = ", "Invalid value"),
    ("", "has no table"),
    ("batch = 3", "outside of an arm"),
    ("[a]\nbatsch = 3", "unknown batsch; an arm may change loss"),
    ("[a]\nbatch = 'three'", "expected int, got 'three'"),
    ("[a]\nbatch = true", "expected int"),
    ("[a]\nbatch = 0", "batch: must be at least 1, got 0"),
    ("[a]\nhalvings = 0", "halvings: must be at least 1, got 0"),
    ("[a]\nlearning_rate = inf", "finite"),
    ("[a]\ntitle = 'nothing'", "changes nothing"),
    ("[relu]\nbatch = 3", "built in"),
    ("['../a']\nbatch = 3", "letters, digits"),
    ("[a.b]\nbatch = 3", "unknown b"),
])  # fmt: skip
def test_mistakes_in_a_file_of_arms_are_named(tmp_path, text, words):
    path = tmp_path / "arms.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        choose_arms([str(path)])
    assert str(path) in str(error.value)


def test_an_arm_may_be_shallow(loaded, data):
    shallow = Arm("shallow", "One halving", {"halvings": 1})
    depths = [len(config_of(loaded, data, arm).configuration.strides) for arm in (VANILLA, shallow)]
    assert depths[1] == 2 < depths[0]


def test_other_mistakes_are_named(tmp_path, data, capsys):
    path = tmp_path / "arms.toml"
    path.write_text("[a]\nloss = 'focal'")
    out = ["--out", str(tmp_path / "out"), "--split", "4,2,2"]
    for words, expected in (
        (["--arms", "relo"], "no arm 'relo'"),
        (["--arms", "vanilla"], "at least one other arm"),
        (["--arms", str(path)], "arm a: loss must be one of dice_ce"),
        (["--arms", str(tmp_path / "none.toml")], "none.toml"),
        (["--processes", "9999"], "9999 processes"),
        ([str(data)], "different names"),
        (["--dims", "3"], "2-D"),
    ):
        assert main(["ablate", str(data), *words, *out]) == 2
        assert expected in capsys.readouterr().err
    path.write_text("[twin]\nbatch = 3")
    other = tmp_path / "more.toml"
    other.write_text("[twin]\nbatch = 4")
    with pytest.raises(ValueError, match="two arms are called 'twin'"):
        choose_arms([str(path), str(other)])
    assert arms_module.FIELDS.keys() >= {key for arm in ARMS.values() for key in arm.changes}


# ---- statistics and words ---------------------------------------------------------------------------


def test_intervals_by_hand():
    low, high = paired_interval([1, 2, 3])  # mean 2, s = 1, t(0.975, 2) = 4.302653
    assert (low, high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-6)
    assert paired_interval([0.5] * 4) == (0.5, 0.5)
    assert all(map(math.isnan, (*paired_interval([1]), *paired_interval([]))))


def test_effects_by_hand(data, loaded):
    config = config_of(loaded, data)
    arm = Arm("a", "A")
    vanilla = [result(config, 0.8, 0.4), result(config, 0.6, None), result(config, 0.3, 0.3)]  # 0.6, 0.6, 0.3
    others = [result(config, 0.9, 0.4), result(config, 0.6, 0.04), result(config, 0.0, 0.0, failure="nan")]
    first, second = effects([VANILLA, arm], {"vanilla": vanilla, "a": others})
    assert first.dice == pytest.approx(0.5) and first.differences == (0, 0, 0) and first.collapsed == 0
    assert second.scores == pytest.approx((0.65, 0.32, 0))
    assert second.differences == pytest.approx((10, -56, -60)) and second.collapsed == 2
    assert second.difference == pytest.approx(-106 / 3)
    s = math.sqrt(sum((d + 106 / 3) ** 2 for d in (10, -56, -60)) / 2)
    assert second.high - second.difference == pytest.approx(4.302653 * s / math.sqrt(3), rel=1e-6)
    nothing = [result(config, 0.0)] * 2
    _, unknown = effects([VANILLA, arm], {"vanilla": nothing, "a": [result(config, 0.5)] * 2})
    assert math.isnan(unknown.difference) and "vanilla itself found nothing" in judgement(unknown)


@pytest.mark.parametrize("low, high, words", [
    (-1, 1, "no difference was shown, and if there is one, it is at most 5 %"),
    (-5, 0, "no difference was shown"),
    (-6, 1, "undecided"),
    (-1, 40, "undecided"),
    (0.5, 3, "higher than vanilla, but by at most 5 %"),
    (-3, -0.1, "lower than vanilla, but by at most 5 %"),
    (-9, -1, "lower than vanilla; whether by more than 5 % is open"),
    (1, 9, "higher than vanilla; whether by more than 5 % is open"),
    (-100, -5.1, "lower than vanilla by more than 5 %"),
    (math.nan, math.nan, "nothing can be said"),
])  # fmt: skip
def test_a_judgement_says_no_more_than_its_interval(low, high, words):
    assert judgement(effect(low, high)).startswith(words)


def test_one_seed_says_nothing_of_chance():
    one = Effect(Arm("a", "A"), (0.4,), (-20.0,), math.nan, math.nan, 0)
    assert judgement(one) == "nothing can be said of chance from one seed (-20.0 %)"
    assert verdict([effect(0, 0), one]) == [f"A: {judgement(one)}."]


def test_the_verdict_on_all_arms():
    vanilla, small = effect(0, 0), effect(-1, 1, title="S")
    open_, large = effect(-9, 1, title="O"), effect(-90, -8, collapsed=1, title="L")
    assert "holds here for each of the arms tried" in verdict([vanilla, small])[1]
    assert "neither shown nor refuted here; open: O." in verdict([vanilla, small, open_])[2]
    *lines, claim, chance = verdict([vanilla, small, open_, large])
    assert lines[2].endswith("; 1 of 2 runs collapsed.") and "contradicted here by: L." in claim
    assert chance.startswith("1 of 3 intervals leave out 0") and "one in 20" in chance
    assert any("in doubt" in line for line in verdict([effect(0, 0, collapsed=1), small]))


def test_tables(data, loaded, tmp_path):
    vanilla = Effect(VANILLA, (0.5, 0.7), (0.0, 0.0), 0.0, 0.0, 1)
    arm = Effect(ARMS["relu"], (0.4, 0.6), (-1.0, -2.0), -7.85, 4.85, 0)
    lines = table.change_table({"one": [vanilla, arm], "two": [vanilla, arm]}).splitlines()
    assert lines[2].split("|")[2].strip() == "0.600, 1/2 collapsed"
    assert lines[3].split("|")[3].strip() == "-1.5 % [-7.8, +4.8]" and len(lines) == 4
    theirs = table.lecture_table().splitlines()
    assert len(theirs) == 9 and theirs[4].split("|")[-2].strip() == "-100.0 %" and "0.72" in theirs[2]
    assert len(lecture.DATA_SETS) == len(lecture.DICE) == 7
    for extra in (1.0, 100.0, math.nan):
        found = [vanilla, replace(arm, differences=(extra, extra), low=math.nan, high=math.nan)]
        draw({"one": found}, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000


# ---- cells ------------------------------------------------------------------------------------------


def arguments(data: Path, out: Path, steps: int = 3) -> list[str]:
    return ["ablate", str(data), "--arms", "batch-norm", "--seeds", "2", "--steps", str(steps),
            "--batch", "2", "--split", "4,2,2", "--out", str(out)]  # fmt: skip


def started(arguments: list[str]) -> subprocess.Popen:
    """A command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "minidl.cli", *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def results(out: Path) -> dict[str, str]:
    """What an ablation found, but for the minutes it took."""
    found = {}
    for path in sorted((out / "cells").rglob("result.json")):
        values = json.loads(path.read_text())  # whole, whatever was killed
        values.pop("minutes")
        found[str(path.relative_to(out))] = json.dumps(values)
    for name in ("report.md", "effects.csv"):
        if (out / name).exists():
            found[name] = (out / name).read_text()
    return found


def stamps(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("result.json")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    assert main(arguments(data, out)) == 0
    return out


def test_an_ablation_leaves_its_results(whole):
    found = results(whole)
    assert len(found) == 6 and not list(whole.rglob(CHECKPOINT))
    with open(whole / "cells.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    keys = [(row["arm"], row["seed"]) for row in rows]
    assert keys == [(arm, seed) for arm in ("vanilla", "batch-norm") for seed in "01"]
    assert all(0 <= float(row["dice class 1"]) <= 1 for row in rows)
    report = (whole / "report.md").read_text()
    assert all(words in report for words in ("instead of Inst. norm: ", "1904.08128", "about other seeds"))
    assert (whole / "ablation.png").exists()


def test_killed_and_gone_on_with_it_ends_the_same(whole, data, tmp_path):
    for trial in range(5):  # where the machine is busy, a kill may come when all is done
        out = tmp_path / f"out{trial}"
        process = started(arguments(data, out))
        while not stamps(out) and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.1)  # into other cells
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        before = stamps(out)
        if len(before) < 4:
            break
    assert 1 <= len(before) < 4 and not (out / "report.md").exists()
    assert main(arguments(data, out)) == 0
    assert results(out) == results(whole) and stamps(out).items() >= before.items()  # none was run twice
    assert {path.name for path in out.rglob(".*")} == {".lock"}  # no halves of files are left
    before = stamps(out)
    assert main([*arguments(data, out), "--seeds", "1", "--processes", "1"]) == 0  # all is there already
    assert stamps(out) == before and "Seeds of each arm: 1;" in (out / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["all", "parent", "Ctrl-C"])
def test_many_kills(data, tmp_path, kind):
    """Of the whole group, of the parent alone, whose children must not outlive it, and by Ctrl-C."""
    begun = time.monotonic()
    assert started(arguments(data, tmp_path / "whole", 40)).wait() == 0
    lasted, rng, hits = time.monotonic() - begun, np.random.default_rng(len(kind)), 0
    for trial in range(12):
        if hits >= 6:  # where the machine was busy at first, kills come late
            break
        out = tmp_path / f"killed{trial}"
        kept: dict[Path, int] = {}
        for delay in rng.uniform(0.2, 0.6, 4) * lasted:
            process = started(arguments(data, out, 40))
            time.sleep(delay)
            hits += process.poll() is None
            if process.poll() is None and kind == "parent":
                process.kill()
            elif process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL if kind == "all" else signal.SIGINT)
            status = process.wait()
            if (out / "report.md").exists():
                break
            # -2: interrupted while Python was still importing, before `main` could say so
            assert status in ((130, -2) if kind == "Ctrl-C" else (-9,))
            now = stamps(out)
            assert now.items() >= kept.items()
            kept = now
        assert started(arguments(data, out, 40)).wait() == 0
        assert results(out) == results(tmp_path / "whole")
        assert stamps(out).items() >= kept.items()
    assert hits >= 6


def test_cells_of_another_ablation_are_refused(whole, data, capsys):
    before = results(whole)
    assert main(arguments(data, whole, steps=4)) == 2
    assert "made with other settings" in capsys.readouterr().err and results(whole) == before


def test_a_cell_that_fails_is_named_and_the_others_go_on(data, tmp_path, capsys):
    out = tmp_path / "out"
    blocked = out / "cells" / "tiny" / "vanilla" / "seed-0"
    blocked.mkdir(parents=True)
    (blocked / CHECKPOINT).write_bytes(b"damaged")
    assert main(arguments(data, out)) == 2
    error = capsys.readouterr().err
    assert "1 of 4 cells failed; tiny, vanilla, seed 0" in error and "is not a readable checkpoint" in error
    assert len(stamps(out)) == 3 and not (out / "report.md").exists()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # also from threads
def test_a_training_that_diverges_counts_as_collapsed(data, loaded, tmp_path):
    config = config_of(loaded, data, learning_rate=1e30)
    cell = cells.Cell("tiny", "wild", 0, config, loaded[1].digest(), tmp_path)
    found = cell.run(loaded[1])
    assert found.failure and found.collapsed and found.score == 0 and cell.result() == found


def test_the_phantom_is_the_default(monkeypatch, tmp_path):
    def load_splits(folder, dims, *rest):
        raise ValueError(f"asked for {folder} {dims}")

    monkeypatch.setattr(command, "load_splits", load_splits)
    with pytest.raises(ValueError, match="asked for None 3"):
        job.ablate(dims=3, out=tmp_path)
