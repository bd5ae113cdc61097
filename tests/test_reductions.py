"""Sums, products, norms, extrema and order, against PyTorch and against numbers worked out by hand."""

from __future__ import annotations

import math
import warnings
from functools import partial

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

import minidl
from minidl.testing import gradcheck

X = np.array([[0.5, -1.25, 2.0, 0.0], [1.5, 0.75, -0.5, 3.0], [-2.0, 1.0, 0.25, -1.0]])
CUBE = np.random.default_rng(0).standard_normal((2, 3, 4))


def tensor(data, **options):
    return minidl.tensor(np.asarray(data, np.float64), **options)


# the same call in both libraries, m being either
CALLS = {
    "sum": lambda m, x: m.sum(x),
    "sum of dims, kept": lambda m, x: x.sum((0, -1), keepdim=True),
    "mean": lambda m, x: x.mean(),
    "mean of a dim": lambda m, x: m.mean(x, -1, True),
    "var": lambda m, x: x.var(),
    "var of a dim": lambda m, x: m.var(x, 1),
    "var biased": lambda m, x: m.var(x, 1, False),
    "var biased of all": lambda m, x: x.var(False),
    "var correction": lambda m, x: m.var(x, (0, 1), correction=2, keepdim=True),
    "var correction 0": lambda m, x: m.var(x, 0, correction=0),
    "var unbiased keyword": lambda m, x: x.var(dim=1, unbiased=False, keepdim=True),
    "std": lambda m, x: x.std(0),
    "softmax of no elements": lambda m, x: m.softmax(x[:, :0], 1),
    "softmax in float64": lambda m, x: (
        m.log_softmax(x.float(), 1, dtype=m.float64) + x.softmax(0, dtype=m.float64)
    ),
    "std biased": lambda m, x: m.std(x, unbiased=False),
    "std correction": lambda m, x: m.std(x, dim=-1, correction=0, keepdim=True),
    "prod": lambda m, x: x.prod(),
    "prod of a dim": lambda m, x: m.prod(x, 1),
    "prod of a dim, kept": lambda m, x: m.prod(x, 0, True),
    "cumsum": lambda m, x: m.cumsum(x, -1),
    "cumprod": lambda m, x: x.cumprod(0),
    "amax": lambda m, x: m.amax(x, (0, 1)),
    "amin": lambda m, x: m.amin(x, -1, True),
    "max of all": lambda m, x: x.max(),
    "min of all": lambda m, x: m.min(x),
    "max of a dim": lambda m, x: x.max(1),
    "min of a dim, kept": lambda m, x: m.min(x, 0, keepdim=True),
    "max of two": lambda m, x: m.max(x, x * x - 1),
    "min of two": lambda m, x: x.min(x * x - 1),
    "argmax": lambda m, x: m.argmax(x),
    "argmax of a dim": lambda m, x: x.argmax(-1, keepdim=True),
    "argmin of all, kept": lambda m, x: x.argmin(keepdim=True),
    "argmin of a dim": lambda m, x: m.argmin(x, 0),
    "sort": lambda m, x: m.sort(x, 1),
    "sort descending": lambda m, x: x.sort(0, descending=True),
    "argsort": lambda m, x: m.argsort(x, -1, True),
    "topk": lambda m, x: m.topk(x, 2),
    "topk smallest": lambda m, x: x.topk(3, 0, largest=False),
    "logsumexp": lambda m, x: m.logsumexp(x, 1),
    "logsumexp of dims": lambda m, x: x.logsumexp((0, 1), keepdim=True),
    "softmax": lambda m, x: m.softmax(x, 1),
    "log_softmax": lambda m, x: x.log_softmax(0),
    "norm": lambda m, x: m.norm(x),
    "norm 1": lambda m, x: x.norm(1, 1),
    "norm of a dim": lambda m, x: m.norm(x, "fro", 0, True),
    "norm inf": lambda m, x: m.norm(x, math.inf, 1),
    "norm -inf": lambda m, x: m.linalg.vector_norm(x, -math.inf, 1),
    "norm 3": lambda m, x: m.linalg.vector_norm(x, 3, (0, 1)),
    "norm 1.5": lambda m, x: m.linalg.vector_norm(x + 0.1, 1.5, 1, True),
    "any": lambda m, x: (x > 2).any(1),
    "all": lambda m, x: m.all(x > -3),
    "all of a dim, kept": lambda m, x: m.all(x, 0, True),
    "count_nonzero": lambda m, x: m.count_nonzero(x, 1),
}


