"""Checkpoints: the same numbers, from less memory, by computing twice."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.autograd import grad
from minidl.models import UNet
from minidl.nn import functional as F
from minidl.recording import recorded_nodes
from minidl.utils.checkpoint import checkpoint, checkpoint_sequential

MiB = 1 << 20


def leaf(*shape):
    return minidl.randn(*shape, dtype=np.float64).requires_grad_()


def plain(function, *args, **kwargs):
    return function(*args, **kwargs)


def measured(model, run, *inputs):
    """The loss and the gradients of parameters and inputs, with the same random numbers each time."""
    minidl.manual_seed(7)
    model.zero_grad()
    for x in inputs:
        x.grad = None
    loss = (run(*inputs) ** 2).sum()
    loss.backward()
    leaves = [*model.parameters(), *(x for x in inputs if x.requires_grad)]
    return [loss.array, *(t.grad.array for t in leaves)]


def assert_same(these, those):
    assert len(these) == len(those)
    for a, b in zip(these, those):
        np.testing.assert_array_equal(a, b)


def network():
    minidl.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5),
        nn.MaxPool2d(2), nn.Conv2d(4, 3, 3), nn.InstanceNorm2d(3, affine=True),
    )  # fmt: skip


RUNS = {
    "whole": lambda net, x: checkpoint(net, x),
    "two in a row": lambda net, x: checkpoint(net[3:], checkpoint(net[:3], x)),
    "one inside": lambda net, x: checkpoint(lambda x: net[2:](checkpoint(net[:2], x)), x),
    "three deep": lambda net, x: checkpoint(checkpoint, checkpoint, checkpoint, net, x),
    "by keyword": lambda net, x: checkpoint(lambda *, x: net(x), x=x),
    "no argument": lambda net, x: checkpoint(lambda: net(x)),
    "layer by layer": lambda net, x: checkpoint_sequential(net, len(net), x),
    "three segments": lambda net, x: checkpoint_sequential(list(net), 3, x),
    "one segment": lambda net, x: checkpoint_sequential(net, 1, x),
}


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_losses_and_gradients_are_equal_to_the_last_bit(run, learned):
    net, x = network(), minidl.randn(2, 2, 9, 8).requires_grad_(learned)
    assert_same(measured(net, lambda x: run(net, x), x), measured(net, net, x))


def test_outputs_and_arguments_may_be_nested():
    x, w = leaf(3), leaf(3)

    def function(pair, scale):
        (a, b), c = pair["ab"], pair["c"]
        return {"sum": (a + b * w) * scale, "list": [c, (a * b).exp(), 5]}

    def loss(run):
        out = run(function, {"ab": (x, x * 2), "c": w}, scale=3.0)
        assert out["list"][0] is w and out["list"][2] == 5
        total = (out["sum"] * out["list"][0] * out["list"][1]).sum()
        return [g.array for g in grad(total, [x, w])]

    assert_same(loss(checkpoint), loss(plain))


def test_one_of_two_outputs_may_be_left_alone():
    x = leaf(3)
    a, _ = checkpoint(lambda x: (x.exp(), x.tanh()), x)
    a.sum().backward()
    np.testing.assert_array_equal(x.grad.array, np.exp(x.array))


def test_tensors_of_the_surrounding_code_get_gradients():
    x, w = leaf(4), leaf(4)

    def gradients(call):
        inner = w * w  # neither an argument nor a leaf
        return [g.array for g in grad(call(lambda x: (x * inner).tanh(), x).sum(), [x, inner, w])]

    assert_same(gradients(checkpoint), gradients(plain))


def test_what_does_not_learn_stays_without_a_graph():
    y = checkpoint(lambda x: x.exp(), minidl.ones(3))
    assert y.node is None and not y.requires_grad


# ---- calls ---------------------------------------------------------------------------------------


@pytest.fixture
def counted():
    def function(x):
        function.calls += 1
        return (x * x).tanh()

    function.calls = 0
    return function


def test_the_function_runs_once_forward_and_once_backward(counted):
    x = leaf(3)
    y = checkpoint(counted, x).sum()
    assert counted.calls == 1
    y.backward(retain_graph=True)
    y.backward()
    assert counted.calls == 2  # what was computed again is kept with the graph
    y = checkpoint(counted, checkpoint(counted, x)).sum()
    y.backward()
    assert counted.calls == 6


def test_without_recording_it_runs_once(counted):
    with minidl.no_grad():
        y = checkpoint(counted, leaf(3))
    assert counted.calls == 1 and y.node is None


def test_of_segments_the_last_runs_once(counted):
    checkpoint_sequential([counted] * 5, 2, leaf(3)).sum().backward()
    assert counted.calls == 2 + 2 + 3


@pytest.mark.parametrize("segments", [0, -1, 4])
def test_segments_without_functions_are_refused(counted, segments):
    with pytest.raises(ValueError, match=f"3 functions cannot be cut into {segments} segments"):
        checkpoint_sequential([counted] * 3, segments, leaf(3))


def test_pytorchs_older_way_is_refused(counted):
    with pytest.raises(ValueError, match="use_reentrant"):
        checkpoint(counted, leaf(3), use_reentrant=True)


def test_a_second_backward_needs_retain_graph(counted):
    y = checkpoint(counted, leaf(3)).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph"):
        y.backward()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (lambda x: x.tanh().tanh(), "recorded 1 ops and, called again, 2"),
        (lambda x: x, "recorded 1 ops and, called again, 0"),
        (lambda x: x.exp(), r"op 0 was tanh of shape \(3,\) and, computed again, is exp"),
        (lambda x: x.sum(), r"is sum of shape \(\)"),
        (lambda x: minidl.cat([x, x]).tanh()[:1], "recorded 1 ops"),
    ],
)
def test_a_function_that_changes_its_mind_is_found_out(second, message):
    functions = iter([minidl.tanh, second])
    y = checkpoint(lambda x: next(functions)(x), leaf(3))
    with pytest.raises(RuntimeError, match=message):
        y.sum().backward()


@pytest.mark.parametrize("times", [1, 2])
def test_an_error_inside_leaves_the_engine_as_it_was(times):
    net, x = nn.BatchNorm1d(2), leaf(3, 2).to(np.float32)
    calls = iter(range(times))

    def function(x):
        if next(calls) == times - 1:
            raise KeyError("inside")
        return net(x)

    state = minidl.backend.generator().bit_generator.state
    with recorded_nodes() as nodes:
        with pytest.raises(KeyError):
            checkpoint(function, x).sum().backward()
        del nodes[:]
        net(x)
        assert nodes  # recorded for the list that was there before
    assert net.num_batches_tracked.item() == times  # running statistics move again
    assert minidl.backend.generator().bit_generator.state == state


# ---- what is not a function of the arguments -------------------------------------------------------


def test_random_numbers_are_drawn_again_and_go_on_after_it():
    x = leaf(50)

    def run(call):
        minidl.manual_seed(3)
        y = call(lambda x: F.dropout(x, 0.5), x)
        between = minidl.rand(2).array
        (g,) = grad(y.sum(), x)
        return [y.array, between, g.array, minidl.rand(2).array]

    assert_same(run(checkpoint), run(plain))
    y = checkpoint(lambda x: F.dropout(x, 0.5), x)
    np.testing.assert_array_equal(grad(y.sum(), x)[0].array, y.array / x.array)


def test_random_numbers_may_be_left_alone():
    x = leaf(50)
    y = checkpoint(lambda x: F.dropout(x, 0.5), x, preserve_rng_state=False)
    assert (grad(y.sum(), x)[0].array != y.array / x.array).any()


@pytest.mark.parametrize(
    "make",
    [
        nn.BatchNorm2d,
        lambda n: nn.BatchNorm2d(n, momentum=None),
        lambda n: nn.InstanceNorm2d(n, track_running_stats=True),
    ],
)
def test_running_statistics_move_once(make):
    x, states = minidl.randn(3, 2, 4, 5).requires_grad_(), []
    for call in (plain, checkpoint):
        layer = make(2)
        for _ in range(2):
            call(layer, x).sum().backward()
        states.append([t.array for t in layer.state_dict().values()])
    assert_same(*states)


# ---- higher derivatives --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: (x @ w).tanh().exp(),
        lambda x, w: checkpoint(lambda x: (x @ w).tanh(), x).exp(),
        lambda x, w: F.instance_norm((x @ w).reshape(2, 1, 3), weight=w[0, :1], bias=w[0, 1:2]),
        lambda x, w: minidl.cat([x, (x @ w).sigmoid()]).max(0).values,
    ],
)
def test_second_and_third_derivatives(function):
    x, w = leaf(2, 3), leaf(3, 3)

    def derivatives(call):
        (g,) = grad((call(function, x, w) ** 2).sum(), x, create_graph=True)
        second = grad((g**2).sum(), [x, w], create_graph=True)
        third = grad(sum((h**2).sum() for h in second), [x, w])
        return [t.array for t in (g, *second, *third)]

    for a, b in zip(derivatives(checkpoint), derivatives(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_gradient_inside_the_function():
    x, w = leaf(2, 3), leaf(3, 3)

    def penalty(x):
        y = (x @ w).tanh().sum()
        (g,) = grad(y, x, create_graph=True)
        return y + (g * g).sum()

    assert_same(
        [g.array for g in grad(checkpoint(penalty, x), [x, w])],
        [g.array for g in grad(penalty(x), [x, w])],
    )


# ---- memory --------------------------------------------------------------------------------------


@pytest.fixture
def without_collector():
    """Whatever dies, dies because nobody holds it."""
    gc.disable()
    yield
    gc.enable()


def test_what_is_inside_is_forgotten_at_once_and_the_arguments_after_backward(without_collector):
    x, inside = leaf(3), []

    def function(a):
        if inside:
            assert inside[-1]() is None or len(inside) > 2  # also while the function still runs
        for _ in range(3):
            a = a * a  # a product needs its inputs
            inside.append(weakref.ref(a.array))
        return a

    y = x * 2.0
    argument = weakref.ref(y.array)
    z = checkpoint(function, y).sum()
    del y
    assert [array() is None for array in inside] == [True] * 3
    assert argument() is not None
    z.backward()
    assert argument() is None and all(array() is None for array in inside)


@pytest.mark.parametrize("walked", [False, True])
def test_a_checkpointed_graph_is_no_cycle(walked, without_collector):
    x = leaf(3)
    y = x * 2.0
    z = checkpoint(lambda y: checkpoint(minidl.exp, y) * y, y)
    if walked:
        z.sum().backward()
    array, output = weakref.ref(y.array), weakref.ref(z)
    del y, z
    assert array() is None and output() is None


def peak_of(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_square_root_of_a_chain_is_enough():
    x = minidl.zeros(MiB // 8, dtype=np.float64, requires_grad=True)
    chain = [minidl.tanh] * 36
    assert peak_of(lambda: checkpoint_sequential(chain, 36, x).sum().backward()) > 36 * MiB
    assert peak_of(lambda: checkpoint_sequential(chain, 6, x).sum().backward()) < 6 * MiB + 10 * MiB


# ---- the U-Net -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((13,), {}),
        ((16, 9), {"norm": "batch", "down": "max", "up": "interpolate"}),
        ((12, 11), {"norm": None, "activation": "relu"}),
        ((44, 45), {"padding": "valid", "norm": "batch", "down": "max"}),
        ((5, 8, 7), {}),
    ],
)
def test_a_checkpointed_unet_learns_the_same(size, options):
    minidl.manual_seed(0)
    net = UNet(2, 3, (2, 3, 4), dims=len(size), **options)
    x = minidl.randn(2, 2, *size)
    results, states = [], []
    before = {name: t.array.copy() for name, t in net.state_dict().items()}
    for net.checkpoint in (False, True):
        net.load_state_dict(before)
        results.append(measured(net, net, x))
        states.append([t.array.copy() for t in net.state_dict().values()])
    assert_same(*results)
    assert_same(*states)


def test_a_checkpointed_unet_takes_less_memory():
    x = minidl.randn(2, 1, 128, 128)  # so large that the threads' workspaces hardly count: 0.64 to 0.66
    labels = minidl.zeros(2, 128, 128, dtype=np.int64)
    peaks = []
    for saving in (False, True):
        net = UNet(1, 2, (16, 16, 16), checkpoint=saving)
        step = lambda net=net: F.dice_ce_loss(net(x), labels).backward()
        step()  # the workspaces of the kernels
        net.zero_grad()
        peaks.append(peak_of(step))
    assert peaks[1] < 0.75 * peaks[0]
