"""PyTorch's losses against numbers worked out by hand, and against PyTorch where it is installed."""

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

REDUCTIONS = ("none", "mean", "sum")


def leaf(array, dtype=np.float64):
    return minidl.tensor(np.asarray(array, dtype), requires_grad=True)


def constant(array):
    return minidl.tensor(np.asarray(array))


def matches_torch(call, *arrays, **options):
    """The same call in both libraries; skipped without PyTorch."""
    torch = pytest.importorskip("torch")
    from oracle import assert_matches_torch

    def theirs(*xs):
        return call(torch.nn.functional, *xs)

    order = options.pop("order", 2 if all(a.size for a in arrays) else 1)  # nothing has no curvature
    assert_matches_torch(lambda *xs: call(F, *xs), theirs, *arrays, order=order, **options)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# ---- of numbers ----------------------------------------------------------------------------------

D = np.array([-3.0, -0.5, 0.0, 0.25, 2.0])  # x - y
OF_NUMBERS = [  # name, a call that both libraries understand, the losses of the differences D
    ("mse", lambda L, x, y, **r: L.mse_loss(x, y, **r), [9, 0.25, 0, 0.0625, 4]),
    ("l1", lambda L, x, y, **r: L.l1_loss(x, y, **r), [3, 0.5, 0, 0.25, 2]),
    ("smooth l1", lambda L, x, y, **r: L.smooth_l1_loss(x, y, **r), [2.5, 0.125, 0, 0.03125, 1.5]),
    ("smooth l1 b", lambda L, x, y, **r: L.smooth_l1_loss(x, y, beta=0.4, **r), [2.8, 0.3, 0, 0.078125, 1.8]),
    ("smooth l1 0", lambda L, x, y, **r: L.smooth_l1_loss(x, y, beta=0.0, **r), [3, 0.5, 0, 0.25, 2]),
    ("huber", lambda L, x, y, **r: L.huber_loss(x, y, **r), [2.5, 0.125, 0, 0.03125, 1.5]),
    ("huber d", lambda L, x, y, **r: L.huber_loss(x, y, delta=0.4, **r), [1.12, 0.12, 0, 0.03125, 0.72]),
]  # fmt: skip
of_numbers = pytest.mark.parametrize("name, call, expected", OF_NUMBERS, ids=[row[0] for row in OF_NUMBERS])


@of_numbers
def test_losses_of_numbers(name, call, expected):
    y = numbers(5)
    losses = call(F, leaf(D + y), leaf(y), reduction="none").detach().numpy()
    np.testing.assert_allclose(losses, expected, atol=1e-12)
    assert call(F, leaf(D + y), leaf(y)).item() == pytest.approx(np.mean(expected))
    assert call(F, leaf(D + y), leaf(y), reduction="sum").item() == pytest.approx(np.sum(expected))
    assert gradcheck(
        lambda x, y: call(F, x, y), [leaf(D[[0, 1, 3, 4]]), leaf([0.01, 0.02, 0.03, 0.04])], order=2
    )


@of_numbers
@examples(5)
@given(
    reduction=st.sampled_from(REDUCTIONS),
    shape=st.lists(st.integers(0, 3), max_size=3),
    seed=st.integers(0, 99),
)
def test_losses_of_numbers_are_pytorchs(name, call, expected, reduction, shape, seed):
    x, y = numbers(*shape, seed=seed), numbers(*shape, seed=seed + 1)
    matches_torch(lambda L, x, y: call(L, x, y, reduction=reduction), x, y)


@of_numbers
def test_no_difference_has_no_gradient_and_a_parabola_there_has_its_curvature(name, call, expected):
    matches_torch(lambda L, x, y: call(L, x, y, reduction="sum"), np.zeros(3), np.zeros(3))


def test_weights_of_losses_of_numbers():
    y, weight = numbers(5), leaf([1.0, 2.0, 0.0, 4.0, 1.0])
    x, y = leaf(D + y), leaf(y)
    assert F.mse_loss(x, y, weight=weight).item() == pytest.approx((9 + 0.5 + 0.25 + 4) / 8)
    assert F.l1_loss(x, y, weight=weight, reduction="sum").item() == pytest.approx(7)
    losses = F.huber_loss(x, y, weight=weight, reduction="none").tolist()
    np.testing.assert_allclose(losses, [2.5, 0.25, 0, 0.125, 1.5], atol=1e-12)
    assert F.huber_loss(x, y, weight=weight).item() == pytest.approx(4.375 / 5)


