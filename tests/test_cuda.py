"""Devices: what `minidl.cuda` says of a GPU, moving tensors and modules, and what is said without one."""

from __future__ import annotations

import json
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from strict.stand_in import no_synchronisation

import minidl
from minidl import backend, cuda, devices, nn
from minidl.cli import main
from minidl.segment import checkpoint, job, train
from minidl.segment.cascade import load_member
from minidl.segment.inference import predict_image
from minidl.segment.run import load_splits, make_config
from minidl.segment.train import Training

# ---- a GPU that is not there -----------------------------------------------------------------------


class Pool:
    """As CuPy's memory pool: what is freed stays reserved."""

    def __init__(self):
        self.used = self.reserved = 0

    def malloc(self, size):
        self.used += size
        self.reserved = max(self.reserved, self.used)

    def free(self, size):
        self.used -= size

    def used_bytes(self):
        return self.used

    def total_bytes(self):
        return self.reserved

    def free_all_blocks(self):
        self.reserved = self.used


class Device:
    current = 0

    def __init__(self, index):
        self.index = index

    def __enter__(self):
        self.before, Device.current = Device.current, self.index

    def __exit__(self, *exception):
        Device.current = self.before

    def synchronize(self):
        Device.waited = self.index


def properties(index):
    return {"name": b"Card %d" % index, "totalGlobalMem": 8 * 2**30, "major": 9, "minor": index}


@pytest.fixture
def card(monkeypatch):
    """Two GPUs of 8 GiB, and the pool of each."""
    pools = [Pool(), Pool()]
    module = ModuleType("cupy")
    module.allocator = lambda size: pools[Device.current].malloc(size)
    pool = SimpleNamespace(**{
        name: lambda *args, name=name: getattr(pools[Device.current], name)(*args)
        for name in ("malloc", "used_bytes", "total_bytes", "free_all_blocks")
    })  # fmt: skip
    module.__version__ = "14.2.0"
    module.get_default_memory_pool = lambda: pool
    module.cuda = SimpleNamespace(
        Device=Device, is_available=lambda: True, set_allocator=lambda f: setattr(module, "allocator", f),
        runtime=SimpleNamespace(
            getDeviceCount=lambda: 2, getDevice=lambda: Device.current, getDeviceProperties=properties,
            driverGetVersion=lambda: 13010, runtimeGetVersion=lambda: 13000,
        ),
    )  # fmt: skip
    monkeypatch.setattr(backend, "cupy", lambda: module)
    monkeypatch.setattr(cuda, "_peaks", {})
    module.pools = pools
    return module


def test_the_gpus_are_named(card):
    assert cuda.is_available() and cuda.device_count() == 2
    assert cuda.current_device() == 0
    assert cuda.get_device_name() == cuda.get_device_name("cuda") == "Card 0"
    assert cuda.get_device_name(1) == cuda.get_device_name(minidl.device("cuda", 1)) == "Card 1"
    assert cuda.get_device_capability("cuda:1") == (9, 1)
    assert cuda.get_device_properties(0).total_memory == 8 * 2**30
    cuda.synchronize(1)
    assert Device.waited == 1


def test_memory_is_that_of_the_pool(card):
    card.allocator(1000)
    card.pools[0].free(600)
    with Device(1):
        card.allocator(7)
    assert (cuda.memory_allocated(), cuda.memory_allocated(1)) == (400, 7)
    assert (cuda.memory_reserved(), cuda.memory_reserved("cuda:1")) == (1000, 7)
    cuda.empty_cache()
    assert cuda.memory_reserved() == 400


def test_the_peak_is_noted_from_the_reset_on(card):
    card.allocator(5000)
    card.pools[0].free(4900)
    with pytest.raises(RuntimeError, match="reset_peak_memory_stats"):
        cuda.max_memory_allocated()
    cuda.reset_peak_memory_stats()
    assert cuda.max_memory_allocated() == 100
    for size in (300, 200):
        card.allocator(size)
        card.pools[0].free(size)
    with Device(1):
        card.allocator(9000)  # of another GPU
    assert cuda.max_memory_allocated() == 400
    cuda.reset_peak_memory_stats()
    assert cuda.max_memory_allocated() == cuda.memory_allocated() == 100


