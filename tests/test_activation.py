"""Activations and dropout against their formulas, and against PyTorch where it is installed."""

from __future__ import annotations

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

# name, a call that both libraries understand, the formula in NumPy
POINTWISE = [
    ("relu", lambda L, x: L.relu(x), lambda x: np.maximum(x, 0)),
    ("leaky_relu", lambda L, x: L.leaky_relu(x), lambda x: np.where(x > 0, x, 0.01 * x)),
    ("leaky_relu-", lambda L, x: L.leaky_relu(x, -0.5), lambda x: np.where(x > 0, x, -0.5 * x)),
    ("elu", lambda L, x: L.elu(x, 0.7), lambda x: np.where(x > 0, x, 0.7 * (np.exp(np.minimum(x, 0)) - 1))),
    ("celu", lambda L, x: L.celu(x, 2.0),
     lambda x: np.where(x > 0, x, 2 * (np.exp(np.minimum(x, 0) / 2) - 1))),
    ("selu", lambda L, x: L.selu(x), lambda x: 1.0507009873554805 * np.where(
        x > 0, x, 1.6732632423543772 * (np.exp(np.minimum(x, 0)) - 1))),
    ("gelu", lambda L, x: L.gelu(x), lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2),
    ("gelu-tanh", lambda L, x: L.gelu(x, approximate="tanh"),
     lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2),
    ("silu", lambda L, x: L.silu(x), lambda x: x / (1 + np.exp(-x))),
    ("mish", lambda L, x: L.mish(x), lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    ("softplus", lambda L, x: L.softplus(x), lambda x: np.log1p(np.exp(x))),
    ("softplus-b", lambda L, x: L.softplus(x, 2.0, 3.0),
     lambda x: np.where(2 * x > 3, x, np.log1p(np.exp(2 * x)) / 2)),
    ("sigmoid", lambda L, x: L.sigmoid(x), lambda x: 1 / (1 + np.exp(-x))),
    ("tanh", lambda L, x: L.tanh(x), np.tanh),
    ("hardtanh", lambda L, x: L.hardtanh(x), lambda x: np.clip(x, -1, 1)),
    ("hardtanh-b", lambda L, x: L.hardtanh(x, -0.5, 2.0), lambda x: np.clip(x, -0.5, 2)),
    ("relu6", lambda L, x: L.relu6(x), lambda x: np.clip(x, 0, 6)),
    ("hardsigmoid", lambda L, x: L.hardsigmoid(x), lambda x: np.clip(x + 3, 0, 6) / 6),
    ("hardswish", lambda L, x: L.hardswish(x), lambda x: x * np.clip(x + 3, 0, 6) / 6),
    ("logsigmoid", lambda L, x: L.logsigmoid(x), lambda x: -np.log1p(np.exp(-x))),
    ("softsign", lambda L, x: L.softsign(x), lambda x: x / (1 + np.abs(x))),
]  # fmt: skip
ALONG = [
    ("softmax", lambda L, x: L.softmax(x, 1)),
    ("log_softmax", lambda L, x: L.log_softmax(x, -1)),
    ("softmin", lambda L, x: L.softmin(x, dim=0)),
    ("glu", lambda L, x: L.glu(x)),
    ("glu-0", lambda L, x: L.glu(x, 0)),
]
# a constructor that both libraries understand, the function it stands for
MODULES = [
    (lambda L: L.ReLU(), F.relu),
    (lambda L: L.LeakyReLU(0.2), lambda x: F.leaky_relu(x, 0.2)),
    (lambda L: L.PReLU(), lambda x: F.prelu(x, minidl.tensor([0.25], dtype=x.dtype))),
    (lambda L: L.ELU(alpha=0.5), lambda x: F.elu(x, 0.5)),
    (lambda L: L.CELU(0.5), lambda x: F.celu(x, 0.5)),
    (lambda L: L.SELU(), F.selu),
    (lambda L: L.GELU(approximate="tanh"), lambda x: F.gelu(x, approximate="tanh")),
    (lambda L: L.SiLU(), F.silu),
    (lambda L: L.Mish(), F.mish),
    (lambda L: L.Softplus(2, 5), lambda x: F.softplus(x, 2, 5)),
    (lambda L: L.Sigmoid(), F.sigmoid),
    (lambda L: L.Tanh(), F.tanh),
    (lambda L: L.Hardtanh(-2, 0.5), lambda x: F.hardtanh(x, -2, 0.5)),
    (lambda L: L.ReLU6(), F.relu6),
    (lambda L: L.Hardsigmoid(), F.hardsigmoid),
    (lambda L: L.Hardswish(), F.hardswish),
    (lambda L: L.Softmax(dim=1), lambda x: F.softmax(x, 1)),
    (lambda L: L.LogSoftmax(dim=1), lambda x: F.log_softmax(x, 1)),
    (lambda L: L.Softmin(dim=1), lambda x: F.softmin(x, 1)),
    (lambda L: L.LogSigmoid(), F.logsigmoid),
    (lambda L: L.Softsign(), F.softsign),
    (lambda L: L.GLU(dim=1), lambda x: F.glu(x, 1)),
    (lambda L: L.Identity(3, hidden=4), lambda x: x),
]
KINKS = np.array([-3.0, -1.0, -0.5, 0.0, 1.0, 1.5, 2.0, 3.0, 6.0])
NO_SECOND_IN_TORCH = {"hardsigmoid"}


def matches_torch(call, *arrays, **options):
    """The same call in both libraries; skipped without PyTorch."""
    torch = pytest.importorskip("torch")
    from oracle import assert_matches_torch

    def theirs(*xs):
        return call(torch.nn.functional, *xs)

    assert_matches_torch(lambda *xs: call(F, *xs), theirs, *arrays, **options)


def leaf(array, dtype=np.float64):
    return minidl.tensor(np.asarray(array, dtype), requires_grad=True)


names = pytest.mark.parametrize("name, call, formula", POINTWISE, ids=[row[0] for row in POINTWISE])


# ---- pointwise -----------------------------------------------------------------------------------


@names
def test_values_are_the_formula(name, call, formula):
    x = np.concatenate([KINKS, np.random.default_rng(0).normal(0, 2, 20)])
    np.testing.assert_allclose(call(F, minidl.tensor(x)).numpy(), formula(x), rtol=1e-13, atol=1e-15)


@names
def test_two_orders_of_gradients_against_differences(name, call, formula):
    x = leaf([-3.7, -1.2, -0.3, 0.4, 0.9, 1.7, 3.3, 6.5])
    assert gradcheck(lambda x: call(F, x), [x], order=2)


@names
@examples(8)
@given(x=st.lists(st.floats(-40, 40).filter(lambda x: abs(KINKS - x).min() > 1e-3), min_size=1, max_size=9))
def test_values_and_gradients_are_pytorchs(name, call, formula, x):
    matches_torch(call, np.array(x), order=1 if name in NO_SECOND_IN_TORCH else 2)


@names
def test_the_derivative_at_a_kink_is_pytorchs(name, call, formula):
    matches_torch(call, KINKS, order=1)


@names
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nothing_overflows_far_from_zero(name, call, formula, dtype):
    far = [-1e4, -1000, -88, -30, 30, 88, 1000, 1e4]
    x = leaf(far, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = call(F, x)
        (first,) = grad(y.sum(), x, create_graph=True)
        second = grad(first.sum(), x, allow_unused=True)[0] if first.requires_grad else first
    with np.errstate(over="ignore"):
        expected = formula(np.array(far))
    stable = np.isfinite(expected)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.detach().numpy()[stable], expected[stable], rtol=2e-3, atol=1e-6)
    for g in (y, first, *([second] if second is not None else [])):
        assert np.isfinite(g.detach().numpy()).all()


@names
def test_nan_stays_nan_and_nothing_has_no_elements(name, call, formula):
    assert np.isnan(call(F, minidl.tensor([math.nan])).numpy()).all()
    assert call(F, minidl.zeros(0, 3)).shape == (0, 3)


def test_hard_activations_have_the_derivative_0_at_their_bounds():
    for function, at, inside in [(F.hardtanh, [-1, 1], 0), (F.relu6, [0, 6], 3), (F.hardsigmoid, [-3, 3], 0)]:
        x = leaf([*at, inside])
        g = grad(function(x).sum(), x)[0].numpy()
        assert (g[:2] == 0).all() and g[2] > 0


def test_hardtanh_of_integers_cuts_its_bounds():
    x = minidl.arange(-2, 8)
    assert F.hardtanh(x).tolist() == [-1, -1, 0, 1, 1, 1, 1, 1, 1, 1]
    assert F.hardtanh(x, -0.5, 2.7).tolist() == [0, 0, 0, 1, 2, 2, 2, 2, 2, 2]
    assert F.relu6(x).tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 6, 6] and F.relu6(x).dtype == minidl.int64