@pytest.mark.parametrize("name", CALLS)
def test_values_and_two_orders_of_gradients_are_pytorchs(name):
    from oracle import assert_matches_torch, torch

    assert_matches_torch(partial(CALLS[name], minidl), partial(CALLS[name], torch), X)


SHAPED = ("sum", "mean", "prod", "norm", "amax", "max", "argmax", "any", "count_nonzero")


@examples(40)
@given(
    name=st.sampled_from(SHAPED), dim=st.none() | st.integers(-3, 2), keepdim=st.booleans(), data=st.data()
)
def test_dims_of_every_kind(name, dim, keepdim, data):
    from oracle import assert_matches_torch, torch

    x = CUBE if name != "any" else CUBE > 1
    options = {} if dim is None else {"dim": dim}
    if name not in ("count_nonzero",) and dim is not None:
        options["keepdim"] = keepdim
    if (
        dim is not None
        and name in ("sum", "mean", "norm", "amax", "count_nonzero")
        and data.draw(st.booleans())
    ):
        options["dim"] = tuple({dim % 3, data.draw(st.integers(0, 2))})
    call = lambda m, x: getattr(m, name)(x, **options)
    assert_matches_torch(partial(call, minidl), partial(call, torch), x)


# ---- by hand -------------------------------------------------------------------------------------

BY_HAND = {  # function, input, result
    "var": (lambda x: x.var(1), [[1, 2, 3, 4]], [5 / 3]),
    "var biased": (lambda x: x.var(1, False), [[1, 2, 3, 4]], [1.25]),
    "std": (lambda x: x.std(unbiased=False), [2, 4, 4, 4, 5, 5, 7, 9], 2),
    "mean of 49 ones": (lambda x: x.mean(), np.ones(49), 1),
    "prod": (lambda x: x.prod(), [2, 3, 0.5, 4, 5], 60),
    "prod of nothing": (lambda x: x.prod(), [], 1),
    "sum of nothing": (lambda x: x.sum(1), np.zeros((2, 0)), [0, 0]),
    "logsumexp of nothing": (lambda x: x.logsumexp(1), np.zeros((2, 0)), [-np.inf, -np.inf]),
    "cumprod": (lambda x: x.cumprod(0), [1, 2, 3, 4, 5], [1, 2, 6, 24, 120]),
    "cumsum": (lambda x: x.cumsum(1), [[1, 2], [3, 4]], [[1, 3], [3, 7]]),
    "norm": (lambda x: minidl.norm(x), [[3, 0], [0, 4]], 5),
    "norm 0": (lambda x: minidl.linalg.vector_norm(x, 0, 1), [[3, 0, 2], [0, 0, 0]], [2, 0]),
    "logsumexp far out": (lambda x: x.logsumexp(0), [1000, 1000], 1000 + np.log(2)),
    "logsumexp of -inf": (lambda x: x.logsumexp(0), [-np.inf, -np.inf], -np.inf),
    "amin": (lambda x: x.amin((0, 1)), [[3, -1], [4, 2]], -1),
    "sort": (lambda x: x.sort(descending=True)[0], [3, 1, 2, 3], [3, 3, 2, 1]),
    "sort keeps equals in order": (lambda x: x.sort()[1], [3, 1, 3, 1], [1, 3, 0, 2]),
    "descending too": (lambda x: x.sort(descending=True)[1], [3, 1, 3, 1], [0, 2, 1, 3]),
    "argsort puts NaN last": (lambda x: x.argsort(), [np.nan, 1, 0], [2, 1, 0]),
    "topk": (lambda x: x.topk(2)[1], [1, 5, 3, 4], [1, 3]),
    "topk of none": (lambda x: x.topk(0)[0], [1, 5], []),
    "argmax of equals": (lambda x: x.argmax(), [1, 3, 3], 1),
    "any": (lambda x: x.any(1), [[0, 0], [0, 2]], [False, True]),
    "all of nothing": (lambda x: x.all(), [], True),
    "count_nonzero": (lambda x: x.count_nonzero(), [[0, 1], [2, 0]], 2),
    "sort of a scalar": (lambda x: x.sort()[0], 3.0, 3),
    "max of a scalar": (lambda x: x.max(0)[0], 3.0, 3),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("name", BY_HAND)
def test_results_worked_out_by_hand(name):
    function, data, expected = BY_HAND[name]
    np.testing.assert_allclose(function(tensor(data)).numpy(), expected, rtol=1e-14)


def test_degenerate_variances():
    assert math.isnan(tensor([3.0]).var().item())
    assert math.isnan(tensor([]).mean().item())
    assert tensor([1.0, 2.0]).var(correction=5).item() == np.inf


def test_extrema_of_unsigned_integers_and_booleans():
    x = minidl.tensor(np.array([5, 0, 200], np.uint8))
    assert (x.amin().item(), x.amax().item(), x.min(0).indices.item()) == (0, 200, 1)
    assert minidl.tensor([True, False]).amin().item() is False


# ---- gradients where a formula with a division fails -----------------------------------------------


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_the_gradient_of_a_product_with_zeros(zeros):
    from oracle import assert_matches_torch, torch

    x = np.array([2.0, -3.0, 0.5, 4.0, 1.5])
    x[:zeros] = 0
    assert_matches_torch(lambda x: x.prod(), lambda x: torch.prod(x), x)
    assert_matches_torch(lambda x: x.cumprod(0), lambda x: torch.cumprod(x, 0), x)
    assert gradcheck(lambda x: x.prod(), [tensor(x, requires_grad=True)], order=3, atol=1e-4)


def test_the_gradient_of_a_product_by_hand():
    x = tensor([2.0, 0.0, 5.0], requires_grad=True)
    x.prod().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 10, 0])