@of_numbers
def test_float16_sums_are_taken_in_float32(name, call, expected):
    x = leaf(np.full(3000, 40.0), np.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = call(F, x, minidl.zeros(3000, dtype=np.float16))
        (g,) = grad(y, x)
    assert y.dtype == g.dtype == np.float16
    assert y.item() == pytest.approx(call(F, leaf([40.0]), leaf([0.0])).item(), rel=1e-3)


def test_kl_div():
    x, y = np.log([[0.5, 0.5], [0.25, 0.75]]), np.array([[0.25, 0.75], [0.0, 1.0]])
    losses = [[0.25 * math.log(0.5), 0.75 * math.log(1.5)], [0, math.log(4 / 3)]]
    np.testing.assert_allclose(
        F.kl_div(leaf(x), constant(y), reduction="none").detach().numpy(), losses, atol=1e-15
    )
    assert F.kl_div(leaf(x), constant(y), reduction="batchmean").item() == pytest.approx(np.sum(losses) / 2)
    assert F.kl_div(leaf(x), constant(y)).item() == pytest.approx(np.sum(losses) / 4)
    x, y = leaf(numbers(2, 3)), leaf(np.abs(numbers(2, 3, seed=1)) + 0.1)
    assert gradcheck(lambda x, y: F.kl_div(x, y, reduction="sum"), [x, y], order=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert grad(F.kl_div(leaf([0.0]), leaf([0.0])), leaf([0.0]), allow_unused=True) == (None,)


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2), (0, 3)])
def test_kl_div_is_pytorchs(reduction, log_target, shape):
    x, y = numbers(*shape), np.abs(numbers(*shape, seed=1)) + 0.1
    matches_torch(lambda L, x, y: L.kl_div(x, y, reduction=reduction, log_target=log_target), x, y)


# ---- of class labels -----------------------------------------------------------------------------

Z = np.array([
    [[[2.0, 0, -1, 0.5], [0, 1, 0, -0.5]], [[0, 1, 0, 0], [1, -1, 2, 0]], [[-1, 0, 1, 1], [0, 0, -1, 1]]],
    [[[1, 1, 1, 1], [2, 2, 0, 0]], [[0, 0, 0, 0], [0, 0, 1, 1]], [[0, -1, 0, -1], [0, 0, 0, 0]]],
])  # fmt: skip
Y = np.array([[[0, 1, 2, 2], [1, 0, 1, 2]], [[0, 0, 0, 0], [0, 0, 1, 1]]])


def test_cross_entropy_golden_value():
    assert F.cross_entropy(leaf(Z), constant(Y)).item() == pytest.approx(0.4314070104797405, abs=1e-12)


