"""What a network costs, against hand counts, against the engine itself, and against the process's memory."""

from __future__ import annotations

import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from test_segment import configured

import minidl
from minidl import nn
from minidl.backend import generator
from minidl.cli import main
from minidl.models import UNet, build
from minidl.nn import functional as F
from minidl.segment.find_model import find_model
from minidl.summary import summary
from minidl.summary.table import bar, count, size
from minidl.utils.checkpoint import checkpoint

ROOT = Path(minidl.__file__).parents[1]


def only(model, *shape, **options):
    """The one layer of a network."""
    return summary(model, shape, **options).layers[0]


# ---- by hand -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape", "parameters", "multiply_adds"),
    [
        (nn.Conv1d(3, 8, 5), (2, 3, 20), 8 * 3 * 5 + 8, 2 * 8 * 16 * 3 * 5),
        (nn.Conv2d(3, 8, 3, padding=1), (2, 3, 10, 12), 8 * 27 + 8, 2 * 8 * 120 * 27),
        (nn.Conv2d(4, 8, 3, stride=2, groups=2), (1, 4, 9, 7), 8 * 18 + 8, 8 * 4 * 3 * 18),
        (nn.Conv3d(2, 2, (1, 2, 3), bias=False), (1, 2, 4, 4, 4), 24, 2 * 4 * 3 * 2 * 12),
        (nn.ConvTranspose2d(6, 4, 2, 2), (2, 6, 5, 3), 6 * 16 + 4, 2 * 6 * 15 * 16),
        (nn.ConvTranspose2d(6, 4, 3, groups=2), (1, 6, 5, 3), 6 * 2 * 9 + 4, 6 * 15 * 2 * 9),
        (nn.Linear(5, 7), (3, 5), 42, 3 * 5 * 7),
        (nn.BatchNorm2d(4), (2, 4, 3, 3), 8, 0),
    ],
)
def test_parameters_and_multiply_adds(layer, shape, parameters, multiply_adds):
    found = summary(layer, shape)
    assert (found.parameters, found.multiply_adds) == (parameters, multiply_adds)
    assert found.weights == 4 * parameters


def test_bytes_kept_count_once_and_for_those_that_keep_them():
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4), nn.Sigmoid(), nn.Linear(4, 2))
    found = summary(model, (5, 3), loss=lambda y: y.sum())
    # The input is nobody's; tanh and the sigmoid keep what they give, which the next layers need as well.
    assert [layer.kept for layer in found.layers] == [0, 5 * 8 * 4, 0, 5 * 4 * 4, 0]
    assert found.kept == 5 * 8 * 4 + 5 * 4 * 4


def test_layers_that_cost_nothing_are_left_out_and_outputs_are_named():
    layers = summary(UNet(1, 2, (2, 3)), (2, 1, 6, 5)).layers
    assert [layer.name for layer in layers if "conv" in layer.name] == [
        f"{part}.{stage}.{block}.conv" for part, stage in (("encoder", 0), ("encoder", 1), ("decoder", 0))
        for block in (0, 1)
    ]  # fmt: skip
    outputs = {layer.name: layer.output for layer in layers}
    assert outputs["encoder.1.1.norm"] == "2x3x3x3" and outputs["head"] == "2x2x6x5"
    assert "" not in outputs and "encoder" not in outputs


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = self.b = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.a.weight
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return {"first": self.tied(self.a(self.b(x))), "others": [x @ self.a.weight, (x,)]}


