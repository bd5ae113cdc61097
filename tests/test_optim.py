"""Optimisers and schedules: step for step PyTorch's numbers."""

from __future__ import annotations

import numpy as np
import pytest

import minidl
from minidl import optim
from minidl.kernels import Numpy, reference
from minidl.optim import lr_scheduler

OPTIMIZERS = [  # class, options, the weight after three steps on w² / 2 from w = 1
    ("SGD", dict(lr=0.1), 0.729),
    ("SGD", dict(lr=0.1, momentum=0.9), 0.486),
    ("SGD", dict(lr=0.1, momentum=0.9, nesterov=True), 0.327321),
    ("SGD", dict(lr=0.1, momentum=0.9, dampening=0.5), 0.60525),
    ("SGD", dict(lr=0.1, weight_decay=0.5), 0.614125),
    ("SGD", dict(lr=0.1, momentum=0.5, weight_decay=0.2, nesterov=True), 0.487168),
    ("SGD", dict(lr=0.1, momentum=0.5, weight_decay=0.2, maximize=True), 1.366112),
    ("Adam", dict(lr=0.1), 0.701586274504),
    ("Adam", dict(lr=0.1, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1), 0.706257706252),
    ("Adam", dict(lr=0.1, amsgrad=True), 0.701586274504),
    ("AdamW", dict(lr=0.1), 0.698911184716),
    ("AdamW", dict(lr=0.1, weight_decay=0.3, amsgrad=True), 0.623886611919),
    ("AdamW", dict(lr=0.1, weight_decay=0.3, maximize=True), 1.2041873516),
]
each_optimizer = pytest.mark.parametrize(
    "name, options, third", OPTIMIZERS, ids=[f"{row[0]}-{'-'.join(row[1])}" for row in OPTIMIZERS]
)


def parameters(dtype=np.float64):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in ((3, 2), (4,))]


def loss(tensors):
    a, b = tensors
    return (a * a).sum() + (a.sum() * b).sin().sum() + b.sum()


def steps(library, name, options, arrays, count, groups=None):
    """The parameters after each step."""
    tensors = [library.tensor(a, requires_grad=True) for a in arrays]
    given = tensors if groups is None else [{"params": [t], **g} for t, g in zip(tensors, groups)]
    optimizer = getattr(library.optim, name)(given, **options)
    for _ in range(count):
        optimizer.zero_grad()
        loss(tensors).backward()
        optimizer.step()
        yield [t.detach().numpy().copy() for t in tensors]


@each_optimizer
def test_three_steps_on_a_parabola(name, options, third):
    w = minidl.tensor(np.array(1.0), requires_grad=True)
    optimizer = getattr(optim, name)([w], **options)
    for _ in range(3):
        optimizer.zero_grad()
        (w * w / 2).backward()
        optimizer.step()
    assert w.item() == pytest.approx(third, rel=1e-10)


@pytest.mark.parametrize("dtype, tol", [(np.float32, 1e-6), (np.float64, 1e-12)], ids=["float32", "float64"])
@each_optimizer
def test_twenty_steps_as_in_pytorch(name, options, third, dtype, tol):
    from oracle import torch

    options = {**options, "lr": 0.01}
    groups = [{"lr": 0.02}, {"weight_decay": 0.05}]
    ours = steps(minidl, name, options, parameters(dtype), 20, groups)
    theirs = steps(torch, name, options, parameters(dtype), 20, groups)
    for k, (found, expected) in enumerate(zip(ours, theirs, strict=True)):
        for a, b in zip(found, expected):
            np.testing.assert_allclose(a, b, rtol=tol, atol=tol, err_msg=f"step {k}")


@each_optimizer
def test_training_goes_on_from_a_saved_state(name, options, third):
    options = {**options, "lr": 0.01}
    whole = list(steps(minidl, name, options, parameters(), 6))[-1]
    tensors = [minidl.tensor(a, requires_grad=True) for a in parameters()]
    optimizer = getattr(optim, name)(tensors, **options)
    for k in range(6):
        if k == 3:
            state = optimizer.state_dict()
            optimizer = getattr(optim, name)(
                tensors, lr=99.0, **{k: v for k, v in options.items() if k != "lr"}
            )
            optimizer.load_state_dict(state)
        optimizer.zero_grad()
        loss(tensors).backward()
        optimizer.step()
    for a, b in zip(tensors, whole):
        np.testing.assert_array_equal(a.array, b)


def test_the_state_has_pytorchs_form():
    from oracle import torch

    for name, options, _ in OPTIMIZERS:
        ours, theirs = (
            getattr(library.optim, name)([library.ones(2, requires_grad=True)], **options)
            for library in (minidl, torch)
        )
        for optimizer in (ours, theirs):
            (p,) = optimizer.param_groups[0]["params"]
            (p * p).sum().backward()
            optimizer.step()
        found, expected = ours.state_dict(), theirs.state_dict()
        assert set(found["param_groups"][0]) <= set(expected["param_groups"][0]) | {"params"}
        filled = {k for k, v in expected["state"].get(0, {}).items() if v is not None}
        assert set(found["state"].get(0, {})) == filled


def test_parameters_without_a_gradient_stay():
    a, b = minidl.ones(2, requires_grad=True), minidl.ones(2, requires_grad=True)
    optimizer = optim.AdamW([a, b], lr=0.1, weight_decay=0.5)
    (a * a).sum().backward()
    optimizer.step()
    assert np.all(b.array == 1) and not np.any(a.array == 1)


def test_a_gradient_of_another_shape_is_refused():
    w = minidl.ones(2, 3, requires_grad=True)
    w.grad = minidl.ones(3, 2)
    with pytest.raises(ValueError, match=r"shape \(2, 3\) has a gradient of shape \(3, 2\)"):
        optim.SGD([w]).step()


