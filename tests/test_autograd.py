"""The engine: what is recorded, what backward adds up, and what is freed when."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import minidl
from minidl.autograd import grad
from minidl.recording import enable_grad, is_grad_enabled, no_grad, set_grad_enabled

MiB = 2**20


def leaf(*values, dtype=np.float64):
    return minidl.tensor(np.array(values, dtype), requires_grad=True)


# ---- what backward computes --------------------------------------------------------------------


def test_gradients_add_up_in_the_leaves_alone():
    x, c = leaf(2.0, 3.0), minidl.tensor([5.0, 7.0])
    y = x * c
    for times in (1, 2):
        (y * 1.0).sum().backward(retain_graph=True)
        np.testing.assert_array_equal(x.grad.numpy(), [5 * times, 7 * times])
    assert y.grad is None and c.grad is None
    assert (x.is_leaf, y.is_leaf) == (True, False)


@pytest.mark.parametrize(
    "function, derivative",
    [
        (lambda x: x * x, lambda x: 2 * x),
        (lambda x: x + x, lambda x: 2),
        (lambda x: x - x, lambda x: 0),
        (lambda x: (y := x.exp()) * y + y, lambda x: 2 * np.exp(2 * x) + np.exp(x)),
        (lambda x: (y := x * x) * y * x, lambda x: 5 * x**4),
        (lambda x: (x * 2) * (x * 3), lambda x: 12 * x),
    ],
)
def test_a_tensor_used_twice(function, derivative):
    x = leaf(0.5, -1.5)
    function(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), derivative(x.array) * np.ones(2))


def test_a_branch_waits_for_its_longest_path():
    x = leaf(0.3)
    short = y = x.exp()
    for _ in range(10):
        y = y * 1.1
    (y + short).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), (1.1**10 + 1) * np.exp([0.3]))


def test_derivatives_of_every_order():
    x = leaf(0.7)
    y = minidl.sin(x)
    for expected in (np.cos, lambda v: -np.sin(v), lambda v: -np.cos(v), np.sin, np.cos):
        (y,) = grad(y, x, create_graph=True)
        np.testing.assert_allclose(y.detach().numpy(), expected(x.array))


def test_backward_with_create_graph_leaves_a_differentiable_gradient():
    x = leaf(3.0)
    (x * x * x).backward(create_graph=True)
    g, x.grad = x.grad, None
    g.backward()
    np.testing.assert_allclose(x.grad.numpy(), [18])


def test_a_given_gradient_weights_the_outputs():
    x = leaf(1.0, 2.0)
    (x * x).backward(minidl.tensor(np.array([1.0, 10.0])))
    np.testing.assert_array_equal(x.grad.numpy(), [2, 40])


def test_grad_with_respect_to_an_intermediate():
    x = leaf(2.0)
    y = x * x
    z = y * y * x
    of_x, of_y, of_z = grad(z, [x, y, z], retain_graph=True)
    assert [g.item() for g in (of_x, of_y, of_z)] == [5 * 2**4, 2 * 4 * 2, 1]
    assert x.grad is None
    assert grad(z, y)[0].item() == 16


def test_grad_of_several_outputs():
    x = leaf(2.0)
    y, z = x * 3.0, x * x
    assert grad([y, z, y], x, [None, minidl.tensor(np.array([10.0])), None])[0].item() == 3 + 40 + 3


def test_grad_of_an_unused_input():
    x, unused = leaf(1.0), leaf(2.0)
    with pytest.raises(ValueError, match=r"input 1 of shape \(1,\) does not influence the outputs"):
        grad(x * 2.0, [x, unused])
    assert grad(x * 2.0, [unused, x], allow_unused=True)[0] is None


def test_float16_gradients_stay_float16():
    x = leaf(*np.linspace(-1, 1, 8), dtype=np.float16)
    (minidl.tanh(x * x + 1) / 2).sum().backward()
    assert x.grad.dtype == np.float16
    exact = x.array.astype(float) / np.cosh(x.array.astype(float) ** 2 + 1) ** 2
    np.testing.assert_allclose(x.grad.numpy(), exact, atol=2e-3)


def test_a_gradient_of_another_dtype_is_cast():
    x = leaf(1.0, 2.0, dtype=np.float32)
    (x * 2.0).backward(minidl.ones(2, dtype=np.float64))
    assert x.grad.dtype == np.float32


@pytest.mark.parametrize("function", [lambda a, b: a + b, lambda a, b: (a + b).reshape(2) * 1.0])
def test_no_gradient_shares_memory_with_another(function):
    a, b, v = leaf(1.0, 2.0), leaf(3.0, 4.0), minidl.ones(2, dtype=np.float64)
    function(a, b).backward(v)
    arrays = [a.grad.array, b.grad.array, v.array]
    assert not any(np.shares_memory(p, q) for k, p in enumerate(arrays) for q in arrays[:k])


def test_a_chain_of_100000_ops():
    x = y = leaf(1.0)
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert (y.item(), x.grad.item()) == (100_001, 1)
    del y  # the graph is taken apart without recursion too


# ---- mistakes ----------------------------------------------------------------------------------

MISTAKES = [
    (lambda: leaf(1.0, 2.0).exp().backward(), ValueError, r"only for a tensor of one element.*\(2,\)"),
    (lambda: leaf(1.0).exp().backward(minidl.ones(2)), ValueError, r"gradient has shape \(2,\)"),
    (lambda: minidl.ones(1).exp().backward(), ValueError, "does not depend on any tensor with requires_grad"),
    (lambda: grad(leaf(1.0).exp(), minidl.ones(1)), ValueError, "input 0 of shape .* does not require"),
    (lambda: minidl.arange(3).requires_grad_(), TypeError, "only floating-point tensors.*int64"),
    (lambda: leaf(1.0).exp().requires_grad_(False), ValueError, r"use \.detach\(\) instead"),
    (lambda: leaf(1.0).numpy(), RuntimeError, r"use \.detach\(\)\.numpy\(\)"),
    (lambda: leaf(1.0, 2.0).item(), ValueError, r"item: expected one element, got shape \(2,\)"),
    (lambda: bool(leaf(1.0, 2.0) > 0), ValueError, "ambiguous"),
    (lambda: leaf(1.0).__setitem__(0, 2.0), TypeError, "not assigned to"),
    (lambda: len(minidl.tensor(1.0)), TypeError, "without dims has no length"),
]  # fmt: skip


@pytest.mark.parametrize("mistake, error, message", MISTAKES, ids=[row[2][:30] for row in MISTAKES])
def test_mistakes_are_explained(mistake, error, message):
    with pytest.raises(error, match=message):
        mistake()


def test_a_second_backward_says_that_the_graph_was_freed():
    x = leaf(1.0)
    y = x.exp()
    y.backward()
    with pytest.raises(RuntimeError, match=r"behind exp was freed.*retain_graph=True"):
        y.backward()
    z = x.exp()
    z.backward(retain_graph=True)
    z.backward()
    np.testing.assert_allclose(x.grad.numpy(), [3 * np.e])


# ---- what is recorded --------------------------------------------------------------------------


def test_recording_is_switched_by_blocks_and_decorators():
    x = leaf(1.0)
    with no_grad():
        assert not (x * 2).requires_grad and not is_grad_enabled()
        with enable_grad():
            assert (x * 2).requires_grad
        with set_grad_enabled(True), no_grad():
            assert not (x * 2).requires_grad
        assert not is_grad_enabled()
    assert is_grad_enabled()

    @no_grad()
    def countdown(n):
        return countdown(n - 1) if n else (x * 2).requires_grad

    assert countdown(3) is False and is_grad_enabled()
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert is_grad_enabled()


def test_no_grad_stops_at_its_thread():
    inside, seen = threading.Event(), []
    leave = threading.Event()

    def work():
        with no_grad():
            inside.set()
            leave.wait(5)
            seen.append(is_grad_enabled())

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(5)
    assert is_grad_enabled()
    with no_grad():
        leave.set()
        thread.join()
    assert seen == [False] and is_grad_enabled()


def test_detach_cuts_and_shares_memory():
    x = leaf(1.0)
    y = (x * 2.0).detach()
    assert not y.requires_grad and y.is_leaf
    assert x.detach().array is x.array
    (x * y).sum().backward()
    assert x.grad.item() == 2


def test_requires_grad_is_asked_for_and_refused():
    x = minidl.ones(2)
    assert not (x * 2).requires_grad
    assert x.requires_grad_() is x and (x * 2).requires_grad
    x.requires_grad = False
    assert not (x * 2).requires_grad


def test_a_tensor_tells_its_values_and_origin():
    x = minidl.tensor([1.0, 2.5], requires_grad=True)
    assert repr(x) == "tensor([1. , 2.5], 2 float32 on cpu, requires_grad=True)"
    assert repr(x.exp().sum()) == "tensor(14.9008, scalar float32 on cpu, made by sum)"
    assert repr(minidl.zeros(0, 3)) == "tensor([], 0x3 float32 on cpu)"
    assert "..." in repr(minidl.zeros(50, 50)) and len(repr(minidl.zeros(50, 50))) < 500
    assert repr(x.exp().grad_fn) == "<exp>"


# ---- what is kept alive ------------------------------------------------------------------------


@pytest.fixture
def without_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.exp().sum(),
        lambda x: (x.sigmoid() * x.tanh()).sum(),
        lambda x: x.amax(),
        lambda x: x.softmax(0).sum(),
        lambda x: (x.reshape(2, 2) @ x.reshape(2, 2)).var(),
    ],
)
@pytest.mark.parametrize("walked", [False, True])
def test_a_graph_is_no_cycle(function, walked, without_collector):
    x = leaf(1.0, 2.0, 3.0, 4.0)
    y = x * 2.0
    z = function(y)
    if walked:
        z.backward()
    array, output = weakref.ref(y.array), weakref.ref(z)
    del y, z
    assert array() is None and output() is None


def test_backward_frees_the_arrays_of_the_graph_as_it_goes(without_collector):
    x = leaf(1.0, 2.0)
    y = x * 2.0
    z = y.exp().sum()
    array = weakref.ref(y.array)
    del y
    assert array() is None  # exp keeps its output, not its input
    y = x * 2.0
    z = (y * y).sum()
    array = weakref.ref(y.array)
    del y
    assert array() is not None
    z.backward()
    assert array() is None


def test_backward_needs_the_memory_of_a_few_cotangents():
    x = minidl.zeros(MiB // 8, dtype=np.float64, requires_grad=True)
    y = x
    for _ in range(20):
        y = minidl.tanh(y)
    loss = y.sum()
    del y
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    loss.backward()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - before < 5 * MiB
    assert held - before < 1.5 * MiB  # x.grad


def test_a_gradient_does_not_keep_a_larger_array_alive():
    x = minidl.zeros(1, requires_grad=True)
    x.expand(1000).backward(minidl.ones(1000))
    whole = minidl.zeros(1000, requires_grad=True)
    minidl.cat([x, whole]).sum().backward()
    assert x.grad.array.base is None and whole.grad.array.base is None


def test_without_recording_nothing_is_kept():
    x = leaf(1.0)
    with no_grad():
        y = x * 2.0
        array = weakref.ref(y.array)
        z = y * y
    del y
    assert array() is None and z.node is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: minidl.sum(np.ones(3)),
        lambda: minidl.max(2, 3),
        lambda: minidl.amin(np.ones(3)),
        lambda: minidl.narrow(np.ones(3), 0, 0, 1),
        lambda: minidl.exp(1.0),
        lambda: minidl.cat([np.ones(3)]),
        lambda: minidl.narrow(minidl.ones(3), 0, minidl.tensor(True), 1),
    ],
)
def test_what_is_not_a_tensor_is_refused_by_name(call):
    with pytest.raises(TypeError, match=r"^\w+: .*(Tensor|ndarray|int)"):
        call()