def test_cross_entropy_by_hand():
    x = leaf(np.log([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]]))
    y = constant([0, 2])
    losses = np.array([math.log(2), math.log(8)])
    np.testing.assert_allclose(F.cross_entropy(x, y, reduction="none").detach().numpy(), losses)
    assert F.cross_entropy(x, y).item() == pytest.approx(losses.mean())
    w = constant([1.0, 5.0, 3.0])
    assert F.cross_entropy(x, y, w).item() == pytest.approx((losses[0] + 3 * losses[1]) / 4)
    assert F.cross_entropy(x, y, ignore_index=2).item() == pytest.approx(losses[0])
    uniform = [math.log(2) + 2 * math.log(4), 2 * math.log(8) - math.log(0.75)]
    assert F.cross_entropy(x, y, label_smoothing=0.3).item() == pytest.approx(
        0.7 * losses.mean() + 0.1 * np.mean(uniform)
    )
    p = constant([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    assert F.cross_entropy(x, p).item() == pytest.approx(
        (0.5 * math.log(2) + 0.5 * math.log(4) + math.log(8)) / 2
    )
    (g,) = grad(F.cross_entropy(x, y, reduction="sum"), x)
    np.testing.assert_allclose(g.numpy(), [[-0.5, 0.25, 0.25], [0.125, 0.75, -0.875]])  # softmax - onehot


CALLS = [
    ("nll", lambda L, x, y, w, **o: L.nll_loss(x, y, w, **o)),
    ("ce", lambda L, x, y, w, **o: L.cross_entropy(x, y, w, **o)),
    ("smoothed", lambda L, x, y, w, **o: L.cross_entropy(x, y, w, label_smoothing=0.2, **o)),
]


@pytest.mark.parametrize("name, call", CALLS, ids=[row[0] for row in CALLS])
@examples(12)
@given(
    reduction=st.sampled_from(REDUCTIONS),
    shape=st.lists(st.integers(1, 3), max_size=2),
    samples=st.integers(1, 3),
    classes=st.integers(1, 4),
    weighted=st.booleans(),
    ignore=st.sampled_from([-100, 0, 1, 255]),
    dtype=st.sampled_from([np.int64, np.uint8]),
    seed=st.integers(0, 99),
)
def test_label_losses_are_pytorchs(
    name, call, reduction, shape, samples, classes, weighted, ignore, dtype, seed
):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 2, (samples, classes, *shape))
    y = rng.integers(0, classes, (samples, *shape)).astype(dtype)
    if ignore in (-100, 255) and (dtype == np.int64 or ignore > 0):
        y[rng.random(y.shape) < 0.3] = ignore
    w = rng.random(classes)

    def both(L, x, y):
        weight = constant(w) if L is F else pytest.importorskip("torch").tensor(w)
        y = y if L is F else y.long()  # PyTorch does not take bytes for every shape
        return call(L, x, y, weight if weighted else None, ignore_index=ignore, reduction=reduction)

    with np.errstate(all="raise", under="ignore"):
        matches_torch(both, x, y)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2), (4,), (0, 3)])
def test_cross_entropy_with_probabilities_is_pytorchs(reduction, smoothing, shape):
    rng = np.random.default_rng(5)
    x, p, w = rng.normal(size=shape), rng.random(shape), rng.random(shape[len(shape) > 1])
    call = lambda L, x, p, w: L.cross_entropy(x, p, w, reduction=reduction, label_smoothing=smoothing)
    matches_torch(call, x, p, w)


@pytest.mark.parametrize("name, call", CALLS, ids=[row[0] for row in CALLS])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_one_sample_without_a_batch_is_pytorchs(name, call, reduction):
    matches_torch(lambda L, x, y: call(L, x, y, None, reduction=reduction), numbers(4), np.array(2))
    matches_torch(lambda L, x, y: call(L, x, y, None, reduction=reduction), numbers(4), np.array(-100))


@pytest.mark.parametrize("name, call", CALLS, ids=[row[0] for row in CALLS])
def test_label_losses_against_differences(name, call):
    y, w = constant([[0, 2], [-100, 1]]), constant([0.5, 1.0, 2.0])
    assert gradcheck(lambda x: call(F, x, y, w), [leaf(numbers(2, 3, 2))], order=2)


def test_without_labels_that_count_the_mean_is_nan_and_the_sum_0():
    x, y = leaf(numbers(2, 3)), constant([-100, -100])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in ({}, {"label_smoothing": 0.1}, {"weight": constant([1.0, 2.0, 3.0])}):
            assert math.isnan(F.cross_entropy(x, y, **options).item())
            total = F.cross_entropy(x, y, reduction="sum", **options)
            assert total.item() == 0 and not grad(total, x)[0].numpy().any()


