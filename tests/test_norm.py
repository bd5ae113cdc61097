"""Normalisation against its definition, and against PyTorch where it is installed."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl.autograd import grad
from minidl.testing import gradcheck

rng = np.random.default_rng(0)


def leaf(array):
    return minidl.tensor(np.asarray(array, np.float64), requires_grad=True)


def standardized(x, axes, eps=1e-5):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def matches_torch(call, *arrays, **options):
    """The same call in both libraries; skipped without PyTorch."""
    torch = pytest.importorskip("torch")
    from oracle import assert_matches_torch

    def theirs(*xs):
        return call(torch.nn.functional, *xs)

    assert_matches_torch(lambda *xs: call(F, *xs), theirs, *arrays, **options)


# name, a call that both libraries understand, input shape, parameter shape, the definition in NumPy
NORMS = [
    ("batch 2-D", lambda L, x, w, b: L.batch_norm(x, None, None, w, b, True), (5, 3), (3,),
     lambda x: standardized(x, (0,))),
    ("batch 3-D", lambda L, x, w, b: L.batch_norm(x, None, None, w, b, training=True, eps=0.1),
     (4, 3, 5), (3,),
     lambda x: standardized(x, (0, 2), 0.1)),
    ("batch 5-D", lambda L, x, w, b: L.batch_norm(x, None, None, w, b, True), (2, 3, 2, 3, 2), (3,),
     lambda x: standardized(x, (0, 2, 3, 4))),
    ("instance 3-D", lambda L, x, w, b: L.instance_norm(x, weight=w, bias=b), (2, 3, 5), (3,),
     lambda x: standardized(x, (2,))),
    ("instance 5-D", lambda L, x, w, b: L.instance_norm(x, None, None, w, b, eps=0.1), (2, 3, 2, 3, 2), (3,),
     lambda x: standardized(x, (2, 3, 4), 0.1)),
    ("group", lambda L, x, w, b: L.group_norm(x, 2, w, b), (3, 4, 3, 2), (4,),
     lambda x: standardized(x.reshape(3, 2, 12), (2,)).reshape(x.shape)),
    ("group 2-D", lambda L, x, w, b: L.group_norm(x, 2, w, b, eps=0.1), (3, 6), (6,),
     lambda x: standardized(x.reshape(3, 2, 3), (2,), 0.1).reshape(x.shape)),
    ("layer", lambda L, x, w, b: L.layer_norm(x, (4,), w, b), (3, 2, 4), (4,),
     lambda x: standardized(x, (2,))),
    ("layer of 2", lambda L, x, w, b: L.layer_norm(x, [2, 4], w, b, 0.1), (3, 2, 4), (2, 4),
     lambda x: standardized(x, (1, 2), 0.1)),
    ("layer of all", lambda L, x, w, b: L.layer_norm(x, (3, 4), w, b), (3, 4), (3, 4),
     lambda x: standardized(x, (0, 1))),
]  # fmt: skip
norms = pytest.mark.parametrize("name, call, shape, parameters, formula", NORMS, ids=[n[0] for n in NORMS])


@norms
def test_values_and_two_orders_of_gradients(name, call, shape, parameters, formula):
    x, w, b = rng.normal(1, 2, shape), rng.standard_normal(parameters), rng.standard_normal(parameters)
    per_channel = (lambda p: p) if "layer" in name else lambda p: p.reshape(-1, *(1,) * (len(shape) - 2))
    expected = formula(x) * per_channel(w) + per_channel(b)
    np.testing.assert_allclose(
        call(F, *map(leaf, (x, w, b))).detach().numpy(), expected, rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(
        call(F, leaf(x), None, None).detach().numpy(), formula(x), rtol=1e-12, atol=1e-12
    )
    matches_torch(call, x, w, b)
    matches_torch(lambda L, x, w: call(L, x, w, None), x, w)
    matches_torch(lambda L, x: call(L, x, None, None), x)


@pytest.mark.parametrize("row", [NORMS[0], NORMS[3], NORMS[6], NORMS[7]], ids=lambda row: row[0])
def test_gradients_against_differences(row):
    _, call, shape, parameters, _ = row
    shape = (3, *shape[1:])
    tensors = [leaf(rng.standard_normal(s)) for s in (shape, parameters, parameters)]
    assert gradcheck(lambda *xs: call(F, *xs), tensors, order=2)


@examples(10)
@given(
    shape=st.lists(st.integers(1, 3), min_size=0, max_size=3),
    samples=st.integers(1, 3),
    groups=st.integers(1, 2),
    size=st.integers(1, 2),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_any_shape_is_pytorchs(shape, samples, groups, size, scale):
    full = (samples, groups * size, *shape)
    x = np.random.default_rng(sum(full)).normal(0, scale, full)
    w, b = np.ones(full[1]) * 1.5, np.arange(float(full[1]))
    if samples * math.prod(shape) > 1:
        matches_torch(lambda L, x, w, b: L.batch_norm(x, None, None, w, b, True), x, w, b, order=1)
    if math.prod(shape) > 1:
        matches_torch(lambda L, x, w, b: L.instance_norm(x, None, None, w, b), x, w, b, order=1)
    if size * math.prod(shape) > 1:
        matches_torch(lambda L, x, w, b: L.group_norm(x, groups, w, b), x, w, b, order=1)
    matches_torch(lambda L, x: L.layer_norm(x, full[1:]), x, order=1)


@norms
def test_a_constant_input_becomes_zero(name, call, shape, parameters, formula):
    x = leaf(np.full(shape, 7.0))
    y = call(F, x, None, None)
    np.testing.assert_allclose(y.detach().numpy(), 0, atol=1e-12)
    assert np.isfinite(grad(y.sum(), x)[0].numpy()).all()


@norms
def test_float16_statistics_are_taken_in_float32(name, call, shape, parameters, formula):
    x = (300 + rng.normal(0, 30, shape)).astype(np.float16)  # squares and sums leave float16's range
    for dtype in (np.float16, np.float32):
        w, b = (minidl.tensor(np.full(parameters, v, dtype)) for v in (2.0, 1.0))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            y = call(F, minidl.tensor(x), w, b)
        assert y.dtype == np.float16
        np.testing.assert_allclose(y.numpy(), formula(x.astype(np.float64)) * 2 + 1, rtol=2e-3, atol=2e-3)


@norms
def test_no_samples(name, call, shape, parameters, formula):
    if name != "layer of all":
        x = leaf(np.zeros((0, *shape[1:])))
        y = call(F, x, None, None)
        assert y.shape == x.shape and grad(y.sum(), x)[0].shape == x.shape


# ---- running statistics --------------------------------------------------------------------------


def test_batch_norm_moves_the_running_statistics():
    x = np.array([[1.0, 0.0], [3.0, 4.0]])
    mean, var = minidl.tensor(np.array([10.0, 0.0])), minidl.tensor(np.array([1.0, 1.0]))
    F.batch_norm(leaf(x), mean, var, training=True, momentum=0.25)
    np.testing.assert_allclose(mean.numpy(), [8.0, 0.5])  # 3/4 · 10 + 1/4 · 2, and 1/4 · 2
    np.testing.assert_allclose(var.numpy(), [1.25, 2.75])  # 3/4 + 1/4 · 2, 3/4 + 1/4 · 8: n - 1 in var
    y = F.batch_norm(leaf(x), mean, var, eps=0.0)
    np.testing.assert_allclose(y.detach().numpy()[0], [(1 - 8) / math.sqrt(1.25), -0.5 / math.sqrt(2.75)])
    assert mean.numpy()[0] == 8.0  # evaluation leaves them alone


def test_instance_norm_averages_the_statistics_of_the_samples():
    x = np.array([[[0.0, 2.0]], [[3.0, 9.0]]])
    mean, var = minidl.tensor(np.zeros(1)), minidl.tensor(np.zeros(1))
    F.instance_norm(leaf(x), mean, var, momentum=0.5)
    np.testing.assert_allclose((mean.item(), var.item()), (0.5 * (1 + 6) / 2, 0.5 * (2 + 18) / 2))
    y = F.instance_norm(leaf(x), mean, var, use_input_stats=False, eps=0.0)
    np.testing.assert_allclose(y.detach().numpy(), (x - 1.75) / math.sqrt(5))


def test_evaluation_is_pytorchs():
    x, w, b = rng.standard_normal((2, 3, 4)), rng.standard_normal(3), rng.standard_normal(3)
    mean, var = rng.standard_normal(3), rng.random(3)
    for norm in (
        lambda L, x, m, v, w, b: L.batch_norm(x, m.detach(), v.detach(), w, b),
        lambda L, x, m, v, w, b: L.instance_norm(x, m.detach(), v.detach(), w, b, use_input_stats=False),
    ):
        matches_torch(norm, x, mean, var, w, b)


def test_no_samples_leave_the_running_statistics_alone():
    for function, options in ((F.batch_norm, {"training": True}), (F.instance_norm, {})):
        mean, var = minidl.zeros(3), minidl.ones(3)
        function(minidl.zeros(0, 3, 4), mean, var, **options)
        assert mean.numpy().tolist() == [0, 0, 0] and var.numpy().tolist() == [1, 1, 1]


# ---- modules -------------------------------------------------------------------------------------

# a constructor that both libraries understand, input shape
MODULES = [
    (lambda L: L.BatchNorm1d(3), (4, 3)),
    (lambda L: L.BatchNorm1d(3, eps=0.1, momentum=0.3), (4, 3, 5)),
    (lambda L: L.BatchNorm2d(3, momentum=None), (2, 3, 4, 5)),
    (lambda L: L.BatchNorm3d(3, affine=False), (2, 3, 2, 3, 2)),
    (lambda L: L.BatchNorm2d(3, track_running_stats=False), (2, 3, 4, 5)),
    (lambda L: L.InstanceNorm1d(3), (2, 3, 5)),
    (lambda L: L.InstanceNorm1d(3, affine=True), (3, 5)),
    (lambda L: L.InstanceNorm2d(3, affine=True, track_running_stats=True), (2, 3, 4, 5)),
    (lambda L: L.InstanceNorm3d(3, 0.1, 0.2, True, True), (2, 3, 2, 3, 2)),
    (lambda L: L.GroupNorm(2, 4), (2, 4, 3)),
    (lambda L: L.GroupNorm(2, 4, eps=0.1, affine=False), (2, 4, 3)),
    (lambda L: L.LayerNorm(4), (2, 3, 4)),
    (lambda L: L.LayerNorm([3, 4], 0.1), (2, 3, 4)),
    (lambda L: L.LayerNorm((3, 4), bias=False), (2, 3, 4)),
    (lambda L: L.LayerNorm(4, elementwise_affine=False), (2, 3, 4)),
]


def state(module):
    return {key: np.array(value.detach().numpy()) for key, value in module.state_dict().items()}


@pytest.mark.parametrize("make, shape", MODULES, ids=[repr(make(nn)) for make, _ in MODULES])
def test_modules_keep_pytorchs_state_through_training_and_evaluation(make, shape):
    torch = pytest.importorskip("torch")
    ours, theirs = make(nn).double(), make(torch.nn).double()
    assert list(state(ours)) == list(state(theirs))
    for training, k in itertools.product((True, False), range(2)):
        ours.train(training), theirs.train(training)
        x = np.random.default_rng(k).normal(1, 2, shape)
        y = ours(minidl.tensor(x)).detach().numpy()
        np.testing.assert_allclose(y, theirs(torch.tensor(x)).detach().numpy(), rtol=1e-10, atol=1e-10)
        for key, value in state(theirs).items():
            assert state(ours)[key].dtype == value.dtype and state(ours)[key].shape == value.shape
            np.testing.assert_allclose(state(ours)[key], value, rtol=1e-10, err_msg=key)


def test_without_momentum_the_running_statistics_are_the_mean_of_all_batches():
    layer = nn.BatchNorm1d(1, momentum=None).double()
    for values in ([0.0, 2.0], [4.0, 8.0], [1.0, 3.0]):
        layer(minidl.tensor(np.array(values)[:, None]))
    assert layer.num_batches_tracked.item() == 3
    assert layer.running_mean.item() == pytest.approx((1 + 6 + 2) / 3)
    assert layer.running_var.item() == pytest.approx((2 + 8 + 2) / 3)


def test_layers_learn():
    for layer, shape in (
        (nn.InstanceNorm2d(2, affine=True), (1, 2, 2, 2)),
        (nn.GroupNorm(1, 2), (1, 2, 2, 2)),
    ):
        layer(minidl.tensor(rng.standard_normal(shape).astype(np.float32))).sum().backward()
        np.testing.assert_allclose(layer.bias.grad.numpy(), [4, 4])
        assert layer.weight.grad.dtype == np.float32


# ---- errors --------------------------------------------------------------------------------------

X = minidl.zeros(2, 3, 4)
V = minidl.zeros(3)


def test_eps_may_be_negative_as_long_as_it_leaves_a_variance():
    x = minidl.tensor([[-2.0, 2.0, -2.0, 2.0]])  # variance 4
    for y in (F.layer_norm(x, (4,), eps=-3.0), F.group_norm(x, 2, eps=-3.0)):
        np.testing.assert_allclose(y.numpy(), x.numpy())


def test_batch_norm_of_nothing():
    assert F.batch_norm(minidl.zeros(0), None, None, training=True).shape == (0,)
    mean, var = minidl.zeros(3), minidl.ones(3)
    assert F.batch_norm(minidl.zeros(0, 3), mean, var, training=True).shape == (0, 3)
    assert mean.tolist() == [0, 0, 0] and var.tolist() == [1, 1, 1]


ERRORS = [
    (lambda: F.batch_norm(V, None, None), ValueError, r"batch_norm: .*\(N, C, \*S\).*\(3,\)"),
    (lambda: F.batch_norm(X, None, None), ValueError, "batch_norm: running_mean and running_var are needed"),
    (lambda: F.batch_norm(X, V, None, training=True), ValueError, "batch_norm: .*both"),
    (
        lambda: F.batch_norm(minidl.zeros(1, 3), None, None, training=True),
        ValueError,
        r"batch_norm: .*\(1, 3\)",
    ),
    (lambda: F.batch_norm(X, V, V, minidl.ones(4)), ValueError, r"batch_norm: weight .*\(3,\).*\(4,\)"),
    (lambda: F.batch_norm(X, minidl.zeros(2), V), ValueError, r"batch_norm: running_mean .*\(3,\).*\(2,\)"),
    (lambda: F.batch_norm(X, V, V, V.double()), TypeError, "batch_norm: dtypes.*float64"),
    (lambda: F.batch_norm(X.long(), V, V), TypeError, "batch_norm: .*int64"),
    (lambda: F.batch_norm(X, V, V, eps=-1), ValueError, "batch_norm: eps .* -1"),
    (lambda: F.batch_norm(X, V, V, training=True, eps=0), ValueError, "batch_norm: eps .* positive .* 0"),
    (lambda: F.batch_norm(V, V, V), ValueError, r"batch_norm: .*\(3,\)"),
    (lambda: F.batch_norm(X, V, V, np.ones(3)), TypeError, "batch_norm: weight must be a Tensor"),
    (lambda: F.instance_norm(minidl.zeros(2, 3)), ValueError, r"instance_norm: .*\(2, 3\)"),
    (lambda: F.instance_norm(minidl.zeros(2, 3, 1)), ValueError, r"instance_norm: .*\(2, 3, 1\)"),
    (lambda: F.instance_norm(X, use_input_stats=False), ValueError, "instance_norm: running_mean"),
    (lambda: F.group_norm(V, 1), ValueError, r"group_norm: .*\(3,\)"),
    (lambda: F.group_norm(X, 2), ValueError, r"group_norm: 3 channels .* 2 groups"),
    (lambda: F.group_norm(X, 0), ValueError, "group_norm: .* 0 groups"),
    (lambda: F.group_norm(minidl.zeros(2, 3, 1), 3), ValueError, r"group_norm: .*\(2, 3, 1\)"),
    (lambda: F.group_norm(X, 1, minidl.ones(4)), ValueError, r"group_norm: weight .*\(3,\).*\(4,\)"),
    (lambda: F.layer_norm(X, (3,)), ValueError, r"layer_norm: .*\(2, 3, 4\).*\(3,\)"),
    (lambda: F.layer_norm(X, ()), ValueError, r"layer_norm: .*\(\)"),
    (lambda: F.layer_norm(X, (4,), V), ValueError, r"layer_norm: weight .*\(4,\).*\(3,\)"),
    (lambda: nn.BatchNorm2d(3)(X), ValueError, r"BatchNorm2d: .*\(N, C, H, W\).*\(2, 3, 4\)"),
    (lambda: nn.BatchNorm1d(4)(X), ValueError, r"BatchNorm1d: expected 4 channels.*\(2, 3, 4\)"),
    (lambda: nn.InstanceNorm1d(4)(X), ValueError, r"InstanceNorm1d: expected 4 channels.*\(2, 3, 4\)"),
    (lambda: nn.InstanceNorm2d(3, momentum=None), ValueError, "InstanceNorm2d: momentum must be a number"),
    (lambda: nn.GroupNorm(2, 3), ValueError, "GroupNorm: 3 channels .* 2 groups"),
]


@pytest.mark.parametrize("call, kind, message", ERRORS, ids=[row[2][:40] for row in ERRORS])
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
