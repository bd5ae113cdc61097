"""A whole training on the stand-in for CuPy: the numbers of the CPU, and not one wait for the device."""

from __future__ import annotations

import numpy as np
import pytest
from strict import stand_in
from strict.stand_in import no_synchronisation

import minidl
import minidl.nn.functional as F
from minidl import nn, optim, receptive_field
from minidl.crf import DenseCRF
from minidl.models import PlannedUNet, SegNet, UNet

DEVICES = "cpu", "cuda"


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    return stand_in.install(monkeypatch)


def here(tensor):
    return tensor.detach().array._array if tensor.device.type == "cuda" else tensor.detach().numpy()


def planned(rank):
    minidl.manual_seed(0)
    return PlannedUNet(
        1, 3, features=(4, 8, 8), kernels=[(3,) * rank] * 3, strides=[(1,) * rank, (2,) * rank, (2,) * rank],
        deep_supervision=True,
    )  # fmt: skip


OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.01, momentum=0.99, nesterov=True, weight_decay=3e-5),
    "Adam": lambda p: optim.Adam(p, lr=1e-3, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p, lr=1e-3),
}


def batch(rank, device):
    rng = np.random.default_rng(0)
    size = (16, 8, 8)[:rank]
    x = rng.normal(size=(2, 1, *size)).astype(np.float32)
    return minidl.tensor(x, device=device), minidl.tensor(rng.integers(3, size=(2, *size)), device=device)


def step(net, optimizer, x, y):
    outputs = net(x)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    loss = F.dice_ce_loss(outputs[0], y)
    for level, logits in enumerate(outputs[1:], start=1):
        smaller = y[(slice(None), *(slice(None, None, 2**level),) * (y.ndim - 1))]
        loss = loss + F.dice_ce_loss(logits, smaller, batch=True) / 2**level
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 12.0)
    optimizer.step()
    return loss.detach()


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("rank", [2, 3])
def test_a_training_step_never_waits_for_the_device(rank, make):
    """The same seed gives the same run, within rounding."""
    losses = {}
    for device in ("cpu", "cuda"):
        net = planned(rank).to(device)
        optimizer, (x, y) = make(net.parameters()), batch(rank, device)
        with no_synchronisation():
            losses[device] = [step(net, optimizer, x, y) for _ in range(3)]
    assert len({float(loss) for loss in losses["cuda"]}) == 3
    np.testing.assert_allclose(
        [here(loss) for loss in losses["cuda"]], [here(loss) for loss in losses["cpu"]], rtol=1e-3
    )


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize(
    "make",
    [lambda rank: UNet(1, 3, (4, 8), dims=rank, down="max"), lambda rank: SegNet(1, 3, [(4, 1)], dims=rank)],
    ids=["U-Net", "SegNet"],
)
def test_max_pooling_never_waits_either(rank, make):
    losses = {}
    for device in DEVICES:
        minidl.manual_seed(0)
        net = make(rank).to(device)
        optimizer, (x, y) = optim.SGD(net.parameters(), lr=0.01), batch(rank, device)
        with no_synchronisation():
            losses[device] = [step(net, optimizer, x, y) for _ in range(2)]
    np.testing.assert_allclose(
        [here(loss) for loss in losses["cuda"]], [here(loss) for loss in losses["cpu"]], rtol=1e-3
    )


def test_weights_and_optimisers_move(tmp_path):
    net = UNet(1, 2, (4, 8))
    there = UNet(1, 2, (4, 8)).cuda()
    there.load_state_dict(net.state_dict())
    assert {p.device.type for p in there.parameters()} == {"cuda"}
    x = minidl.randn(1, 1, 8, 8)
    np.testing.assert_allclose(here(there(x.cuda())), here(net(x)), atol=1e-5)
    minidl.save(there.state_dict(), tmp_path / "weights.safetensors")
    back = UNet(1, 2, (4, 8))
    back.load_state_dict(minidl.load(tmp_path / "weights.safetensors"))
    np.testing.assert_array_equal(here(back(x)), here(net(x)))
    assert there.cpu()(x).device.type == "cpu"


def test_inputs_on_two_devices_are_named():
    with pytest.raises((TypeError, ValueError, RuntimeError), match=r"cuda|device|numpy"):
        minidl.ones(3) + minidl.ones(3, device="cuda")


@pytest.mark.parametrize("method", ["exact", "window"])
def test_a_crf_on_the_device(method):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1, 3, 8, 9)).astype(np.float32)
    image = rng.uniform(size=(1, 1, 8, 9)).astype(np.float32)
    found = {}
    for device in ("cpu", "cuda"):
        crf = DenseCRF(method, window=5).to(device)
        x = minidl.tensor(logits, device=device, requires_grad=True)
        y = crf(x, minidl.tensor(image, device=device))
        y.sum().backward()
        found[device] = here(y), here(x.grad)
    for a, b in zip(found["cuda"], found["cpu"]):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_lattice_is_built_on_the_host_and_its_result_brought_back():
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(1, k, 8, 9)).astype(np.float32) for k in (3, 1)]
    with minidl.no_grad():
        here_, there = (
            DenseCRF("lattice").to(d)(*(minidl.tensor(a, device=d) for a in arrays)) for d in DEVICES
        )
    assert there.device.type == "cuda"
    np.testing.assert_allclose(here(there), here(here_), atol=1e-4)


def test_receptive_fields_of_a_network_on_the_device():
    minidl.manual_seed(0)
    net, shape = UNet(1, 2, (4, 8)), (1, 1, 16, 16)
    found = {}
    for device in DEVICES:
        net.to(device)
        field = receptive_field.analyze(net, shape)
        found[device] = (
            [field.size, field.stride, *field.interval((8, 8))],
            receptive_field.reachability(net, shape, (8, 8)),
            receptive_field.gradient(net, shape, (8, 8)),
            receptive_field.effective(net, shape).map,
        )
    for a, b in zip(*found.values()):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)