@pytest.mark.parametrize("ord", [1, 1.5, 2, 3, math.inf])
def test_the_gradient_of_a_norm_at_zero_is_zero(ord):
    from oracle import assert_matches_torch, torch

    call = lambda m, x: m.linalg.vector_norm(x, ord, 1)
    x = np.array([[0.0, 0.0, 0.0], [0.0, 2.0, -1.0]])
    assert_matches_torch(partial(call, minidl), partial(call, torch), x, order=1)
    x = tensor(x, requires_grad=True)
    call(minidl, x).sum().backward()
    assert np.array_equal(x.grad.numpy()[0], [0, 0, 0]) and np.isfinite(x.grad.numpy()).all()


def test_the_gradient_of_a_standard_deviation_of_equals_is_zero():
    x = tensor([2.0, 2.0], requires_grad=True)
    x.std().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 0])


def test_ties_share_in_amax_and_the_first_wins_along_a_dim():
    x = tensor([3.0, 1.0, 3.0], requires_grad=True)
    assert minidl.autograd.grad(x.amax(), x)[0].tolist() == [0.5, 0, 0.5]
    assert minidl.autograd.grad(x.max(), x)[0].tolist() == [0.5, 0, 0.5]
    assert minidl.autograd.grad(x.max(0).values, x)[0].tolist() == [1, 0, 0]
    assert minidl.autograd.grad((-x).amin(), x)[0].tolist() == [-0.5, 0, -0.5]


# ---- float16 is reduced in float32 -----------------------------------------------------------------

HALF = {
    "mean": (lambda x: x.mean(), 300.0),
    "norm": (lambda x: minidl.norm(x), 300.0 * 20),
    "std": (lambda x: (x * minidl.tensor([1.0, -1.0] * 200).half()).std(unbiased=False), 300.0),
    "cumsum": (lambda x: x[:200].cumsum(0)[-1], 60000.0),
    "logsumexp": (lambda x: x.logsumexp(0), 306.0),
}


