"""Modules: names, shapes and state as in PyTorch; initial weights by their formulas; weights on disk."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict

import numpy as np
import pytest

import minidl
from minidl import nn

W, B = "weight", "bias"
RUNNING = {"running_mean": (4,), "running_var": (4,), "num_batches_tracked": ()}

# class, arguments, state dict: names and shapes in order
WITH_STATE = [
    ("Linear", (3, 2), {}, {W: (2, 3), B: (2,)}),
    ("Linear", (3, 2), {"bias": False}, {W: (2, 3)}),
    ("Conv1d", (4, 6, 3), {}, {W: (6, 4, 3), B: (6,)}),
    ("Conv2d", (4, 6, (3, 2)), {"groups": 2}, {W: (6, 2, 3, 2), B: (6,)}),
    ("Conv3d", (4, 6, 3), {"bias": False}, {W: (6, 4, 3, 3, 3)}),
    ("ConvTranspose1d", (4, 6, 3), {}, {W: (4, 6, 3), B: (6,)}),
    ("ConvTranspose2d", (4, 6, (3, 2)), {"groups": 2}, {W: (4, 3, 3, 2), B: (6,)}),
    ("ConvTranspose3d", (4, 6, 2), {"bias": False}, {W: (4, 6, 2, 2, 2)}),
    *((f"BatchNorm{n}d", (4,), {}, {W: (4,), B: (4,), **RUNNING}) for n in (1, 2, 3)),
    ("BatchNorm2d", (4,), {"affine": False}, RUNNING),
    ("BatchNorm2d", (4,), {"track_running_stats": False}, {W: (4,), B: (4,)}),
    *((f"InstanceNorm{n}d", (4,), {}, {}) for n in (1, 2, 3)),
    ("GroupNorm", (2, 4), {}, {W: (4,), B: (4,)}),
    ("LayerNorm", (4,), {}, {W: (4,), B: (4,)}),
    ("LayerNorm", ((3, 4),), {"bias": False}, {W: (3, 4)}),
    ("PReLU", (4,), {}, {W: (4,)}),
    ("InstanceNorm2d", (4,), {"affine": True, "track_running_stats": True}, {W: (4,), B: (4,), **RUNNING}),
]  # fmt: skip


def shapes(module):
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def row_id(row):
    return f"{row[0]}-{'-'.join(row[2])}"


@pytest.mark.parametrize("name, args, options, expected", WITH_STATE, ids=map(row_id, WITH_STATE))
def test_names_shapes_and_order_of_the_state(name, args, options, expected):
    found = shapes(getattr(nn, name)(*args, **options))
    assert found == expected and list(found) == list(expected)


@pytest.mark.parametrize("name, args, options, expected", WITH_STATE, ids=map(row_id, WITH_STATE))
def test_pytorch_has_the_same_state_and_takes_it_over(name, args, options, expected):
    from oracle import torch

    ours, theirs = getattr(nn, name)(*args, **options), getattr(torch.nn, name)(*args, **options)
    assert shapes(theirs) == expected and list(theirs.state_dict()) == list(expected)
    theirs.load_state_dict({key: torch.tensor(t.numpy()) for key, t in ours.state_dict().items()})
    x = np.random.default_rng(0).standard_normal(input_shape(name, *args)).astype(np.float32)
    for mode in (True, False):
        ours.train(mode), theirs.train(mode)
        y, z = ours(minidl.tensor(x)), theirs(torch.tensor(x))
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-4, atol=1e-5)
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key].numpy(), value.numpy(), rtol=1e-5, atol=1e-6)


def input_shape(name, first, *args):
    """(N, C, *S), or what a layer without a rank in its name takes."""
    if name[-1] == "d":
        return 2, first, *(5,) * int(name[-2])
    return {"GroupNorm": (2, 4, 5), "LayerNorm": (2, *np.atleast_1d(first))}.get(name, (2, first))


def smallest(layer):
    """An example of a layer, made with the fewest arguments that do."""
    for args in ((), (4,), (4, 4), (4, 4, 3)):
        try:
            return layer(*args)
        except TypeError:
            continue
    raise TypeError(f"no example of {layer.__name__}")


def test_the_table_holds_every_layer_with_state():
    layers = {n: v for n, v in vars(nn).items() if isinstance(v, type) and issubclass(v, nn.Module)}
    assert {name for name, layer in layers.items() if shapes(smallest(layer))} <= {
        row[0] for row in WITH_STATE
    }


# ---- finding parameters ------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3)
        self.blocks = nn.ModuleList([nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()), nn.Identity()])
        self.scale = nn.Parameter(minidl.ones(2))
        self.register_buffer("count", minidl.zeros(1))
        self.plain = minidl.ones(3)
        self.missing = None

    def forward(self, x):
        return self.blocks[0](self.first(x)) * self.scale.reshape(1, 2, 1, 1)


def test_parameters_and_buffers_are_found_by_dotted_names():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == [
        "scale", "first.weight", "first.bias", "blocks.0.0.weight", "blocks.0.0.bias",
    ]  # fmt: skip
    assert [name for name, _ in net.named_buffers()] == [
        "count", "blocks.0.0.running_mean", "blocks.0.0.running_var", "blocks.0.0.num_batches_tracked",
    ]  # fmt: skip
    assert [type(m).__name__ for m in net.modules()] == [
        "Net", "Conv2d", "ModuleList", "Sequential", "BatchNorm2d", "ReLU", "Identity",
    ]  # fmt: skip
    assert len(list(net.children())) == 2


def test_an_attribute_can_be_replaced_by_one_of_another_kind():
    net = Net()
    net.first = None
    assert "first.weight" not in net.state_dict() and net.first is None
    net.scale = nn.Parameter(minidl.zeros(1))
    net.plain = nn.Identity()
    assert net.scale is next(net.parameters()) and net.scale.shape == (1,)
    with pytest.raises(AttributeError, match="Net has no attribute 'nothing'"):
        _ = net.nothing


def test_super_init_must_come_first():
    class Forgetful(nn.Module):
        def __init__(self):
            self.layer = nn.Identity()

    with pytest.raises(AttributeError, match=r"Forgetful: call super\(\).__init__\(\)"):
        Forgetful()


def test_shared_parameters_are_listed_once_and_saved_twice():
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, nn.Tanh(), layer)
    assert len(list(net.parameters())) == 2
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    net(minidl.ones(1, 2)).sum().backward()
    twice = layer.weight.grad.numpy()
    layer.zero_grad()
    single = nn.Sequential(copy.deepcopy(layer), nn.Tanh(), copy.deepcopy(layer))
    single(minidl.ones(1, 2)).sum().backward()
    np.testing.assert_allclose(
        twice, single[0].weight.grad.numpy() + single[2].weight.grad.numpy(), rtol=1e-6
    )


def test_training_mode_reaches_every_module():
    net = Net()
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert net.train() is net and all(m.training for m in net.modules())


def test_dropout_drops_in_training_only():
    layer, x = nn.Dropout(0.25), minidl.ones(10_000)
    minidl.manual_seed(0)
    y = layer(x).numpy()
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert abs(y.mean() - 1) < 0.02
    assert layer.eval()(x) is x
    channels = nn.Dropout2d(0.5)(minidl.ones(8, 16, 3, 3)).numpy()
    assert np.all(channels == channels[:, :, :1, :1]) and set(np.unique(channels)) == {0, 2}


def test_sequential_and_module_list_are_sequences():
    net = nn.Sequential(OrderedDict(a=nn.Linear(1, 2), b=nn.ReLU(), c=nn.Linear(2, 1)))
    assert "a.weight" in net.state_dict() and len(net) == 3
    assert isinstance(net[1], nn.ReLU) and net[-1] is list(net)[2]
    assert isinstance(net[1:], nn.Sequential) and len(net[1:]) == 2
    blocks = nn.ModuleList(nn.Linear(1, 1) for _ in range(2)).append(nn.Identity())
    assert len(blocks) == 3 and isinstance(blocks[-1], nn.Identity)


def test_freezing_casting_and_forgetting():
    net = Net().double()
    assert {t.dtype for t in net.parameters()} == {minidl.float64}
    assert net.state_dict()["blocks.0.0.num_batches_tracked"].dtype == minidl.int64
    net(minidl.ones(2, 1, 4, 4, dtype=np.float64)).sum().backward()
    assert net.scale.grad.dtype == minidl.float64
    assert net.float().scale.grad.dtype == minidl.float32
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(False)
    assert not net(minidl.ones(2, 1, 4, 4)).requires_grad


def test_a_module_shows_what_it_is_made_of():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU())
    conv = "Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))"
    assert repr(net) == f"Sequential(\n  (0): {conv}\n  (1): ReLU()\n)"


# ---- state in and out --------------------------------------------------------------------------


def test_loading_copies_values_and_keeps_the_tensors():
    source, target = Net(), Net()
    weight = target.first.weight
    target.load_state_dict(source.state_dict())
    assert target.first.weight is weight
    for key, value in source.state_dict().items():
        np.testing.assert_array_equal(target.state_dict()[key].numpy(), value.numpy())
    source.first.weight.array[...] = 7
    assert not np.any(weight.array == 7)


def changed(**changes):
    state = dict(nn.Linear(3, 2).state_dict())
    return {k: v for k, v in {**state, **changes}.items() if v is not None}


WRONG_STATES = [
    (dict(bias=None), "missing key 'bias'"),
    (dict(extra=minidl.ones(1)), "unexpected key 'extra'"),
    (dict(weight=minidl.ones(3, 2)), r"'weight' has shape \(3, 2\), the module needs \(2, 3\)"),
    (dict(weight=minidl.ones(2, 3), bias=minidl.ones(1)), r"'bias' has shape \(1,\)"),
    (dict(bias=None, weight=minidl.ones(1), extra=minidl.ones(1)), "missing .*unexpected .*shape"),
]


@pytest.mark.parametrize("changes, message", WRONG_STATES, ids=[row[1] for row in WRONG_STATES])
def test_a_state_that_does_not_fit_changes_nothing(changes, message):
    layer = nn.Linear(3, 2)
    before = layer.weight.array.copy()
    with pytest.raises(ValueError, match=f"load_state_dict into Linear: .*{message}"):
        layer.load_state_dict(changed(**changes))
    np.testing.assert_array_equal(layer.weight.array, before)


def test_a_partial_state_is_taken_where_not_strict():
    layer = nn.Linear(3, 2)
    layer.load_state_dict({"bias": minidl.ones(2), "extra": minidl.ones(1)}, strict=False)
    np.testing.assert_array_equal(layer.bias.array, 1)


def test_weights_survive_the_disk(tmp_path):
    state = {**Net().state_dict(), "half": minidl.ones(2, dtype=np.float16), "turned": minidl.rand(2, 3).mT}
    minidl.save(state, tmp_path / "net.safetensors", {"note": "a"})
    loaded = minidl.load(tmp_path / "net.safetensors")
    assert set(loaded) == set(state)
    for key, value in state.items():
        assert loaded[key].dtype == value.dtype
        np.testing.assert_array_equal(loaded[key].numpy(), value.numpy())
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


def test_pytorch_reads_our_weights_and_we_read_its(tmp_path):
    from oracle import torch

    safetensors = pytest.importorskip("safetensors.torch")
    ours, theirs = nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    ours.weight.array[...] = [1, 2, 3]
    minidl.save(ours.state_dict(), tmp_path / "ours.safetensors")
    theirs.load_state_dict(safetensors.load_file(tmp_path / "ours.safetensors"))
    assert theirs.weight.tolist() == [1, 2, 3]
    with torch.no_grad():
        theirs.running_mean += 5
    safetensors.save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    ours.load_state_dict(minidl.load(tmp_path / "theirs.safetensors"))
    assert ours.running_mean.tolist() == [5, 5, 5]


def damaged(whole):
    return {
        "missing": None, "empty": b"", "cut short": whole[: len(whole) // 2], "another kind": b"PK\3\4" * 50,
        "header of another length": b"\xff" * 8 + whole[8:], "spoilt header": whole[:8] + b"?" + whole[9:],
    }  # fmt: skip


@pytest.mark.parametrize("kind", damaged(b""))
def test_a_damaged_file_is_named(tmp_path, kind):
    path = tmp_path / "net.safetensors"
    minidl.save(nn.Linear(3, 2).state_dict(), path)
    content = damaged(path.read_bytes())[kind]
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"load: .*net\.safetensors is not a readable safetensors file"):
        minidl.load(path)


# ---- initial weights ---------------------------------------------------------------------------

SHAPE = (64, 32, 3, 3)
FAN_IN, FAN_OUT = 32 * 9, 64 * 9
INITIAL = [  # function, options, standard deviation, bound of a uniform distribution
    ("normal_", dict(mean=0.0, std=0.3), 0.3, None),
    ("uniform_", dict(a=-0.2, b=0.2), 0.2 / math.sqrt(3), 0.2),
    ("kaiming_normal_", dict(), math.sqrt(2 / FAN_IN), None),
    ("kaiming_normal_", dict(mode="fan_out", nonlinearity="relu"), math.sqrt(2 / FAN_OUT), None),
    ("kaiming_normal_", dict(a=0.5), math.sqrt(2 / 1.25 / FAN_IN), None),
    ("kaiming_normal_", dict(nonlinearity="linear"), math.sqrt(1 / FAN_IN), None),
    ("kaiming_uniform_", dict(a=math.sqrt(5)), math.sqrt(1 / 3 / FAN_IN), math.sqrt(1 / FAN_IN)),
    ("kaiming_uniform_", dict(nonlinearity="tanh"), 5 / 3 / math.sqrt(FAN_IN), 5 / math.sqrt(3 * FAN_IN)),
    ("xavier_normal_", dict(gain=2.0), 2 * math.sqrt(2 / (FAN_IN + FAN_OUT)), None),
    ("xavier_uniform_", dict(), math.sqrt(2 / (FAN_IN + FAN_OUT)), math.sqrt(6 / (FAN_IN + FAN_OUT))),
]


@pytest.mark.parametrize("name, options, std, bound", INITIAL, ids=[f"{row[0]}-{row[1]}" for row in INITIAL])
def test_initial_weights_have_the_mean_and_spread_of_their_formula(name, options, std, bound):
    minidl.manual_seed(0)
    weight = minidl.zeros(*SHAPE)
    assert getattr(nn.init, name)(weight, **options) is weight
    n = weight.numel()
    assert abs(weight.array.mean()) < 5 * std / math.sqrt(n)
    assert abs(weight.array.std() / std - 1) < 5 / math.sqrt(2 * n)
    if bound:
        assert 0.999 < np.abs(weight.array).max() / bound <= 1


@pytest.mark.parametrize("layer, fan_in", [(nn.Linear(50, 800), 50), (nn.Conv2d(6, 900, 3, groups=2), 27)])
def test_layers_start_uniform_in_one_over_the_root_of_fan_in(layer, fan_in):
    for parameter in (layer.weight, layer.bias):
        assert 0.98 < np.abs(parameter.array).max() * math.sqrt(fan_in) <= 1


def test_the_same_seed_gives_the_same_weights():
    weights = []
    for _ in range(2):
        minidl.manual_seed(7)
        weights.append(nn.Conv2d(2, 3, 3).weight.array)
    np.testing.assert_array_equal(*weights)


MISTAKES = [
    (lambda: nn.init.kaiming_normal_(minidl.zeros(3)), r"at least 2 dims, got shape \(3,\)"),
    (
        lambda: nn.init.kaiming_normal_(minidl.zeros(3, 3), mode="in"),
        "mode must be 'fan_in' or 'fan_out', got 'in'",
    ),
    (
        lambda: nn.init.kaiming_normal_(minidl.zeros(3, 3), nonlinearity="x"),
        "unknown nonlinearity 'x'; known",
    ),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), "Conv2d: 3 input and 4 output channels"),
    (lambda: nn.Conv2d(3, 4, (3, 3, 3)), "Conv2d: kernel_size: expected one integer or 2"),
    (lambda: nn.Dropout(1.5), r"Dropout: p must be in \[0, 1\], got 1.5"),
    (lambda: nn.BatchNorm2d(3)(minidl.ones(2, 4, 5, 5)), "BatchNorm2d: expected 3 channels"),
    (lambda: nn.Conv2d(3, 4, 3)(minidl.ones(2, 5, 8, 8)), r"Conv2d: input has 5 channels but weight expects"),
]


@pytest.mark.parametrize("mistake, message", MISTAKES, ids=[row[1] for row in MISTAKES])
def test_mistakes_are_explained(mistake, message):
    with pytest.raises(ValueError, match=message):
        mistake()