@pytest.mark.parametrize("name, call", CALLS, ids=[row[0] for row in CALLS])
def test_no_samples(name, call):
    x, y = leaf(np.zeros((0, 3, 2))), constant(np.zeros((0, 2), np.int64))
    assert math.isnan(call(F, x, y, None).item())
    assert call(F, x, y, None, reduction="sum").item() == 0
    assert call(F, x, y, None, reduction="none").shape == (0, 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_saturated_logits_keep_losses_and_gradients_finite(dtype):
    x = leaf(np.array([[1e4, -1e4], [1e4, -1e4]]).T[None], dtype)  # (1, 2, 2): sure of class 0, twice
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = F.cross_entropy(x, constant([[0, 1]]))
        (g,) = grad(loss, x)
    assert loss.item() == 1e4 and loss.dtype == dtype
    np.testing.assert_array_equal(g.numpy(), [[[0, 0.5], [0, -0.5]]])


def test_float16_counts_more_pixels_than_it_can_hold():
    x = leaf(np.zeros((1, 2, 300, 300)), np.float16)
    y = constant(np.zeros((1, 300, 300), np.int64))
    for loss in (F.cross_entropy(x, y), F.nll_loss(x - 0.6931, y), F.mse_loss(x, x - 0.5) + 0.4431):
        assert loss.dtype == np.float16 and loss.item() == pytest.approx(math.log(2), rel=2e-3)


# ---- of yes and no -------------------------------------------------------------------------------


def test_binary_cross_entropy_by_hand():
    p, y = leaf([0.25, 0.5, 1.0, 0.0]), constant([1.0, 0.25, 1.0, 1.0])
    losses = [math.log(4), math.log(2), 0, 100]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = F.binary_cross_entropy(p, y, reduction="none")
        (g,) = grad(found.sum(), p)
    np.testing.assert_allclose(found.detach().numpy(), losses, atol=1e-12)
    np.testing.assert_allclose(g.numpy(), [-4, 1, -1, -1e12])


def test_binary_cross_entropy_with_logits_by_hand():
    x, y = leaf([0.0, math.log(3), -1e4, 1e4]), constant([1.0, 0.0, 1.0, 0.0])
    losses = [math.log(2), math.log(4), 1e4, 1e4]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = F.binary_cross_entropy_with_logits(x, y, reduction="none")
        (g,) = grad(found.sum(), x)
    np.testing.assert_allclose(found.detach().numpy(), losses)
    np.testing.assert_allclose(g.numpy(), [-0.5, 0.75, -1, 1])  # σ(x) - y, at 0 too
    w = F.binary_cross_entropy_with_logits(x, y, pos_weight=constant([3.0]), reduction="none")
    np.testing.assert_allclose(w.detach().numpy(), losses * np.array([3, 1, 3, 1]))


@examples(15)
@given(
    reduction=st.sampled_from(REDUCTIONS),
    shape=st.lists(st.integers(1, 3), max_size=2),
    samples=st.integers(0, 3),
    weight=st.sampled_from([None, (), (1,), "full"]),
    positive=st.booleans(),
    seed=st.integers(0, 99),
)
def test_binary_losses_are_pytorchs(reduction, shape, samples, weight, positive, seed):
    rng = np.random.default_rng(seed)
    full = (samples, *shape)
    x, p, y = rng.normal(0, 3, full), rng.uniform(0.02, 0.98, full), rng.random(full)
    x[rng.random(full) < 0.2] = 0
    w = [] if weight is None else [rng.random(full if weight == "full" else weight)]
    pw = [rng.random(shape[-1:]) + 0.5] if positive and shape else []

    def with_logits(L, x, y, *more):
        weight, pos_weight = (more[0].detach() if w else None), (more[-1].detach() if pw else None)
        return L.binary_cross_entropy_with_logits(x, y, weight, reduction=reduction, pos_weight=pos_weight)

    matches_torch(with_logits, x, y, *w, *pw)
    matches_torch(lambda L, x, y: L.binary_cross_entropy_with_logits(x, y, reduction=reduction), x, y)
    matches_torch(lambda L, p, y: L.binary_cross_entropy(p, y, reduction=reduction), p, y)
    if w:
        matches_torch(
            lambda L, p, y, w: L.binary_cross_entropy(p, y.detach(), w.detach(), reduction=reduction),
            p,
            y,
            w[0],
        )


def test_binary_losses_against_differences():
    y = constant([0.0, 1.0, 0.3])
    assert gradcheck(lambda x: F.binary_cross_entropy_with_logits(x, y), [leaf([-1.0, 0.0, 2.0])], order=2)
    assert gradcheck(F.binary_cross_entropy, [leaf([0.2, 0.5, 0.7]), leaf([0.1, 0.9, 0.3])], order=2)


def test_integer_targets_are_numbers():
    x, y = leaf([0.5, 2.0]), [1, 0]
    for loss in (F.mse_loss, F.binary_cross_entropy_with_logits):
        assert loss(x, constant(y)).item() == loss(x, leaf(y)).item()


# ---- one-hot -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "label, classes", [([[0, 2], [1, 0]], -1), ([1, 0], 4), (3, -1), (np.zeros((2, 0), int), 3)]
)
def test_one_hot_puts_the_classes_last(label, classes):
    label = np.asarray(label)
    y = F.one_hot(minidl.tensor(label), classes)
    count = classes if classes > 0 else label.max() + 1
    assert y.dtype == np.int64 and y.shape == (*label.shape, count)
    np.testing.assert_array_equal(y.numpy(), np.eye(count, dtype=int)[label])
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(
        y.numpy(), torch.nn.functional.one_hot(torch.tensor(label), classes).numpy()
    )


