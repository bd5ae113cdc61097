"""A training survives kills at random instants, full disks, damaged checkpoints, changed data, infinities."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from dying import dying
from PIL import Image as Picture

import minidl
from minidl import plot
from minidl.cli import main
from minidl.data import phantom_case
from minidl.segment import checkpoint, job, train
from minidl.segment.config import Config
from minidl.segment.diagnose import first_not_finite
from minidl.segment.lock import only_run
from minidl.segment.schedule import EPOCH, Plateau, make_optimizer

ROOT = Path(minidl.__file__).parents[1]


def write_pictures(folder: Path, n: int = 6, size: tuple[int, int] = (24, 20)) -> Path:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for i in range(n):
        image, label = phantom_case("train", i, size)
        grey = np.clip(image * 200, 0, 255).astype(np.uint8)
        Picture.fromarray(grey).save(folder / "images" / f"case{i}.png")
        Picture.fromarray(label).save(folder / "labels" / f"case{i}.png")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures") / "data")


def arguments(data: Path, out: Path, steps: int, *more: str) -> list[str]:
    budget = ["--steps", str(steps), "--batch", "2"]
    return ["train", "--data", str(data), "--out", str(out), *budget, "--augmentation", "nnunet", *more]


def stopped(data, out, steps=12, at=5, **options) -> Path:
    """A run whose process died after the checkpoint of a step."""
    with dying(at):
        job.train(data, out=out, steps=steps, batch=2, augmentation="nnunet", **options)
    return out


@pytest.fixture(scope="module")
def good(tmp_path_factory, data):
    return stopped(data, tmp_path_factory.mktemp("good") / "a") / train.CHECKPOINT


@pytest.fixture
def run(tmp_path, good) -> Path:
    """A folder of a run that died after 5 of 12 steps."""
    return Path(shutil.copytree(good.parent, tmp_path / "run"))


@pytest.fixture
def no_pictures(monkeypatch):
    """Drawing takes longer than training these tiny nets."""
    for name in ("curves", "predictions"):
        monkeypatch.setattr(plot, name, lambda *a: None)


# ---- kills ------------------------------------------------------------------------------------------


def results(out: Path) -> dict[str, bytes]:
    names = ("weights.safetensors", "metrics.csv", "config.json", "report.md")
    return {name: (out / name).read_bytes() for name in names}


def check_folder(out: Path) -> None:
    """Whatever lies in a folder after a kill is whole."""
    for path in out.iterdir() if out.exists() else ():
        if path.name.startswith(".") and path.name != ".lock":
            continue  # a temporary file that was being written; it never had a name that anybody reads
        if path.suffix == ".safetensors":
            assert minidl.load(path)
        if path.name == train.CHECKPOINT:
            checkpoint.load(path)
        if path.suffix == ".json":
            json.loads(path.read_text())
        if path.suffix == ".png":
            Picture.open(path).verify()


def survive(start, resume, out: Path, delays) -> int:
    """Start, kill after each delay, go on; returns how many kills hit a living process."""
    hits = 0
    for delay in [*delays, None]:
        process = (resume if (out / train.CHECKPOINT).exists() else start)()
        if delay is None:
            process.wait()
            break
        time.sleep(delay)
        hits += process.kill()
        check_folder(out)
        if not (out / train.CHECKPOINT).exists():
            if (out / "report.md").exists():
                break  # it was faster
            shutil.rmtree(out, ignore_errors=True)  # killed before the training began
    return hits


class Forked:
    """A command in a child that shares what is imported already: it starts at once."""

    def __init__(self, arguments):
        self.output = tempfile.TemporaryFile("w+")  # noqa: SIM115  read after the child has ended
        self.process = multiprocessing.get_context("fork").Process(target=self._work, args=(arguments,))
        self.process.start()

    def _work(self, arguments):
        sys.stdout = sys.stderr = self.output
        status = main(arguments)
        self.output.flush()
        os._exit(status)

    def kill(self) -> bool:
        alive = self.process.is_alive()
        self.process.kill()
        self.process.join()
        return alive

    def wait(self) -> None:
        self.process.join()
        self.output.seek(0)
        assert self.process.exitcode == 0, self.output.read()[-3000:]


class Spawned:
    """A command in a process of its own."""

    def __init__(self, arguments):
        program = [sys.executable, "-m", "minidl.cli", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def kill(self) -> bool:
        alive = self.process.poll() is None
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        return alive

    def wait(self) -> None:
        _, error = self.process.communicate()
        assert self.process.returncode == 0, error.decode()


@pytest.mark.parametrize("options", [(), pytest.param(("--optimizer", "sgd"), marks=pytest.mark.slow)])
def test_a_run_killed_thrice_ends_with_the_same_bits(tmp_path, data, options, no_pictures):
    start = lambda out: Forked(arguments(data, out, 40, "--workers", "2", *options))
    begun = time.monotonic()
    start(tmp_path / "whole").wait()
    lasted = time.monotonic() - begun
    delays = np.random.default_rng(0).uniform(0.1, 0.5, 3) * lasted
    out = tmp_path / "killed"
    resume = lambda: Forked(["train", "--resume", str(out)])
    assert survive(lambda: start(out), resume, out, delays) >= 2
    assert results(out) == results(tmp_path / "whole")
    assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}


@pytest.mark.slow
def test_twenty_kills_at_random_instants(tmp_path, data):
    command = lambda out: arguments(data, out, 150)
    begun = time.monotonic()
    Spawned(command(tmp_path / "whole")).wait()
    lasted = time.monotonic() - begun
    rng, same = np.random.default_rng(1), 0
    for trial in range(20):
        out = tmp_path / f"killed{trial}"
        resume = lambda out=out: Spawned(["train", "--resume", str(out)])
        survive(lambda out=out: Spawned(command(out)), resume, out, [rng.uniform(0, 1) * lasted])
        same += results(out) == results(tmp_path / "whole")
        shutil.rmtree(out)
    assert same == 20


@pytest.mark.slow
def test_one_run_killed_twenty_times(tmp_path, data):
    command = lambda out: arguments(data, out, 300)
    Spawned(command(tmp_path / "whole")).wait()
    out, rng = tmp_path / "killed", np.random.default_rng(2)
    resume = lambda: Spawned(["train", "--resume", str(out)])
    hits = survive(lambda: Spawned(command(out)), resume, out, rng.uniform(2, 6, 20))
    assert hits >= 5 and results(out) == results(tmp_path / "whole")


def test_ctrl_c_can_be_resumed_to_the_same_bits(tmp_path, data, monkeypatch, no_pictures):
    job.train(data, out=tmp_path / "whole", steps=8, batch=2)
    original, calls = minidl.optim.Adam._update, []

    def update(self, *arguments):
        calls.append(1)
        if len(calls) == 100:  # in the middle of a step of the optimiser
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(minidl.optim.Adam, "_update", update)
    job.train(data, out=tmp_path / "a", steps=8, batch=2)
    assert "stopped by hand" in (tmp_path / "a" / "report.md").read_text()
    job.resume(tmp_path / "a")
    assert results(tmp_path / "a") == results(tmp_path / "whole")
    with pytest.raises(ValueError, match="is finished"):
        job.resume(tmp_path / "a")


def test_the_minutes_of_a_run_go_on_where_they_stopped(run, no_pictures):
    path = run / train.CHECKPOINT
    progress, tensors = checkpoint.load(path)
    config = replace(progress.config, steps=None, minutes=1000.0)
    minidl.manual_seed(0)
    model = config.network()
    optimizer = make_optimizer(config.optimizer, model.parameters(), config.learning_rate)
    checkpoint.restore(tensors, progress, model, optimizer)
    checkpoint.save(path, replace(progress, config=config, minutes=999.99), model, optimizer)
    config.save(run / "config.json")
    job.resume(run)  # for 0.6 more seconds
    last = (run / "history.csv").read_text().splitlines()[-1].split(",")
    # the last validation may begin before the minutes are over, and end after
    assert 999.99 < float(last[2]) < 1001


# ---- what has changed, and what is damaged ----------------------------------------------------------


def fails(arguments, capsys) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def test_changed_data_or_configuration_is_refused_and_the_checkpoint_kept(
    tmp_path, monkeypatch, capsys, no_pictures
):
    data = write_pictures(tmp_path / "data")
    out = stopped(data, tmp_path / "a")
    before, command = (out / train.CHECKPOINT).read_bytes(), ["train", "--resume", str(out)]
    label = data / "labels" / "case2.png"
    original = label.read_bytes()
    changed = np.asarray(Picture.open(label)).copy()
    changed[0, 0] = 1
    Picture.fromarray(changed).save(label)
    assert "not those with which the run" in fails(command, capsys)
    label.write_bytes(original)

    config = Config.load(out / "config.json")
    replace(config, learning_rate=1.0).save(out / "config.json")
    assert "is not the configuration" in fails(command, capsys)
    config.save(out / "config.json")
    assert "--batch" in fails([*command, "--batch", "3"], capsys)
    assert (out / train.CHECKPOINT).read_bytes() == before
    assert main(command) == 0


def test_two_runs_never_share_a_folder(run, data, capsys):
    with only_run(run):
        error = fails(["train", "--resume", str(run)], capsys)
    assert str(os.getpid()) in error and "in use" in error
    assert "--resume" in fails(arguments(data, run, 5), capsys)  # neither is it begun anew


def test_a_lock_that_a_dead_process_left_holds_nothing(tmp_path):
    child = multiprocessing.get_context("fork").Process(target=_lock_and_die, args=(tmp_path,))
    child.start()
    child.join()
    assert (tmp_path / ".lock").exists()
    with only_run(tmp_path):
        pass


def _lock_and_die(folder):
    with only_run(folder):
        os.kill(os.getpid(), signal.SIGKILL)


def test_nothing_to_resume_says_so(tmp_path, capsys):
    assert "checkpoint.safetensors" in fails(["train", "--resume", str(tmp_path / "nowhere")], capsys)


def test_predict_with_an_unfinished_run_names_the_way_on(run, data, tmp_path, capsys):
    assert "--resume" in fails(["predict", str(run), str(data / "images"), "-o", str(tmp_path / "p")], capsys)


def test_a_full_disk_keeps_the_last_checkpoint(run):
    before = (run / train.CHECKPOINT).read_bytes()
    program = (
        "import resource, sys; from minidl.cli import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) // 2}, {len(before) // 2}))\n"
        f"sys.exit(main(['train', '--resume', {str(run)!r}]))"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "the one before is kept" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert (run / train.CHECKPOINT).read_bytes() == before
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == [".lock"]


def test_damaged_checkpoints_are_named(tmp_path, good):
    content, rng = good.read_bytes(), np.random.default_rng(0)
    header = 8 + struct.unpack("<Q", content[:8])[0]
    path = tmp_path / "checkpoint.safetensors"
    for trial in range(150):
        damaged = bytearray(content)
        kind = trial % 5
        if kind == 0:
            damaged = damaged[: rng.integers(len(damaged))]
        elif kind == 1:  # in the weights
            damaged[rng.integers(header, len(damaged))] ^= 1 << int(rng.integers(8))
        elif kind == 2:  # in the header
            damaged[rng.integers(header)] ^= 1 << int(rng.integers(8))
        elif kind == 3:
            damaged[:8] = struct.pack("<Q", int(rng.integers(2**63)))
        else:
            damaged = bytearray(rng.bytes(int(rng.integers(1, 2000))))
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is not a readable checkpoint"):
            checkpoint.load(path)


def hostile(path: Path, tensors: dict, progress: str) -> None:
    """A file that is sound as safetensors, and whose checksum is right."""
    from safetensors.numpy import save_file

    save_file(tensors, path, {"progress": progress, "sha256": checkpoint._digest(progress, tensors)})


def test_hostile_checkpoints_are_refused(run, good, capsys):
    path, command = run / train.CHECKPOINT, ["train", "--resume", str(run)]
    progress, tensors = checkpoint.load(good)
    text = json.dumps(asdict(progress))
    key = next(name for name in tensors if name.startswith("model."))
    moment = next(name for name in tensors if name.endswith("exp_avg"))
    without = {name: array for name, array in tensors.items() if name != key}
    for changed, word in (
        (without, "missing key"),
        ({**tensors, "model.more": tensors[key]}, "unexpected key"),
        ({**without, key: np.zeros((3, 3), np.float32)}, "has shape"),
        ({**tensors, moment: np.zeros(7, np.float32)}, "has shape"),
        ({**tensors, moment: tensors[moment].astype(np.float64)}, "float64"),
        ({name: a for name, a in tensors.items() if name != moment}, "optimizer."),
        ({**tensors, "optimizer.999.exp_avg": tensors[moment]}, "no tensor of this model"),
        ({**tensors, "other": tensors[moment]}, "no tensor of this model"),
    ):
        hostile(path, changed, text)
        assert word in fails(command, capsys)

    for place, value, word in (
        (("step",), "5", "expected int"),
        (("random", "state"), -1, "random"),
        (("random", "inc"), 2**200, "random"),
        (("config", "configuration", "features"), [10**9], "features"),
        (("config", "optimizer"), "__import__('os')", "optimizer"),
        (("history",), [{"step": 1}], "history"),
        (("version",), 99, "version"),
        (("schedule",), {"rate": None}, "schedule"),
    ):
        values = json.loads(text)
        *outer, last = place
        inner = values
        for name in outer:
            inner = inner[name]
        inner[last] = value
        hostile(path, tensors, json.dumps(values))
        assert word in fails(command, capsys)


def test_a_huge_network_is_not_built_for_a_small_file(run, good, tmp_path, capsys):
    progress, tensors = checkpoint.load(good)
    c = progress.config.configuration
    huge = replace(progress.config, configuration=replace(c, features=(4096,) * len(c.features)))
    huge.save(run / "config.json")
    values = json.dumps(asdict(replace(progress, config=huge)))
    hostile(run / train.CHECKPOINT, tensors, values)
    assert "too few for a network" in fails(["train", "--resume", str(run)], capsys)
    shutil.copy(good, run / "weights.safetensors")
    assert "too few for a network" in fails(["predict", str(run), "a.png", "-o", str(tmp_path / "p")], capsys)


# ---- infinities -------------------------------------------------------------------------------------


def test_infinities_stop_the_run_with_step_and_layer_and_keep_the_checkpoint(
    tmp_path, data, monkeypatch, capsys, no_pictures
):
    original = train.Training._step

    def step(self, batch):
        if self.budget.step == 3:
            self.save_checkpoint()
            self.model.encoder[1][0].conv.weight.array[0, 0, 0] = 3e38
        original(self, batch)

    monkeypatch.setattr(train.Training, "_step", step)
    error = fails(arguments(data, tmp_path / "a", 9), capsys)
    assert "step 4" in error and "encoder.1.0.conv (Conv2d)" in error
    assert checkpoint.load(tmp_path / "a" / train.CHECKPOINT)[0].step == 3


def test_the_first_infinity_is_found_wherever_it_is():
    net = minidl.nn.Sequential(minidl.nn.Linear(2, 3), minidl.nn.ReLU(), minidl.nn.Linear(3, 1))
    x = minidl.ones(4, 2)
    assert "their norm" in first_not_finite(net, lambda: net(x).sum())
    assert "the loss itself" in first_not_finite(net, lambda: net(x).sum() * float("inf"))
    assert "gradient of 2.bias" in first_not_finite(net, lambda: (net(x) * 0).sum().sqrt())  # inf · 0
    net[2].weight.array[0, 1] = np.nan
    assert "weights 2.weight" in first_not_finite(net, lambda: net(x).sum())
    assert "forward" not in net[0].__dict__


# ---- the schedule of the first preprint -------------------------------------------------------------


def test_the_plateau_rule_waits_thirty_epochs_and_then_drops():
    schedule = Plateau(3e-4)
    rates = []
    for _ in range(40):
        for _ in range(EPOCH):
            schedule.observe(1.0)
        rates.append(schedule.learning_rate(0.5))
    assert rates[30] == 3e-4 and rates[31] == pytest.approx(6e-5) and rates[39] == pytest.approx(6e-5)
    falling = Plateau(3e-4)
    for epoch in range(60):
        for _ in range(EPOCH):
            falling.observe(1 - 0.01 * epoch)
    assert falling.learning_rate(0.5) == 3e-4