def test_a_gpu_that_is_not_there(card):
    with pytest.raises(ValueError, match=r"there is no device 2, only 2 \(0 to 1\)"):
        cuda.get_device_name(2)
    for wrong in ("cpu", "gpu", "cuda:x", -1, True):
        with pytest.raises(ValueError, match="expected"):
            cuda.get_device_name(wrong)


@pytest.fixture
def gpu(monkeypatch):
    """ "cuda" means the stand-in for CuPy."""
    from strict import stand_in

    return stand_in.install(monkeypatch)


def test_tensors_move(gpu):
    x = minidl.tensor([1.0, 2.0], requires_grad=True)
    calls = x.cuda(), x.cuda(0), x.cuda("cuda:0"), x.to("cuda"), x.to("cuda:0"), x.to(0), x.to(device="cuda")
    for y in calls:
        assert str(y.device) == "cuda:0" and y.cpu().device == backend.CPU
    (x.cuda() * 3.0).sum().cpu().backward()
    assert x.grad.device == backend.CPU and x.grad.tolist() == [3, 3]
    y = x.detach().to("cuda", minidl.float64)
    assert (str(y.device), y.dtype) == ("cuda:0", minidl.float64)
    z = x.detach().to(y)
    assert (z.device, z.dtype) == (y.device, y.dtype)
    assert x.to("cpu") is x and y.cuda() is y


def test_modules_move_and_their_parameters_stay_the_same_objects(gpu):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    parameters = list(net.parameters())
    for moved in (net.cuda(), net.to("cuda"), net.to(0), net.to(device="cuda"), net.cuda(0)):
        assert moved is net and [str(p.device) for p in parameters] == ["cuda:0"] * 4
    net.to("cpu", minidl.float64)
    assert {p.dtype for p in parameters} == {np.dtype("float64")}
    assert net[1].num_batches_tracked.dtype == minidl.int64
    net.to(minidl.zeros(1, device="cuda"))  # as another tensor is
    assert {(str(p.device), p.dtype.name) for p in net.parameters()} == {("cuda:0", "float32")}
    with pytest.raises(TypeError, match="floating-point dtype, got int32"):
        net.to(minidl.int32)
    with pytest.raises(TypeError, match="expected a device, a dtype or a Tensor"):
        net.to("float33")


def test_states_go_where_the_parameters_are(gpu, tmp_path):
    net = nn.Conv1d(1, 1, 1)
    optimizer = minidl.optim.Adam(net.parameters())
    net(minidl.ones(1, 1, 3)).sum().backward()
    optimizer.step()
    minidl.save(net.state_dict(), tmp_path / "net.safetensors")
    there = nn.Conv1d(1, 1, 1).cuda()
    there.load_state_dict(minidl.load(tmp_path / "net.safetensors"))
    assert str(there.weight.device) == "cuda:0" and there.weight.cpu().item() == net.weight.item()
    loaded = minidl.load(tmp_path / "net.safetensors", map_location="cuda")
    assert {str(t.device) for t in loaded.values()} == {"cuda:0"}
    minidl.save(there.state_dict(), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "net.safetensors").read_bytes()
    other = minidl.optim.Adam(there.parameters())
    other.load_state_dict(optimizer.state_dict())
    assert {type(s["exp_avg"]) for s in other.state.values()} == {gpu.ndarray}