def test_elus_have_the_left_derivative_at_0():
    for function, slope in [(lambda x: F.elu(x, 0.3), 0.3), (lambda x: F.celu(x, 0.3), 1.0)]:
        x = leaf([0.0])
        assert grad(function(x).sum(), x)[0].item() == pytest.approx(slope)


def test_logsigmoid_has_the_derivative_one_half_at_0():
    x = leaf([0.0])
    (g,) = grad(F.logsigmoid(x).sum(), x, create_graph=True)
    assert g.item() == 0.5 and grad(g.sum(), x)[0].item() == -0.25


# ---- with a weight, along a dim ------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape, weight", [((2, 3, 4), (3,)), ((2, 3), (3,)), ((2, 3, 4), (1,)), ((4,), ()), ((), (1,))]
)
def test_prelu(shape, weight):
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal(shape), rng.standard_normal(weight)
    gradcheck(F.prelu, [leaf(x), leaf(w)], order=2)
    per_channel = w.reshape(-1, *(1,) * (len(shape) - 2)) if w.size > 1 else w.reshape(())
    np.testing.assert_array_equal(
        F.prelu(leaf(x), leaf(w)).detach().numpy(), np.where(x > 0, x, x * per_channel)
    )
    if shape and weight:  # without dims PyTorch's own gradients fail
        matches_torch(lambda L, x, w: L.prelu(x, w), x, w)


