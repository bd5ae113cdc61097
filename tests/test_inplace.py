"""Changing tensors in place: training loops written by hand, and what is refused for the gradients' sake."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import no_grad, tensor


def loss(m, w):
    return ((w * m.tensor([1.0, 2.0]) - 3) ** 2).sum()


def by_operator(m, w):
    with m.no_grad():
        w -= 0.1 * w.grad
    w.grad.zero_()


def by_method(m, w):
    with m.no_grad():
        w.sub_(w.grad * 0.1)
    w.grad = None


def by_alpha(m, w):
    with m.no_grad():
        w.add_(w.grad, alpha=-0.1)
    w.grad.fill_(0.0)


def by_data(m, w):
    w.data -= 0.1 * w.grad.data
    w.grad.data.zero_()


def by_data_method(m, w):
    w.data.sub_(0.1 * w.grad)
    w.grad = None


def by_copy(m, w):
    with m.no_grad():
        w.copy_(w - 0.1 * w.grad)
    w.grad.mul_(0)


STEPS = [by_operator, by_method, by_alpha, by_data, by_data_method, by_copy]


@pytest.mark.parametrize("step", STEPS)
def test_gradient_descent_by_hand(step):
    w = tensor([0.0, 0.0], requires_grad=True)
    leaf, memory = w, w.array
    for _ in range(2):
        loss(minidl, w).backward()
        step(minidl, w)
    assert w is leaf and w.is_leaf and w.requires_grad
    np.testing.assert_allclose(w.detach().numpy(), [1.08, 1.44], rtol=1e-6)
    assert step is by_data or w.array is memory


@pytest.mark.parametrize("step", STEPS)
def test_pytorch_runs_the_same_loop(step):
    from oracle import torch

    found = []
    for m in (minidl, torch):
        w = m.tensor([0.5, -0.25], requires_grad=True)
        for _ in range(3):
            loss(m, w).backward()
            step(m, w)
        found.append(w.detach().numpy())
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_every_method():
    x = minidl.zeros(3)
    memory = x.array
    x.fill_(3).add_(1).mul_(minidl.tensor([1.0, 2.0, 3.0])).sub_(tensor([2]), alpha=2).div_(2)
    assert x.tolist() == [0, 2, 4] and x.array is memory
    assert x.add_(1, alpha=-2).tolist() == [-2, 0, 2]
    assert x.copy_(tensor([7])).tolist() == [7, 7, 7] and x.zero_().tolist() == [0, 0, 0]
    n = minidl.zeros(2, dtype=minidl.int64)
    assert n.copy_(tensor([1.7, -1.7])).tolist() == [1, -1]
    assert n.add_(minidl.ones(2, dtype=minidl.int8)).dtype == minidl.int64


def test_augmented_operators_make_new_tensors_where_ops_are_recorded():
    x = tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    square = y
    y += x
    y *= 2
    total = tensor(0.0)
    total += y.sum()
    total.backward()
    assert square.tolist() == [1, 4] and x.grad.tolist() == [6, 10]
    kept = tensor([1.0])
    z = x[:1] * kept
    kept -= 1  # z's derivative needs the old values
    assert minidl.autograd.grad(z, x)[0].tolist() == [1, 0]


def test_augmented_operators_write_under_no_grad():
    x = tensor([4.0, 8.0])
    alias = x
    with no_grad():
        x += 1
        x *= 2
        x -= 4
        x /= 2
    assert alias is x and x.tolist() == [3, 7]


def test_data_is_the_same_memory_outside_the_graph():
    x = tensor([1.0, 2.0], requires_grad=True)
    assert np.shares_memory(x.data.array, x.array) and not x.data.requires_grad
    x.data = tensor([5.0])
    assert x.tolist() == [5] and x.requires_grad


def recorded():
    return tensor([1.0], requires_grad=True) * 2


def leaf():
    return tensor([1.0, 2.0], requires_grad=True)


def under_no_grad(change, x):
    with no_grad():
        change(x)


def increment(x):
    x += 1


ERRORS = [
    (lambda: leaf().add_(1), RuntimeError, "add_: a leaf tensor .* only under no_grad"),
    (lambda: increment(leaf()), RuntimeError, "add_: a leaf tensor that requires a gradient"),
    (lambda: leaf().zero_(), RuntimeError, "fill_: a leaf tensor that requires a gradient"),
    (lambda: recorded().mul_(2), RuntimeError, "mul_: this tensor was made by mul in a recorded graph"),
    (lambda: under_no_grad(increment, recorded()), RuntimeError, "add_: this tensor was made by mul"),
    (lambda: minidl.zeros(2).add_(leaf()), RuntimeError, "add_: the gradient of the operand would be lost"),
    (lambda: minidl.zeros(1).expand(3).add_(1), RuntimeError, "add_: elements of this expanded tensor share"),
    (lambda: minidl.zeros(2).add_(minidl.ones(3, 2)), ValueError, r"add_: the result has shape \(3, 2\)"),
    (lambda: tensor([1]).add_(0.5), TypeError, "add_: the result is float32 and does not fit .* int64"),
    (lambda: minidl.zeros(2).copy_(minidl.ones(3)), ValueError, r"expand: shape \(3,\) cannot"),
    (lambda: setattr(recorded(), "data", minidl.ones(1)), RuntimeError, "data: this tensor was made by mul"),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, message", ERRORS, ids=[row[2] for row in ERRORS])
def test_what_would_make_a_gradient_wrong_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