def test_a_run_goes_on_and_predicts_on_another_device(gpu, tmp_path):
    """Begun on the CPU, stopped, finished on the "GPU": the network is that of a run on the CPU alone."""
    from test_segment import write_pictures

    data = write_pictures(tmp_path / "data", n=6, size=(20, 16))
    dataset, splits = load_splits(data, 2, (3, 1, 2), None)
    config = make_config(dataset, splits, 2, data=data, steps=3, batch=2, halvings=1, optimizer="sgd")
    runs = [Training(config, splits, tmp_path, draw=False, device=name) for name in ("cpu", "cpu", "cuda")]
    runs[0].run()
    step, runs[1]._step = runs[1]._step, lambda batch: step(batch) if runs[1].budget.step < 2 else stop()

    def stop():
        runs[1].save_checkpoint()
        raise KeyError("stopped")

    with pytest.raises(KeyError, match="stopped"):
        runs[1].run()
    runs[2].resume(*checkpoint.load(tmp_path / checkpoint.CHECKPOINT))
    runs[2].run()
    assert {str(p.device) for p in runs[2].model.parameters()} == {"cuda:0"}
    for expected, found in zip(runs[0].model.parameters(), runs[2].model.parameters()):
        np.testing.assert_allclose(found.detach().cpu().numpy(), expected.detach().numpy(), atol=1e-4)
    image = splits.test[0].image
    there, here = (predict_image(run.network, image, config) for run in (runs[2], runs[0]))
    assert (there == here).mean() > 0.99
    (tmp_path / "run").mkdir()
    config.save(tmp_path / "run" / "config.json")
    minidl.save(runs[2].model.state_dict(), tmp_path / "run" / "weights.safetensors")
    assert job.load_run(tmp_path / "run")[1].heads[0].weight.device == backend.CPU
    network = load_member(tmp_path / "run", mirror=False, device="cuda").network
    np.testing.assert_array_equal(predict_image(network, image, config), there)


@pytest.fixture
def training(gpu, tmp_path, monkeypatch):
    """Six steps on the "GPU", whose losses are read at the first and at the end: an hour lies between."""
    from test_segment import write_pictures

    monkeypatch.setattr(train, "READING_SECONDS", 3600)
    for due in ("_validation_is_due", "_saving_is_due"):
        monkeypatch.setattr(train.Training, due, lambda self: False)
    data = write_pictures(tmp_path / "data", n=6, size=(20, 16))
    dataset, splits = load_splits(data, 2, (3, 1, 2), None)
    config = make_config(dataset, splits, 2, data=data, steps=6, batch=2, halvings=1, optimizer="sgd")
    return Training(config, splits, tmp_path, draw=False, device="cuda")


def test_the_loop_waits_for_the_device_only_to_show_the_loss(training):
    step, unread = training._step, []

    def watched(batch):
        if training.budget.step == 0:
            return step(batch)
        with no_synchronisation():
            step(batch)
        unread.append(len(training.unread))

    training._step = watched
    training.run()
    assert unread == [1, 2, 3, 4, 5] and not training.unread
    assert training.history[-1].step == 6 and np.isfinite(training.history[-1].train_loss)


def test_an_infinity_that_is_read_late_names_its_step_and_layer(training):
    step = training._step

    def spoilt(batch):
        images, labels = batch
        step((np.full_like(images, 1e38) if training.budget.step == 2 else images, labels))

    training._step = spoilt
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match=r"at step 3: the output of layer encoder\.0\.0\.norm "),
    ):
        training.run()


@pytest.mark.parametrize("words", [
    ["train"], ["train", "--resume", "run"], ["predict", "run", "image.png", "-o", "out"], ["ablate"],
])  # fmt: skip
def test_commands_hand_the_device_on(gpu, words, monkeypatch):
    seen = []
    for name in ("train", "predict", "ablate"):
        monkeypatch.setattr(job, name, lambda **options: seen.append(options.get("device")))
    monkeypatch.setattr(job, "resume", lambda run, workers, device: seen.append(device))
    assert main([*words, "--device", "cuda"]) == 0 and main(words) == 0
    assert seen[0] == "cuda" and seen[1] in ("cpu", None)  # None: left to the job