# ---- modules -------------------------------------------------------------------------------------

W = np.array([0.5, 1.0, 2.0])
# a constructor that both libraries understand (t makes a tensor), the same function, input, target
MODULES = [
    (lambda L, t: L.MSELoss(), F.mse_loss, Z, Z + 1),
    (lambda L, t: L.L1Loss(reduction="sum"), lambda x, y: F.l1_loss(x, y, reduction="sum"), Z, Z + 1),
    (lambda L, t: L.SmoothL1Loss(beta=0.5), lambda x, y: F.smooth_l1_loss(x, y, beta=0.5), Z, Z + 1),
    (lambda L, t: L.HuberLoss("sum", 0.5), lambda x, y: F.huber_loss(x, y, "sum", 0.5), Z, Z + 1),
    (lambda L, t: L.KLDivLoss(reduction="batchmean", log_target=True),
     lambda x, y: F.kl_div(x, y, reduction="batchmean", log_target=True), Z, Z + 1),
    (lambda L, t: L.CrossEntropyLoss(t(W), label_smoothing=0.1),
     lambda x, y: F.cross_entropy(x, y, constant(W), label_smoothing=0.1), Z, Y),
    (lambda L, t: L.NLLLoss(ignore_index=2), lambda x, y: F.nll_loss(x, y, ignore_index=2), Z, Y),
    (lambda L, t: L.BCELoss(t(np.array(2.0))),
     lambda x, y: F.binary_cross_entropy(x, y, constant(np.array(2.0))), np.abs(Z) / 4, np.abs(Z) / 2),
    (lambda L, t: L.BCEWithLogitsLoss(pos_weight=t(W[:, None, None])),
     lambda x, y: F.binary_cross_entropy_with_logits(x, y, pos_weight=constant(W[:, None, None])),
     Z, np.abs(Z) / 2),
]  # fmt: skip


@pytest.mark.parametrize(
    "make, function, x, y", MODULES, ids=[type(m[0](nn, constant)).__name__ for m in MODULES]
)
def test_modules(make, function, x, y):
    loss = make(nn, constant)
    value = loss(constant(x), constant(y)).item()
    assert value == function(constant(x), constant(y)).item()
    torch = pytest.importorskip("torch")
    theirs = make(torch.nn, torch.tensor)
    assert value == pytest.approx(theirs(torch.tensor(x), torch.tensor(y)).item(), rel=1e-12)
    assert list(loss.state_dict()) == list(theirs.state_dict())


def test_the_weight_of_a_loss_is_a_buffer():
    loss = nn.CrossEntropyLoss(minidl.ones(3))
    assert loss.double().weight.dtype == np.float64 and not list(loss.parameters())
    assert (
        repr(loss)
        == "CrossEntropyLoss(weight=(3,), ignore_index=-100, reduction='mean', label_smoothing=0.0)"
    )


# ---- errors --------------------------------------------------------------------------------------