ADAM = dict(lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1, decoupled=False, maximize=False, step=3)
MOMENTUM = dict(lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.1, nesterov=True, maximize=True)


@pytest.mark.parametrize(
    "name, options, arrays", [("sgd", MOMENTUM, 3), ("adam", ADAM, 4), ("adam", ADAM, 5)]
)
def test_blocks_on_threads_move_what_the_formula_moves(name, options, arrays):
    """To the last bit, for arrays of several blocks, of none, of no dims, and with gaps in memory."""
    rng = np.random.default_rng(0)
    draw = lambda: [
        rng.random((300, 501), np.float32), rng.random((), np.float32), rng.random((0, 3), np.float32),
        rng.random((40, 30), np.float32)[:, ::2], rng.random((9, 7), np.float32).T,
    ]  # fmt: skip
    moved = list(zip(*(draw() for _ in range(arrays))))
    expected = [tuple(a.copy() for a in given) for given in moved]
    getattr(Numpy, name)([(given, options) for given in moved])
    getattr(reference, name)([(given, options) for given in expected])
    for found, right in zip(moved, expected):
        for a, b in zip(found, right):
            np.testing.assert_array_equal(a, b)


MISTAKES = [
    (lambda: optim.SGD([]), ValueError, "SGD: got no parameters"),
    (lambda: optim.Adam([minidl.ones(1)], lr=-1), ValueError, "Adam: lr must not be negative, got -1"),
    (lambda: optim.Adam([minidl.ones(1)], betas=(0.9, 1.0)), ValueError, r"betas must be in \[0, 1\)"),
    (lambda: optim.SGD([minidl.ones(1)], nesterov=True), ValueError, "Nesterov momentum needs momentum > 0"),
    (lambda: optim.SGD([minidl.ones(1, requires_grad=True) * 2]), TypeError, "must be leaf tensors"),
    (lambda: optim.SGD([minidl.ones(1)]).load_state_dict(
        optim.SGD([minidl.ones(1), minidl.ones(1)]).state_dict()),
     ValueError, r"have sizes \[2\], this optimiser's \[1\]"),
    (lambda: optim.SGD([minidl.ones(1)] * 3), ValueError, "SGD: 2 of 3 parameters are given twice"),
]  # fmt: skip


@pytest.mark.parametrize("mistake, error, message", MISTAKES, ids=[row[2] for row in MISTAKES])
def test_mistakes_are_explained(mistake, error, message):
    with pytest.raises(error, match=message):
        mistake()


# ---- schedules ---------------------------------------------------------------------------------

SCHEDULES = [  # class, options, learning rates of the first epochs from 0.5
    ("PolynomialLR", dict(total_iters=4), [0.5, 0.375, 0.25, 0.125, 0, 0]),
    ("PolynomialLR", dict(total_iters=4, power=2.0), [0.5, 0.28125, 0.125, 0.03125, 0, 0]),
    ("CosineAnnealingLR", dict(T_max=4), [0.5, 0.25 + 0.25 * 2**-0.5, 0.25, 0.25 - 0.25 * 2**-0.5, 0]),
    ("CosineAnnealingLR", dict(T_max=2, eta_min=0.1), [0.5, 0.3, 0.1, 0.3, 0.5]),
    ("LambdaLR", dict(lr_lambda=lambda epoch: 0.5**epoch), [0.5, 0.25, 0.125, 0.0625]),
]
each_schedule = pytest.mark.parametrize(
    "name, options, rates", SCHEDULES, ids=[f"{row[0]}-{'-'.join(row[1])}" for row in SCHEDULES]
)


def rates_of(library, schedulers, name, options, count):
    weights = [library.ones(1, requires_grad=True) for _ in range(2)]
    optimizer = library.optim.SGD([{"params": [weights[0]]}, {"params": [weights[1]], "lr": 2.0}], lr=0.5)
    scheduler = getattr(schedulers, name)(optimizer, **options)
    for _ in range(count):
        yield scheduler.get_last_lr()
        assert [group["lr"] for group in optimizer.param_groups] == scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()


@each_schedule
def test_learning_rates(name, options, rates):
    found = [rate for rate, _ in rates_of(minidl, lr_scheduler, name, options, len(rates))]
    np.testing.assert_allclose(found, rates, atol=1e-12)


@each_schedule
def test_learning_rates_as_in_pytorch(name, options, rates):
    from oracle import torch

    found = list(rates_of(minidl, lr_scheduler, name, options, 8))
    expected = list(rates_of(torch, torch.optim.lr_scheduler, name, options, 8))
    np.testing.assert_allclose(found, expected, atol=1e-12)


# ---- clipping ----------------------------------------------------------------------------------


@pytest.mark.parametrize("max_norm, expected", [(1.0, [0.6, 0.8]), (10.0, [3.0, 4.0])])
def test_gradients_are_clipped_together(max_norm, expected):
    a, b, unused = (minidl.zeros(1, dtype=np.float64, requires_grad=True) for _ in range(3))
    (a * 3 + b * 4).backward()
    norm = minidl.nn.utils.clip_grad_norm_([a, b, unused], max_norm)
    assert norm.item() == 5
    np.testing.assert_allclose([a.grad.item(), b.grad.item()], expected, rtol=1e-6)
    assert unused.grad is None


def test_gradients_are_clipped_as_in_pytorch():
    from oracle import torch

    results = []
    for library in (minidl, torch):
        tensors = [library.tensor(a, requires_grad=True) for a in parameters()]
        loss(tensors).backward()
        norm = library.nn.utils.clip_grad_norm_(tensors, 0.7)
        results.append([norm.item(), *(t.grad.numpy() for t in tensors)])
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-12)