@pytest.mark.parametrize("name", HALF)
def test_float16_does_not_overflow_inside(name):
    function, expected = HALF[name]
    y = function(minidl.full((400,), 300.0, dtype=minidl.float16))
    assert y.dtype == minidl.float16
    np.testing.assert_allclose(y.item(), expected, rtol=1e-3)


# ---- dtypes and errors -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize(
    "name", ["sum", "prod", "cumsum", "cumprod", "any", "count_nonzero", "argmax", "amax"]
)
def test_result_dtypes_are_pytorchs(name, dtype):
    from oracle import torch

    if (name, dtype) == ("argmax", "bool"):
        pytest.skip("PyTorch refuses")
    a = np.ones(2, dtype)
    found = getattr(minidl, name)(minidl.tensor(a), 0).dtype
    assert str(found) == str(getattr(torch, name)(torch.tensor(a), 0).dtype).removeprefix("torch.")


def test_uint8_stays_uint8_in_any_and_all():
    x = minidl.tensor(np.array([[0, 2], [0, 0]], np.uint8))
    assert x.any(1).tolist() == [1, 0] and x.any(1).dtype == x.all().dtype == minidl.uint8
    assert x.long().any().dtype == minidl.bool


def test_logsumexp_of_integers_and_of_nothing():
    y = minidl.tensor([[0, 0], [5, 5]]).logsumexp(1)
    assert y.dtype == minidl.float32
    np.testing.assert_allclose(y.numpy(), [np.log(2), 5 + np.log(2)], rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert minidl.zeros(2, 0).logsumexp(1, keepdim=True).tolist() == [[-np.inf], [-np.inf]]
        assert minidl.zeros(2, 0).log_softmax(1).shape == minidl.zeros(0, 2).log_softmax(0).T.shape == (2, 0)


def test_the_dtype_of_a_sum_can_be_chosen():
    assert minidl.ones(3, dtype=minidl.int64).sum(dtype=minidl.float32).dtype == minidl.float32
    assert minidl.tensor([1, 2]).mean(dtype=minidl.float64).item() == 1.5
    assert minidl.ones(3).half().prod(dtype=minidl.float32).dtype == minidl.float32


ERRORS = [
    (lambda: minidl.ones(2, 3).sum(2), IndexError, r"sum: dim 2 is out of range for 2 dimensions"),
    (lambda: minidl.ones(2, 3).sum((0, -2)), ValueError, r"sum: a dim appears twice in \(0, -2\)"),
    (lambda: minidl.ones(2).sum(0.5), TypeError, "sum: dim must be an integer or several, got 0.5"),
    (lambda: minidl.tensor([1, 2]).mean(), TypeError, "mean: expected a floating-point tensor, got int64"),
    (lambda: minidl.tensor([1, 2]).std(), TypeError, "floating-point tensor, got int64"),
    (lambda: minidl.tensor([1, 2]).norm(), TypeError, "vector_norm: .* got int64"),
    (
        lambda: minidl.norm(minidl.ones(2), "nuc"),
        ValueError,
        "norm: expected a number or 'fro' for p, got 'nuc'",
    ),
    (
        lambda: minidl.zeros(2, 0).amax(1),
        ValueError,
        r"amax: no elements along dims \(1,\) of shape \(2, 0\)",
    ),
    (lambda: minidl.zeros(0).argmax(), ValueError, r"argmax: no elements .* of shape \(0,\)"),
    (lambda: minidl.zeros(0, 2).max(0), ValueError, r"no elements along dims \(0,\) of shape \(0, 2\)"),
    (lambda: minidl.ones(3).topk(4), ValueError, r"topk: k = 4 is not in 0 .. 3"),
    (lambda: minidl.ones(3).sort(1), IndexError, "sort: dim 1 is out of range"),
    (lambda: minidl.ones(3).cumsum(-2), IndexError, "cumsum: dim -2 is out of range"),
]


@pytest.mark.parametrize("call, kind, message", ERRORS, ids=[row[2] for row in ERRORS])
def test_mistakes_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