X, T = minidl.zeros(2, 3, 4), minidl.zeros(2, 4, dtype=np.int64)
ERRORS = [
    (lambda: F.mse_loss(X, minidl.zeros(3, 4)), ValueError, r"mse_loss: .*\(2, 3, 4\).*\(3, 4\)"),
    (lambda: F.l1_loss(X, X, reduction="average"), ValueError, "l1_loss: .*none, mean, sum.*'average'"),
    (lambda: F.mse_loss(X.long(), X), TypeError, "mse_loss: .*int64"),
    (lambda: F.mse_loss(X, np.zeros(3)), TypeError, "mse_loss: target must be a Tensor, got ndarray"),
    (lambda: F.smooth_l1_loss(X, X, beta=-1), ValueError, "smooth_l1_loss: beta .* -1"),
    (lambda: F.mse_loss(X, X, weight=minidl.ones(4)), ValueError, r"mse_loss: weight .*\(2, 3, 4\).*\(4,\)"),
    (lambda: F.kl_div(X, X.long()), TypeError, "kl_div: .*int64"),
    (lambda: F.huber_loss(X, X, delta=0), ValueError, "huber_loss: delta .* 0"),
    (lambda: F.kl_div(X, X, reduction="batch"), ValueError, "kl_div: reduction.*batchmean.*'batch'"),
    (lambda: F.nll_loss(X, T + 3), IndexError, "nll_loss: .*3 to 3.*3 classes, 0 to 2"),
    (lambda: F.cross_entropy(X, T - 1), IndexError, "cross_entropy: .*-1 to -1.*3 classes"),
    (lambda: F.cross_entropy(X, minidl.zeros(2, 3, dtype=np.int64)), ValueError,
     r"cross_entropy: .*\(2, 3, 4\).*\(2, 4\).*\(2, 3\)"),
    (lambda: F.cross_entropy(X, X.long()), ValueError, r"cross_entropy: .*\(2, 4\).*\(2, 3, 4\)"),
    (lambda: F.cross_entropy(X, T.float()), ValueError, r"cross_entropy: .*\(2, 3, 4\).*\(2, 4\).*integers"),
    (lambda: F.cross_entropy(X, T.bool()), TypeError, "cross_entropy: .*integers.*bool"),
    (lambda: F.cross_entropy(X, T, minidl.ones(4)), ValueError, r"cross_entropy: weight .*\(3,\).*\(4,\)"),
    (lambda: F.cross_entropy(X, X, minidl.ones(4)), ValueError, r"cross_entropy: weight .*\(3,\).*\(4,\)"),
    (lambda: F.cross_entropy(X, X, ignore_index=1), ValueError, "cross_entropy: ignore_index 1"),
    (lambda: F.cross_entropy(X, T, label_smoothing=1.5), ValueError, "cross_entropy: label_smoothing.*1.5"),
    (lambda: F.cross_entropy(X, T, reduction="x"), ValueError, "cross_entropy: reduction.*'x'"),
    (lambda: F.cross_entropy(X, T.numpy()), TypeError, "cross_entropy: target must be a Tensor"),
    (lambda: F.cross_entropy(minidl.tensor(1.0), T), ValueError, r"cross_entropy: .*class dim"),
    (lambda: F.cross_entropy(minidl.zeros(3), T), ValueError, r"cross_entropy: .*\(3,\)"),
    (lambda: F.binary_cross_entropy(X + 1.5, X), ValueError, "binary_cross_entropy: input .*1.5.*logits"),
    (lambda: F.binary_cross_entropy(X, X - 1), ValueError, "binary_cross_entropy: target .*-1"),
    (lambda: F.binary_cross_entropy(X * math.nan, X), ValueError, "binary_cross_entropy: input .*nan"),
    (lambda: F.binary_cross_entropy(X, X, minidl.ones(3)), ValueError,
     r"binary_cross_entropy: weight of shape \(3,\) .*\(2, 3, 4\)"),
    (lambda: F.binary_cross_entropy_with_logits(X, X, pos_weight=minidl.ones(5, 2, 3, 4)), ValueError,
     r"binary_cross_entropy_with_logits: pos_weight of shape \(5, 2, 3, 4\)"),
    (lambda: F.one_hot(T, 0), IndexError, "one_hot: .*0 classes"),
    (lambda: F.one_hot(T + 3, 3), IndexError, "one_hot: .*3 to 3.*3 classes"),
    (lambda: F.one_hot(T - 1), IndexError, "one_hot: .*-1"),
    (lambda: F.one_hot(X), TypeError, "one_hot: .*float32"),
    (lambda: F.one_hot(minidl.zeros(0, dtype=np.int64)), ValueError, "one_hot: .*num_classes"),
    (lambda: nn.MSELoss("sum"), TypeError, r"MSELoss\(\*, reduction"),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, message", ERRORS, ids=[row[2][:40] for row in ERRORS])
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