def test_shared_modules_and_parameters_count_once_but_work_as_often_as_they_are_called():
    found = summary(Twice(), (3, 4))
    assert found.parameters == 20 + 4 + 6
    assert found.multiply_adds == 4 * 3 * 4 * 4
    assert [layer.name for layer in found.layers] == ["", "a", "tied", "unused"]
    assert [layer.multiply_adds // 48 for layer in found.layers] == [1, 2, 1, 0]
    assert found.layers[0].output == "3x4, 3x4, 3x4"


# ---- against the engine --------------------------------------------------------------------------


def kept_by_graph(loss, model, x):
    """Bytes of all arrays that the recorded graph holds, without parameters and the input."""
    base = lambda a: a if a.base is None else base(a.base)
    own = {id(base(t.array)) for t in (*model.parameters(), x)}
    found, seen, stack = {}, set(), [loss.node]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        for value in (*node.saved.values(), *node.static.values()):
            for v in value if isinstance(value, tuple) else (value,):
                array = getattr(v, "array", v)
                if isinstance(array, np.ndarray) and id(base(array)) not in own:
                    found[id(base(array))] = base(array).nbytes
        stack += [p for p in node.parents if p is not None and hasattr(p, "parents")]
    return sum(found.values())


OPTIONS = [
    ((32, 24), {}),
    ((33, 20), {"norm": "batch", "down": "max", "up": "interpolate"}),
    ((16, 16), {"norm": None}),
    ((8, 9, 10), {"norm": "batch"}),
    ((48,), {"activation": "relu"}),
]


@pytest.mark.parametrize(("sizes", "options"), OPTIONS)
def test_bytes_kept_are_those_of_the_recorded_graph(sizes, options):
    model = UNet(2, 3, (3, 4, 5), dims=len(sizes), **options)
    x = minidl.zeros(2, 2, *sizes)
    loss = F.dice_ce_loss(model(x), minidl.zeros(2, *sizes, dtype=np.int64), batch=True)
    assert summary(model, x.shape).kept == kept_by_graph(loss, model, x)


def traced(function):
    """Bytes that a call leaves, and the most that it takes."""
    tracemalloc.start()
    try:
        result = function()
        left, peak = tracemalloc.get_traced_memory()
        del result
        return left, peak
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("saving", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_worst_moment_of_backward_is_that_of_the_arrays(dims, saving):
    sizes = (192, 192) if dims == 2 else (40, 40, 40)
    model = UNet(1, 3, (8, 12, 16), dims=dims, checkpoint=saving)
    x, labels = minidl.zeros(2, 1, *sizes), minidl.zeros(2, *sizes, dtype=np.int64)

    def step():
        F.dice_ce_loss(model(x), labels, batch=True).backward()

    step()  # the workspaces of the kernels
    model.zero_grad()
    found = summary(model, x.shape)
    _, peak = traced(step)
    assert found.kept + found.backward == pytest.approx(peak, rel=0.1)


class Views(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(minidl.ones(64, 64))

    def forward(self, x):
        parts = [x, self.w.tanh().reshape(2, 32, 64).permute(2, 0, 1).reshape(64, 64)]
        return minidl.cat([parts[0], parts[1].reshape(1, -1)], dim=1).sum()


def test_cotangents_that_are_views_take_nothing():
    assert summary(Views(), (1, 5)).backward < 100


def test_a_summary_takes_less_memory_than_what_it_weighs():
    model = UNet(1, 2, (8,) * 5)
    found = summary(model, (2, 1, 96, 96))
    _, peak = traced(lambda: summary(model, (2, 1, 96, 96)))
    assert peak < 0.75 * found.kept


# ---- checkpoints ---------------------------------------------------------------------------------


def test_a_checkpointed_network_keeps_what_passes_between_its_stages():
    small, large = (summary(UNet(1, 2, (4, 8, 8), checkpoint=c), (1, 1, 16, 16)) for c in (True, False))
    assert small.multiply_adds == large.multiply_adds and small.parameters == large.parameters
    assert small.kept < 0.4 * large.kept and small.backward > large.backward
    kept = {layer.name: layer.kept for layer in small.layers if layer.kept}
    assert set(kept) == {"head", "loss", "checkpointed inputs"}
    assert kept["checkpointed inputs"] == 4 * (4 * 256 + 8 * 64 + 8 * 16 + 8 * 64)


class Inside(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(minidl.ones(4, 4))

    def forward(self, x):
        f = lambda x: (x @ self.w).tanh() @ self.w
        return checkpoint(lambda x: checkpoint(f, f(x)), x)


def test_work_within_checkpointed_functions_is_seen():
    assert summary(Inside(), (2, 4)).multiply_adds >= 2 * 2 * 2 * 16


# ---- nothing is left behind ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3, 8, 8)])
def test_the_model_and_the_random_numbers_stay_as_they_were(shape):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.MaxPool2d(2)).eval()
    model[1].train()
    before = [t.array.copy() for t in model.state_dict().values()]
    state, call = generator().bit_generator.state, nn.Module.__call__
    try:
        summary(model, shape)
    except ValueError:
        assert shape[1] == 3  # an error on the way changes nothing either
    for a, b in zip(before, model.state_dict().values()):
        np.testing.assert_array_equal(a, b.array)
    assert [m.training for m in model.modules()] == [False, False, True, False, False]
    assert all(p.grad is None for p in model.parameters())
    assert generator().bit_generator.state == state and nn.Module.__call__ is call


def test_frozen_parameters_have_no_gradients_and_no_moments():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[0].requires_grad_(False)
    parts = summary(model, (2, 4)).parts
    assert parts["parameters"] == 4 * 40
    assert parts["gradients"] == 4 * 20 and parts["Adam's two moments"] == 8 * 20


def test_the_parts_of_the_peak_add_up():
    found = summary(build("unet2d", features=(2, 4)), (1, 1, 8, 8))
    assert found.peak == sum(found.parts.values())


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (0, 4), (2, -1)])
def test_sizes_below_one_are_refused(shape):
    with pytest.raises(ValueError, match="at least 1"):
        summary(nn.Linear(4, 4), shape)


def test_a_model_that_does_not_learn_is_refused():
    for model in (nn.ReLU(), nn.Linear(4, 4).requires_grad_(False)):
        with pytest.raises(ValueError, match="no parameter of"):
            summary(model, (2, 4))
    with pytest.raises(ValueError, match="does not depend"):
        summary(nn.Linear(4, 4), (2, 4), loss=lambda y: minidl.zeros(1))


# ---- how it looks --------------------------------------------------------------------------------


def test_numbers_have_three_digits_and_a_unit():
    values = (0, 7, 999, 999.4, 1000, 1234, 12_345, 999_499, 999_500, 11.9e9, 5e16)
    assert [count(v) for v in values] == [
        "0", "7", "999", "999", "1.00 k", "1.23 k", "12.3 k", "999 k", "1.00 M", "11.9 G", "50000 T"
    ]  # fmt: skip
    assert [size(v) for v in (0, 999, 1000, 1536, 10 * 2**20, 3 * 2**30)] == [
        "0 B", "999 B", "0.98 KiB", "1.50 KiB", "10.0 MiB", "3.00 GiB"
    ]  # fmt: skip


def test_bars_grow_by_eighths():
    assert [len(bar(k / 128).rstrip()) for k in (0, 1, 8, 9, 128)] == [0, 1, 1, 2, 16]
    assert bar(1) == "█" * 16 and bar(1.5 / 16) == "█▌"


def test_the_table_is_aligned():
    lines = str(summary(UNet(1, 2, (2, 3)), (2, 1, 6, 5))).splitlines()
    head, total = lines[2], next(line for line in lines if line.startswith("total"))
    for column in ("parameters", "multiply-adds"):
        end = head.index(column) + len(column)
        assert total[end - 1] != " " and total[end : end + 2] in ("  ", "")
    assert lines[0] == "UNet, input 2x1x6x5 float32"
    assert lines[-1].startswith("predicted peak")


def test_on_the_command_line(capsys):
    assert main(["summary", "unet2d", "features=2,4", "norm=batch", "--input", "1x3x8x8"]) == 0
    out = capsys.readouterr().out
    assert "encoder.1.1.norm  BatchNorm2d" in out and "UNet, input 1x3x8x8 float32" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["unet4d"], "there is no network 'unet4d'.*unet3d.*MODULE:CALLABLE"),
        (["unet2d", "colour=1"], "colour"),
        (["unet2d", "in_channels=2"], "channels|groups"),
        (["no_such_module:build"], "no build in a module no_such_module"),
        (["math:pi"], "math:pi gave a float"),
    ],
)
def test_mistakes_on_the_command_line(arguments, message, capsys):
    assert main(["summary", *arguments, "--input", "1x1x8x8"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("minidl summary: ") and re.search(message, error)


@pytest.mark.parametrize("arguments", [["unet2d", "features"], ["unet2d", "--input", "1x0"]])
def test_arguments_that_cannot_be_read(arguments, capsys):
    with pytest.raises(SystemExit):
        main(["summary", *arguments])


def test_a_model_by_module_and_callable(tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(
        "from minidl import nn\nready = nn.Linear(2, 3)\nmake = lambda n=2: nn.Linear(n, 3)\nnumber = int\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert find_model("my_networks:ready") is find_model("my_networks:ready")
    assert find_model("my_networks:make", n=5).weight.shape == (3, 5)
    with pytest.raises(TypeError, match="gave a int, expected"):
        find_model("my_networks:number")


def test_a_model_by_the_folder_of_its_run(tmp_path):
    config = configured(2, (1.0, 1.0), (8, 8))
    config.save(tmp_path / "config.json")
    minidl.save(config.network().state_dict(), tmp_path / "weights.safetensors")
    assert main(["summary", str(tmp_path), "--input", "1x1x8x8"]) == 0
    with pytest.raises(ValueError, match="is a run; its network takes no options"):
        find_model(str(tmp_path), dims=3)


# ---- against the process -------------------------------------------------------------------------

STEPS = """
import sys
import numpy as np
import minidl
from minidl.models import build
from minidl.nn import functional as F

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))

minidl.set_num_threads(2)
before = status("VmRSS")
shape, options = eval(sys.argv[2]), eval(sys.argv[3])
model = build(sys.argv[1], **options)
optimizer = minidl.optim.Adam(model.parameters())
x = minidl.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
labels = minidl.from_numpy(np.zeros((shape[0], *shape[2:]), np.int64))
for _ in range(3):
    loss = F.dice_ce_loss(model(x), labels, batch=True)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")
@pytest.mark.parametrize("saving", [False, True])
@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("unet2d", (4, 1, 128, 128), {"out_channels": 3}),
        ("unet2d", (8, 1, 128, 128), {"features": (16, 32, 64, 128, 256)}),
        ("unet2d", (2, 1, 256, 256), {"features": (16, 32, 64, 128), "norm": "batch", "down": "max"}),
        ("unet3d", (2, 1, 48, 48, 48), {"features": (16, 32, 64, 128), "out_channels": 3}),
        ("unet3d", (2, 1, 48, 64, 48), {"features": (8, 16, 32, 64)}),
        ("unet3d", (1, 1, 80, 80, 80), {"features": (8, 16, 32, 64, 128)}),
    ],
)
def test_the_predicted_peak_is_that_of_a_process_within_15_percent(name, shape, options, saving):
    options = {**options, "checkpoint": saving}
    minidl.set_num_threads(2)
    predicted = summary(build(name, **options), shape).peak
    command = [sys.executable, "-c", STEPS, name, repr(shape), repr(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert predicted == pytest.approx(int(done.stdout), rel=0.15)