@pytest.mark.parametrize("command", ["summary", pytest.param("receptive-field", marks=pytest.mark.slow)])
def test_networks_are_studied_on_another_device(gpu, command, capsys):
    words = [command, "unet2d", "--input", "1x1x24x24", "--device"]
    printed = []
    for name in ("cpu", "cuda"):
        assert main([*words, name]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_devices_are_listed(card, capsys):
    assert main(["devices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cpu") and "threads" in lines[0] and "BLAS" in lines[1]
    assert lines[2].split(None, 1) == ["cuda:0", "Card 0, 8.0 GiB, compute capability 9.0"]
    assert lines[4].strip() == "CuPy 14.2.0 with CUDA 13.0; the driver knows CUDA 13.1"


# ---- without a GPU -----------------------------------------------------------------------------------


@pytest.fixture
def no_card(monkeypatch):
    def cupy():
        raise RuntimeError("cuda: CuPy is not installed; `pip install ...` brings it")

    monkeypatch.setattr(backend, "cupy", cupy)


def test_without_a_gpu_the_reason_is_given(no_card, capsys):
    assert not cuda.is_available() and cuda.device_count() == 0
    calls = [
        cuda.current_device, cuda.get_device_name, cuda.memory_allocated, cuda.memory_reserved,
        cuda.empty_cache, cuda.max_memory_allocated, cuda.reset_peak_memory_stats, cuda.synchronize,
        minidl.zeros(1).cuda, nn.Linear(1, 1).cuda, lambda: cuda.get_device_name(3),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(RuntimeError, match="CuPy is not installed"):
            call()
    assert main(["devices"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split(None, 1)[1].startswith("CuPy is not installed")


@pytest.mark.parametrize("command", [
    ["train"], ["predict", "run", "image.png", "-o", "out"], ["ablate"], ["receptive-field", "unet2d"],
    ["summary", "unet2d", "--input", "1x1x16x16"],
])  # fmt: skip
def test_commands_refuse_a_device_that_is_not_there(no_card, command, capsys):
    for name, text in (("cuda", "CuPy is not installed"), ("rocm", "expected 'cpu', 'cuda' or 'cuda:N'")):
        with pytest.raises(SystemExit) as stopped:
            main([*command, "--device", name])
        assert stopped.value.code == 2 and text in capsys.readouterr().err


def installed(monkeypatch, available=False, driver=0, runtime=13020):
    """CuPy as it is on a computer where something is missing."""
    module = ModuleType("cupy")
    module.__version__ = "14.2.0"
    module.cuda = SimpleNamespace(
        is_available=lambda: available,
        runtime=SimpleNamespace(driverGetVersion=lambda: driver, runtimeGetVersion=lambda: runtime),
    )
    monkeypatch.setattr(backend, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


@pytest.mark.parametrize(("driver", "reason"), [
    (0, "there is no NVIDIA driver"),
    (12080, "driver is too old: it knows CUDA 12, CuPy 14.2.0 needs 13"),
    (13000, "there is no CUDA device"),
])  # fmt: skip
def test_why_cupy_cannot_be_used(monkeypatch, driver, reason):
    installed(monkeypatch, driver=driver)
    assert reason in backend.why_no_cuda()
    with pytest.raises(RuntimeError, match=reason):
        backend.cupy.__wrapped__()


def test_cupy_that_is_there_or_not(monkeypatch):
    installed(monkeypatch, available=True)
    assert backend.why_no_cuda() is None
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it fails
    assert backend.why_no_cuda().startswith("CuPy is installed but cannot be imported")
    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    assert 'pip install "minidl[cuda12]"' in backend.why_no_cuda()


def test_asking_costs_no_import():
    code = "import minidl, sys, json; minidl.amp; minidl.cuda; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cupy" not in json.loads(found.stdout)


def test_the_processor_is_named():
    assert devices.describe("cpu") == f"{devices.processor()}, threads: {minidl.get_num_threads()}"


# ---- on a GPU ----------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_a_real_gpu():
    cuda.reset_peak_memory_stats()
    before = cuda.memory_allocated()
    x = minidl.zeros(1024, 256, device="cuda")
    assert cuda.memory_allocated() - before == x.array.nbytes == 2**20
    del x
    assert cuda.memory_allocated() == before and cuda.max_memory_allocated() == before + 2**20
    assert cuda.memory_reserved() >= 2**20
    cuda.empty_cache()
    cuda.synchronize()
    assert cuda.get_device_name() and cuda.get_device_capability() >= (7, 0)


@pytest.mark.gpu
def test_pytorch_shares_memory_on_the_gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch finds no GPU")
    x = minidl.ones(3, device="cuda")
    y = torch.from_dlpack(x)
    y[1] = 5
    torch.cuda.synchronize()
    assert x.cpu().tolist() == [1, 5, 1]
    z = minidl.from_dlpack(y)
    z.array[0] = 7
    cuda.synchronize()
    assert y.tolist() == [7, 5, 1]