def test_prelu_at_0_takes_the_learned_slope():
    x, w = leaf([0.0]), leaf([0.25])
    assert [g.item() for g in grad(F.prelu(x, w).sum(), [x, w])] == [0.25, 0.0]


@pytest.mark.parametrize("name, call", ALONG, ids=[row[0] for row in ALONG])
def test_along_a_dim(name, call):
    x = np.random.default_rng(2).normal(0, 3, (4, 6))
    gradcheck(lambda x: call(F, x), [leaf(x)], order=2)
    matches_torch(call, x)
    far = minidl.tensor(np.array([[1e4, -1e4, 0.0, 1e4]] * 2, np.float16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(call(F, far).numpy()).all()


def test_softmin_and_glu_values():
    x = np.array([[0.0, math.log(3.0)]])
    np.testing.assert_allclose(F.softmin(minidl.tensor(x), 1).numpy(), [[0.75, 0.25]])
    np.testing.assert_allclose(F.glu(minidl.tensor([[2.0, 0.0]])).numpy(), [[1.0]])


# ---- dropout -------------------------------------------------------------------------------------

CHANNELWISE = [
    (F.dropout1d, nn.Dropout1d, (5, 40, 3)),
    (F.dropout1d, nn.Dropout1d, (40, 3)),
    (F.dropout2d, nn.Dropout2d, (5, 40, 3, 2)),
    (F.dropout3d, nn.Dropout3d, (5, 40, 2, 2, 2)),
    (F.dropout3d, nn.Dropout3d, (40, 2, 2, 2)),
]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dropout_keeps_the_mean(dtype):
    minidl.manual_seed(0)
    y = F.dropout(minidl.ones(20000, dtype=dtype), 0.2)
    assert y.dtype == dtype and set(np.unique(y.numpy())) == {dtype(0), dtype(1.25)}
    assert y.numpy().astype(np.float64).mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("function, module, shape", CHANNELWISE, ids=[str(row[2]) for row in CHANNELWISE])
def test_channels_are_dropped_whole_and_separately(function, module, shape):
    minidl.manual_seed(0)
    y = function(minidl.ones(shape, dtype=np.float64), 0.25).numpy()
    rank = int(function.__name__[-2])
    coins = y.reshape(-1, int(np.prod(shape[-rank:])))
    assert (coins == coins[:, :1]).all() and set(np.unique(coins)) == {0, 1 / 0.75}
    assert 0.05 < (coins[:, 0] == 0).mean() < 0.45
    minidl.manual_seed(0)
    layer = module(0.25)
    np.testing.assert_array_equal(layer(minidl.ones(shape, dtype=np.float64)).numpy(), y)
    assert layer.eval()(minidl.ones(shape)).numpy().all() and repr(layer).endswith("(p=0.25)")


@pytest.mark.parametrize("function", [F.dropout, F.dropout2d])
def test_dropout_of_all_of_none_and_in_evaluation(function):
    x = leaf(np.ones((2, 3, 4, 5)))
    assert not function(x, 1.0).detach().numpy().any()
    assert not grad(function(x, 1.0).sum(), x)[0].numpy().any()
    assert function(x, 0.0) is x or (function(x, 0.0).detach().numpy() == 1).all()
    assert (function(x, 0.9, training=False).detach().numpy() == 1).all()
    assert (function(x, 0.9, False).shape, function(leaf(np.ones((0, 3, 4, 5)))).shape) == (
        x.shape,
        (0, 3, 4, 5),
    )


def test_the_gradient_of_dropout_is_its_mask():
    minidl.manual_seed(3)
    x = leaf(np.full((4, 5), 2.0))
    y = F.dropout(x)
    np.testing.assert_array_equal(grad(y.sum(), x)[0].numpy() * 2, y.detach().numpy())


# ---- modules -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make, function", MODULES, ids=[type(make(nn)).__name__ for make, _ in MODULES])
def test_modules(make, function):
    x = np.random.default_rng(4).normal(0, 2, (3, 4))
    layer = make(nn).double()
    np.testing.assert_array_equal(
        layer(minidl.tensor(x)).detach().numpy(), function(minidl.tensor(x)).numpy()
    )
    torch = pytest.importorskip("torch")
    theirs = make(torch.nn).double()
    np.testing.assert_allclose(
        layer(minidl.tensor(x)).detach().numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-12
    )
    assert {k: v.shape for k, v in layer.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }


def test_options_of_modules_are_attributes_and_shown():
    layer = nn.Hardtanh(max_val=2.0)
    assert (layer.min_val, layer.max_val) == (-1.0, 2.0)
    assert repr(layer) == "Hardtanh(min_val=-1.0, max_val=2.0)"
    layer.max_val = 0.5
    assert layer(minidl.tensor([3.0])).item() == 0.5


def test_prelu_layer_learns_one_slope_per_channel():
    layer = nn.PReLU(3, init=0.5)
    layer(minidl.tensor(-np.ones((2, 3, 4), np.float32))).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy(), [-8, -8, -8])
    np.testing.assert_array_equal(layer.weight.detach().numpy(), [0.5, 0.5, 0.5])


# ---- errors --------------------------------------------------------------------------------------

X = minidl.zeros(2, 3, 4)
ERRORS = [
    (lambda: F.prelu(X, minidl.zeros(2)), ValueError, r"prelu: .*3 channels.*\(2,\).*\(2, 3, 4\)"),
    (lambda: F.prelu(X, minidl.zeros(1, 3)), ValueError, r"prelu: .*\(1, 3\)"),
    (lambda: F.prelu(X, minidl.zeros(3, dtype=np.float64)), TypeError, "prelu: dtypes.*float32.*float64"),
    (lambda: F.prelu(X, np.zeros(3)), TypeError, "prelu: weight must be a Tensor, got ndarray"),
    (lambda: F.hardtanh(X, 2, 1), ValueError, "hardtanh: min_val 2 is greater than max_val 1"),
    (lambda: F.celu(X, 0), ValueError, "celu: alpha must be positive, got 0"),
    (lambda: F.gelu(X, "erf"), ValueError, "gelu: approximate.*'erf'"),
    (lambda: F.gelu(minidl.tensor([1])), TypeError, "gelu: .*int64"),
    (lambda: F.elu(minidl.tensor([1])), TypeError, "elu: .*int64"),
    (lambda: F.elu(np.ones(3)), TypeError, "elu: .*ndarray"),
    (lambda: F.leaky_relu(minidl.tensor([1])), TypeError, "leaky_relu: .*int64"),
    (lambda: F.silu(minidl.tensor([1])), TypeError, "silu: .*int64"),
    (lambda: F.softplus(X.bool()), TypeError, "softplus: .*bool"),
    (lambda: F.relu(X.bool()), TypeError, "relu: .*bool"),
    (lambda: F.hardtanh(X.bool()), TypeError, "hardtanh: .*booleans"),
    (lambda: F.hardtanh(minidl.ones(2, dtype=np.uint8)), TypeError, "hardtanh: .*uint8.* -1.0"),
    (lambda: F.glu(X, 1), ValueError, r"glu: the size 3 of dim 1 of shape \(2, 3, 4\)"),
    (lambda: F.glu(minidl.tensor(1.0)), ValueError, "glu: "),
    (lambda: F.glu(X, 3), IndexError, "glu: dim 3"),
    (lambda: F.softmax(X, 3), IndexError, "dim 3"),
    (lambda: F.dropout(X, 1.5), ValueError, "dropout: p must be in .* got 1.5"),
    (lambda: F.dropout(X, math.nan), ValueError, "dropout: p must be in .* got nan"),
    (lambda: F.dropout2d(X, -0.1), ValueError, "dropout2d: p must be in .* got -0.1"),
    (lambda: F.dropout2d(X), ValueError, r"dropout2d: .*\(2, 3, 4\)"),
    (lambda: F.dropout1d(minidl.zeros(2, 3, 4, 5)), ValueError, r"dropout1d: .*\(2, 3, 4, 5\)"),
    (lambda: nn.Dropout3d(2), ValueError, "Dropout3d: p must be in"),
    (lambda: nn.ELU(beta=1), TypeError, r"ELU\(alpha.*beta"),
    (lambda: nn.ReLU(1), TypeError, "ReLU"),
    (lambda: nn.Softmax(), TypeError, "Softmax.*dim"),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, message", ERRORS, ids=[row[2][:40] for row in ERRORS])
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
